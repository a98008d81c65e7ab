// Exported wrappers: message queues and libc's asynchronous I/O.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.

#include "hooks/preload/hook.h"

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace

CMWQ_EXPORT(ssize_t, msgrcv, (int queue, void* message, size_t size, long type, int flags)) {
  const auto original = CMWQ_REAL(msgrcv);
  if ((flags & IPC_NOWAIT) != 0) return original(queue, message, size, type, flags);
  return Bracketed(Hook::kIpc, original, queue, message, size, type, flags);
}

CMWQ_EXPORT(int, msgsnd, (int queue, const void* message, size_t size, int flags)) {
  const auto original = CMWQ_REAL(msgsnd);
  if ((flags & IPC_NOWAIT) != 0) return original(queue, message, size, flags);
  return Bracketed(Hook::kIpc, original, queue, message, size, flags);
}

CMWQ_EXPORT(ssize_t, mq_receive, (mqd_t queue, char* message, size_t size, unsigned* priority)) {
  return BracketedOn(queue, Hook::kIpc, CMWQ_REAL(mq_receive), queue, message, size, priority);
}

CMWQ_EXPORT(ssize_t, mq_timedreceive,
            (mqd_t queue, char* message, size_t size, unsigned* priority,
             const struct timespec* deadline)) {
  return BracketedOn(queue, Hook::kIpc, CMWQ_REAL(mq_timedreceive), queue, message, size, priority,
                     deadline);
}

CMWQ_EXPORT(int, mq_send, (mqd_t queue, const char* message, size_t size, unsigned priority)) {
  return BracketedOn(queue, Hook::kIpc, CMWQ_REAL(mq_send), queue, message, size, priority);
}

CMWQ_EXPORT(int, mq_timedsend,
            (mqd_t queue, const char* message, size_t size, unsigned priority,
             const struct timespec* deadline)) {
  return BracketedOn(queue, Hook::kIpc, CMWQ_REAL(mq_timedsend), queue, message, size, priority,
                     deadline);
}

CMWQ_EXPORT(int, aio_suspend,
            (const struct aiocb* const list[], int count, const struct timespec* timeout)) {
  const auto original = CMWQ_REAL(aio_suspend);
  if (IsZero(timeout)) return original(list, count, timeout);
  return Bracketed(Hook::kAio, original, list, count, timeout);
}
CMWQ_ALIAS(aio_suspend64, aio_suspend)

CMWQ_EXPORT(int, lio_listio,
            (int mode, struct aiocb* const list[], int count, struct sigevent* event)) {
  const auto original = CMWQ_REAL(lio_listio);
  if (mode != LIO_WAIT) return original(mode, list, count, event);
  return Bracketed(Hook::kAio, original, mode, list, count, event);
}
CMWQ_ALIAS(lio_listio64, lio_listio)

CMWQ_EXPORT(int, gai_suspend,
            (const struct gaicb* const list[], int count, const struct timespec* timeout)) {
  const auto original = CMWQ_REAL(gai_suspend);
  if (IsZero(timeout)) return original(list, count, timeout);
  return Bracketed(Hook::kResolve, original, list, count, timeout);
}
