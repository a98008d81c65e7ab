#include "tools/common/preload_path.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/common/text.h"

// Where this command is installed; the build sets both.
#ifndef CMWQ_LIBDIR
#define CMWQ_LIBDIR "/usr/local/lib"
#endif
#ifndef CMWQ_LIBDIR_FROM_PREFIX
#define CMWQ_LIBDIR_FROM_PREFIX "lib"
#endif

namespace cmwq::tools {
namespace {

constexpr char kPreloadName[] = "libcmwq-preload.so";

bool SameFile(const std::string& a, const std::string& b) {
  if (a == b) return true;
  struct stat stat_a, stat_b;
  return stat(a.c_str(), &stat_a) == 0 && stat(b.c_str(), &stat_b) == 0 &&
         stat_a.st_dev == stat_b.st_dev && stat_a.st_ino == stat_b.st_ino;
}

std::string Absolute(const std::string& path) {
  char resolved[PATH_MAX];
  return realpath(path.c_str(), resolved) != nullptr ? std::string(resolved) : path;
}

}  // namespace

std::string SelfPath() {
  char path[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof path);
  if (size > 0) return std::string(path, static_cast<size_t>(size));
  // No /proc: the name that the kernel was told.
  const auto* const name = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  return name != nullptr && realpath(name, path) != nullptr ? std::string(path) : std::string();
}

std::vector<std::string> PreloadCandidates() {
  const char* named = getenv("CMWQ_PRELOAD");
  if (named != nullptr && *named != '\0') return {named};

  std::vector<std::string> candidates;
  const std::string self = SelfPath();
  const std::string dir = self.substr(0, self.rfind('/'));
  // In the build folder tools/ and hooks/ lie side by side.
  if (!self.empty()) candidates.push_back(dir + "/../hooks/" + kPreloadName);
  candidates.push_back(std::string(CMWQ_LIBDIR "/cmwq/") + kPreloadName);
  // A moved installation keeps its shape below the prefix.
  if (!self.empty()) {
    candidates.push_back(dir + "/../" CMWQ_LIBDIR_FROM_PREFIX "/cmwq/" + kPreloadName);
    candidates.push_back(dir + "/../lib/cmwq/" + kPreloadName);
  }
  return candidates;
}

std::string FindPreload(std::string* error) {
  const std::vector<std::string> candidates = PreloadCandidates();
  std::string searched;
  for (const std::string& candidate : candidates) {
    if (access(candidate.c_str(), R_OK) != 0) {
      searched += (searched.empty() ? "" : ", ") + candidate;
      continue;
    }
    const std::string path = Absolute(candidate);
    // The loader splits LD_PRELOAD at both and knows no quoting.
    if (path.find_first_of(" :") != std::string::npos) {
      *error = path + ": the dynamic loader takes no path with a space or a colon";
      return {};
    }
    return path;
  }
  *error = std::string(kPreloadName) + " is not at " + searched + "; set CMWQ_PRELOAD to its path";
  return {};
}

std::string FindPreload() {
  std::string error;
  const std::string preload = FindPreload(&error);
  if (preload.empty()) Complain("%s", error.c_str());
  return preload;
}

std::string RemovePreload(const std::string& preload, const std::string& existing) {
  std::string kept;
  for (size_t begin = 0; begin < existing.size();) {
    size_t end = existing.find_first_of(" :", begin);
    if (end == std::string::npos) end = existing.size();
    const std::string entry = existing.substr(begin, end - begin);
    if (!entry.empty() && !SameFile(entry, preload)) kept += (kept.empty() ? "" : ":") + entry;
    begin = end + 1;
  }
  return kept;
}

std::string PrependPreload(const std::string& preload, const std::string& existing) {
  const std::string others = RemovePreload(preload, existing);
  return others.empty() ? preload : preload + ':' + others;
}

}  // namespace cmwq::tools
