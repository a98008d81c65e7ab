// Tries something in a child that is thrown away: what is asked for may stick to a thread, and a
// container may kill whoever asks.

#ifndef CMWQ_TOOLS_DOCTOR_ATTEMPT_H_
#define CMWQ_TOOLS_DOCTOR_ATTEMPT_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace cmwq::tools::doctor {

struct Attempt {
  int error = 0;      // errno; 0: granted
  int detail = 0;     // what the attempt said besides
  int killed_by = 0;  // the signal that ended it before it could answer
  bool granted() const { return error == 0 && killed_by == 0; }
};

// `body` returns 0 or a negative errno, and may set the detail. Context: this process has one
// thread.
Attempt TryInChild(const std::function<int(int* detail)>& body);

// Runs a program with these variables set, or removed where the value is empty, and returns what it
// writes to both streams, as far as it does so within some seconds.
std::string OutputOf(const std::vector<std::string>& argv,
                     const std::vector<std::pair<std::string, std::string>>& variables);

// "EPERM (Operation not permitted)", "killed by signal 31 (Bad system call)"
std::string Describe(const Attempt& attempt);

}  // namespace cmwq::tools::doctor

#endif  // CMWQ_TOOLS_DOCTOR_ATTEMPT_H_
