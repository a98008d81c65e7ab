#include "hooks/detect/block_sites.h"

#include <fcntl.h>

#include <cstring>

#include "runtime/base/raw_log.h"
#include "runtime/base/sys.h"

namespace cmwq::detect {
namespace {

// Reads a small file of a thread, NUL-terminated. -1: it cannot be read.
long ReadTaskFile(int tid, const char* file, char* text, size_t size) {
  char path[48];
  base::RawFormat(path, sizeof(path), "/proc/self/task/%d/%s", tid, file);
  const long fd = base::Sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return -1;
  const long n = base::Sys(SYS_read, fd, text, size - 1);
  base::SysClose(static_cast<int>(fd));
  text[n > 0 ? n : 0] = '\0';
  return n;
}

// "0x..." at *text; moves past it and the blank behind it.
bool TakeHex(const char** text, uint64_t* value) {
  const char* p = *text;
  if (p[0] != '0' || p[1] != 'x') return false;
  uint64_t v = 0;
  for (p += 2;; ++p) {
    int digit;
    if (*p >= '0' && *p <= '9') {
      digit = *p - '0';
    } else if (*p >= 'a' && *p <= 'f') {
      digit = *p - 'a' + 10;
    } else {
      break;
    }
    v = v << 4 | static_cast<uint64_t>(digit);
  }
  while (*p == ' ') ++p;
  *text = p;
  *value = v;
  return true;
}

uint64_t Mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ hash >> 29;
}

uint64_t KeyOf(const pool::BlockSite& site) {
  uint64_t key = Mix(1, reinterpret_cast<uintptr_t>(site.fn));
  key = Mix(key, static_cast<uint64_t>(site.nr));
  key = Mix(key, reinterpret_cast<uintptr_t>(site.pc));
  for (const char* p = site.wchan; *p != '\0'; ++p) key = Mix(key, static_cast<uint64_t>(*p));
  return key != 0 ? key : 1;
}

}  // namespace

// "NR 0xARG ... 0xSP 0xPC", "-1 0xSP 0xPC" outside of system calls, or "running".
bool ParseSyscall(const char* text, pool::BlockSite* site) {
  const bool negative = *text == '-';
  if (negative) ++text;
  if (*text < '0' || *text > '9') return false;
  long nr = 0;
  for (; *text >= '0' && *text <= '9'; ++text) nr = nr * 10 + (*text - '0');
  while (*text == ' ') ++text;
  uint64_t last = 0;
  int n = 0;
  while (TakeHex(&text, &last)) ++n;
  if (n < 2) return false;
  site->nr = negative ? -1 : nr;
  site->pc = reinterpret_cast<const void*>(last);
  return true;
}

bool ReadBlockSite(int tid, pool::BlockSite* site) {
  char text[256];
  if (ReadTaskFile(tid, "syscall", text, sizeof(text)) <= 0 || !ParseSyscall(text, site))
    return false;
  char wchan[sizeof(site->wchan)];
  if (ReadTaskFile(tid, "wchan", wchan, sizeof(wchan)) <= 0 || strcmp(wchan, "0") == 0) {
    wchan[0] = '\0';  // it has woken up meanwhile, or the kernel hides it
  }
  memset(site->wchan, 0, sizeof(site->wchan));
  strcpy(site->wchan, wchan);
  return true;
}

bool ReadNvcsw(int tid, uint64_t* value) {
  char text[4096];
  if (ReadTaskFile(tid, "status", text, sizeof(text)) <= 0) return false;
  constexpr char kKey[] = "\nvoluntary_ctxt_switches:";
  const char* p = strstr(text, kKey);
  if (p == nullptr) return false;
  p += sizeof(kKey) - 1;
  while (*p == ' ' || *p == '\t') ++p;
  uint64_t n = 0;
  for (; *p >= '0' && *p <= '9'; ++p) n = n * 10 + static_cast<uint64_t>(*p - '0');
  *value = n;
  return true;
}

void SiteTable::Count(const pool::BlockSite& site) {
  const uint64_t key = KeyOf(site);
  for (int i = 0; i < kEntries; ++i) {
    Entry& e = entries_[(key + static_cast<uint64_t>(i)) % kEntries];
    uint64_t seen = 0;
    if (e.key.compare_exchange_strong(seen, key, std::memory_order_relaxed)) {
      e.fn = site.fn;
      e.nr = site.nr;
      e.pc = site.pc;
      memcpy(e.wchan, site.wchan, sizeof(e.wchan));
      e.ready.store(true, std::memory_order_release);  // pairs with the load in Copy
      seen = key;
    }
    if (seen == key) {
      e.samples.fetch_add(1, std::memory_order_relaxed);
      return;
    }
  }
  overflow_.fetch_add(1, std::memory_order_relaxed);
}

int SiteTable::Copy(pool::BlockSite* out, int max) const {
  int n = 0;
  for (const Entry& e : entries_) {
    if (!e.ready.load(std::memory_order_acquire)) continue;  // pairs with the store in Count
    pool::BlockSite site = {e.fn, e.nr, e.pc, {}, e.samples.load(std::memory_order_relaxed)};
    memcpy(site.wchan, e.wchan, sizeof(site.wchan));
    int at = n < max ? n++ : max;
    // Insertion, the last one falls off.
    for (; at > 0 && out[at - 1].samples < site.samples; --at) {
      if (at < max) out[at] = out[at - 1];
    }
    if (at < max) out[at] = site;
  }
  return n;
}

void SiteTable::Reset() {
  for (Entry& e : entries_) {
    e.key.store(0, std::memory_order_relaxed);
    e.ready.store(false, std::memory_order_relaxed);
    e.samples.store(0, std::memory_order_relaxed);
  }
  overflow_.store(0, std::memory_order_relaxed);
}

}  // namespace cmwq::detect
