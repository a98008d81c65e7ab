// Catches the lines of RawLog for the length of one test.

#ifndef CMWQ_TESTS_SUPPORT_LOG_CAPTURE_H_
#define CMWQ_TESTS_SUPPORT_LOG_CAPTURE_H_

#include <cstddef>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/base/raw_log.h"

namespace cmwq::test {

class LogCapture {
 public:
  explicit LogCapture(base::LogLevel level = base::LogLevel::kWarn) {
    Take();
    base::SetLogLevel(level);
    base::SetLogSink(&LogCapture::Append);
  }
  ~LogCapture() {
    base::SetLogSink(nullptr);
    base::SetLogLevel(base::LogLevel::kWarn);
  }
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;

  // The lines since the last call.
  std::vector<std::string> Take() {
    std::lock_guard<std::mutex> hold(Store().mu);
    return std::move(Store().lines);
  }

 private:
  struct Lines {
    std::mutex mu;
    std::vector<std::string> lines;
  };
  static Lines& Store() {
    static Lines* store = new Lines;  // outlives every thread that logs
    return *store;
  }
  static void Append(const char* line, size_t length) {
    std::lock_guard<std::mutex> hold(Store().mu);
    Store().lines.emplace_back(line, length);
  }
};

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_SUPPORT_LOG_CAPTURE_H_
