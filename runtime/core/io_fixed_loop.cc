// Registered buffers and files in the IoLoop.
//
// The tables say what is registered; the ring's copy makes operations cheaper and is never needed: what it
// does not know is used by descriptor and address. Only the loop's thread may change the ring's
// (SINGLE_ISSUER), so changes are handed to it. It makes them without the lock, because locking memory
// takes as long as there are pages; meanwhile the slots are "changing" and nobody finds them. What an
// operation uses cannot be taken back: `users` counts from Claim to Ended.

#include <sys/uio.h>

#include <cerrno>

#include "runtime/core/io_loop.h"
#include "runtime/core/runtime.h"
#include "runtime/pool/sched_hooks.h"

namespace cmwq::core {
namespace {

using platform::IoSlot;
using platform::IoTable;

}  // namespace

int IoLoop::UseTables(Io* io) {
  IoSlot* file = nullptr;
  if (io->fd_ >= platform::kFirstFile && platform::MayUseFile(platform::KindOf(io))) {
    file = files_.Find(io->fd_ - platform::kFirstFile);
    if (file == nullptr) return io->flags_ = 0, -EBADF;
  }
  if (platform::BufferOf(io) >= 0) {
    IoSlot* const buffer = buffers_.Find(platform::BufferOf(io));
    const auto from = reinterpret_cast<uintptr_t>(io->buf_);
    const auto start = buffer != nullptr ? reinterpret_cast<uintptr_t>(buffer->data) : 0;
    int err = buffer == nullptr ? -EINVAL : 0;
    if (err == 0 && (from < start || from - start > buffer->size ||
                     io->len_ > buffer->size - (from - start))) {
      err = -EFAULT;
    }
    if (err != 0) return io->flags_ = 0, err;  // LeaveTables has nothing to leave
    ++buffer->users;
  }
  if (file != nullptr) {
    ++file->users;
    io->file_ = static_cast<uint32_t>(io->fd_ - platform::kFirstFile) + 1;
    io->fd_ = file->fd;
  }
  return 0;
}

void IoLoop::LeaveTables(Io* io) {
  if (platform::BufferOf(io) >= 0) --buffers_.At(platform::BufferOf(io))->users;
  if (platform::FileOf(io) >= 0) --files_.At(platform::FileOf(io))->users;
  io->file_ = 0;
}

void IoLoop::PrepareInRing(Io* io, bool poll) {
  int file = platform::FileOf(io), buffer = platform::BufferOf(io);
  if (file >= 0 && !files_.At(file)->in_ring) file = -1;
  if (buffer >= 0 && !buffers_.At(buffer)->in_ring) buffer = -1;
  ring_.Prepare(io, poll, file, buffer);
}

void IoLoop::Hand(TableChange* change) {
  change->next = changes_;
  changes_ = change;
  WantThread();
}

int IoLoop::Await(TableChange* change) {
  pool::WorkerSleeping();
  // Acquire: pairs with Changed.
  while (change->done.load(std::memory_order_acquire) == 0) base::FutexWait(&change->done, 0);
  pool::WorkerRunning();
  return change->result;
}

int IoLoop::Register(bool files, const void* entries, unsigned nr) {
  EnsureRunning();
  TableChange change = {files, true, nr, entries};
  {
    Section hold(this);
    if (mode_ == Mode::kNone) return -EAGAIN;
    IoTable& table = TableOf(files);
    change.first = table.Reserve(nr);
    if (change.first < 0) return change.first;
    for (unsigned i = 0; i < nr; ++i) {
      IoSlot* const slot = table.At(change.first + static_cast<int>(i));
      if (files) {
        slot->fd = static_cast<const int*>(entries)[i];
      } else {
        const struct iovec& buffer = static_cast<const struct iovec*>(entries)[i];
        slot->data = static_cast<char*>(buffer.iov_base);
        slot->size = buffer.iov_len;
      }
    }
    Hand(&change);
  }
  const int err = Await(&change);
  return err < 0 ? err : change.first;
}

int IoLoop::Unregister(bool files, int64_t first) {
  TableChange change = {files, false};
  {
    Section hold(this);
    IoTable& table = TableOf(files);
    const IoSlot* const slot = table.FindGroup(first);
    if (slot == nullptr) return -EINVAL;
    change.first = static_cast<int>(first);
    change.nr = slot->nr;
    if (table.InUse(change.first)) return -EBUSY;
    // A child of fork may never have had a thread.
    if (!slot->in_ring) return table.Release(change.first), 0;
    table.SetState(change.first, IoSlot::State::kChanging, true);
    Hand(&change);
  }
  return Await(&change);
}

int IoLoop::TellRing(bool files, unsigned first, const void* entries, unsigned nr) {
  return files ? ring_.SetFiles(first, static_cast<const int*>(entries), nr)
               : ring_.SetBuffers(first, static_cast<const struct iovec*>(entries), nr);
}

void IoLoop::MakeChanges() {
  for (;;) {
    TableChange* change;
    {
      Section hold(this);
      change = changes_;
      if (change == nullptr) return;
      changes_ = change->next;
    }
    int err = -ENOSYS;
    if (ring_.live()) {
      err = TellRing(change->files, static_cast<unsigned>(change->first), change->entries, change->nr);
    }
    // Memory that may not be locked is the caller's mistake; of all else the ring can be without.
    const bool fails = change->add && !change->files && (err == -ENOMEM || err == -EFAULT);
    Section hold(this);
    Changed(change, fails ? err : 0, err == 0);
  }
}

void IoLoop::Changed(TableChange* change, int result, bool in_ring) {
  IoTable& table = TableOf(change->files);
  if (change->add && result == 0) {
    table.SetState(change->first, IoSlot::State::kRegistered, in_ring);
  } else {
    table.Release(change->first);
  }
  change->result = result;
  // Release: pairs with Await. From here on the object may be gone; its address will do for a wake-up.
  change->done.store(1, std::memory_order_release);
  base::FutexWake(&change->done, 1);
}

void IoLoop::FillTables() {
  for (const bool files : {false, true}) {
    IoTable& table = TableOf(files);
    for (int first = -1; (first = table.NextGroup(first)) >= 0;) {
      const unsigned nr = table.At(first)->nr;
      bool in_ring = true;
      for (unsigned i = 0; i < nr && in_ring; ++i) {
        const IoSlot* const slot = table.At(first + static_cast<int>(i));
        const struct iovec buffer = {slot->data, slot->size};
        const void* const entry = files ? static_cast<const void*>(&slot->fd) : &buffer;
        in_ring = TellRing(files, static_cast<unsigned>(first) + i, entry, 1) == 0;
        if (!in_ring) TellRing(files, static_cast<unsigned>(first), nullptr, i);
      }
      table.SetState(first, IoSlot::State::kRegistered, in_ring);
    }
  }
}

}  // namespace cmwq::core
