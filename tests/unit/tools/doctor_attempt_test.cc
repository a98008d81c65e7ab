// An attempt is answered whatever becomes of the child, and nothing of it sticks to this process.

#include "tools/doctor/attempt.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

namespace cmwq::test {
namespace {

using tools::doctor::Attempt;
using tools::doctor::OutputOf;
using tools::doctor::TryInChild;

TEST(DoctorAttempt, GrantedWithADetail) {
  const Attempt attempt = TryInChild([](int* detail) {
    *detail = 7;
    return 0;
  });
  EXPECT_TRUE(attempt.granted());
  EXPECT_EQ(attempt.detail, 7);
}

TEST(DoctorAttempt, Refused) {
  const Attempt attempt = TryInChild([](int*) { return -EPERM; });
  EXPECT_FALSE(attempt.granted());
  EXPECT_EQ(attempt.error, EPERM);
  EXPECT_EQ(Describe(attempt).substr(0, 7), "EPERM (");
}

// As by a filter that kills.
TEST(DoctorAttempt, Killed) {
  const Attempt attempt = TryInChild([](int*) {
    signal(SIGSYS, SIG_DFL);
    return kill(getpid(), SIGSYS);
  });
  EXPECT_FALSE(attempt.granted());
  EXPECT_EQ(attempt.killed_by, SIGSYS);
  EXPECT_EQ(Describe(attempt).substr(0, 19), "killed by signal 31");
}

TEST(DoctorAttempt, EndedWithoutAnAnswer) {
  const Attempt attempt = TryInChild([](int*) -> int { _exit(0); });
  EXPECT_FALSE(attempt.granted());
  EXPECT_EQ(attempt.killed_by, 0);
}

TEST(DoctorAttempt, OutputOfAProgram) {
  setenv("CMWQ_TEST_GONE", "here", 1);
  EXPECT_EQ(OutputOf({"/bin/sh", "-c", "echo $CMWQ_TEST_SET $CMWQ_TEST_GONE; echo error >&2"},
                     {{"CMWQ_TEST_SET", "set"}, {"CMWQ_TEST_GONE", ""}}),
            "set\nerror\n");
  EXPECT_EQ(OutputOf({"/nonexistent"}, {}), "");
}

}  // namespace
}  // namespace cmwq::test
