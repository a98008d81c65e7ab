// The unwinder's per-frame routine for this library.
//
// Frames here have clean-ups (a bracket's destructor) and nothing else: no handler, no exception
// specification. The C language's routine, which lives in the shared unwinder, runs exactly those.
// The C++ one would bring libstdc++'s emergency pool along: 72 KiB taken from malloc() by a static
// constructor, before the program's own allocator is initialised, in every process.

#include <unwind.h>

extern "C" {

_Unwind_Reason_Code __gcc_personality_v0(int version, _Unwind_Action actions,
                                         _Unwind_Exception_Class exception_class,
                                         struct _Unwind_Exception* exception,
                                         struct _Unwind_Context* context);

__attribute__((visibility("hidden"))) _Unwind_Reason_Code __gxx_personality_v0(
    int version, _Unwind_Action actions, _Unwind_Exception_Class exception_class,
    struct _Unwind_Exception* exception, struct _Unwind_Context* context) {
  return __gcc_personality_v0(version, actions, exception_class, exception, context);
}

}  // extern "C"
