// Fibers: the threads of a model run. Exactly one runs at a time, on one kernel thread.
//
// Stacks are pooled by index and reused by the next run; a fiber may be abandoned in the middle of
// its body (a failed run, a waiting daemon), so bodies must not own memory on their stacks.

#ifndef CMWQ_TESTS_MODEL_FIBER_H_
#define CMWQ_TESTS_MODEL_FIBER_H_

#include <ucontext.h>

#include <cstddef>

namespace cmwq::model {

class Fiber {
 public:
  static constexpr int kMax = 12;

  // Makes fiber `index` ready to run `entry(arg)`, which must never return.
  void Prepare(int index, void (*entry)(void*), void* arg);
  // Makes this the context that the program itself runs in.
  void PrepareMain();
  // Leaves `from`, which must be the running one, for `to`.
  static void Switch(Fiber* from, Fiber* to);
  // Frees what the sanitizers keep per fiber. Not for the running one.
  void Discard();

 private:
  static void Trampoline();

  ucontext_t context_ = {};
  void (*entry_)(void*) = nullptr;
  void* arg_ = nullptr;
  const void* stack_bottom_ = nullptr;
  size_t stack_size_ = 0;
  // Used in sanitizer builds only.
  [[maybe_unused]] void* asan_fake_stack_ = nullptr;
  [[maybe_unused]] void* tsan_fiber_ = nullptr;
  bool main_ = false;
};

}  // namespace cmwq::model

#endif  // CMWQ_TESTS_MODEL_FIBER_H_
