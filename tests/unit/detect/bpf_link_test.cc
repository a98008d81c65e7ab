// How the library gets at a BPF program: the message, its mistakes, and the table of threads. No
// BPF here.

#include "hooks/detect/bpf_link.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace cmwq::test {
namespace {

using detect::BpfHandles;
using detect::BpfMemory;

class Message : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends_), 0);
  }
  void TearDown() override {
    if (ends_[0] >= 0) close(ends_[0]);
    detect::CloseBpf(&handles_);
  }
  void Send(const void* bytes, size_t size, int fds) {
    const int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    const std::vector<int> all(static_cast<size_t>(fds), fd);
    struct iovec part = {const_cast<void*>(bytes), size};
    struct msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    std::vector<char> control(CMSG_SPACE(all.size() * sizeof(int)));
    if (fds > 0) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      struct cmsghdr* const c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(all.size() * sizeof(int));
      memcpy(CMSG_DATA(c), all.data(), all.size() * sizeof(int));
    }
    ASSERT_EQ(sendmsg(ends_[0], &message, 0), static_cast<ssize_t>(size));
    close(fd);
  }
  void Send(const cmwq_bpf_hello& hello, int fds) { Send(&hello, sizeof(hello), fds); }
  // Takes the other end away, as ReceiveBpf closes it.
  int Receive() {
    const std::string where = "fd:" + std::to_string(ends_[1]);
    return detect::ReceiveBpf(where.c_str(), &handles_, &what_);
  }

  int ends_[2] = {-1, -1};
  BpfHandles handles_;
  const char* what_ = "";
};

constexpr cmwq_bpf_hello kGood = {CMWQ_BPF_VERSION, 2, CMWQ_BPF_SLOTS, 0};

int OpenDescriptors() {
  int n = 0;
  for (int fd = 0; fd < 1024; ++fd) n += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return n;
}

TEST_F(Message, Good) {
  Send(kGood, 5);
  ASSERT_EQ(Receive(), 0) << what_;
  EXPECT_EQ(handles_.nr_doorbells, 2);
  for (const int fd : {handles_.slots, handles_.controls, handles_.link, handles_.doorbell[1]}) {
    EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  }
  EXPECT_EQ(fcntl(ends_[1], F_GETFD), -1);
}

// Whatever is wrong: an error, and no descriptor is left.
TEST_F(Message, Bad) {
  struct {
    cmwq_bpf_hello hello;
    int fds;
    int err;
  } cases[] = {
      {{CMWQ_BPF_VERSION + 1, 2, CMWQ_BPF_SLOTS, 0}, 5, EPROTO},
      {{CMWQ_BPF_VERSION, 2, CMWQ_BPF_SLOTS, EPERM}, 0, EPERM},
      {{CMWQ_BPF_VERSION, 2, CMWQ_BPF_SLOTS / 2, 0}, 5, EPROTO},
      {kGood, 4, EPROTO},
      {kGood, 2, EPROTO},
      {kGood, 0, EPROTO},
  };
  for (const auto& c : cases) {
    SetUp();
    const int before = OpenDescriptors();
    Send(c.hello, c.fds);
    EXPECT_EQ(Receive(), c.err) << what_;
    EXPECT_EQ(OpenDescriptors(), before - 1) << what_;  // the socket
    close(ends_[0]);
    ends_[0] = -1;
  }
}

TEST_F(Message, ShortOrNone) {
  Send("abc", 3, 0);
  EXPECT_EQ(Receive(), EPROTO);
  SetUp();
  close(ends_[0]);
  ends_[0] = -1;
  EXPECT_EQ(Receive(), ECONNRESET);
}

TEST_F(Message, NoSuchSocket) {
  BpfHandles handles;
  const char* what;
  EXPECT_EQ(detect::ReceiveBpf("/nonexistent/socket", &handles, &what), ENOENT);
  EXPECT_EQ(detect::ReceiveBpf(std::string(200, 'x').c_str(), &handles, &what), ENAMETOOLONG);
  for (const char* where : {"fd:", "fd:x", "fd:-1", "fd:99999999999"}) {
    EXPECT_EQ(detect::ReceiveBpf(where, &handles, &what), EINVAL) << where;
  }
  EXPECT_EQ(detect::ReceiveBpf("fd:1000000", &handles, &what), EBADF);
  // A number that was used again for something else is left alone.
  const int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  EXPECT_EQ(detect::ReceiveBpf(("fd:" + std::to_string(fd)).c_str(), &handles, &what), ENOTSOCK);
  EXPECT_GE(fcntl(fd, F_GETFD), 0);
  close(fd);
}

class Slots : public ::testing::Test {
 protected:
  Slots() { memory_.slots = slots_.get(); }
  std::unique_ptr<cmwq_bpf_slot[]> slots_{new cmwq_bpf_slot[CMWQ_BPF_SLOTS]()};
  BpfMemory memory_;
};

TEST_F(Slots, NeighboursShareTheirPlaces) {
  // All begin at the same place.
  cmwq_bpf_slot* slot[CMWQ_BPF_PROBES];
  for (int i = 0; i < CMWQ_BPF_PROBES; ++i) {
    const int tid = 5 + i * CMWQ_BPF_SLOTS;
    EXPECT_EQ(detect::FindSlot(memory_, tid), nullptr);
    slot[i] = detect::ClaimSlot(memory_, tid, i);
    ASSERT_NE(slot[i], nullptr);
    EXPECT_EQ(slot[i]->cpu, static_cast<unsigned>(i));
    EXPECT_EQ(detect::FindSlot(memory_, tid), slot[i]);
  }
  const int more = 5 + CMWQ_BPF_PROBES * CMWQ_BPF_SLOTS;
  EXPECT_EQ(detect::ClaimSlot(memory_, more, 0), nullptr);
  // One in the middle goes: those behind it are still found, and its place is used again.
  detect::ReleaseSlot(slot[3]);
  EXPECT_EQ(detect::FindSlot(memory_, 5 + 3 * CMWQ_BPF_SLOTS), nullptr);
  EXPECT_EQ(detect::FindSlot(memory_, 5 + 7 * CMWQ_BPF_SLOTS), slot[7]);
  EXPECT_EQ(detect::ClaimSlot(memory_, more, 0), slot[3]);
}

TEST_F(Slots, AtTheEndOfTheTable) {
  for (int i = 0; i < 4; ++i) {
    const int tid = CMWQ_BPF_SLOTS - 1 + i * CMWQ_BPF_SLOTS;
    ASSERT_NE(detect::ClaimSlot(memory_, tid, 0), nullptr);
  }
  EXPECT_EQ(slots_[2].tid, static_cast<unsigned>(CMWQ_BPF_SLOTS - 1 + 3 * CMWQ_BPF_SLOTS));
}

// A thread ended without a word and its number came back.
TEST_F(Slots, TheSameNumberAgain) {
  cmwq_bpf_slot* const slot = detect::ClaimSlot(memory_, 77, 0);
  slot->blocked = 1;
  slot->phase = 2;
  EXPECT_EQ(detect::ClaimSlot(memory_, 77, 1), slot);
  EXPECT_EQ(slot->blocked, 0u);
  EXPECT_EQ(slot->phase, 0u);
  EXPECT_EQ(slot->cpu, 1u);
}

}  // namespace
}  // namespace cmwq::test
