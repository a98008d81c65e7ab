// Child processes that are always reaped, temporary folders that are always removed, and Ctrl-C.

#ifndef CMWQ_TOOLS_COMMON_PROCESS_H_
#define CMWQ_TOOLS_COMMON_PROCESS_H_

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace cmwq::tools {

// From here on SIGINT, SIGTERM and SIGHUP only set the flag that Interrupted() reads: whoever waits
// looks at it a few times per second and unwinds, so that destructors clean up.
void CatchInterrupts();
bool Interrupted();

// Sleeps in small steps; returns early, with false, when interrupted.
bool SleepUnlessInterrupted(double seconds);

struct SpawnOptions {
  std::vector<std::string> argv;
  std::vector<int> cpus;    // empty: all that this process may use
  int stdout_fd = -1;       // -1: as this process's
  std::string output_path;  // both streams go to the end of this file instead, stdout_fd excepted
};

// One child. It has a process group of its own, so that a Ctrl-C at the terminal reaches only this
// process, an empty standard input, and it dies with this process.
class Child {
 public:
  Child() = default;
  ~Child() { Kill(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // Starts a program; on failure returns false with the reason in `error`.
  bool Spawn(const SpawnOptions& options, std::string* error);
  // Starts a copy of this process that leaves with what `body` returns.
  bool Fork(const std::vector<int>& cpus, const std::function<int()>& body, std::string* error);

  bool running() const { return pid_ > 0; }
  pid_t pid() const { return pid_; }
  // As waitpid() gave it; valid once the child has ended.
  int status() const { return status_; }
  // "exit code 1", "signal 11 (Segmentation fault)"
  std::string DescribeStatus() const;

  // True once the child has ended; waits at most `seconds`. Ends early when interrupted, unless
  // `stubborn`.
  bool Wait(double seconds, bool stubborn = false);
  // Asks the child to end with SIGTERM and waits; false if it did not within `seconds`.
  bool Terminate(double seconds);
  void Kill();

 private:
  pid_t pid_ = -1;
  int status_ = 0;
};

// The processors this process may run on, in ascending order.
std::vector<int> AllowedCpus();

// Raises the soft limit of open files, and the hard one where permitted, to `wanted` or as far as
// possible. Returns the soft limit now in force.
long RaiseOpenFiles(long wanted);

// The first of `names` found in PATH or in the folders for servers, or an empty string.
std::string FindProgram(const std::vector<std::string>& names);

// A fresh folder under TMPDIR or /tmp, removed with everything in it at the end.
class TempDir {
 public:
  TempDir() = default;
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  bool Create(std::string* error);
  void Keep() { keep_ = true; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool keep_ = false;
};

}  // namespace cmwq::tools

#endif  // CMWQ_TOOLS_COMMON_PROCESS_H_
