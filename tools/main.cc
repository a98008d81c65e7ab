// The cmwq command: one table of subcommands, from which the help is made.

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include <string>

#include "tools/commands.h"
#include "tools/common/text.h"

#ifndef CMWQ_VERSION
#define CMWQ_VERSION "0"
#endif

namespace cmwq::tools {
namespace {

int HelpMain(int argc, char** argv);

constexpr Command kCommands[] = {
    {"run", "[-o KEY=VALUE]... [--report] [--disable] [-q] [--] COMMAND [ARGUMENT]...",
     "start a program with cmwq preloaded",
     "  -o, --option KEY=VALUE  add a setting to CMWQ_CONF; may be given again\n"
     "      --report            print what the pools did when the program ends (CMWQ_REPORT=1)\n"
     "      --disable           load cmwq but switch it off (CMWQ_DISABLE=1)\n"
     "  -q, --quiet             do not say why a program will run without cmwq\n"
     "\n"
     "The exit code is the program's; 125 if cmwq itself failed, 126 if the program was found but\n"
     "could not be started, 127 if it was not found. CMWQ_PRELOAD names another preload library.\n",
     RunMain},
    {"demo", "[--mariadb] [OPTION]...", "measure a server with and without cmwq, on this machine",
     "      --mariadb           use MariaDB and sysbench instead of the small server that comes "
     "along\n"
     "      --rounds N          rounds per variant (default 3)\n"
     "      --seconds N         length of a measurement (default 2, with --mariadb 5)\n"
     "      --connections A,B   numbers of connections of the small server (default 16,400)\n"
     "      --workloads W@N,... sysbench workloads and their numbers of connections\n"
     "                          (default oltp_point_select@16,oltp_update_index@256)\n"
     "      --variants A,B      plain, cmwq and, with --mariadb, pool-of-threads (default all)\n"
     "      --split             server on the first half of the CPUs, load on the second\n"
     "  -o, --option KEY=VALUE  a setting for the server under cmwq; may be given again\n"
     "      --json              print JSON instead of tables\n"
     "      --out FILE          also write the JSON with every round to FILE\n"
     "      --keep              keep the temporary folder and the servers' logs\n"
     "  -q, --quiet             no progress on stderr\n"
     "\n"
     "Exit code 0 if every request was answered, 1 if not or if a server failed.\n",
     DemoMain},
    {"doctor", "[--json] [-q] [--pid PID] [--target PATH | [--] PROGRAM [ARGUMENT]...]",
     "say what this machine and container offer, what cmwq uses, and what is in its way",
     "      --json              print JSON\n"
     "      --pid PID           also look at a running process: is cmwq in it, what does it use\n"
     "      --target PATH       also look at a program: will the preload work in it\n"
     "  -q, --quiet             only what needs attention\n"
     "\n"
     "A line for each facility. Each is tried, in a child that is thrown away.\n"
     "  OK    there\n"
     "  NOTE  worth knowing; nothing that cmwq does here depends on it\n"
     "  WARN  cmwq works, less well; the way to change that is in parentheses\n"
     "  FAIL  cmwq does not work here, or not in that program or process\n"
     "\n"
     "Exit code 0 if there is no worse line than NOTE, 1 with a WARN, 2 with a FAIL or a wrong use.\n",
     DoctorMain},
    {"ls", "[--json] [--keep]", "list the running processes that use cmwq",
     "      --json              print JSON\n"
     "      --keep              leave the pages of processes that have ended\n"
     "\n"
     "Each process has a page with its statistics in /dev/shm, if it runs with CMWQ_CONF=stats=1: as soon\n"
     "as it has a workqueue, or under the preload as soon as a thread waits for requests. A page that a\n"
     "killed process has left behind is removed, which is said on stderr. State 'elsewhere': the page is\n"
     "from another container, where alone can be known whether the process runs.\n"
     "\n"
     "Exit code 0, also if there is none; 1 if a page could not be removed; 2 after a wrong use.\n",
     LsMain},
    {"top", "[-i SECONDS] [-n COUNT] [-p PID] [-s KEY] [-b] [--json] [PATTERN]",
     "show what the pools do, live",
     "  -i, --interval SECONDS  time between two pictures (default 1)\n"
     "  -n, --count COUNT       end after so many\n"
     "  -p, --pid PID           only this process\n"
     "  -s, --sort KEY          pid, items (default), pending, blocked, delay, held, workers\n"
     "  -b, --batch             plain tables, one below the other\n"
     "      --json              print JSON, one document per interval\n"
     "\n"
     "PATTERN, an extended regular expression, selects by command and pool. Keys: i p b d h w n sort by\n"
     "what they stand for (n: pid), / asks for another pattern, q ends.\n"
     "\n"
     "  RUN BLOCK FOUND IDLE    workers in this state, on average: executing, in an announced block, in\n"
     "                          one that the detector found, idle or waiting for a request\n"
     "  BLOCKED                 share of the time of items or requests that was spent blocked\n"
     "  p50 p99                 from queueing to start, of a sample of the items; a gate's requests: how\n"
     "                          long those were held that were held\n"
     "  PENDING HELD            items that wait for a worker; requests that are ready and held\n"
     "  COVER                   of the blocks that are known, how many were announced\n"
     "\n"
     "Nothing in the processes is stopped or slowed. Exit code 0; 1 if there is no process to show; 2\n"
     "after a wrong use.\n",
     TopMain},
    {"dump", "[--json] [PID]", "show pools, workers and what each of them executes",
     "      --json              print JSON\n"
     "\n"
     "What a worker is at is of this moment. 'for' says since when, within a tenth of a second; 'pending'\n"
     "and the counts of a pool are as of the time in parentheses.\n"
     "\n"
     "Exit code 0; 1 if there is no process to show; 2 after a wrong use.\n",
     DumpMain},
    {"help", "[COMMAND]", "show this list, or a command's options", "", HelpMain},
};

void PrintHelp(FILE* out) {
  fputs(
      "usage: cmwq COMMAND [OPTION]...\n"
      "\n"
      "Concurrency-managed workqueues for ordinary processes.\n"
      "\n"
      "commands:\n",
      out);
  for (const Command& command : kCommands) {
    fprintf(out, "  %-10s %s\n", command.name, command.summary);
  }
  fputs(
      "\n"
      "options:\n"
      "  -h, --help     show this text\n"
      "      --version  show the version\n"
      "\n"
      "'cmwq help COMMAND' shows a command's options.\n",
      out);
}

int HelpMain(int argc, char** argv) {
  if (argc < 2 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0) {
    PrintHelp(stdout);
    return kExitOk;
  }
  const Command* command = FindCommand(argv[1]);
  if (command == nullptr) {
    Complain("there is no command '%s'; 'cmwq help' lists them", argv[1]);
    return kExitUsage;
  }
  PrintCommandHelp(*command, stdout);
  return kExitOk;
}

int Main(int argc, char** argv) {
  constexpr int kVersionOption = 256;
  constexpr option kOptions[] = {
      {"help", no_argument, nullptr, 'h'}, {"version", no_argument, nullptr, kVersionOption}, {}};
  switch (getopt_long(argc, argv, "+h", kOptions, nullptr)) {
    case -1:
      break;
    case 'h':
      PrintHelp(stdout);
      return kExitOk;
    case kVersionOption:
      puts("cmwq " CMWQ_VERSION);
      return kExitOk;
    default:
      PrintHelp(stderr);
      return kExitUsage;
  }
  if (optind == argc) {
    PrintHelp(stderr);
    return kExitUsage;
  }
  const Command* command = FindCommand(argv[optind]);
  if (command == nullptr) {
    Complain("there is no command '%s'; 'cmwq help' lists them", argv[optind]);
    return kExitUsage;
  }
  const int first = optind;
  // getopt_long starts its complaints with this.
  std::string title = std::string("cmwq ") + command->name;
  argv[first] = title.data();
  optind = 0;  // the subcommand scans its own arguments from the start
  return command->run(argc - first, argv + first);
}

}  // namespace

const Command* FindCommand(const char* name) {
  for (const Command& command : kCommands) {
    if (strcmp(command.name, name) == 0) return &command;
  }
  return nullptr;
}

void PrintCommandHelp(const Command& command, FILE* out) {
  fprintf(out, "usage: cmwq %s %s\n\n%c%s.\n", command.name, command.arguments,
          command.summary[0] & ~0x20, command.summary + 1);
  if (command.details[0] != '\0') fprintf(out, "\n%s", command.details);
}

int UsageError(const char* command) {
  fprintf(stderr, "'cmwq help %s' shows its options\n", command);
  return kExitUsage;
}

}  // namespace cmwq::tools

int main(int argc, char** argv) { return cmwq::tools::Main(argc, argv); }
