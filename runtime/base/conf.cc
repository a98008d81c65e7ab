#include "runtime/base/conf.h"

#include <fcntl.h>

#include <cstring>

#include "runtime/base/raw_log.h"
#include "runtime/base/sys.h"

namespace cmwq::base {

constinit Conf g_conf;

namespace {
constexpr const char* kScopeNames[] = {"cpu", "smt", "cache_shard", "cache", "numa", "system"};
constexpr const char* kChildrenNames[] = {"keep", "drop"};
constexpr const char* kSwitchesNames[] = {"off", "getrusage", "perf", "bpf", "exact"};
}  // namespace

const ConfKey kConfKeys[] = {
    {"cache_shard_size", &Conf::cache_shard_size, 1, 4096, "cores per shard of a cache"},
    {"canary", &Conf::canary, 0, 2, "find blocks that nobody announced (2: by the tick only, 0: never)"},
    {"children", &Conf::children, kChildrenKeep, kChildrenDrop,
     "whether programs that the program starts are preloaded, too", kChildrenNames},
    {"cpu_intensive_thresh_us", &Conf::cpu_intensive_thresh_us, 0, 1'000'000,
     "CPU time from which an item is not managed (0: off)"},
    {"cpu_intensive_warning_thresh", &Conf::cpu_intensive_warning_thresh, 0, 1'000'000,
     "such items of one function before it is reported (0: never)"},
    {"cpu_watch_ms", &Conf::cpu_watch_ms, 0, 3'600'000,
     "how often CPUs and quota are looked at while there is work (0: never)"},
    {"create_cooldown_ms", &Conf::create_cooldown_ms, 1, 60'000, "pause after a failed creation"},
    {"create_idle_us", &Conf::create_idle_us, 0, 1'000'000, "CPU idle for want of a worker before one is made"},
    {"create_wait_ms", &Conf::create_wait_ms, 1, 60'000, "longest wait for that"},
    {"default_affinity_scope", &Conf::default_affinity_scope, 1, 6,
     "CPUs of an unbound queue that share workers", kScopeNames},
    {"gate_fair_ms", &Conf::gate_fair_ms, 0, 60'000, "age from which ready requests get turns"},
    {"gate_fair_us", &Conf::gate_fair_us, 0, 1'000'000, "added to that age per thread of the pool"},
    {"gate_limit", &Conf::gate_limit, 1, 1024, "requests that may run per CPU"},
    {"gate_pin", &Conf::gate_pin, 0, 1, "pin threads of the server to their pool's CPU"},
    {"gate_wait_ms", &Conf::gate_wait_ms, 1, 10'000, "longest time a request is held"},
    {"idle_ratio", &Conf::idle_ratio, 1, 1024, "one idle worker is kept per this many busy ones"},
    {"idle_timeout_ms", &Conf::idle_timeout_ms, 1, 86'400'000, "age at which an idle worker may go"},
    {"io_uring", &Conf::io_uring, 0, 2, "1: times, polls, operations; 2: all waits use a ring; 0: none"},
    {"leak_check", &Conf::leak_check, 0, 1, "check what an item leaves behind in its thread"},
    {"log", &Conf::log, 0, 7, "syslog level of messages"},
    {"max_workers", &Conf::max_workers, 2, 4096, "workers per pool"},
    {"mayday_initial_ms", &Conf::mayday_initial_ms, 1, 60'000, "first call for the rescuer"},
    {"mayday_interval_ms", &Conf::mayday_interval_ms, 1, 60'000, "further calls for the rescuer"},
    {"panic_on_stall", &Conf::panic_on_stall, 0, 1'000'000, "abort at so many stalls (0: never)"},
    {"panic_on_stall_time", &Conf::panic_on_stall_time, 0, 1'000'000,
     "abort at a stall of so many seconds (0: never)"},
    {"stats", &Conf::stats, 0, 1, "publish a statistics page in /dev/shm, for cmwq top"},
    {"switches", &Conf::switches, kSwitchesOff, kSwitchesExact,
     "who counts the workers' context switches", kSwitchesNames},
    {"tick_ms", &Conf::tick_ms, 1, 1000, "period of the manager's tick while work waits"},
    {"watchdog_thresh", &Conf::watchdog_thresh, 0, 86'400, "seconds until a stall is reported (0: off)"},
    {"worker_stack_kb", &Conf::worker_stack_kb, 0, 1'048'576, "stack of a worker (0: default)"},
};
const int kConfKeyCount = sizeof(kConfKeys) / sizeof(kConfKeys[0]);

namespace {

constexpr size_t kMaxToken = 127;

bool ParseNumber(const char* text, int64_t* value) {
  int64_t v = 0;
  if (*text == '\0') return false;
  for (; *text != '\0'; ++text) {
    if (*text < '0' || *text > '9' || v > (INT64_MAX - 9) / 10) return false;
    v = v * 10 + (*text - '0');
  }
  *value = v;
  return true;
}

// Edit distance, small words only: for the did-you-mean.
int Distance(const char* a, const char* b) {
  constexpr int kMax = 32;
  const int n = static_cast<int>(strnlen(a, kMax)), m = static_cast<int>(strnlen(b, kMax));
  int row[kMax + 1];
  for (int j = 0; j <= m; ++j) row[j] = j;
  for (int i = 1; i <= n; ++i) {
    int diagonal = row[0];
    row[0] = i;
    for (int j = 1; j <= m; ++j) {
      const int substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      int best = row[j] + 1;
      if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
      row[j] = substitute < best ? substitute : best;
    }
  }
  return row[m];
}

void ReportUnknown(const char* key) {
  const char* nearest = nullptr;
  int best = 4;
  for (int i = 0; i < kConfKeyCount; ++i) {
    const int d = Distance(key, kConfKeys[i].name);
    if (d < best) best = d, nearest = kConfKeys[i].name;
  }
  if (nearest != nullptr) {
    RawLog(LogLevel::kWarn, "CMWQ_CONF: unknown key '%s' ignored; did you mean '%s'?", key, nearest);
  } else {
    RawLog(LogLevel::kWarn, "CMWQ_CONF: unknown key '%s' ignored", key);
  }
}

// One of the words that stand for the values of `key`.
bool ParseName(const ConfKey& key, const char* value, Conf* conf) {
  for (int64_t i = 0; i <= key.max - key.min; ++i) {
    if (strcmp(value, key.names[i]) != 0) continue;
    conf->*key.field = key.min + i;
    return true;
  }
  return false;
}

void ParsePair(char* pair, Conf* conf) {
  char* eq = strchr(pair, '=');
  if (eq == nullptr) {
    RawLog(LogLevel::kWarn, "CMWQ_CONF: '%s' ignored; write key=value", pair);
    return;
  }
  char* key_end = eq;
  while (key_end > pair && key_end[-1] == ' ') --key_end;
  *key_end = '\0';
  const char* value = eq + 1;
  while (*value == ' ') ++value;
  for (int i = 0; i < kConfKeyCount; ++i) {
    const ConfKey& k = kConfKeys[i];
    if (strcmp(k.name, pair) != 0) continue;
    int64_t number;
    if (k.names != nullptr) {
      if (ParseName(k, value, conf)) return;
      RawLog(LogLevel::kWarn, "CMWQ_CONF: %s=%s ignored; one of %s ... %s is needed", pair, value,
             k.names[0], k.names[k.max - k.min]);
      return;
    }
    if (!ParseNumber(value, &number) || number < k.min || number > k.max) {
      RawLog(LogLevel::kWarn, "CMWQ_CONF: %s=%s ignored; a whole number from %ld to %ld is needed",
             pair, value, static_cast<long>(k.min), static_cast<long>(k.max));
      return;
    }
    conf->*k.field = number;
    return;
  }
  ReportUnknown(pair);
}

void ParseText(const char* text, char separator, Conf* conf, int depth);

void ParseFile(const char* path, Conf* conf, int depth) {
  if (depth > 0) {
    RawLog(LogLevel::kWarn, "CMWQ_CONF: @%s ignored; a file may not name another", path);
    return;
  }
  const long fd = Sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  char text[8192];
  const long n = fd < 0 ? fd : Sys(SYS_read, fd, text, sizeof(text) - 1);
  if (fd >= 0) SysClose(static_cast<int>(fd));
  if (n < 0) {
    RawLog(LogLevel::kWarn, "CMWQ_CONF: cannot read %s (errno %ld); defaults are used", path, -n);
    return;
  }
  text[n] = '\0';
  ParseText(text, '\n', conf, depth + 1);
}

void ParseText(const char* text, char separator, Conf* conf, int depth) {
  while (*text != '\0') {
    const char* end = strchr(text, separator);
    size_t length = end != nullptr ? static_cast<size_t>(end - text) : strlen(text);
    char token[kMaxToken + 1];
    const char* start = text;
    text += length + (end != nullptr ? 1 : 0);
    while (length > 0 && (*start == ' ' || *start == '\t')) ++start, --length;
    while (length > 0 && (start[length - 1] == ' ' || start[length - 1] == '\r')) --length;
    if (length == 0 || *start == '#') continue;
    if (length > kMaxToken) {
      RawLog(LogLevel::kWarn, "CMWQ_CONF: an entry of %zu bytes was ignored", length);
      continue;
    }
    memcpy(token, start, length);
    token[length] = '\0';
    if (token[0] == '@') {
      ParseFile(token + 1, conf, depth);
    } else {
      ParsePair(token, conf);
    }
  }
}

}  // namespace

void ParseConf(const char* text, Conf* conf) {
  if (text != nullptr) ParseText(text, ',', conf, 0);
  SetLogLevel(static_cast<LogLevel>(conf->log));
}

}  // namespace cmwq::base
