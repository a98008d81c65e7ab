// cmwq-bpf: loads the BPF program that counts a process's context switches, for processes that may
// not.

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <string>

#include "tools/bpf/loader.h"
#include "tools/commands.h"
#include "tools/common/text.h"

namespace cmwq::tools {
namespace {

constexpr char kHelp[] =
    "usage: cmwq-bpf run [--] COMMAND [ARGUMENT]...\n"
    "       cmwq-bpf serve [--mode OCTAL] PATH\n"
    "       cmwq-bpf check\n"
    "\n"
    "Loads the BPF program behind the settings switches=bpf and switches=exact. Needs CAP_BPF and\n"
    "CAP_PERFMON; the programs that use it need nothing.\n"
    "\n"
    "  run    starts COMMAND with the program attached to it, and switches=exact unless CMWQ_CONF\n"
    "         names switches. COMMAND must not fork before it uses cmwq.\n"
    "  serve  waits at the socket PATH; every process that connects gets a program for itself:\n"
    "         CMWQ_BPF=PATH CMWQ_CONF=switches=exact COMMAND. --mode says who may connect\n"
    "         (default 0600).\n"
    "  check  says whether the program can be loaded here; exit code 0 if so.\n"
    "\n"
    "Each attached process costs every context switch of the machine some 50 ns.\n";

int Usage(const char* what) {
  Complain("%s; 'cmwq-bpf --help' shows the usage", what);
  return kExitUsage;
}

// The child's side keeps `kept`, a socket that has the answer in it already.
int Run(int argc, char** argv) {
  int at = 1;
  if (at < argc && strcmp(argv[at], "--") == 0) ++at;
  if (at >= argc) return Usage("run: no program given");
  std::string error;
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    Complain("socketpair: %s", strerror(errno));
    return kExitRunFailed;
  }
  {
    BpfProgram program;  // what it has goes with the message; the process number stays through exec
    if (program.Load(getpid(), &error) != 0) {
      Complain("%s", error.c_str());
      return kExitRunFailed;
    }
    if (const int err = SendHello(ends[0], program, 0)) {
      Complain("cannot hand the program over: %s", strerror(err));
      return kExitRunFailed;
    }
  }
  const int kept = dup(ends[1]);  // without close-on-exec
  if (kept < 0) {
    Complain("dup: %s", strerror(errno));
    return kExitRunFailed;
  }
  setenv("CMWQ_BPF", StrPrintf("fd:%d", kept).c_str(), 1);
  const char* const conf = getenv("CMWQ_CONF");
  const std::string settings = conf != nullptr ? conf : "";
  if (settings.find("switches") == std::string::npos) {
    setenv("CMWQ_CONF", (settings + (settings.empty() ? "" : ",") + "switches=exact").c_str(), 1);
  }
  execvp(argv[at], argv + at);
  const int err = errno;
  Complain("%s: %s", argv[at], strerror(err));
  return err == ENOENT ? kExitNotFound : kExitNotExecutable;
}

volatile sig_atomic_t g_stop = 0;

void Answer(int client) {
  struct ucred peer = {};
  socklen_t size = sizeof(peer);
  int err = getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? 0 : errno;
  BpfProgram program;
  std::string error = "no credentials";
  if (err == 0) err = peer.pid > 0 ? program.Load(peer.pid, &error) : ESRCH;
  if (err != 0) Complain("process %d: %s", peer.pid, error.c_str());
  if (const int sent = SendHello(client, program, err)) {
    Complain("process %d: cannot hand the program over: %s", peer.pid, strerror(sent));
  }
}

int Listen(const char* path, mode_t mode) {
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (strlen(path) >= sizeof(address.sun_path)) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(address.sun_path, path);
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  // A socket that nobody listens to any more is in the way; one that somebody serves is not ours.
  struct stat st;
  if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) &&
      connect(fd, reinterpret_cast<struct sockaddr*>(&address), sizeof(address)) != 0 &&
      errno == ECONNREFUSED) {
    unlink(path);
  }
  const mode_t old = umask(0777 & ~mode);
  const bool ok = bind(fd, reinterpret_cast<struct sockaddr*>(&address), sizeof(address)) == 0 &&
                  listen(fd, 16) == 0;
  const int err = errno;
  umask(old);
  if (ok) return fd;
  close(fd);
  errno = err;
  return -1;
}

int Serve(int argc, char** argv) {
  constexpr option kOptions[] = {{"mode", required_argument, nullptr, 'm'}, {}};
  mode_t mode = 0600;
  for (int got; (got = getopt_long(argc, argv, "+m:", kOptions, nullptr)) != -1;) {
    char* end = nullptr;
    if (got != 'm') return Usage("serve: unknown option");
    mode = static_cast<mode_t>(strtoul(optarg, &end, 8));
    if (end == optarg || *end != '\0' || mode > 0777)
      return Usage("serve: --mode takes an octal mode");
  }
  if (optind + 1 != argc) return Usage("serve: one path is needed");
  {
    BpfProgram program;
    std::string error;
    if (program.Load(getpid(), &error) != 0) {
      Complain("%s", error.c_str());
      return kExitFailed;
    }
  }
  struct sigaction action = {};
  action.sa_handler = [](int) { g_stop = 1; };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  const int fd = Listen(argv[optind], mode);
  if (fd < 0) {
    Complain("%s: %s", argv[optind], strerror(errno));
    return kExitFailed;
  }
  printf("cmwq-bpf: serving at %s\n", argv[optind]);
  fflush(stdout);
  while (g_stop == 0) {
    const int client = accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      Complain("accept: %s", strerror(errno));
      break;
    }
    Answer(client);
    close(client);
  }
  unlink(argv[optind]);
  return g_stop != 0 ? kExitOk : kExitFailed;
}

int Check() {
  BpfProgram program;
  std::string error;
  if (program.Load(getpid(), &error) != 0) {
    Complain("%s", error.c_str());
    return kExitFailed;
  }
  puts("the program can be loaded and attached");
  return kExitOk;
}

int Main(int argc, char** argv) {
  if (argc < 2) {
    fputs(kHelp, stderr);
    return kExitUsage;
  }
  const std::string command = argv[1];
  if (command == "-h" || command == "--help" || command == "help") {
    fputs(kHelp, stdout);
    return kExitOk;
  }
  if (command == "run") return Run(argc - 1, argv + 1);
  if (command == "serve") return Serve(argc - 1, argv + 1);
  if (command == "check") return Check();
  return Usage("run, serve or check is needed");
}

}  // namespace
}  // namespace cmwq::tools

int main(int argc, char** argv) { return cmwq::tools::Main(argc, argv); }
