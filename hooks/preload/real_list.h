// The list of functions whose originals the wrappers call: one line each.
//
//   X(name, since, version)   a function that libc's headers declare; its type is taken from there
//   Y(ret, name, params, since)   one that they do not declare, or not on every supported libc
//
// since: minor number of the first glibc 2.x that has the name; the start-up pass must not ask for
// a name that does not exist, because only a failing dlsym() allocates. version: symbol version of
// the one implementation that may be meant, where a name has several.

#ifndef CMWQ_HOOKS_PRELOAD_REAL_LIST_H_
#define CMWQ_HOOKS_PRELOAD_REAL_LIST_H_

// Architectures younger than the second implementation only ever had one, under their base version.
#if defined(__x86_64__)
#define CMWQ_VERSION(v) v
#elif defined(__aarch64__)
#define CMWQ_VERSION(v) "GLIBC_2.17"
#else
#define CMWQ_VERSION(v) nullptr
#endif

#define CMWQ_REAL_LOCK(X)                                   \
  X(pthread_mutex_lock, 0, nullptr)                         \
  X(pthread_mutex_trylock, 0, nullptr)                      \
  X(pthread_mutex_timedlock, 0, nullptr)                    \
  X(pthread_mutex_clocklock, 30, nullptr)                   \
  X(pthread_mutex_unlock, 0, nullptr)                       \
  X(mtx_lock, 28, nullptr)                                  \
  X(mtx_trylock, 28, nullptr)                               \
  X(mtx_timedlock, 28, nullptr)                             \
  X(mtx_unlock, 28, nullptr)                                \
  X(pthread_cond_wait, 0, CMWQ_VERSION("GLIBC_2.3.2"))      \
  X(pthread_cond_timedwait, 0, CMWQ_VERSION("GLIBC_2.3.2")) \
  X(pthread_cond_clockwait, 30, nullptr)                    \
  X(cnd_wait, 28, nullptr)                                  \
  X(cnd_timedwait, 28, nullptr)                             \
  X(pthread_rwlock_rdlock, 0, nullptr)                      \
  X(pthread_rwlock_tryrdlock, 0, nullptr)                   \
  X(pthread_rwlock_timedrdlock, 0, nullptr)                 \
  X(pthread_rwlock_clockrdlock, 30, nullptr)                \
  X(pthread_rwlock_wrlock, 0, nullptr)                      \
  X(pthread_rwlock_trywrlock, 0, nullptr)                   \
  X(pthread_rwlock_timedwrlock, 0, nullptr)                 \
  X(pthread_rwlock_clockwrlock, 30, nullptr)                \
  X(pthread_rwlock_unlock, 0, nullptr)                      \
  X(pthread_barrier_wait, 0, nullptr)                       \
  X(pthread_once, 0, nullptr)                               \
  X(call_once, 28, nullptr)                                 \
  X(sem_wait, 0, nullptr)                                   \
  X(sem_trywait, 0, nullptr)                                \
  X(sem_timedwait, 0, nullptr)                              \
  X(sem_clockwait, 30, nullptr)

#define CMWQ_REAL_THREAD(X)                                 \
  X(pthread_create, 0, nullptr)                             \
  X(thrd_create, 28, nullptr)                               \
  X(pthread_join, 0, nullptr)                               \
  X(pthread_timedjoin_np, 0, nullptr)                       \
  X(pthread_clockjoin_np, 31, nullptr)                      \
  X(thrd_join, 28, nullptr)                                 \
  X(nanosleep, 0, nullptr)                                  \
  X(clock_nanosleep, 0, nullptr)                            \
  X(sleep, 0, nullptr)                                      \
  X(usleep, 0, nullptr)                                     \
  X(thrd_sleep, 28, nullptr)                                \
  X(pause, 0, nullptr)                                      \
  X(sched_yield, 0, nullptr)                                \
  X(thrd_yield, 28, nullptr)                                \
  X(sched_setaffinity, 0, CMWQ_VERSION("GLIBC_2.3.4"))      \
  X(sched_getaffinity, 0, CMWQ_VERSION("GLIBC_2.3.4"))      \
  X(pthread_setaffinity_np, 0, CMWQ_VERSION("GLIBC_2.3.4")) \
  X(pthread_getaffinity_np, 0, CMWQ_VERSION("GLIBC_2.3.4")) \
  X(pthread_getattr_np, 0, nullptr)

