// Exported wrappers: looking up hosts. The waits are inside libc; only the outer call can be seen.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.

#include "hooks/preload/hook.h"

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace

CMWQ_EXPORT(int, getaddrinfo,
            (const char* node, const char* service, const struct addrinfo* hints,
             struct addrinfo** result)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(getaddrinfo), node, service, hints, result);
}

CMWQ_EXPORT(int, getnameinfo,
            (const struct sockaddr* address, socklen_t size, char* host, socklen_t host_size,
             char* service, socklen_t service_size, int flags)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(getnameinfo), address, size, host, host_size, service,
                   service_size, flags);
}

CMWQ_EXPORT(struct hostent*, gethostbyname, (const char* name)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(gethostbyname), name);
}

CMWQ_EXPORT(struct hostent*, gethostbyname2, (const char* name, int family)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(gethostbyname2), name, family);
}

CMWQ_EXPORT(struct hostent*, gethostbyaddr, (const void* address, socklen_t size, int family)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(gethostbyaddr), address, size, family);
}

CMWQ_EXPORT(int, gethostbyname_r,
            (const char* name, struct hostent* host, char* buf, size_t size,
             struct hostent** result, int* error)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(gethostbyname_r), name, host, buf, size, result,
                   error);
}

CMWQ_EXPORT(int, gethostbyname2_r,
            (const char* name, int family, struct hostent* host, char* buf, size_t size,
             struct hostent** result, int* error)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(gethostbyname2_r), name, family, host, buf, size,
                   result, error);
}

CMWQ_EXPORT(int, gethostbyaddr_r,
            (const void* address, socklen_t size, int family, struct hostent* host, char* buf,
             size_t room, struct hostent** result, int* error)) {
  return Bracketed(Hook::kResolve, CMWQ_REAL(gethostbyaddr_r), address, size, family, host, buf,
                   room, result, error);
}
