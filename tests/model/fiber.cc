#include "tests/model/fiber.h"

#include <sys/mman.h>

#include <cstdlib>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CMWQ_MODEL_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define CMWQ_MODEL_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define CMWQ_MODEL_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define CMWQ_MODEL_TSAN 1
#endif

#if defined(CMWQ_MODEL_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(CMWQ_MODEL_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace cmwq::model {
namespace {

constexpr size_t kStackSize = 256 * 1024;  // sanitizers make frames several times larger

// Who was left last and who was entered: a new fiber finishes the switch in its trampoline.
Fiber* g_from = nullptr;
Fiber* g_to = nullptr;

void* PooledStack(int index) {
  static void* stacks[Fiber::kMax] = {};
  if (stacks[index] == nullptr) {
    void* memory = mmap(nullptr, kStackSize, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) abort();
    stacks[index] = memory;
  }
  return stacks[index];
}

}  // namespace

void Fiber::Prepare(int index, void (*entry)(void*), void* arg) {
  void* stack = PooledStack(index);
  entry_ = entry;
  arg_ = arg;
  stack_bottom_ = stack;
  stack_size_ = kStackSize;
  asan_fake_stack_ = nullptr;
#if defined(CMWQ_MODEL_ASAN)
  // An abandoned body has left its red zones behind.
  __asan_unpoison_memory_region(stack, kStackSize);
#endif
#if defined(CMWQ_MODEL_TSAN)
  tsan_fiber_ = __tsan_create_fiber(0);
#endif
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack;
  context_.uc_stack.ss_size = kStackSize;
  context_.uc_link = nullptr;
  makecontext(&context_, &Fiber::Trampoline, 0);
}

void Fiber::PrepareMain() {
  main_ = true;
#if defined(CMWQ_MODEL_TSAN)
  tsan_fiber_ = __tsan_get_current_fiber();
#endif
}

void Fiber::Discard() {
#if defined(CMWQ_MODEL_TSAN)
  if (!main_ && tsan_fiber_ != nullptr) __tsan_destroy_fiber(tsan_fiber_);
  tsan_fiber_ = nullptr;
#endif
}

void Fiber::Switch(Fiber* from, Fiber* to) {
  g_from = from;
  g_to = to;
#if defined(CMWQ_MODEL_ASAN)
  __sanitizer_start_switch_fiber(&from->asan_fake_stack_, to->stack_bottom_, to->stack_size_);
#endif
#if defined(CMWQ_MODEL_TSAN)
  __tsan_switch_to_fiber(to->tsan_fiber_, 0);
#endif
  swapcontext(&from->context_, &to->context_);
#if defined(CMWQ_MODEL_ASAN)
  __sanitizer_finish_switch_fiber(from->asan_fake_stack_, &g_from->stack_bottom_,
                                  &g_from->stack_size_);
#endif
}

void Fiber::Trampoline() {
#if defined(CMWQ_MODEL_ASAN)
  // The first switch away from the program's own stack is where its bounds become known.
  __sanitizer_finish_switch_fiber(nullptr, &g_from->stack_bottom_, &g_from->stack_size_);
#endif
  g_to->entry_(g_to->arg_);
  abort();  // entry functions leave by a last switch
}

}  // namespace cmwq::model
