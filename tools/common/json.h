// A writer for the JSON output of the reading commands: values in order, commas and escapes done
// here.

#ifndef CMWQ_TOOLS_COMMON_JSON_H_
#define CMWQ_TOOLS_COMMON_JSON_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cmwq::tools {

// Each call adds one value. Inside an object the key must be given, inside an array it must not.
class JsonWriter {
 public:
  void BeginObject(std::string_view key = {}) { Open(key, '{', '}'); }
  void BeginArray(std::string_view key = {}) { Open(key, '[', ']'); }
  void End();

  void String(std::string_view key, std::string_view value);
  void Integer(std::string_view key, int64_t value);
  void Boolean(std::string_view key, bool value);
  // A value that is not finite was not measured and becomes null.
  void Number(std::string_view key, double value);

  // The document, ended with a newline; every Begin must have had its End.
  std::string Finish();

 private:
  void Prefix(std::string_view key);
  void Quote(std::string_view text);
  void Open(std::string_view key, char open, char close);

  std::string out_;
  std::vector<char> closers_;
  bool need_comma_ = false;
};

}  // namespace cmwq::tools

#endif  // CMWQ_TOOLS_COMMON_JSON_H_
