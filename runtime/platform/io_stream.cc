#include "runtime/platform/io_stream.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <new>

namespace cmwq::platform {
namespace {

constexpr size_t kRingEntry = 16;  // of the kernel's struct io_uring_buf

size_t Pages(size_t bytes) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

}  // namespace

IoStream* IoStream::Make(unsigned nr, size_t size) {
  IoStream* const s = new (std::nothrow) IoStream;
  if (s == nullptr) return nullptr;
  s->limit_ = nr;
  s->size_ = size;
  if (s->Allocate()) return s;
  s->Free();
  return nullptr;
}

size_t IoStream::ring_bytes() const { return Pages(ring_entries_ * kRingEntry); }

bool IoStream::Allocate() {
  capacity_ = limit_;
  results_ = static_cast<Result*>(malloc(capacity_ * sizeof(Result)));
  if (results_ == nullptr) return false;
  if (size_ == 0) return true;
  if (size_ > PTRDIFF_MAX / kMaxResults) return false;
  for (ring_entries_ = 1; ring_entries_ < limit_;) ring_entries_ *= 2;
  out_ = static_cast<uint8_t*>(calloc(limit_, 1));
  if (out_ == nullptr) return false;
  void* const m = mmap(nullptr, ring_bytes() + limit_ * size_, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (m == MAP_FAILED) return false;
  memory_ = m;
  buffers_ = static_cast<char*>(m) + ring_bytes();
  nr_free_ = limit_;
  return true;
}

void IoStream::Free() {
  if (memory_ != nullptr) munmap(memory_, ring_bytes() + limit_ * size_);
  free(out_);
  free(results_);
  delete this;
}

bool IoStream::Push(const Result& result) {
  if (nr_results_ == capacity_) {
    // Connections that were accepted before the kernel knew of the limit.
    const unsigned twice = capacity_ * 2;
    auto* const more = static_cast<Result*>(malloc(twice * sizeof(Result)));
    if (more == nullptr) return false;
    for (unsigned i = 0; i < nr_results_; ++i) more[i] = results_[(first_ + i) % capacity_];
    free(results_);
    results_ = more;
    capacity_ = twice;
    first_ = 0;
  }
  results_[(first_ + nr_results_++) % capacity_] = result;
  return true;
}

bool IoStream::Pop(Result* result) {
  if (nr_results_ == 0) return false;
  *result = results_[first_];
  first_ = (first_ + 1) % capacity_;
  --nr_results_;
  return true;
}

unsigned IoStream::Room() const {
  const unsigned room = nr_results_ < limit_ ? limit_ - nr_results_ : 0;
  return size_ > 0 && nr_free_ < room ? nr_free_ : room;
}

int32_t IoStream::BufferAt(const void* data) const {
  const auto at = static_cast<size_t>(static_cast<const char*>(data) - buffers_);
  if (size_ == 0 || at % size_ != 0 || at / size_ >= limit_) return kNoBuffer;
  return static_cast<int32_t>(at / size_);
}

void IoStream::TakeOut(int32_t buffer) {
  if (out_[buffer] == kFree) --nr_free_;
  out_[buffer] = kOut;
}

int32_t IoStream::Reserve() {
  while (out_[hint_] != kFree) hint_ = (hint_ + 1) % limit_;
  out_[hint_] = kReserved;
  --nr_free_;
  return static_cast<int32_t>(hint_);
}

void IoStream::Put(int32_t buffer) {
  out_[buffer] = kFree;
  ++nr_free_;
}

void IoStream::ResetAfterFork() {
  group = -1;
  for (unsigned i = 0; i < nr_buffers(); ++i) {
    if (out_[i] == kReserved) Put(static_cast<int32_t>(i));
  }
}

}  // namespace cmwq::platform
