// Registered buffers and files as objects, and operations on them awaited.
//
// Prints:
//   wrote 4096, read 4096, the same: 1
//   no such buffer: EINVAL 1
#include <cmwq/io_fixed.hpp>
#include <cmwq/task.hpp>

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <vector>

namespace io = cmwq::io;

namespace {

cmwq::Task<> WriteAndRead(cmwq::Workqueue& queue, int fd) {
  std::vector<char> pages(2 * 4096, 'x');
  char* const out = pages.data();
  char* const in = pages.data() + 4096;
  const io::Buffers buffers({{out, 4096}, {in, 4096}});
  const io::Files files({fd});
  if (!buffers || !files) {
    std::perror("registering");
    co_return;
  }
  out[17] = 'y';
  const io::Result wrote = co_await io::async_write_fixed(queue, files[0], out, 4096, 0, buffers[0]);
  const io::Result got = co_await io::async_read_fixed(queue, files[0], in, 4096, 0, buffers[1]);
  std::printf("wrote %d, read %d, the same: %d\n", static_cast<int>(wrote.value),
              static_cast<int>(got.value), in[17] == 'y' && in[18] == 'x');
  const io::Result wrong = co_await io::async_read_fixed(queue, files[0], in, 1, 0, -1);
  std::printf("no such buffer: EINVAL %d\n", wrong.error == EINVAL);
}

}  // namespace

int main() {
  cmwq::Workqueue queue("fixed");
  std::FILE* const file = std::tmpfile();
  if (!queue || file == nullptr) return 1;
  cmwq::sync_wait(WriteAndRead(queue, fileno(file)));
  std::fclose(file);
}
