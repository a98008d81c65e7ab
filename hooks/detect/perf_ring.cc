#include "hooks/detect/perf_ring.h"

#include <linux/perf_event.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include <cstring>

#include "runtime/base/sys.h"

namespace cmwq::detect {
namespace {

// The header of a record, read as one word: type:32, misc:16, size:16 on little-endian machines.
struct Header {
  explicit Header(uint64_t word)
      : type(static_cast<uint32_t>(word)),
        misc(static_cast<uint16_t>(word >> 32)),
        size(static_cast<uint16_t>(word >> 48)) {}
  uint32_t type;
  uint16_t misc;
  uint16_t size;
};

}  // namespace

int PerfRing::Open(const char** what) {
  struct perf_event_attr attr;
  memset(&attr, 0, sizeof(attr));
  attr.size = sizeof(attr);
  attr.type = PERF_TYPE_SOFTWARE;
  attr.config = PERF_COUNT_SW_DUMMY;
  attr.context_switch = 1;
  attr.exclude_kernel = 1;  // what makes it allowed without privilege
  attr.exclude_hv = 1;
  *what = "perf_event_open";
  const long fd = base::Sys(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
  if (fd < 0) return static_cast<int>(-fd);
  // One page of data, the least there is: the pages are locked and count against a limit.
  const size_t page = getauxval(AT_PAGESZ);
  const long p = base::Sys(SYS_mmap, 0, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  base::SysClose(static_cast<int>(fd));
  *what = "mmap of a perf ring";
  if (p < 0) return static_cast<int>(-p);
  auto* const bytes = reinterpret_cast<char*>(p);
  Adopt(reinterpret_cast<perf_event_mmap_page*>(bytes), bytes + page, page);
  return 0;
}

void PerfRing::Close() {
  if (meta_ == nullptr) return;
  base::Sys(SYS_munmap, meta_, 2 * size_);
  meta_ = nullptr;
}

void PerfRing::Adopt(perf_event_mmap_page* meta, const void* data, size_t size) {
  meta_ = meta;
  data_ = static_cast<const char*>(data);
  size_ = size;
  tail_ = meta->data_tail;
}

// Records are whole words and begin at one, so a word never wraps around; a record may.
uint64_t PerfRing::Word(uint64_t at) const {
  uint64_t word;
  memcpy(&word, data_ + (at & (size_ - 1)), sizeof(word));
  return word;
}

void PerfRing::Read(SwitchCounts* counts) {
  if (meta_ == nullptr) return;
  // Acquire: pairs with the kernel's barrier between the record and the head.
  const uint64_t head = __atomic_load_n(&meta_->data_head, __ATOMIC_ACQUIRE);
  if (head == tail_) return;
  bool sane = head - tail_ <= size_ && (head & 7) == 0;
  while (sane && tail_ != head) {
    const Header header(Word(tail_));
    sane = header.size >= sizeof(uint64_t) && (header.size & 7) == 0 && header.size <= head - tail_;
    if (!sane) break;
    if (header.type == PERF_RECORD_SWITCH && (header.misc & PERF_RECORD_MISC_SWITCH_OUT) != 0) {
      ++((header.misc & PERF_RECORD_MISC_SWITCH_OUT_PREEMPT) != 0 ? counts->preempted
                                                                  : counts->slept);
    } else if (header.type == PERF_RECORD_LOST && header.size >= 3 * sizeof(uint64_t)) {
      counts->lost += Word(tail_ + 2 * sizeof(uint64_t));
    }
    tail_ += header.size;
  }
  // Whatever stands there, the next record begins at the head. At least one was not understood.
  if (!sane) {
    ++counts->lost;
    tail_ = head;
  }
  // Release: our reads are done before the kernel writes there again.
  __atomic_store_n(&meta_->data_tail, tail_, __ATOMIC_RELEASE);
}

bool PerfRing::HalfFull() const {
  return __atomic_load_n(&meta_->data_head, __ATOMIC_RELAXED) - tail_ >= size_ / 2;
}

}  // namespace cmwq::detect
