#include "tools/common/text.h"

#include <stdarg.h>
#include <stdio.h>

#include <charconv>

namespace cmwq::tools {
namespace {

std::string Vformat(const char* format, va_list args) {
  va_list again;
  va_copy(again, args);
  const int size = vsnprintf(nullptr, 0, format, again);
  va_end(again);
  if (size <= 0) return {};
  std::string text(static_cast<size_t>(size), '\0');
  vsnprintf(text.data(), text.size() + 1, format, args);
  return text;
}

template <typename T>
bool ParseNumber(std::string_view text, T min, T max, T* out) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return false;
  // Written so that a NaN is refused.
  if (!(value >= min && value <= max)) return false;
  *out = value;
  return true;
}

}  // namespace

std::string StrPrintf(const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::string text = Vformat(format, args);
  va_end(args);
  return text;
}

std::vector<std::string> Split(std::string_view text, char separator) {
  std::vector<std::string> pieces;
  if (text.empty()) return pieces;
  for (size_t begin = 0;;) {
    const size_t end = text.find(separator, begin);
    pieces.emplace_back(text.substr(begin, end - begin));
    if (end == std::string_view::npos) return pieces;
    begin = end + 1;
  }
}

bool ParseInt(std::string_view text, long min, long max, long* out) {
  return ParseNumber(text, min, max, out);
}

bool ParseDouble(std::string_view text, double min, double max, double* out) {
  return ParseNumber(text, min, max, out);
}

std::string Basename(std::string_view path) {
  const size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

std::string ReadFile(const std::string& path) {
  std::string content;
  FILE* file = fopen(path.c_str(), "re");
  if (file == nullptr) return content;
  char buffer[16384];
  for (size_t got; (got = fread(buffer, 1, sizeof buffer, file)) > 0;) content.append(buffer, got);
  fclose(file);
  return content;
}

bool WriteFile(const std::string& path, std::string_view content) {
  FILE* file = fopen(path.c_str(), "we");
  if (file == nullptr) return false;
  const bool written = fwrite(content.data(), 1, content.size(), file) == content.size();
  return fclose(file) == 0 && written;
}

void Complain(const char* format, ...) {
  va_list args;
  va_start(args, format);
  const std::string text = Vformat(format, args);
  va_end(args);
  fprintf(stderr, "cmwq: %s\n", text.c_str());
}

}  // namespace cmwq::tools
