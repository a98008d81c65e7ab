// Whether the preload will work in a program: from its file, nothing is executed.

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/common/elf_inspect.h"
#include "tools/common/preload_path.h"
#include "tools/common/text.h"
#include "tools/doctor/checks.h"

namespace cmwq::tools::doctor {
namespace {

constexpr char kName[] = "target";

// What speaks against the file itself, before anybody looks inside. Empty: nothing.
std::string WhyNotReadable(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return strerror(errno);
  if (!S_ISREG(info.st_mode)) return "is no file";
  if (access(path.c_str(), R_OK) != 0) return "cannot be read, so cannot be judged";
  if (access(path.c_str(), X_OK) != 0) return "is not executable";
  return {};
}

void CheckImports(const ElfFacts& facts, const std::string& path, Findings* findings) {
  if (facts.imports_dlmopen) {
    findings->Add("target libraries", Status::kWarn,
                  path + " imports dlmopen: libraries in a namespace of their own bypass cmwq");
  } else if (facts.imports_dlopen) {
    findings->Add("target libraries", Status::kNote,
                  path + " imports dlopen: libraries that it opens with RTLD_DEEPBIND bypass cmwq");
  } else {
    findings->Ok("target libraries", "loads none later by itself");
  }
}

}  // namespace

void CheckTarget(const std::string& command, Findings* findings) {
  const std::vector<std::string> chain = FollowScripts(command);
  if (chain.empty()) {
    findings->Add(kName, Status::kFail, command + " is not found in PATH", "give its path");
    return;
  }
  for (const std::string& path : chain) {
    const std::string why = WhyNotReadable(path);
    if (why.empty()) continue;
    findings->Add(kName, Status::kFail, path + ": " + why);
    return;
  }
  const std::string& program = chain.back();
  const ElfFacts facts = ReadElfFacts(program);
  if (!facts.is_elf) {
    findings->Add(kName, Status::kFail, program + " is neither an ELF program nor a script");
    return;
  }
  std::string error;
  const PreloadVerdict verdict = JudgePreload(command, FindPreload(&error));
  if (!verdict.why_not.empty()) {
    findings->Add(kName, Status::kFail,
                  chain.front() + ' ' + verdict.why_not + ": cmwq will not be in it",
                  "link it with libcmwq, or build it for a dynamic glibc");
    return;
  }
  if (!facts.has_segments) {
    findings->Add(kName, Status::kFail, program + " is damaged: its headers lie outside the file");
    return;
  }
  findings->Ok(kName, chain.size() == 1 ? program + " takes the preload"
                                        : chain.front() + " is a script; " + program +
                                              ", which runs it, takes the preload");
  CheckImports(facts, program, findings);
}

}  // namespace cmwq::tools::doctor
