// Exported wrappers: users, groups, services, net groups, resolver queries, syslog. The waits (a name
// service daemon, a directory server, a full log socket) are inside libc.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.

#include <stdarg.h>

#include "hooks/preload/hook.h"

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace

CMWQ_EXPORT(struct passwd*, getpwnam, (const char* name)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(getpwnam), name);
}

CMWQ_EXPORT(int, getpwnam_r, (const char* name, struct passwd* entry, char* buf, size_t size, struct passwd** result)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(getpwnam_r), name, entry, buf, size, result);
}

CMWQ_EXPORT(struct passwd*, getpwuid, (uid_t id)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(getpwuid), id);
}

CMWQ_EXPORT(int, getpwuid_r, (uid_t id, struct passwd* entry, char* buf, size_t size, struct passwd** result)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(getpwuid_r), id, entry, buf, size, result);
}

CMWQ_EXPORT(struct group*, getgrnam, (const char* name)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(getgrnam), name);
}

CMWQ_EXPORT(int, getgrnam_r, (const char* name, struct group* entry, char* buf, size_t size, struct group** result)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(getgrnam_r), name, entry, buf, size, result);
}

CMWQ_EXPORT(struct group*, getgrgid, (gid_t id)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(getgrgid), id);
}

CMWQ_EXPORT(int, getgrgid_r, (gid_t id, struct group* entry, char* buf, size_t size, struct group** result)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(getgrgid_r), id, entry, buf, size, result);
}

CMWQ_EXPORT(int, getgrouplist, (const char* user, gid_t group, gid_t* groups, int* n)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(getgrouplist), user, group, groups, n);
}

CMWQ_EXPORT(int, initgroups, (const char* user, gid_t group)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(initgroups), user, group);
}

CMWQ_EXPORT(struct servent*, getservbyname, (const char* name, const char* protocol)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(getservbyname), name, protocol);
}

CMWQ_EXPORT(int, getservbyname_r, (const char* name, const char* protocol, struct servent* entry, char* buf, size_t size, struct servent** result)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(getservbyname_r), name, protocol, entry, buf, size, result);
}

CMWQ_EXPORT(struct servent*, getservbyport, (int port, const char* protocol)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(getservbyport), port, protocol);
}

CMWQ_EXPORT(int, getservbyport_r, (int port, const char* protocol, struct servent* entry, char* buf, size_t size, struct servent** result)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(getservbyport_r), port, protocol, entry, buf, size, result);
}

CMWQ_EXPORT(int, setnetgrent, (const char* group)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(setnetgrent), group);
}

CMWQ_EXPORT(int, innetgr, (const char* group, const char* host, const char* user, const char* domain)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(innetgr), group, host, user, domain);
}

CMWQ_EXPORT(int, res_query, (const char* name, int kind, int type, unsigned char* answer, int size)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(res_query), name, kind, type, answer, size);
}
CMWQ_ALIAS(__res_query, res_query)

CMWQ_EXPORT(int, res_search, (const char* name, int kind, int type, unsigned char* answer, int size)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(res_search), name, kind, type, answer, size);
}
CMWQ_ALIAS(__res_search, res_search)

CMWQ_EXPORT(int, res_send, (const unsigned char* query, int length, unsigned char* answer, int size)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(res_send), query, length, answer, size);
}
CMWQ_ALIAS(__res_send, res_send)

CMWQ_EXPORT(int, res_nquery, (void* state, const char* name, int kind, int type, unsigned char* answer, int size)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(res_nquery), state, name, kind, type, answer, size);
}
CMWQ_ALIAS(__res_nquery, res_nquery)

CMWQ_EXPORT(int, res_nsearch, (void* state, const char* name, int kind, int type, unsigned char* answer, int size)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(res_nsearch), state, name, kind, type, answer, size);
}
CMWQ_ALIAS(__res_nsearch, res_nsearch)

CMWQ_EXPORT(int, res_nsend, (void* state, const unsigned char* query, int length, unsigned char* answer, int size)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(res_nsend), state, query, length, answer, size);
}
CMWQ_ALIAS(__res_nsend, res_nsend)

CMWQ_EXPORT(void, vsyslog, (int priority, const char* format, va_list args)) {
  Bracketed(Hook::kOther, CMWQ_REAL(vsyslog), priority, format, args);
}

CMWQ_EXPORT(void, syslog, (int priority, const char* format, ...)) {
  va_list args;
  va_start(args, format);
  Bracketed(Hook::kOther, CMWQ_REAL(vsyslog), priority, format, args);
  va_end(args);
}

CMWQ_EXPORT(void, __vsyslog_chk, (int priority, int flag, const char* format, va_list args)) {
  Bracketed(Hook::kOther, CMWQ_REAL(__vsyslog_chk), priority, flag, format, args);
}

CMWQ_EXPORT(void, __syslog_chk, (int priority, int flag, const char* format, ...)) {
  va_list args;
  va_start(args, format);
  Bracketed(Hook::kOther, CMWQ_REAL(__vsyslog_chk), priority, flag, format, args);
  va_end(args);
}
