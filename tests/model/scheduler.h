// World: one run of a small concurrent program under a schedule that a seed chooses.
//
// Every access to a ModelAtomic (model_sync.h), every futex wait and wake and every lock operation
// is a scheduling point: the running thread stops *before* the operation, the world picks what
// happens next, and the operation is carried out when its thread is picked. What a thread does
// between two points is atomic, so plain variables may be used for bookkeeping.
//
// Memory: half of the seeds run each of two machines.
//   kTso   stores weaker than seq_cst wait in a FIFO buffer of their thread and reach memory when
//   the
//          world says so; read-modify-writes, seq_cst stores and unlocking drain the buffer.
//   kWeak  C++ without load buffering: memory is a history per location; a load may return any
//   value
//          that its thread has not been told is outdated (coherence, acquire/release, and for
//          seq_cst loads the last seq_cst store to that location).
// Schedules: uniformly random; priorities with a few random demotions; few preemptions.

#ifndef CMWQ_TESTS_MODEL_SCHEDULER_H_
#define CMWQ_TESTS_MODEL_SCHEDULER_H_

#include <array>
#include <atomic>
#include <cstdarg>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/model/fiber.h"

namespace cmwq::model {

enum class Machine : uint8_t { kTso, kWeak };
enum class Strategy : uint8_t { kUniform, kPriority, kFewPreemptions };

inline constexpr int kMaxCells = 96;
// Latest known position in the history of each cell.
using View = std::array<uint16_t, kMaxCells>;

// One location in modelled memory; values are carried as 64 bits.
struct Cell {
  explicit Cell(uint64_t initial);
  ~Cell() = default;
  Cell(const Cell&) = delete;
  Cell& operator=(const Cell&) = delete;

  struct Message {
    uint64_t value;
    View view;  // what a reader that acquires learns
  };
  int id;
  std::vector<Message> history;  // position = index; [0] is the initial value
  uint16_t last_seq_cst = 0;     // position of the last seq_cst store
  uint64_t memory() const { return history.back().value; }
};

class World {
 public:
  struct Outcome {
    bool failed = false;
    std::string message;  // what went wrong, then the last steps
    int steps = 0;
  };

  explicit World(uint64_t seed, int max_steps = 20'000);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // Set-up. Threads must finish; daemons may be waiting when everything else is done.
  void Thread(const char* name, std::function<void()> body) { Add(name, std::move(body), false); }
  void Daemon(const char* name, std::function<void()> body) { Add(name, std::move(body), true); }
  // Runs after the last step, if nothing failed before; sees all of memory.
  void AtEnd(std::function<void()> check) { at_end_.push_back(std::move(check)); }
  // An object that lives as long as the world.
  template <class T, class... Args>
  T* Make(const char* name, Args&&... args) {
    auto object = std::make_shared<T>(std::forward<Args>(args)...);
    objects_.push_back({object, object.get(), sizeof(T), name});
    return object.get();
  }

  Outcome Run();

  // For ModelAtomic, ModelMutex and the free functions below.
  static World* current() { return current_; }
  // False during set-up: accesses then are plain ones.
  bool InThread() const { return running_ >= 0; }
  int NewCellId();
  uint64_t Load(Cell* cell, std::memory_order order);
  void Store(Cell* cell, uint64_t value, std::memory_order order);
  uint64_t Modify(Cell* cell, uint64_t (*op)(uint64_t, uint64_t), uint64_t arg,
                  std::memory_order order);
  bool CompareExchange(Cell* cell, uint64_t* expected, uint64_t desired, std::memory_order success,
                       std::memory_order failure, bool weak);
  bool FutexWait(Cell* cell, uint64_t expected, bool has_deadline);
  void FutexWake(Cell* cell, int count);
  void LockMutex(const void* mutex, int* owner, View* view);
  void UnlockMutex(const void* mutex, int* owner, View* view);
  void YieldNow();
  [[noreturn]] void FailNow(const char* text);
  uint32_t Random(uint32_t below);

 private:
  enum class State : uint8_t { kReady, kFutex, kLock, kDone };
  struct Pending {
    Cell* cell;
    uint64_t value;
  };
  struct Task {
    const char* name;
    std::function<void()> body;
    bool daemon;
    State state = State::kReady;
    const void* waits_for = nullptr;  // cell or mutex
    bool has_deadline = false;
    bool timed_out = false;
    uint64_t wait_order = 0;  // futex queues are FIFO
    int priority = 0;
    std::deque<Pending> buffer;
    View view = {};
    Fiber fiber;
    World* world = nullptr;
  };
  struct Step {
    int task;
    const char* what;
    const void* where;
    uint64_t a, b;
  };
  struct Object {
    std::shared_ptr<void> owner;
    const void* start;
    size_t size;
    const char* name;
  };

  void Add(const char* name, std::function<void()> body, bool daemon);
  static void TaskMain(void* task);
  Task& self() { return *tasks_[running_]; }
  // The scheduling point.
  void Point();
  void SwitchToNext();
  // Next thread to run; -1 when the run is over (finished or failed).
  int Pick();
  int PickReady();
  bool MaybeEnvironment(bool force);
  bool Finished();
  void ReportDeadlock();
  void Flush(int task);
  void Drain(Task& task);
  void SetFailure(const std::string& text);
  void Note(const char* what, const void* where, uint64_t a, uint64_t b);
  std::string Describe(const void* where) const;
  std::string Trace() const;
  uint16_t OldestAllowed(const Task& task, const Cell* cell, std::memory_order order) const;
  void Learn(Task& task, Cell* cell, uint16_t position, std::memory_order order);
  void Append(Task& task, Cell* cell, uint64_t value, std::memory_order order, bool modify);
  uint64_t Next64();

  static World* current_;

  const uint64_t seed_;
  const int max_steps_;
  uint64_t rng_;
  Machine machine_;
  Strategy strategy_;
  bool spurious_;
  bool yielding_ = false;
  int spurious_left_ = 3;
  int lowest_priority_ = 0;
  uint64_t next_wait_ = 0;
  std::vector<int> change_points_;
  std::vector<std::unique_ptr<Task>> tasks_;
  std::vector<std::function<void()>> at_end_;
  std::vector<Object> objects_;
  std::vector<Step> steps_;
  Fiber main_;
  int running_ = -1;
  int cells_ = 0;
  int step_count_ = 0;
  Outcome outcome_;
};

// Called by the threads of a model. Fail ends the run at once.
[[noreturn]] void Fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
// For loops that wait for others without a futex: lets them go first under every strategy.
void Yield();

#define MODEL_CHECK(cond)                                             \
  do {                                                                \
    if (!(cond)) ::cmwq::model::Fail("line %d: %s", __LINE__, #cond); \
  } while (0)

}  // namespace cmwq::model

#endif  // CMWQ_TESTS_MODEL_SCHEDULER_H_