#define CMWQ_REAL_IO(X)           \
  X(read, 0, nullptr)             \
  X(readv, 0, nullptr)            \
  X(pread, 0, nullptr)            \
  X(preadv, 0, nullptr)           \
  X(preadv2, 26, nullptr)         \
  X(write, 0, nullptr)            \
  X(writev, 0, nullptr)           \
  X(pwrite, 0, nullptr)           \
  X(pwritev, 0, nullptr)          \
  X(pwritev2, 26, nullptr)        \
  X(fsync, 0, nullptr)            \
  X(fdatasync, 0, nullptr)        \
  X(sync, 0, nullptr)             \
  X(syncfs, 0, nullptr)           \
  X(msync, 0, nullptr)            \
  X(sync_file_range, 0, nullptr)  \
  X(fallocate, 0, nullptr)        \
  X(posix_fallocate, 0, nullptr)  \
  X(ftruncate, 0, nullptr)        \
  X(truncate, 0, nullptr)         \
  X(copy_file_range, 27, nullptr) \
  X(sendfile, 0, nullptr)         \
  X(splice, 0, nullptr)           \
  X(tee, 0, nullptr)              \
  X(vmsplice, 0, nullptr)         \
  X(readahead, 0, nullptr)        \
  X(posix_fadvise, 0, nullptr)    \
  X(flock, 0, nullptr)            \
  X(fcntl, 0, nullptr)            \
  X(lockf, 0, nullptr)            \
  X(tcdrain, 0, nullptr)          \
  X(eventfd_read, 0, nullptr)     \
  X(eventfd_write, 0, nullptr)

#define CMWQ_REAL_FD(X)         \
  X(open, 0, nullptr)           \
  X(openat, 0, nullptr)         \
  X(creat, 0, nullptr)          \
  X(close, 0, nullptr)          \
  X(dup, 0, nullptr)            \
  X(dup2, 0, nullptr)           \
  X(dup3, 0, nullptr)           \
  X(pipe, 0, nullptr)           \
  X(pipe2, 0, nullptr)          \
  X(socket, 0, nullptr)         \
  X(socketpair, 0, nullptr)     \
  X(eventfd, 0, nullptr)        \
  X(timerfd_create, 0, nullptr) \
  X(signalfd, 0, nullptr)       \
  X(inotify_init, 0, nullptr)   \
  X(inotify_init1, 0, nullptr)  \
  X(epoll_create, 0, nullptr)   \
  X(epoll_create1, 0, nullptr)  \
  X(memfd_create, 27, nullptr)

#define CMWQ_REAL_SOCKET(X)       \
  X(connect, 0, nullptr)          \
  X(accept, 0, nullptr)           \
  X(accept4, 0, nullptr)          \
  X(recv, 0, nullptr)             \
  X(recvfrom, 0, nullptr)         \
  X(recvmsg, 0, nullptr)          \
  X(recvmmsg, 0, nullptr)         \
  X(send, 0, nullptr)             \
  X(sendto, 0, nullptr)           \
  X(sendmsg, 0, nullptr)          \
  X(sendmmsg, 0, nullptr)         \
  X(poll, 0, nullptr)             \
  X(ppoll, 0, nullptr)            \
  X(select, 0, nullptr)           \
  X(pselect, 0, nullptr)          \
  X(epoll_wait, 0, nullptr)       \
  X(epoll_pwait, 0, nullptr)      \
  X(getaddrinfo, 0, nullptr)      \
  X(getnameinfo, 0, nullptr)      \
  X(gethostbyname, 0, nullptr)    \
  X(gethostbyname2, 0, nullptr)   \
  X(gethostbyaddr, 0, nullptr)    \
  X(gethostbyname_r, 0, nullptr)  \
  X(gethostbyname2_r, 0, nullptr) \
  X(gethostbyaddr_r, 0, nullptr)

