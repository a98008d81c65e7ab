// What doctor finds out: one line per facility, and the way in which a process here will work.

#ifndef CMWQ_TOOLS_DOCTOR_FINDING_H_
#define CMWQ_TOOLS_DOCTOR_FINDING_H_

#include <string>
#include <vector>

namespace cmwq::tools::doctor {

// Ascending: the worst one is the verdict.
enum class Status { kOk, kNote, kWarn, kFail };

// "OK", "NOTE", ...; `lower`: as JSON has them.
const char* StatusName(Status status, bool lower = false);

struct Finding {
  std::string name;
  Status status;
  std::string text;
  std::string hint;  // what to do about it, or empty
};

// One decision that a process makes at its start, and why.
struct Use {
  std::string name;   // "detector", "waits", "workers"
  std::string value;  // as reports and logs call it
  std::string why;
};

class Findings {
 public:
  void Add(std::string name, Status status, std::string text, std::string hint = {}) {
    list_.push_back({std::move(name), status, std::move(text), std::move(hint)});
  }
  void Ok(std::string name, std::string text) {
    Add(std::move(name), Status::kOk, std::move(text));
  }
  void WillUse(std::string name, std::string value, std::string why) {
    uses_.push_back({std::move(name), std::move(value), std::move(why)});
  }

  const std::vector<Finding>& list() const { return list_; }
  const std::vector<Use>& uses() const { return uses_; }
  Status Worst() const;
  // 0: all that is needed is there; 1: something is degraded (WARN); 2: unusable (FAIL).
  int ExitCode() const;

  // A line each; `quiet`: only those that need attention.
  std::string Text(bool quiet) const;
  std::string Json() const;

 private:
  std::vector<Finding> list_;
  std::vector<Use> uses_;
};

}  // namespace cmwq::tools::doctor

#endif  // CMWQ_TOOLS_DOCTOR_FINDING_H_
