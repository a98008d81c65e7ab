// A plain text table: columns sized to their widest cell, first column left, the others right.

#ifndef CMWQ_TOOLS_COMMON_TABLE_H_
#define CMWQ_TOOLS_COMMON_TABLE_H_

#include <string>
#include <vector>

namespace cmwq::tools {

class Table {
 public:
  explicit Table(std::vector<std::string> header) : header_(std::move(header)) {}

  // A row may be shorter than the header: the missing cells are empty.
  void AddRow(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

  std::string Render() const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

// 1234567 as "1 234 567"; fractions only where they carry something (under 100).
std::string HumanNumber(double value);

// Nanoseconds in the unit a reader would choose: "870 ns", "43.1 us", "12.0 ms", "1.85 s".
std::string HumanDuration(double nanoseconds);

}  // namespace cmwq::tools

#endif  // CMWQ_TOOLS_COMMON_TABLE_H_
