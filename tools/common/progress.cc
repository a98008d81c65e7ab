#include "tools/common/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <string_view>

#include "tools/common/text.h"

namespace cmwq::tools {
namespace {

// A terminal without cursor movement gets lines like a file.
bool StderrIsLive() {
  const char* term = getenv("TERM");
  return isatty(STDERR_FILENO) && term != nullptr && std::string_view(term) != "dumb";
}

size_t TerminalWidth() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

Progress::Progress(int steps, bool quiet) : steps_(steps), quiet_(quiet), live_(StderrIsLive()) {}

void Progress::Show(const std::string& text) {
  // A wrapped line could not be rewritten.
  fprintf(stderr, "\r\033[K%s", text.substr(0, TerminalWidth() - 1).c_str());
  fflush(stderr);
  shown_ = true;
}

void Progress::Doing(const std::string& what) {
  if (quiet_ || !live_) return;
  std::string left;
  if (done_ > 0) {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start_;
    left = StrPrintf(", about %.0f s left", passed.count() / done_ * (steps_ - done_));
  }
  Show(StrPrintf("[%d/%d%s] %s", done_, steps_, left.c_str(), what.c_str()));
}

void Progress::Done(const std::string& result) {
  ++done_;
  if (quiet_) return;
  if (live_) {
    Show(StrPrintf("[%d/%d] %s", done_, steps_, result.c_str()));
  } else {
    fprintf(stderr, "[%d/%d] %s\n", done_, steps_, result.c_str());
  }
}

void Progress::Clear() {
  if (shown_) fputs("\r\033[K", stderr);
  fflush(stderr);
  shown_ = false;
}

}  // namespace cmwq::tools
