// The subcommands. Each takes what main() was given from its own name on and returns an exit code.

#ifndef CMWQ_TOOLS_COMMANDS_H_
#define CMWQ_TOOLS_COMMANDS_H_

#include <cstdio>

namespace cmwq::tools {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
// As env(1), nice(1) and timeout(1) have them: they leave the lower codes to the started command.
inline constexpr int kExitRunFailed = 125;
inline constexpr int kExitNotExecutable = 126;
inline constexpr int kExitNotFound = 127;
inline constexpr int kExitInterrupted = 130;

struct Command {
  const char* name;
  const char* arguments;  // the synopsis after the name
  const char* summary;    // one line for the list
  const char* details;    // the options, a line each
  int (*run)(int argc, char** argv);
};

// The table of main.cc; null if there is none of this name.
const Command* FindCommand(const char* name);

void PrintCommandHelp(const Command& command, FILE* out);

// For a wrong use of a subcommand: points to its help, returns kExitUsage. getopt_long has already
// said what is wrong, or the caller has.
int UsageError(const char* command);

int RunMain(int argc, char** argv);
int DemoMain(int argc, char** argv);
int DoctorMain(int argc, char** argv);
int LsMain(int argc, char** argv);
int TopMain(int argc, char** argv);
int DumpMain(int argc, char** argv);

}  // namespace cmwq::tools

#endif  // CMWQ_TOOLS_COMMANDS_H_
