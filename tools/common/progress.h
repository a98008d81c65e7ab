// The line on stderr that says how far a long command is: rewritten on a terminal, else a line a
// step.

#ifndef CMWQ_TOOLS_COMMON_PROGRESS_H_
#define CMWQ_TOOLS_COMMON_PROGRESS_H_

#include <chrono>
#include <string>

namespace cmwq::tools {

class Progress {
 public:
  Progress(int steps, bool quiet);
  ~Progress() { Clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // What is under way now; shown on a terminal only.
  void Doing(const std::string& what);
  // One step is done. `result` is printed for good where stderr is not a terminal.
  void Done(const std::string& result);
  // Removes the live line, so that other output starts at the left margin.
  void Clear();

 private:
  void Show(const std::string& text);

  const int steps_;
  const bool quiet_;
  const bool live_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  int done_ = 0;
  bool shown_ = false;
};

}  // namespace cmwq::tools

#endif  // CMWQ_TOOLS_COMMON_PROGRESS_H_
