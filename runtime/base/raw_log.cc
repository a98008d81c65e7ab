#include "runtime/base/raw_log.h"

#include <cstdarg>

#include "runtime/base/sys.h"

namespace cmwq::base {
namespace {

// Written at start-up or by tests, read anywhere; a stale value only keeps or drops one line.
constinit int g_level = static_cast<int>(LogLevel::kWarn);
using Sink = void (*)(const char*, size_t);
constinit Sink g_sink = nullptr;

class Writer {
 public:
  Writer(char* buf, size_t size) : buf_(buf), size_(size) {}
  void Put(char c) {
    if (length_ + 1 < size_) buf_[length_++] = c;
  }
  void PutString(const char* s) {
    for (; *s != '\0'; ++s) Put(*s);
  }
  void PutNumber(uint64_t value, unsigned base) {
    char digits[24];
    int n = 0;
    do {
      digits[n++] = "0123456789abcdef"[value % base];
      value /= base;
    } while (value != 0);
    while (n > 0) Put(digits[--n]);
  }
  size_t Finish() {
    if (size_ > 0) buf_[length_] = '\0';
    return length_;
  }

 private:
  char* const buf_;
  const size_t size_;
  size_t length_ = 0;
};

void FormatOne(Writer& out, char conversion, int longs, va_list ap) {
  switch (conversion) {
    case 's': {
      const char* s = va_arg(ap, const char*);
      out.PutString(s != nullptr ? s : "(null)");
      break;
    }
    case 'c': out.Put(static_cast<char>(va_arg(ap, int))); break;
    case 'd': {
      const int64_t v = longs > 0 ? va_arg(ap, long) : va_arg(ap, int);
      if (v < 0) out.Put('-');
      out.PutNumber(v < 0 ? 0 - static_cast<uint64_t>(v) : static_cast<uint64_t>(v), 10);
      break;
    }
    case 'u': out.PutNumber(longs > 0 ? va_arg(ap, unsigned long) : va_arg(ap, unsigned), 10); break;
    case 'x': out.PutNumber(longs > 0 ? va_arg(ap, unsigned long) : va_arg(ap, unsigned), 16); break;
    case 'p':
      out.PutString("0x");
      out.PutNumber(reinterpret_cast<uintptr_t>(va_arg(ap, void*)), 16);
      break;
    default: out.Put(conversion); break;
  }
}

size_t VFormat(char* buf, size_t size, const char* fmt, va_list ap) {
  Writer out(buf, size);
  for (; *fmt != '\0'; ++fmt) {
    if (*fmt != '%') {
      out.Put(*fmt);
      continue;
    }
    int longs = 0;
    for (++fmt; *fmt == 'l' || *fmt == 'z'; ++fmt) ++longs;
    if (*fmt == '\0') break;
    FormatOne(out, *fmt, longs, ap);
  }
  return out.Finish();
}

}  // namespace

void SetLogLevel(LogLevel level) { g_level = static_cast<int>(level); }
bool LogEnabled(LogLevel level) { return static_cast<int>(level) <= g_level; }
void SetLogSink(Sink sink) { g_sink = sink; }

size_t RawFormat(char* buf, size_t size, const char* fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  const size_t length = VFormat(buf, size, fmt, ap);
  va_end(ap);
  return length;
}

void RawLog(LogLevel level, const char* fmt, ...) {
  if (!LogEnabled(level)) return;
  char line[400] = "cmwq: ";
  constexpr size_t kPrefix = 6;
  va_list ap;
  va_start(ap, fmt);
  size_t length = kPrefix + VFormat(line + kPrefix, sizeof(line) - kPrefix - 1, fmt, ap);
  va_end(ap);
  line[length++] = '\n';
  if (g_sink != nullptr) {
    g_sink(line, length);
    return;
  }
  Sys(SYS_write, 2, line, length);
}

}  // namespace cmwq::base
