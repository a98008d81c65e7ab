// The C++ library's own waits, and exceptions that pass through wrapped functions.

#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <thread>

#include "tests/preload/victims/support.h"

namespace {

void Locks() {
  std::timed_mutex timed;
  timed.lock();
  std::thread([&] {
    printf("try_lock_for %d\n", timed.try_lock_for(std::chrono::milliseconds(2)));
  }).join();
  timed.unlock();
  std::shared_mutex shared;
  {
    const std::shared_lock reader(shared);
    printf("try_lock %d\n", shared.try_lock());
  }
  std::mutex mutex;
  std::condition_variable cond;
  bool told = false;
  std::thread teller([&] {
    const std::lock_guard guard(mutex);
    told = true;
    cond.notify_all();
  });
  {
    std::unique_lock guard(mutex);
    cond.wait(guard, [&] { return told; });
    printf("wait_for %d\n",
           cond.wait_for(guard, std::chrono::milliseconds(2), [] { return false; }));
  }
  teller.join();
  std::atomic<int> word = 0;
  {
    const OnceAsleep wake([&] {
      word = 1;
      word.notify_all();
    });
    word.wait(0);
  }
  printf("word %d\n", word.load());
  printf("future %d\n", std::async(std::launch::async, [] { return 5; }).get());
}

void Exceptions() {
  std::once_flag once;
  for (int i = 0; i < 3; ++i) {
    try {
      std::call_once(once, [i] {
        if (i < 2) throw std::runtime_error("not yet");
        printf("once %d\n", i);
      });
    } catch (const std::runtime_error& error) {
      printf("caught %s\n", error.what());
    }
  }
  pthread_once_t control = PTHREAD_ONCE_INIT;
  try {
    pthread_once(&control, [] { throw 7; });
  } catch (int number) {
    printf("caught %d\n", number);
  }
  ServeOneRequest();
}

}  // namespace

int main() {
  InBothKinds([] {
    Locks();
    Exceptions();
  });
  return 0;
}