// The names of 34 lived in librt and libanl before, which a process need not have loaded.
#define CMWQ_REAL_PROCESS(X)                     \
  X(sigwait, 0, nullptr)                         \
  X(sigwaitinfo, 0, nullptr)                     \
  X(sigtimedwait, 0, nullptr)                    \
  X(sigsuspend, 0, nullptr)                      \
  X(wait, 0, nullptr)                            \
  X(waitpid, 0, nullptr)                         \
  X(wait3, 0, nullptr)                           \
  X(wait4, 0, nullptr)                           \
  X(waitid, 0, nullptr)                          \
  X(system, 0, nullptr)                          \
  X(popen, 0, nullptr)                           \
  X(pclose, 0, nullptr)                          \
  X(posix_spawn, 0, CMWQ_VERSION("GLIBC_2.15"))  \
  X(posix_spawnp, 0, CMWQ_VERSION("GLIBC_2.15")) \
  X(msgrcv, 0, nullptr)                          \
  X(msgsnd, 0, nullptr)                          \
  X(semop, 0, nullptr)                           \
  X(semtimedop, 0, nullptr)                      \
  X(mq_receive, 34, nullptr)                     \
  X(mq_timedreceive, 34, nullptr)                \
  X(mq_send, 34, nullptr)                        \
  X(mq_timedsend, 34, nullptr)                   \
  X(aio_suspend, 34, nullptr)                    \
  X(lio_listio, 34, CMWQ_VERSION("GLIBC_2.4"))   \
  X(gai_suspend, 34, nullptr)                    \
  X(syscall, 0, nullptr)

#define CMWQ_REAL_STDIO(X)        \
  X(fread, 0, nullptr)            \
  X(fread_unlocked, 0, nullptr)   \
  X(fgets, 0, nullptr)            \
  X(fgets_unlocked, 0, nullptr)   \
  X(fgetc, 0, nullptr)            \
  X(fgetc_unlocked, 0, nullptr)   \
  X(getchar, 0, nullptr)          \
  X(getchar_unlocked, 0, nullptr) \
  X(getline, 0, nullptr)          \
  X(getdelim, 0, nullptr)         \
  X(vfscanf, 0, nullptr)          \
  X(fwrite, 0, nullptr)           \
  X(fwrite_unlocked, 0, nullptr)  \
  X(fputs, 0, nullptr)            \
  X(fputs_unlocked, 0, nullptr)   \
  X(fputc, 0, nullptr)            \
  X(putc, 0, nullptr)             \
  X(fputc_unlocked, 0, nullptr)   \
  X(putc_unlocked, 0, nullptr)    \
  X(putchar, 0, nullptr)          \
  X(putchar_unlocked, 0, nullptr) \
  X(puts, 0, nullptr)             \
  X(vfprintf, 0, nullptr)         \
  X(vdprintf, 0, nullptr)         \
  X(fflush, 0, nullptr)           \
  X(fflush_unlocked, 0, nullptr)  \
  X(fclose, 0, nullptr)           \
  X(fopen, 0, nullptr)            \
  X(freopen, 0, nullptr)          \
  X(freopen64, 0, nullptr)        \
  X(flockfile, 0, nullptr)        \
  X(ftrylockfile, 0, nullptr)     \
  X(funlockfile, 0, nullptr)      \
  X(vsyslog, 0, nullptr)

#define CMWQ_REAL_NAMES(X)                                    \
  X(getpwnam, 0, nullptr) X(getpwnam_r, 0, nullptr)           \
  X(getpwuid, 0, nullptr) X(getpwuid_r, 0, nullptr)           \
  X(getgrnam, 0, nullptr) X(getgrnam_r, 0, nullptr)           \
  X(getgrgid, 0, nullptr) X(getgrgid_r, 0, nullptr)           \
  X(getgrouplist, 0, nullptr) X(initgroups, 0, nullptr)       \
  X(getservbyname, 0, nullptr) X(getservbyname_r, 0, nullptr) \
  X(getservbyport, 0, nullptr) X(getservbyport_r, 0, nullptr) \
  X(setnetgrent, 0, nullptr) X(innetgr, 0, nullptr)

#define CMWQ_REAL_MEMORY(X)                         \
  X(mmap, 0, nullptr) X(madvise, 0, nullptr)        \
  X(mlock, 0, nullptr) X(mlock2, 27, nullptr)       \
  X(mlockall, 0, nullptr) X(ioctl, 0, nullptr)      \
  X(tcsetattr, 0, nullptr) X(unlink, 0, nullptr)    \
  X(unlinkat, 0, nullptr) X(rename, 0, nullptr)     \
  X(renameat, 0, nullptr) X(renameat2, 28, nullptr)

