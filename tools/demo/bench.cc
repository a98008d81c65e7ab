#include "tools/demo/bench.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "tools/common/preload_path.h"
#include "tools/common/text.h"

namespace cmwq::tools {
namespace {

// What this process would preload must be mapped by the server.
bool HasPreload(pid_t pid) {
  const std::string name = Basename(FindPreload());
  return ReadFile(StrPrintf("/proc/%d/maps", pid)).find('/' + name + '\n') != std::string::npos;
}

}  // namespace

std::vector<std::string> VariantArgv(const DemoOptions& options, const std::string& variant,
                                     std::vector<std::string> argv) {
  if (variant != kVariantCmwq) return argv;
  std::vector<std::string> wrapped = {SelfPath(), "run"};
  for (const std::string& setting : options.settings) {
    wrapped.push_back("-o");
    wrapped.push_back(setting);
  }
  wrapped.push_back("--");
  wrapped.insert(wrapped.end(), argv.begin(), argv.end());
  return wrapped;
}

int ConnectUnix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

bool WaitUntilReady(Child* server, const std::string& variant, const std::string& socket,
                    double seconds, std::string* error) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  for (int fd; (fd = ConnectUnix(socket)) < 0 || (close(fd), false);) {
    if (server->Wait(0, true)) {
      *error = "the server ended at its start with " + server->DescribeStatus();
      return false;
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      *error = StrPrintf("the server did not take connections within %.0f s", seconds);
      return false;
    }
    if (!SleepUnlessInterrupted(0.01)) {
      *error = "interrupted";
      return false;
    }
  }
  if (variant == kVariantCmwq && !HasPreload(server->pid())) {
    *error = "the preload is not in the server";
    return false;
  }
  return true;
}

std::string LastLines(const std::string& path, int lines) {
  std::string text = ReadFile(path);
  size_t begin = text.size();
  for (int i = 0; i <= lines && begin != std::string::npos && begin > 0; ++i) {
    begin = text.rfind('\n', begin - 1);
  }
  return begin == std::string::npos || begin == 0 ? text : text.substr(begin + 1);
}

}  // namespace cmwq::tools
