// AttrsTest: an engine on a machine of two NUMA nodes, for tests of attributes.

#ifndef CMWQ_TESTS_UNIT_WQ_ATTRS_FIXTURE_H_
#define CMWQ_TESTS_UNIT_WQ_ATTRS_FIXTURE_H_

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "runtime/wq/attrs.h"
#include "tests/support/fake_env.h"
#include "tests/support/fake_sysfs.h"

namespace cmwq::test {

using platform::Scope;

// 2 nodes with 2 cores each, one cache per node.
class AttrsTest : public ::testing::Test {
 protected:
  AttrsTest() : e(Machine(&sys)) {}
  static Engine& Machine(FakeSysfs* sys) {
    sys->Server(2, 2, 1);
    return Engine::Make(4, nullptr, sys->root());
  }
  wq::WqAttrs Attrs(Scope scope, const char* mask = "0-3", bool strict = false, int nice = 0) {
    wq::WqAttrs attrs;
    attrs.scope = scope;
    attrs.mask = Cpus(mask);
    attrs.strict = strict;
    attrs.nice = nice;
    return attrs;
  }
  static pool::WorkerPool* PoolFor(wq::Workqueue* wq, int cpu) { return wq->PwqFor(cpu)->pool; }
  static int NrActive(wq::Workqueue* wq, int cpu) {
    wq::Pwq* const pwq = wq->PwqFor(cpu);
    sync::MutexLock hold(pwq->pool->lock);
    return pwq->nr_active;
  }
  Item* New(std::function<void()> fn) {
    items_.push_back(std::make_unique<Item>(std::move(fn)));
    return items_.back().get();
  }

  FakeSysfs sys;
  Engine& e;
  std::vector<std::unique_ptr<Item>> items_;
};

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_UNIT_WQ_ATTRS_FIXTURE_H_
