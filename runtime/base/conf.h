// Settings: built-in defaults, then CMWQ_CONF=key=value,… or @file.
//
// Read once, at the start of the runtime or the preload; plain reads afterwards.

#ifndef CMWQ_RUNTIME_BASE_CONF_H_
#define CMWQ_RUNTIME_BASE_CONF_H_

#include <cstdint>

namespace cmwq::base {

// Values of `switches`.
inline constexpr int64_t kSwitchesOff = 0, kSwitchesRusage = 1, kSwitchesPerf = 2, kSwitchesBpf = 3,
                         kSwitchesExact = 4;

// Values of `children`.
inline constexpr int64_t kChildrenKeep = 0, kChildrenDrop = 1;

struct Conf {
  // Engine.
  int64_t idle_timeout_ms = 300'000;   // kernel IDLE_WORKER_TIMEOUT
  int64_t idle_ratio = 4;              // kernel MAX_IDLE_WORKERS_RATIO
  int64_t mayday_initial_ms = 10;      // kernel MAYDAY_INITIAL_TIMEOUT
  int64_t mayday_interval_ms = 100;    // kernel MAYDAY_INTERVAL
  int64_t create_idle_us = 10;         // about the cost of a thread
  int64_t create_wait_ms = 100;
  int64_t create_cooldown_ms = 1000;   // kernel CREATE_COOLDOWN
  int64_t cpu_watch_ms = 1000;         // how often CPUs are looked at while there is work; 0: not watched
  int64_t max_workers = 1024;          // per pool; beyond it items wait, as when creation fails
  int64_t worker_stack_kb = 0;         // 0: the process's default
  int64_t default_affinity_scope = 3;  // of unbound queues: platform::Scope, cache_shard
  int64_t cache_shard_size = 8;        // cores per shard of a cache; kernel wq_cache_shard_size
  int64_t cpu_intensive_thresh_us = 10'000;    // kernel parameter of that name; 0: no hog detection
  int64_t cpu_intensive_warning_thresh = 4;    // kernel parameter; 0: hogs are not reported
  int64_t watchdog_thresh = 30;        // kernel parameter, seconds; 0: no watchdog
  int64_t panic_on_stall = 0;          // kernel parameter: abort at the n-th report; 0: never
  int64_t panic_on_stall_time = 0;     // kernel parameter, seconds: abort at a stall so long; 0: never
#if defined(CMWQ_DEBUG)
  int64_t leak_check = 1;              // look at each item's thread attributes afterwards
#else
  int64_t leak_check = 0;              // costs ten system calls per item
#endif
  int64_t canary = 1;                  // 1: SCHED_IDLE canary; 2: the tick alone; 0: announcements alone
  int64_t switches = kSwitchesOff;     // who counts the workers' context switches
  int64_t io_uring = 1;                // 1: for times, polls and operations; 2: for each wait
  // Preload.
  int64_t gate_limit = 1;              // requests that may run per CPU
  int64_t gate_pin = 1;                // pin adopted threads to their pool's CPU
  int64_t gate_wait_ms = 10;           // longest time a request is held
  int64_t gate_fair_ms = 2;            // ready requests older than this, plus gate_fair_us per thread
  int64_t gate_fair_us = 500;          // of the pool, get a share of the turns (latest first otherwise)
  int64_t children = kChildrenKeep;    // whether what the program starts is preloaded, too
  int64_t tick_ms = 10;                // manager's tick while something waits
  int64_t stats = 0;                   // the page that cmwq top reads
  int64_t log = 4;                     // syslog level; 4 = warnings
};

struct ConfKey {
  const char* name;
  int64_t Conf::*field;
  int64_t min;
  int64_t max;
  const char* help;
  const char* const* names = nullptr;  // words for the values from min on, if it has any
};
extern const ConfKey kConfKeys[];
extern const int kConfKeyCount;

// The process's settings.
extern constinit Conf g_conf;

// Parses "key=value,key=value,@file" into `conf`. Unknown keys and bad values are reported in one line
// each and skipped: a setting never kills the host. Allocates nothing.
void ParseConf(const char* text, Conf* conf);

}  // namespace cmwq::base

#endif  // CMWQ_RUNTIME_BASE_CONF_H_
