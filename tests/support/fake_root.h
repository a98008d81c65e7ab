// FakeRoot: a folder that stands for "/", with the files of /proc and /sys that a test wants.

#ifndef CMWQ_TESTS_SUPPORT_FAKE_ROOT_H_
#define CMWQ_TESTS_SUPPORT_FAKE_ROOT_H_

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace cmwq::test {

class FakeRoot {
 public:
  FakeRoot() {
    char name[] = "/tmp/cmwq-root-XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  ~FakeRoot() { std::filesystem::remove_all(folder_); }
  FakeRoot(const FakeRoot&) = delete;
  FakeRoot& operator=(const FakeRoot&) = delete;

  const std::string& folder() const { return folder_; }
  void Write(const std::string& path, const std::string& content) {
    const std::filesystem::path file = folder_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << content;
  }

 private:
  std::string folder_;
};

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_SUPPORT_FAKE_ROOT_H_
