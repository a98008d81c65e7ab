#include "tools/common/json.h"

#include <cmath>
#include <utility>

#include "tools/common/text.h"

namespace cmwq::tools {

void JsonWriter::Quote(std::string_view text) {
  out_ += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out_ += '\\';
      out_ += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out_ += StrPrintf("\\u%04x", static_cast<unsigned>(c));
    } else {
      out_ += c;
    }
  }
  out_ += '"';
}

void JsonWriter::Prefix(std::string_view key) {
  if (need_comma_) out_ += ',';
  if (!closers_.empty()) {
    out_ += '\n';
    out_.append(2 * closers_.size(), ' ');
  }
  if (!key.empty()) {
    Quote(key);
    out_ += ": ";
  }
  need_comma_ = true;
}

void JsonWriter::Open(std::string_view key, char open, char close) {
  Prefix(key);
  out_ += open;
  closers_.push_back(close);
  need_comma_ = false;
}

void JsonWriter::End() {
  const char closer = closers_.back();
  closers_.pop_back();
  out_ += '\n';
  out_.append(2 * closers_.size(), ' ');
  out_ += closer;
  need_comma_ = true;
}

void JsonWriter::String(std::string_view key, std::string_view value) {
  Prefix(key);
  Quote(value);
}

void JsonWriter::Integer(std::string_view key, int64_t value) {
  Prefix(key);
  out_ += std::to_string(value);
}

void JsonWriter::Boolean(std::string_view key, bool value) {
  Prefix(key);
  out_ += value ? "true" : "false";
}

void JsonWriter::Number(std::string_view key, double value) {
  Prefix(key);
  out_ += std::isfinite(value) ? StrPrintf("%.6g", value) : "null";
}

std::string JsonWriter::Finish() {
  need_comma_ = false;
  return std::exchange(out_, {}) + '\n';
}

}  // namespace cmwq::tools
