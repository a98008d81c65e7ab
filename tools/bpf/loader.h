// Loads the BPF program for one process and attaches it.

#ifndef CMWQ_TOOLS_BPF_LOADER_H_
#define CMWQ_TOOLS_BPF_LOADER_H_

#include <sys/types.h>

#include <string>
#include <vector>

struct bpf_link;
struct bpf_object;

namespace cmwq::tools {

class BpfProgram {
 public:
  BpfProgram() = default;
  ~BpfProgram();
  BpfProgram(const BpfProgram&) = delete;
  BpfProgram& operator=(const BpfProgram&) = delete;

  // For the threads of process `tgid`, as this process numbers it. 0 or errno with the reason in
  // `error`.
  int Load(pid_t tgid, std::string* error);
  // Slots, controls, link, doorbells. They may be sent away: the program stays attached as long as
  // anybody has the link.
  std::vector<int> descriptors() const;

 private:
  ::bpf_object* object_ = nullptr;
  ::bpf_link* link_ = nullptr;
  int slots_ = -1;
  int controls_ = -1;
  std::vector<int> doorbells_;
};

// Sends what a loaded program has, or that it could not be loaded (error is then not 0). 0 or
// errno.
int SendHello(int socket, const BpfProgram& program, int error);

}  // namespace cmwq::tools

#endif  // CMWQ_TOOLS_BPF_LOADER_H_
