// Small text helpers shared by the command's files. This toolchain's standard library has no
// <format>.

#ifndef CMWQ_TOOLS_COMMON_TEXT_H_
#define CMWQ_TOOLS_COMMON_TEXT_H_

#include <string>
#include <string_view>
#include <vector>

namespace cmwq::tools {

std::string StrPrintf(const char* format, ...) __attribute__((format(printf, 1, 2)));

// The pieces between separators; empty pieces are kept, an empty text has none.
std::vector<std::string> Split(std::string_view text, char separator);

// True if the whole text is a number within [min, max]; `out` is untouched otherwise.
bool ParseInt(std::string_view text, long min, long max, long* out);
bool ParseDouble(std::string_view text, double min, double max, double* out);

// The last component of a path.
std::string Basename(std::string_view path);

// The whole file, or an empty string if it cannot be read.
std::string ReadFile(const std::string& path);

// Writes the whole file; on failure returns false with errno set.
bool WriteFile(const std::string& path, std::string_view content);

// Prints "cmwq: <text>" as one line on stderr.
void Complain(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace cmwq::tools

#endif  // CMWQ_TOOLS_COMMON_TEXT_H_
