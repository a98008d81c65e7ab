// Actions at the engine's test points, for the length of one test.

#ifndef CMWQ_TESTS_SUPPORT_TEST_POINTS_H_
#define CMWQ_TESTS_SUPPORT_TEST_POINTS_H_

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "runtime/base/test_point.h"

namespace cmwq::test {

#if defined(CMWQ_TEST_POINTS)
inline constexpr bool kHaveTestPoints = true;
#else
inline constexpr bool kHaveTestPoints = false;
#endif

// While it lives nobody checks invariants at test points: for tests that break one on purpose.
class NoInvariantChecks {
 public:
#if defined(CMWQ_TEST_POINTS)
  NoInvariantChecks() : verify_(base::g_verify.exchange(nullptr)) {}
  ~NoInvariantChecks() { base::g_verify.store(verify_); }

 private:
  void (*const verify_)(const char* where, void* locked);
#else
  NoInvariantChecks() {}
#endif
};

// Runs `action` the first time that a thread for which `meant` holds comes by `name`; other and later
// visits pass. Where several threads may come by, `meant` must say which of them: asked of any thread.
class AtTestPoint {
 public:
  AtTestPoint(std::string name, std::function<void()> action,
              std::function<bool()> meant = [] { return true; }) {
    Map().Set(std::move(name), {std::move(action), std::move(meant)});
  }
  ~AtTestPoint() { Map().Clear(); }
  AtTestPoint(const AtTestPoint&) = delete;
  AtTestPoint& operator=(const AtTestPoint&) = delete;

 private:
  struct Action {
    std::function<void()> run;
    std::function<bool()> meant;
  };
  class Actions {
   public:
    void Set(std::string name, Action action) {
      std::lock_guard<std::mutex> hold(mu_);
      actions_[std::move(name)] = std::move(action);
    }
    void Clear() {
      std::lock_guard<std::mutex> hold(mu_);
      actions_.clear();
    }
    std::function<void()> Take(const char* name) {
      std::lock_guard<std::mutex> hold(mu_);
      const auto found = actions_.find(name);
      if (found == actions_.end() || !found->second.meant()) return nullptr;
      std::function<void()> run = std::move(found->second.run);
      actions_.erase(found);
      return run;
    }

   private:
    std::mutex mu_;
    std::map<std::string, Action> actions_;
  };
  static Actions& Map() {
    static Actions* const map = new Actions;
    return *map;
  }
  static void Visit(const char* name) {
    if (const std::function<void()> action = Map().Take(name)) action();
  }
  // For good and before any thread starts: threads of the engine may be in the hook at any time.
  static bool Install() {
#if defined(CMWQ_TEST_POINTS)
    base::g_test_point = &Visit;
#endif
    return true;
  }
  static inline const bool installed_ = Install();
};

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_SUPPORT_TEST_POINTS_H_
