#include "tools/common/table.h"

#include <algorithm>
#include <cmath>

#include "tools/common/text.h"

namespace cmwq::tools {

std::string Table::Render() const {
  std::vector<size_t> widths;
  const auto measure = [&widths](const std::vector<std::string>& row) {
    if (widths.size() < row.size()) widths.resize(row.size());
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  };
  measure(header_);
  for (const auto& row : rows_) measure(row);

  std::string text;
  const auto render = [&](const std::vector<std::string>& row) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - row[i].size(), ' ');
      if (i > 0) line += "  ";
      line += i == 0 ? row[i] + padding : padding + row[i];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  };
  render(header_);
  for (const auto& row : rows_) render(row);
  return text;
}

std::string HumanNumber(double value) {
  if (!std::isfinite(value)) return "n/a";
  if (std::fabs(value) < 100) return StrPrintf(std::fabs(value) < 10 ? "%.2f" : "%.1f", value);
  std::string digits = StrPrintf("%.0f", value);
  const int first = digits[0] == '-' ? 1 : 0;
  for (int i = static_cast<int>(digits.size()) - 3; i > first; i -= 3) digits.insert(i, 1, ' ');
  return digits;
}

std::string HumanDuration(double nanoseconds) {
  if (!std::isfinite(nanoseconds)) return "n/a";
  struct Unit {
    double size;
    const char* name;
  };
  constexpr Unit kUnits[] = {{1e9, "s"}, {1e6, "ms"}, {1e3, "us"}};
  for (const Unit& unit : kUnits) {
    if (nanoseconds < unit.size) continue;
    const double value = nanoseconds / unit.size;
    return StrPrintf("%.*f %s", value < 10 ? 2 : value < 100 ? 1 : 0, value, unit.name);
  }
  return StrPrintf("%.0f ns", nanoseconds);
}

}  // namespace cmwq::tools
