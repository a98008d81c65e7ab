// One-line messages to standard error.
//
// Context: anywhere, signal handlers and the child of fork included. Allocates nothing, takes no
// lock, writes each line with one write(2), keeps errno. Lines are cut at 400 bytes.

#ifndef CMWQ_RUNTIME_BASE_RAW_LOG_H_
#define CMWQ_RUNTIME_BASE_RAW_LOG_H_

#include <cstddef>
#include <cstdint>

namespace cmwq::base {

enum class LogLevel : int { kError = 3, kWarn = 4, kInfo = 6, kDebug = 7 };

// Lines above this level are dropped. Set once at start-up from `log=` in CMWQ_CONF.
void SetLogLevel(LogLevel level);
bool LogEnabled(LogLevel level);

// Formats with the few conversions %s %d %u %x %p %c %% and the sizes l, ll, z; no width, no floats.
// Returns the length that was written, always < size, always NUL-terminated.
size_t RawFormat(char* buf, size_t size, const char* fmt, ...)
    __attribute__((format(printf, 3, 4)));

// Writes "cmwq: <text>\n" to descriptor 2.
void RawLog(LogLevel level, const char* fmt, ...) __attribute__((format(printf, 2, 3)));

// Replaces the writer of RawLog (tests capture lines with it); null restores descriptor 2.
// Context: tests, before threads start.
void SetLogSink(void (*sink)(const char* line, size_t length));

}  // namespace cmwq::base

#endif  // CMWQ_RUNTIME_BASE_RAW_LOG_H_
