// The examples of the headers' first comments and of include/cmwq/CXX.md, line by line:
// tests/headers/check_examples.py compares.

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmwq/async_io.hpp>
#include <cmwq/blocking.hpp>
#include <cmwq/executor.hpp>
#include <cmwq/futex.hpp>
#include <cmwq/io.hpp>
#include <cmwq/io_fixed.hpp>
#include <cmwq/io_stream.hpp>
#include <cmwq/sender.hpp>
#include <cmwq/task.hpp>
#include <cmwq/workqueue.hpp>

#include <array>
#include <cerrno>
#include <cstdio>

#if __has_include(<asio.hpp>)
#include <asio.hpp>
#define HAVE_ASIO 1
#endif

namespace {

using namespace std::chrono_literals;

// work.hpp
TEST(Examples, Work) {
  cmwq::Workqueue queue("example");
  cmwq::Work flush_log([] { std::puts("flushed"); });
  queue.queue(flush_log);   // allocates nothing; pending at most once
  flush_log.flush();        // waits for it
}

// workqueue.hpp
int Queues() {
  cmwq::Workqueue queue("example");
  if (!queue) return errno;
  auto sum = queue.submit([] { return 1 + 2; });
  queue.post([] { std::puts("nobody waits for this"); });
  std::printf("%d\n", sum.get());
  return 0;
}
TEST(Examples, Workqueue) { EXPECT_EQ(Queues(), 0); }

// submit.hpp
TEST(Examples, Submit) {
  cmwq::Workqueue queue("example");
  cmwq::Submission<int> answer = queue.submit([] { return 6 * 7; });
  if (answer.wait()) std::printf("%d\n", answer.get());   // or: co_await std::move(answer)
}

// futex.hpp
TEST(Examples, Futex) {
  cmwq::Workqueue queue("example");
  std::atomic<uint32_t> ready{0};
  auto consumer = queue.submit([&] {
    while (ready.load() == 0) cmwq::futex::wait(ready, 0);   // the next item runs
  });
  ready = 1;
  cmwq::futex::wake_all(ready);
  consumer.wait();
}

// result.hpp
void use(int) {}
TEST(Examples, Result) {
  cmwq::Workqueue queue("example");
  auto call = queue.submit([] { return 1; });
  try {
    use(call.get());
  } catch (const cmwq::Cancelled&) {   // nobody called the function, and nobody will
  }
}

// blocking.hpp
TEST(Examples, Blocking) {
  cmwq::Workqueue queue("example");
  const auto lock_of_a_library = [] {};
  queue.submit([&] {
    const cmwq::ScopedBlocking blocking;
    lock_of_a_library();   // waits where cmwq cannot see it
  }).wait();
}

// io.hpp
TEST(Examples, Io) {
  cmwq::Workqueue queue("example");
  int fd = -1;
  queue.submit([fd] {
    char buf[512];
    return cmwq::io::read(fd, buf, sizeof(buf));   // the next item of this CPU runs meanwhile
  }).wait();
}

// sender.hpp
struct Receiver {
  void set_value() && noexcept { std::puts("in a worker"); }
  void set_stopped() && noexcept { std::puts("stopped"); }
};
TEST(Examples, Sender) {
  cmwq::Workqueue queue("example");
  auto operation = cmwq::Scheduler(queue).schedule().connect(Receiver());
  operation.start();   // must live until one of the two was called
  queue.flush();
}

#if defined(__cpp_lib_jthread)
// CXX.md
TEST(Examples, Stop) {
  cmwq::Workqueue queue("example");
  std::stop_source stop;
  auto call = queue.submit(stop.get_token(), [](std::stop_token token) {
    return token.stop_requested() ? 0 : 1;
  });
  stop.request_stop();   // not begun yet: cancelled; else `token` tells the call
  if (!call.wait()) std::puts("cancelled");
}
#endif

#if defined(__cpp_impl_coroutine) && defined(__cpp_lib_jthread)
// coroutine.hpp
cmwq::Task<> Example(cmwq::Workqueue& queue, std::stop_token stop) {
  co_await queue.schedule();   // now in a worker
  const bool passed = co_await queue.schedule_after(10ms, stop);   // no thread waits meanwhile
  if (!passed) co_return;
}
TEST(Examples, Coroutine) {
  cmwq::Workqueue queue("example");
  cmwq::sync_wait(Example(queue, {}));
}

// task.hpp
namespace task {
cmwq::Task<int> Answer(cmwq::Workqueue& queue) {
  co_await queue.schedule();
  co_return 42;
}
int main() {
  cmwq::Workqueue queue("example");
  return cmwq::sync_wait(Answer(queue)) == 42 ? 0 : 1;
}
}  // namespace task
TEST(Examples, Task) { EXPECT_EQ(task::main(), 0); }

// async_io.hpp
cmwq::Task<> Echo(cmwq::Workqueue& queue, int fd) {
  char buf[4096];
  for (;;) {
    const auto got = co_await cmwq::io::async_recv(queue, fd, buf, sizeof(buf));
    if (!got || got.value == 0) co_return;
    const auto put = co_await cmwq::io::async_send(queue, fd, buf, got.value);
    if (!put) co_return;
  }
}
TEST(Examples, AsyncIo) {
  cmwq::Workqueue queue("example");
  cmwq::sync_wait(Echo(queue, -1));
}

// io_stream.hpp
size_t g_used = 0;
void Use(const void*, size_t size) { g_used += size; }
cmwq::Task<> Serve(cmwq::Workqueue& queue, int fd) {
  cmwq::io::Stream stream(16, 4096);        // at most 16 results wait, in buffers of 4096 bytes
  stream.recv(queue, fd);
  for (;;) {
    const cmwq::io::Received got = co_await stream.next();
    if (!got) co_return;                    // got.error(): 0 at the end of file
    Use(got.data(), got.size());            // until `got` goes away
  }
}
TEST(Examples, IoStream) {
  cmwq::Workqueue queue("example");
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  ASSERT_EQ(write(ends[0], "12345", 5), 5);
  close(ends[0]);
  cmwq::sync_wait(Serve(queue, ends[1]));
  close(ends[1]);
  EXPECT_EQ(g_used, 5u);
}

// io_fixed.hpp
cmwq::Task<> Load(cmwq::Workqueue& queue, int fd, char* pages, size_t size) {
  const cmwq::io::Buffers buffers({{pages, size}});
  const cmwq::io::Files files({fd});
  if (!buffers || !files) co_return;        // errno says why
  const auto got =
      co_await cmwq::io::async_read_fixed(queue, files[0], pages, size, 0, buffers[0]);
  if (got) Use(pages, static_cast<size_t>(got.value));
}
TEST(Examples, IoFixed) {
  cmwq::Workqueue queue("example");
  std::FILE* const file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(pwrite(fileno(file), "123456", 6, 0), 6);
  std::array<char, 64> pages;
  g_used = 0;
  cmwq::sync_wait(Load(queue, fileno(file), pages.data(), pages.size()));
  EXPECT_EQ(g_used, 6u);
  std::fclose(file);
}
#endif

#if defined(HAVE_ASIO) && defined(ASIO_HAS_CO_AWAIT)
// executor.hpp
asio::awaitable<void, cmwq::Executor> Session() { co_return; }
TEST(Examples, Executor) {
  cmwq::Workqueue queue("example");
  const cmwq::Executor executor(queue);
  asio::post(executor, [] { std::puts("in a worker"); });
  asio::co_spawn(executor, Session(), asio::detached);   // asio::awaitable<void, cmwq::Executor>
}
#endif

}  // namespace
