// Whether this abseil waits through the symbol that per_thread_sem.cc replaces: the build links the two
// and runs it.

#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include <atomic>

static std::atomic<int> waits{0};

extern "C" void cmwq_block_begin(void) { waits.fetch_add(1); }
extern "C" void cmwq_block_end(void) {}

int main() {
  absl::Mutex mutex;
  absl::CondVar never;
  absl::MutexLock hold(&mutex);
  const bool timed_out = never.WaitWithTimeout(&mutex, absl::Milliseconds(1));
  return timed_out && waits.load() == 1 ? 0 : 1;
}
