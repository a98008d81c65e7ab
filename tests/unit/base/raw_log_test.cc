#include "runtime/base/raw_log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <string>

#include "tests/support/log_capture.h"

// A format is checked against its arguments only where it is a literal; below they pass through two
// templates, and all are literals.
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"

namespace cmwq::base {
namespace {

template <class... Args>
std::string Ours(const char* format, Args... args) {
  char buffer[256];
  const size_t length = RawFormat(buffer, sizeof(buffer), format, args...);
  EXPECT_EQ(length, strlen(buffer));
  return buffer;
}

template <class... Args>
std::string Libc(const char* format, Args... args) {
  char buffer[256];
  snprintf(buffer, sizeof(buffer), format, args...);
  return buffer;
}

#define SAME(...) EXPECT_EQ(Ours(__VA_ARGS__), Libc(__VA_ARGS__))

TEST(RawFormat, AgreesWithLibc) {
  SAME("plain");
  SAME("%d %d %d %d", 0, -1, INT_MAX, INT_MIN);
  SAME("%u %u", 0u, UINT_MAX);
  SAME("%x %x", 0u, 0xdeadbeefu);
  SAME("%ld %ld", LONG_MAX, LONG_MIN);
  SAME("%lu %lx", ULONG_MAX, ULONG_MAX);
  SAME("%lld %llu", LLONG_MIN, ULLONG_MAX);
  SAME("%zu %zd", SIZE_MAX, static_cast<ssize_t>(-5));
  SAME("%s|%s|", "text", "");
  SAME("%c%c%%", 'a', 'z');
  SAME("%p", reinterpret_cast<void*>(0x1234abcd));
}

TEST(RawFormat, SurvivesWhatLibcDoesNot) {
  const char* volatile null = nullptr;  // volatile: the compiler must not see the mistake
  EXPECT_EQ(Ours("%s", static_cast<const char*>(null)), "(null)");
  EXPECT_EQ(Ours("100%"), "100");
  EXPECT_EQ(Ours("100%l"), "100");
  EXPECT_EQ(Ours("%q"), "q");
}

TEST(RawFormat, CutsAndTerminates) {
  char buffer[8];
  memset(buffer, 'x', sizeof(buffer));
  EXPECT_EQ(RawFormat(buffer, 4, "abcdef"), 3u);
  EXPECT_STREQ(buffer, "abc");
  EXPECT_EQ(buffer[4], 'x');
  EXPECT_EQ(RawFormat(buffer, 1, "abcdef"), 0u);
  EXPECT_STREQ(buffer, "");
  EXPECT_EQ(RawFormat(buffer, 5, "%d", 1234567), 4u);
  EXPECT_STREQ(buffer, "1234");
  buffer[0] = 'k';
  EXPECT_EQ(RawFormat(buffer, 0, "abc"), 0u);
  EXPECT_EQ(buffer[0], 'k');
}

TEST(RawLog, WritesOnePrefixedLine) {
  test::LogCapture log;
  RawLog(LogLevel::kError, "%s=%d", "x", 3);
  EXPECT_EQ(log.Take(), std::vector<std::string>{"cmwq: x=3\n"});
}

TEST(RawLog, DropsWhatIsAboveTheLevel) {
  test::LogCapture log(LogLevel::kWarn);
  RawLog(LogLevel::kInfo, "quiet");
  RawLog(LogLevel::kDebug, "quieter");
  RawLog(LogLevel::kWarn, "loud");
  EXPECT_EQ(log.Take().size(), 1u);
}

TEST(RawLog, CutsALongLineAndKeepsTheNewline) {
  test::LogCapture log;
  const std::string text(1000, 'y');
  RawLog(LogLevel::kError, "%s", text.c_str());
  const auto lines = log.Take();
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_LE(lines[0].size(), 400u);
  EXPECT_EQ(lines[0].back(), '\n');
  EXPECT_EQ(lines[0][lines[0].size() - 2], 'y');
}

TEST(RawLog, GoesToStandardErrorAndKeepsErrno) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const int saved = dup(2);
  ASSERT_EQ(dup2(ends[1], 2), 2);
  errno = EXDEV;
  RawLog(LogLevel::kError, "to descriptor %d", 2);
  const int error = errno;
  close(2);  // a write that fails must not change errno either
  errno = EXDEV;
  RawLog(LogLevel::kError, "nowhere");
  const int error_of_failure = errno;
  dup2(saved, 2);
  close(saved);
  close(ends[1]);
  char buffer[100] = "";
  const ssize_t n = read(ends[0], buffer, sizeof(buffer) - 1);
  close(ends[0]);
  EXPECT_EQ(std::string(buffer, n > 0 ? static_cast<size_t>(n) : 0), "cmwq: to descriptor 2\n");
  EXPECT_EQ(error, EXDEV);
  EXPECT_EQ(error_of_failure, EXDEV);
}

}  // namespace
}  // namespace cmwq::base
