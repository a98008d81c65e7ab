// Why a program would run without the preload, found out before it is started.

#ifndef CMWQ_TOOLS_COMMON_ELF_INSPECT_H_
#define CMWQ_TOOLS_COMMON_ELF_INSPECT_H_

#include <cstdint>
#include <string>
#include <vector>

namespace cmwq::tools {

// What is read from a program's file. Nothing is executed.
struct ElfFacts {
  bool is_elf = false;
  bool has_segments = false;  // false: the file is damaged, the rest below is unknown
  uint8_t elf_class = 0;
  uint16_t machine = 0;
  std::string interpreter;   // empty: the kernel starts it without a dynamic loader
  bool has_dynamic = false;  // with no interpreter: static-pie
  bool is_go = false;
  bool needs_libc = false;
  bool imports_dlopen = false;
  bool imports_dlmopen = false;
};

ElfFacts ReadElfFacts(const std::string& path);

// The file that execvp() would start for `command`, or an empty string.
std::string ResolveCommand(const std::string& command);

// That file, then the interpreter of its #! line, and so on to the program that the kernel will load at
// last. The last entry may not exist. Empty: `command` is not found in PATH.
std::vector<std::string> FollowScripts(const std::string& command);

struct PreloadVerdict {
  // The end of the sentence "COMMAND ...": "is statically linked". Empty if nothing speaks against
  // it, also if the command cannot be found or read: exec says that better.
  std::string why_not;
  // The program's loader would not pass over the preload but complain about it or give up.
  bool leave_out = false;
};

// Whether the dynamic loader will load `preload` into `command`. Follows #! lines to the
// interpreter.
PreloadVerdict JudgePreload(const std::string& command, const std::string& preload);

}  // namespace cmwq::tools

#endif  // CMWQ_TOOLS_COMMON_ELF_INSPECT_H_
