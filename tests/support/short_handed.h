// A pool of one CPU whose workers are all blocked and which cannot make another one.

#ifndef CMWQ_TESTS_SUPPORT_SHORT_HANDED_H_
#define CMWQ_TESTS_SUPPORT_SHORT_HANDED_H_

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/fake_env.h"

namespace cmwq::test {

// `failures`: so many creations fail before one succeeds again.
struct ShortHanded {
  explicit ShortHanded(int failures)
      : e(Engine::Make(1)), plain(e.Alloc()), reclaim(e.Alloc(CMWQ_MEM_RECLAIM)) {
    EXPECT_TRUE(Engine::Queue(plain, warm));
    Eventually([this] { return warm.Runs() == 1; });
    Engine::WaitIdle(e.Pool());
    const int workers = e.Pool().Stats().nr_workers;
    for (int i = 0; i < workers; ++i) {
      if (i == workers - 1) e.env.fail_next = failures;
      Item* const item = new Item([this] {
        nr_blocked.fetch_add(1);
        release.WaitAnnounced();
      });
      blocked.push_back(item);
      EXPECT_TRUE(Engine::Queue(plain, *item));
      Eventually([this, i] { return nr_blocked.load() == i + 1; });
      Eventually([this] { return e.Pool().Stats().nr_running == 0; });
    }
    Eventually([this] { return PoolTestPeer::Managing(e.Pool()); });
  }
  ~ShortHanded() {
    release.Open();
    e.env.fail_next = 0;
    for (Item* const item : blocked) {
      Eventually([item] { return item->Runs() == 1; });
    }
    wq::DrainWorkqueue(plain);
    wq::DrainWorkqueue(reclaim);
    for (Item* const item : blocked) delete item;
    Engine::WaitIdle(e.Pool());
    e.Destroy(plain);
    e.Destroy(reclaim);
  }
  ShortHanded(const ShortHanded&) = delete;
  ShortHanded& operator=(const ShortHanded&) = delete;

  Engine& e;
  wq::Workqueue* const plain;
  wq::Workqueue* const reclaim;
  Gate release;
  Item warm;
  std::atomic<int> nr_blocked{0};
  std::vector<Item*> blocked;
};

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_SUPPORT_SHORT_HANDED_H_
