// Registered buffers and files, run as io_work_test is: with a ring and without.

#include <cmwq/io_fixed.h>
#include <cmwq/io_stream.h>
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "runtime/base/conf.h"
#include "runtime/core/io_loop.h"
#include "tests/support/child.h"
#include "tests/support/log_capture.h"

// The child starts threads, which the sanitizer refuses unless told.
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }

namespace cmwq::test {
namespace {

struct Op {
  Op() {
    cmwq_io_work_init(&io, [](struct cmwq_work* work) {
      Op* const op = reinterpret_cast<Op*>(cmwq_io_work_of(work));
      op->result = op->io.result;
    });
  }
  ~Op() { cmwq_cancel_io_work_sync(&io); }
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;
  int64_t Result() {
    cmwq_flush_io_work(&io);
    return result;
  }

  struct cmwq_io_work io;  // first
  int64_t result = -4097;
};

// Pages of the test's own, unmapped at its end.
class Pages {
 public:
  explicit Pages(size_t nr, int protection = PROT_READ | PROT_WRITE)
      : size(nr * 4096),
        data(static_cast<char*>(
            mmap(nullptr, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {}
  ~Pages() { Unmap(); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  void Unmap() {
    if (data != nullptr) munmap(data, size);
    data = nullptr;
  }
  struct iovec whole() const {
    return {data, size};
  }

  const size_t size;
  char* data;
};

int Register(const struct iovec& buffer) { return cmwq_io_register_buffers(&buffer, 1); }
int Register(int fd) { return cmwq_io_register_files(&fd, 1); }
bool Unregister(int buffer) { return cmwq_io_unregister_buffers(buffer); }

class IoFixed : public ::testing::Test {
 protected:
  IoFixed() { EXPECT_EQ(pipe2(pipe.data(), O_CLOEXEC), 0); }
  ~IoFixed() override {
    cmwq_destroy_workqueue(wq);
    for (const int fd : pipe) close(fd);
  }
  bool Read(Op& op, int fd, void* to, size_t len, int buffer) {
    return cmwq_io_read_fixed_work(wq, &op.io, fd, to, len, -1, buffer, CMWQ_NO_TIMEOUT);
  }
  bool Write(Op& op, int fd, const void* from, size_t len, int buffer) {
    return cmwq_io_write_fixed_work(wq, &op.io, fd, from, len, -1, buffer, CMWQ_NO_TIMEOUT);
  }
  void Feed(const char* text) {
    EXPECT_EQ(write(pipe[1], text, strlen(text)), static_cast<ssize_t>(strlen(text)));
  }
  struct cmwq_workqueue* wq = cmwq_alloc_workqueue("io_fixed", 0, 0);
  std::array<int, 2> pipe{-1, -1};
};

TEST_F(IoFixed, ReadsAndWritesWaitAndMove) {
  Pages pages(2);
  const int buffer = Register(pages.whole());
  ASSERT_GE(buffer, 0);
  Op in, out;
  EXPECT_TRUE(Read(in, pipe[0], pages.data + 100, 16, buffer));  // waits
  EXPECT_FALSE(Unregister(buffer));
  EXPECT_EQ(errno, EBUSY);
  memcpy(pages.data + 4096, "through", 7);
  EXPECT_TRUE(Write(out, pipe[1], pages.data + 4096, 7, buffer));
  EXPECT_EQ(out.Result(), 7);
  EXPECT_EQ(in.Result(), 7);
  EXPECT_EQ(std::string(pages.data + 100, 7), "through");
  EXPECT_TRUE(Unregister(buffer));
}

// More than a pipe takes: the operation goes on in parts, each in the buffer.
TEST_F(IoFixed, WritesAllBytes) {
  Pages pages(64);
  for (size_t i = 0; i < pages.size; ++i) pages.data[i] = static_cast<char>(i * 7);
  const int buffer = Register(pages.whole());
  Op out;
  EXPECT_TRUE(Write(out, pipe[1], pages.data, pages.size, buffer));
  std::vector<char> got(pages.size);
  size_t n = 0;
  while (n < got.size()) {
    const ssize_t some = read(pipe[0], got.data() + n, got.size() - n);
    ASSERT_GT(some, 0);
    n += static_cast<size_t>(some);
  }
  EXPECT_EQ(out.Result(), static_cast<int64_t>(pages.size));
  EXPECT_EQ(memcmp(got.data(), pages.data, got.size()), 0);
  EXPECT_TRUE(Unregister(buffer));
}

TEST_F(IoFixed, EachEntryHasANumber) {
  Pages pages(3);
  const std::array<struct iovec, 3> buffers{
      {{pages.data, 4096}, {pages.data + 4096, 100}, {pages.data + 4196, 3996}}};
  const int first = cmwq_io_register_buffers(buffers.data(), 3);
  ASSERT_GE(first, 0);
  for (int i = 0; i < 3; ++i) {
    Op op;
    EXPECT_TRUE(Read(op, pipe[0], buffers[static_cast<size_t>(i)].iov_base, 50, first + i));
    Feed("entry");
    EXPECT_EQ(op.Result(), 5);
    EXPECT_EQ(memcmp(buffers[static_cast<size_t>(i)].iov_base, "entry", 5), 0);
  }
  EXPECT_FALSE(Unregister(first + 1));  // no registration begins there
  EXPECT_EQ(errno, EINVAL);
  EXPECT_TRUE(Unregister(first));
}

TEST_F(IoFixed, WhatIsNoBufferIsAResult) {
  LogCapture log;
  Pages pages(2);
  const int buffer = Register(pages.whole());
  for (const int wrong : {-1, INT_MIN, INT_MAX, INT_MAX - 1, 4095, 4096, buffer + 1}) {
    Op op;
    EXPECT_TRUE(Read(op, pipe[0], pages.data, 1, wrong));
    EXPECT_EQ(op.Result(), -EINVAL) << wrong;
  }
  const struct {
    char* from;
    size_t len;
  } outside[] = {{pages.data - 1, 2}, {pages.data + pages.size - 1, 2}, {pages.data, SIZE_MAX},
                 {pages.data + pages.size + 1, 0}, {nullptr, 1}};
  for (const auto& o : outside) {
    Op op;
    EXPECT_TRUE(Write(op, pipe[1], o.from, o.len, buffer));
    EXPECT_EQ(op.Result(), -EFAULT);
  }
  EXPECT_TRUE(Unregister(buffer));
  Op op;
  EXPECT_TRUE(Read(op, pipe[0], pages.data, 1, buffer));
  EXPECT_EQ(op.Result(), -EINVAL);
  EXPECT_FALSE(Unregister(buffer));  // twice
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(IoFixed, WhatCannotBeABufferIsRefused) {
  LogCapture log;
  Pages gone(1), sealed(1, PROT_READ), good(1);
  const struct iovec unmapped = gone.whole();
  gone.Unmap();
  const struct {
    struct iovec buffer;
    int error;
  } wrong[] = {{{nullptr, 4096}, EINVAL},
               {{good.data, 0}, EINVAL},
               {{good.data, (size_t{1} << 30) + 1}, EINVAL},
               {{good.data, SIZE_MAX}, EINVAL},
               {unmapped, EFAULT},
               {sealed.whole(), EFAULT}};
  for (const auto& w : wrong) {
    const std::array<struct iovec, 2> both{good.whole(), w.buffer};
    errno = 0;
    EXPECT_EQ(cmwq_io_register_buffers(both.data(), 2), -1);
    EXPECT_EQ(errno, w.error);
  }
  EXPECT_EQ(cmwq_io_register_buffers(nullptr, 1), -1);
  EXPECT_EQ(errno, EINVAL);
  const struct iovec one = good.whole();
  EXPECT_EQ(cmwq_io_register_buffers(&one, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(cmwq_io_register_buffers(&one, UINT_MAX), -1);
  EXPECT_EQ(errno, EINVAL);
  // Nothing was left behind.
  const int buffer = Register(one);
  EXPECT_EQ(buffer, 0);
  EXPECT_TRUE(Unregister(buffer));
}

TEST_F(IoFixed, TheSameMemoryTwice) {
  Pages pages(1);
  const int one = Register(pages.whole()), two = Register(pages.whole());
  ASSERT_GE(one, 0);
  ASSERT_GE(two, 0);
  EXPECT_NE(one, two);
  EXPECT_TRUE(Unregister(one));
  Op op;
  EXPECT_TRUE(Read(op, pipe[0], pages.data, 8, two));
  Feed("still");
  EXPECT_EQ(op.Result(), 5);
  EXPECT_TRUE(Unregister(two));
}

// Against the rule, and not to be survived by luck alone: an answer comes, and nothing else is written to.
TEST_F(IoFixed, MemoryThatIsUnmappedTooEarly) {
  Pages pages(1), other(1);
  const int buffer = Register(pages.whole());
  char* const where = pages.data;
  Op op;
  EXPECT_TRUE(Read(op, pipe[0], where, 8, buffer));
  pages.Unmap();
  Feed("lost");
  const int64_t result = op.Result();
  EXPECT_TRUE(result == 4 || result == -EFAULT) << result;
  EXPECT_EQ(other.data[0], 0);
  EXPECT_TRUE(Unregister(buffer));
}

TEST_F(IoFixed, NumbersAreFound) {
  Pages pages(1);
  const std::vector<struct iovec> all(4096, {pages.data, 64});
  const int first = cmwq_io_register_buffers(all.data(), 2000);
  const int second = cmwq_io_register_buffers(all.data(), 2000);
  EXPECT_EQ(first, 0);
  EXPECT_EQ(second, 2000);
  EXPECT_EQ(cmwq_io_register_buffers(all.data(), 97), -1);
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_TRUE(Unregister(first));
  EXPECT_EQ(cmwq_io_register_buffers(all.data(), 4096), -1);
  EXPECT_EQ(errno, ENOSPC);
  const int again = cmwq_io_register_buffers(all.data(), 97);
  EXPECT_EQ(again, 0);
  EXPECT_TRUE(Unregister(again));
  EXPECT_TRUE(Unregister(second));
}

TEST_F(IoFixed, FilesGoInThePlaceOfDescriptors) {
  std::array<int, 2> pair{-1, -1};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()), 0);
  const std::array<int, 3> fds{pipe[0], pair[0], pair[1]};
  const int first = cmwq_io_register_files(fds.data(), 3);
  ASSERT_GT(first, pair[1]);
  char buf[16] = {};
  Op read_op, received, sent;
  EXPECT_TRUE(cmwq_io_read_work(wq, &read_op.io, first, buf, 8, -1, CMWQ_NO_TIMEOUT));
  EXPECT_FALSE(cmwq_io_unregister_files(first));
  EXPECT_EQ(errno, EBUSY);
  EXPECT_TRUE(cmwq_io_recv_work(wq, &received.io, first + 1, buf + 8, 8, 0, CMWQ_NO_TIMEOUT));
  EXPECT_TRUE(cmwq_io_send_work(wq, &sent.io, first + 2, "b", 1, 0, CMWQ_NO_TIMEOUT));
  Feed("a");
  EXPECT_EQ(read_op.Result(), 1);
  EXPECT_EQ(received.Result(), 1);
  EXPECT_EQ(sent.Result(), 1);
  EXPECT_EQ(buf[0], 'a');
  EXPECT_EQ(buf[8], 'b');
  EXPECT_TRUE(cmwq_io_unregister_files(first));
  EXPECT_TRUE(cmwq_io_read_work(wq, &read_op.io, first, buf, 8, -1, CMWQ_NO_TIMEOUT));
  EXPECT_EQ(read_op.Result(), -EBADF);
  for (const int fd : pair) close(fd);
}

TEST_F(IoFixed, BothAtOnceAndInPlaces) {
  char name[] = "/tmp/cmwq_fixed.XXXXXX";
  const int fd = mkstemp(name);
  ASSERT_GE(fd, 0);
  unlink(name);
  Pages pages(2);
  const int buffer = Register(pages.whole()), file = Register(fd);
  memcpy(pages.data, "at the fourth", 13);
  Op op;
  EXPECT_TRUE(cmwq_io_write_fixed_work(wq, &op.io, file, pages.data, 13, 4, buffer, CMWQ_NO_TIMEOUT));
  EXPECT_EQ(op.Result(), 13);
  EXPECT_TRUE(cmwq_io_read_fixed_work(wq, &op.io, file, pages.data + 4096, 4096, 4, buffer,
                                      CMWQ_NO_TIMEOUT));
  EXPECT_EQ(op.Result(), 13);
  EXPECT_EQ(memcmp(pages.data + 4096, "at the fourth", 13), 0);
  EXPECT_TRUE(cmwq_io_fsync_work(wq, &op.io, file, true));
  EXPECT_EQ(op.Result(), 0);
  EXPECT_TRUE(cmwq_io_close_work(wq, &op.io, file));
  EXPECT_EQ(op.Result(), -EBADF);
  EXPECT_TRUE(cmwq_io_unregister_files(file));
  EXPECT_TRUE(Unregister(buffer));
  close(fd);
}

// Past the page cache, where it matters most; each file system has its own idea of that.
TEST_F(IoFixed, PastThePageCache) {
  char name[] = "/var/tmp/cmwq_fixed.XXXXXX";
  const int plain = mkstemp(name);
  ASSERT_GE(plain, 0);
  const int fd = open(name, O_RDWR | O_DIRECT | O_CLOEXEC);
  unlink(name);
  close(plain);
  if (fd < 0) GTEST_SKIP() << "O_DIRECT is refused here: " << strerror(errno);
  Pages pages(2);
  const int buffer = Register(pages.whole()), file = Register(fd);
  memset(pages.data, 'd', 4096);
  Op op;
  EXPECT_TRUE(cmwq_io_write_fixed_work(wq, &op.io, file, pages.data, 4096, 0, buffer,
                                       CMWQ_NO_TIMEOUT));
  EXPECT_EQ(op.Result(), 4096);
  // As much as there is, although more was asked for.
  EXPECT_TRUE(cmwq_io_read_fixed_work(wq, &op.io, file, pages.data, 8192, 0, buffer,
                                      CMWQ_NO_TIMEOUT));
  EXPECT_EQ(op.Result(), 4096);
  EXPECT_EQ(pages.data[4095], 'd');
  EXPECT_TRUE(cmwq_io_unregister_files(file));
  EXPECT_TRUE(Unregister(buffer));
  close(fd);
}

TEST_F(IoFixed, StreamsTakeFilesToo) {
  std::array<int, 2> pair{-1, -1};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()), 0);
  const int file = Register(pair[0]);
  struct cmwq_io_stream s;
  ASSERT_TRUE(cmwq_io_stream_init(&s, [](struct cmwq_work*) {}, 4, 64));
  EXPECT_TRUE(cmwq_io_recv_stream(wq, &s, file, 0));
  EXPECT_FALSE(cmwq_io_unregister_files(file));
  EXPECT_EQ(send(pair[1], "x", 1, 0), 1);
  struct cmwq_io_result r;
  int more;
  while ((more = cmwq_io_stream_next(&s, &r)) == 0) std::this_thread::yield();
  EXPECT_EQ(more, 1);
  EXPECT_EQ(r.value, 1);
  cmwq_io_stream_destroy(&s);
  EXPECT_TRUE(cmwq_io_unregister_files(file));
  for (const int fd : pair) close(fd);
}

TEST_F(IoFixed, WhatIsNoFileIsRefused) {
  LogCapture log;
  const std::array<int, 2> fds{pipe[0], -1};
  EXPECT_EQ(cmwq_io_register_files(fds.data(), 2), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(cmwq_io_register_files(nullptr, 2), -1);
  EXPECT_EQ(errno, EINVAL);
  for (const int wrong : {-1, 0, pipe[0], INT_MAX, INT_MIN}) {
    EXPECT_FALSE(cmwq_io_unregister_files(wrong));
    EXPECT_EQ(errno, EINVAL);
  }
  // A number is no descriptor.
  const int file = Register(pipe[0]);
  char c;
  EXPECT_EQ(cmwq_io_read(file, &c, 1, -1), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(Register(file), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_TRUE(cmwq_io_unregister_files(file));
}

// Registering is a wait like any other; work functions may.
TEST_F(IoFixed, FromWorkFunctionsAtOnce) {
  struct Item {
    struct cmwq_work work;
    std::array<char, 4096> memory;
    int good = 0;
  };
  std::vector<Item> items(8);
  for (Item& item : items) {
    cmwq_work_init(&item.work, [](struct cmwq_work* work) {
      Item* const self = reinterpret_cast<Item*>(work);
      for (int i = 0; i < 20; ++i) {
        const int buffer = Register({self->memory.data(), self->memory.size()});
        if (buffer >= 0 && cmwq_io_unregister_buffers(buffer)) ++self->good;
      }
    });
    EXPECT_TRUE(cmwq_queue_work(wq, &item.work));
  }
  for (Item& item : items) {
    cmwq_flush_work(&item.work);
    EXPECT_EQ(item.good, 20);
  }
}

TEST_F(IoFixed, HoldInAForkedChild) {
  Pages pages(1);
  const int buffer = Register(pages.whole()), file = Register(pipe[0]);
  Op pending;
  EXPECT_TRUE(Read(pending, file, pages.data, 8, buffer));
  EXPECT_EQ(InChild([&] {
    std::array<int, 2> own{-1, -1};
    CHILD_CHECK(::pipe(own.data()) == 0);
    dup2(own[0], pipe[0]);  // not the parent's
    Op op;
    CHILD_CHECK(cmwq_io_read_fixed_work(wq, &op.io, file, pages.data + 8, 8, -1, buffer,
                                        CMWQ_NO_TIMEOUT));
    CHILD_CHECK(!cmwq_io_unregister_buffers(buffer) && errno == EBUSY);
    CHILD_CHECK(write(own[1], "child", 5) == 5);
    CHILD_CHECK(op.Result() == 5);
    CHILD_CHECK(memcmp(pages.data + 8, "child", 5) == 0);
    CHILD_CHECK(cmwq_io_unregister_buffers(buffer));
    CHILD_CHECK(cmwq_io_unregister_files(file));
    CHILD_CHECK(Register(pages.whole()) == buffer);
  }), 0);
  Feed("parent");
  EXPECT_EQ(pending.Result(), 6);
  EXPECT_EQ(memcmp(pages.data, "parent", 6), 0);
  EXPECT_EQ(pages.data[8], 0);
  EXPECT_TRUE(Unregister(buffer));
  EXPECT_TRUE(cmwq_io_unregister_files(file));
}

// A child that never used an operation has no thread, and needs none for this.
TEST_F(IoFixed, AForkedChildMayTakeThemBackAtOnce) {
  Pages pages(1);
  const int buffer = Register(pages.whole());
  EXPECT_EQ(InChild([&] { CHILD_CHECK(cmwq_io_unregister_buffers(buffer)); }), 0);
  EXPECT_TRUE(Unregister(buffer));
}

// The limit counts for the user of the ring, so the child becomes another one before it has a ring.
TEST_F(IoFixed, TheLimitOfLockedMemoryIsSaid) {
  if (geteuid() != 0) GTEST_SKIP() << "not root: another user's limit is needed";
  const ChildResult child = InQuietChild([&] {
    // The ring itself counts too, since Linux 6.14.
    const struct rlimit limit = {1 << 20, 1 << 20};
    CHILD_CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    CHILD_CHECK(setgroups(0, nullptr) == 0 && setresuid(54321, 54321, 54321) == 0);
    Pages small(1), large(1024);
    CHILD_CHECK(Register(small.whole()) == 0);
    const int refused = Register(large.whole());
    if (!core::IoLoop::Get().UsesRing()) _exit(77);  // nothing is locked
    CHILD_CHECK(refused == -1 && errno == ENOMEM);
    CHILD_CHECK(cmwq_io_unregister_buffers(0));
  });
  if (child.status == 77) GTEST_SKIP() << "no io_uring here: nothing is locked";
  EXPECT_EQ(child.status, 0) << child.errors;
  EXPECT_NE(child.errors.find("raise it (ulimit -l, LimitMEMLOCK=)"), std::string::npos)
      << child.errors;
}

}  // namespace
}  // namespace cmwq::test