#define CMWQ_REAL_EXEC(X)                      \
  X(execve, 0, nullptr) X(execv, 0, nullptr)   \
  X(execvp, 0, nullptr) X(execvpe, 0, nullptr) \
  X(fexecve, 0, nullptr)

#define CMWQ_REAL_DECLARED(X) \
  CMWQ_REAL_LOCK(X)           \
  CMWQ_REAL_THREAD(X) CMWQ_REAL_IO(X) CMWQ_REAL_FD(X) CMWQ_REAL_SOCKET(X) CMWQ_REAL_PROCESS(X) \
  CMWQ_REAL_STDIO(X) CMWQ_REAL_NAMES(X) CMWQ_REAL_MEMORY(X) CMWQ_REAL_EXEC(X)

#define CMWQ_REAL_EXTRA(Y)                                                                       \
  Y(int, close_range, (unsigned, unsigned, int), 34)                                             \
  Y(void, closefrom, (int), 34)                                                                  \
  Y(void, _exit, (int), 0)                                                                       \
  Y(void, quick_exit, (int), 10)                                                                 \
  Y(int, epoll_pwait2, (int, struct epoll_event*, int, const struct timespec*, const sigset_t*), \
    35)                                                                                          \
  Y(int, sigpause, (int), 0)                                                                     \
  Y(int, __xpg_sigpause, (int), 0)                                                               \
  Y(int, __sigpause, (int, int), 0)                                                              \
  Y(ssize_t, __read_chk, (int, void*, size_t, size_t), 0)                                        \
  Y(ssize_t, __pread_chk, (int, void*, size_t, off_t, size_t), 0)                                \
  Y(ssize_t, __recv_chk, (int, void*, size_t, size_t, int), 0)                                   \
  Y(ssize_t, __recvfrom_chk, (int, void*, size_t, size_t, int, struct sockaddr*, socklen_t*), 0) \
  Y(int, __poll_chk, (struct pollfd*, nfds_t, int, size_t), 16)                                  \
  Y(int, __ppoll_chk, (struct pollfd*, nfds_t, const struct timespec*, const sigset_t*, size_t), \
    16)                                                                                          \
  Y(int, __open_2, (const char*, int), 7)                                                        \
  Y(int, __openat_2, (int, const char*, int), 7)                                                  \
  Y(int, __isoc99_vfscanf, (FILE*, const char*, va_list), 7)                                     \
  Y(int, __uflow, (FILE*), 0)                                                                    \
  Y(int, __underflow, (FILE*), 0)                                                                \
  Y(int, __overflow, (FILE*, int), 0)                                                            \
  Y(size_t, __fread_chk, (void*, size_t, size_t, size_t, FILE*), 7)                              \
  Y(size_t, __fread_unlocked_chk, (void*, size_t, size_t, size_t, FILE*), 7)                     \
  Y(char*, __fgets_chk, (char*, size_t, int, FILE*), 4)                                          \
  Y(char*, __fgets_unlocked_chk, (char*, size_t, int, FILE*), 4)                                 \
  Y(int, __vfprintf_chk, (FILE*, int, const char*, va_list), 3)                                  \
  Y(int, __vdprintf_chk, (int, int, const char*, va_list), 8)                                    \
  Y(void, __vsyslog_chk, (int, int, const char*, va_list), 4)                                    \
  Y(int, res_query, (const char*, int, int, unsigned char*, int), 34)                            \
  Y(int, res_search, (const char*, int, int, unsigned char*, int), 34)                           \
  Y(int, res_send, (const unsigned char*, int, unsigned char*, int), 34)                         \
  Y(int, res_nquery, (void*, const char*, int, int, unsigned char*, int), 34)                    \
  Y(int, res_nsearch, (void*, const char*, int, int, unsigned char*, int), 34)                   \
  Y(int, res_nsend, (void*, const unsigned char*, int, unsigned char*, int), 34)                 \
  Y(int, execveat, (int, const char*, char* const*, char* const*, int), 34)                      \
  Y(pid_t, _Fork, (), 34)                                                                        \
  Y(int, clone, (int (*)(void*), void*, int, void*, ...), 0)                                     \
  Y(void, longjmp, (struct __jmp_buf_tag*, int), 0)                                              \
  Y(void, __longjmp_chk, (struct __jmp_buf_tag*, int), 11)

#endif  // CMWQ_HOOKS_PRELOAD_REAL_LIST_H_
