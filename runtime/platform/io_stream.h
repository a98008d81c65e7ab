// IoStream: what a stream of cmwq/io_stream.h keeps: results that wait, and its buffers.
//
// A buffer is free or out: out from the moment it holds data until somebody puts it back. While the
// stream is in a ring with a group (`group` >= 0) all free ones are the kernel's to fill.
//
// Not thread-safe: the IoLoop's lock guards all of it, but for the bytes in buffers that are out.

#ifndef CMWQ_RUNTIME_PLATFORM_IO_STREAM_H_
#define CMWQ_RUNTIME_PLATFORM_IO_STREAM_H_

#include <cstddef>
#include <cstdint>

#include "runtime/platform/io_kind.h"

namespace cmwq::platform {

class IoStream {
 public:
  static constexpr unsigned kMaxResults = 32768;  // as many as a ring of buffers can have
  static constexpr int32_t kNoBuffer = -1;
  struct Result {
    int64_t value;
    int32_t buffer;  // or kNoBuffer
  };

  // Null: no memory. nr: 1 to kMaxResults. size: of each buffer; 0: none.
  static IoStream* Make(unsigned nr, size_t size);
  void Free();

  // False: no memory, the result is not kept.
  bool Push(const Result& result);
  bool Pop(Result* result);
  unsigned nr_results() const { return nr_results_; }
  // Another result may come.
  bool HasRoom() const { return nr_results_ < limit_ && (size_ == 0 || nr_free_ > 0); }
  unsigned Room() const;
  // A pause may end. Connections: not for each that is taken.
  bool MayResume() const { return HasRoom() && (size_ > 0 || nr_results_ <= limit_ / 2); }

  bool has_buffers() const { return size_ > 0; }
  size_t size() const { return size_; }
  unsigned nr_buffers() const { return size_ > 0 ? limit_ : 0; }
  char* Data(int32_t buffer) const { return buffers_ + static_cast<size_t>(buffer) * size_; }
  bool IsFree(int32_t buffer) const { return out_[buffer] == kFree; }
  // kNoBuffer: that is the start of none.
  int32_t BufferAt(const void* data) const;
  // The buffer holds data.
  void TakeOut(int32_t buffer);
  // Any free one, which is reserved from then on, until TakeOut or Put. One must be free.
  int32_t Reserve();
  // Child of fork: no group, and nobody who reserved.
  void ResetAfterFork();
  // It is free again.
  void Put(int32_t buffer);
  bool IsOut(int32_t buffer) const { return out_[buffer] == kOut; }

  // Memory for a ring of buffers, a power of two of entries.
  void* ring_memory() const { return memory_; }
  unsigned ring_entries() const { return ring_entries_; }

  int group = -1;         // of buffers that the ring knows
  bool plain = false;     // the kernel refuses multishot requests for this one: it is polled
  bool datagrams = false; // no bytes are no end of file

 private:
  static constexpr uint8_t kFree = 0, kReserved = 1, kOut = 2;
  bool Allocate();
  size_t ring_bytes() const;

  Result* results_ = nullptr;  // circular
  unsigned capacity_ = 0;
  unsigned first_ = 0;
  unsigned nr_results_ = 0;
  unsigned limit_ = 0;
  size_t size_ = 0;
  void* memory_ = nullptr;  // the ring of buffers, then the buffers
  char* buffers_ = nullptr;
  uint8_t* out_ = nullptr;   // per buffer: kFree, kReserved, kOut
  unsigned ring_entries_ = 0;
  unsigned nr_free_ = 0;
  unsigned hint_ = 0;  // where Reserve looks first
};

inline IoStream* StreamOf(const Io* io) { return static_cast<IoStream*>(io->aux_); }

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_IO_STREAM_H_
