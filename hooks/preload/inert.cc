// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved.

#include "hooks/preload/inert.h"

#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#include "hooks/preload/hook.h"

// Present where a sanitizer's runtime is: resolved by the loader, so that the question costs
// nothing (a failing dlsym() allocates).
extern "C" {
__attribute__((weak, visibility("default"))) void __asan_init();
__attribute__((weak, visibility("default"))) void __hwasan_init();
__attribute__((weak, visibility("default"))) void __msan_init();
__attribute__((weak, visibility("default"))) void __tsan_init();
}

namespace cmwq::preload {
namespace {

// First release whose functions and semantics are the ones relied upon.
constexpr int kOldestGlibcMinor = 31;

bool HasSanitizer() {
  return &__asan_init != nullptr || &__hwasan_init != nullptr || &__msan_init != nullptr ||
         &__tsan_init != nullptr;
}

bool UnderValgrind() {
  const char* preloads = getenv("LD_PRELOAD");
  return preloads != nullptr && strstr(preloads, "vgpreload") != nullptr;
}

// Whether a segment of notes holds the build id that the Go linker writes.
bool HasGoNote(const char* notes, size_t size, size_t align) {
  constexpr ElfW(Word) kGoBuildId = 4;
  const auto padded = [align](size_t n) { return (n + align - 1) & ~(align - 1); };
  size_t at = 0;
  while (at + sizeof(ElfW(Nhdr)) <= size) {
    ElfW(Nhdr) note;
    memcpy(&note, notes + at, sizeof(note));
    at += sizeof(note);
    if (note.n_namesz > size - at) return false;
    if (note.n_type == kGoBuildId && note.n_namesz == 4 && memcmp(notes + at, "Go", 3) == 0) {
      return true;
    }
    at += padded(note.n_namesz);
    if (at > size || note.n_descsz > size - at) return false;
    at += padded(note.n_descsz);
  }
  return false;
}

// Looks at the first object, which is the program.
int LookAtProgram(struct dl_phdr_info* info, size_t, void* is_go) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    const char* notes = reinterpret_cast<const char*>(info->dlpi_addr + segment.p_vaddr);
    const size_t align = segment.p_align == 8 ? 8 : 4;
    if (HasGoNote(notes, segment.p_memsz, align)) *static_cast<bool*>(is_go) = true;
  }
  return 1;
}

// The Go run-time makes its own system calls and schedules on its own threads.
bool IsGoProgram() {
  bool is_go = false;
  dl_iterate_phdr(&LookAtProgram, &is_go);
  return is_go;
}

}  // namespace

const char* ReasonToStayInert() {
  if (getauxval(AT_SECURE) != 0) return "set-id program";
  if (real::GlibcMinor() < kOldestGlibcMinor) return "glibc older than 2.31";
  if (HasSanitizer()) return "sanitizer";
  if (UnderValgrind()) return "valgrind";
  if (IsGoProgram()) return "Go program";
  return nullptr;
}

}  // namespace cmwq::preload
