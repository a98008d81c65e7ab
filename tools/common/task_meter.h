// What the threads of another process do during a measurement, from /proc: two passes over them and
// nothing in between, so that the measurement does not disturb what it measures.

#ifndef CMWQ_TOOLS_COMMON_TASK_METER_H_
#define CMWQ_TOOLS_COMMON_TASK_METER_H_

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <limits>
#include <unordered_map>

namespace cmwq::tools {

// Sums over all threads; not a number where it could not be measured.
struct TaskRates {
  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

  double voluntary_switches = kUnknown;    // per second: a thread waited for something
  double involuntary_switches = kUnknown;  // per second: a thread was preempted
  double cpus = kUnknown;                  // CPU seconds per second
  // CPU seconds per second of everything on the machine but the server and the load.
  double other_cpus = kUnknown;
  // The mean number of threads that ran or waited for a CPU: the time they spent so, per second.
  // Exact, where sampling thread states would need thousands of reads. Needs CONFIG_SCHED_INFO.
  double runnable = kUnknown;
};

// A pass over a thousand threads takes 20 ms of CPU; among hundreds of runnable threads this
// process would get that only in seconds. So it goes before all others while a meter exists, where
// permitted. Each thread's counters are also divided by the time between its own two reads, so that
// slow passes bias nothing as long as both lie within the measurement.
class TaskMeter {
 public:
  TaskMeter();
  ~TaskMeter();
  TaskMeter(const TaskMeter&) = delete;
  TaskMeter& operator=(const TaskMeter&) = delete;

  // The measurement of process `pid` begins now and will take `seconds`. `load` is the process that
  // makes it busy.
  void Start(pid_t pid, pid_t load, double seconds);
  // Takes a pass when one is due. To be called every few hundredths of a second while it lasts.
  void Step();
  // Unknown until both passes were taken in time.
  const TaskRates& rates() const { return rates_; }

 private:
  using Clock = std::chrono::steady_clock;
  enum class Phase { kIdle, kBeforeFirst, kBeforeSecond, kDone };

  struct Counters {
    Clock::time_point when;
    uint64_t voluntary = 0;
    uint64_t involuntary = 0;
    uint64_t run_ns = 0;
    uint64_t wait_ns = 0;
    bool has_times = false;
  };
  struct Pass {
    Clock::time_point when;
    double cpu_seconds = 0;       // of the process
    double load_cpu_seconds = 0;  // of the load
    double busy_seconds = 0;      // of all CPUs
    std::unordered_map<pid_t, Counters> threads;
  };

  Pass TakePass() const;
  static bool ReadThread(int task_dir, const char* tid, Counters* counters);
  void Compare(const Pass& second);
  double PassedSeconds() const;

  bool is_first_ = false;  // this process goes before others
  Phase phase_ = Phase::kIdle;
  pid_t pid_ = -1;
  pid_t load_ = -1;
  double seconds_ = 0;
  double second_at_ = 0;  // when the second pass is due, in seconds from the start
  Clock::time_point start_;
  Pass first_;
  TaskRates rates_;
};

}  // namespace cmwq::tools

#endif  // CMWQ_TOOLS_COMMON_TASK_METER_H_
