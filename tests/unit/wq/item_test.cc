// One item: queueing, collapsing, cancelling, disabling, what its own function may do to it.

#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "runtime/wq/work_word.h"
#include "tests/support/fake_env.h"
#include "tests/support/log_capture.h"

namespace cmwq::test {
namespace {

class ItemTest : public ::testing::Test {
 protected:
  void TearDown() override {
    wq::FlushWorkqueue(wq);
    e.Destroy(wq);
    if (e.Pool().Stats().nr_workers > 0) Engine::WaitIdle(e.Pool());
  }
  Engine& e = Engine::Make(2);
  wq::Workqueue* const wq = e.Alloc();
};

// An item that runs until told to end.
struct Holder {
  Holder()
      : item([this] {
          started.Open();
          end.WaitAnnounced();
        }) {}
  Gate started, end;
  Item item;
};

TEST_F(ItemTest, QueueReturnsWhetherItWasNew) {
  Gate hold;
  Item busy([&] { hold.Wait(); }), item;
  ASSERT_TRUE(Engine::Queue(wq, busy));
  EXPECT_TRUE(Engine::Queue(wq, item));
  EXPECT_FALSE(Engine::Queue(wq, item));
  EXPECT_FALSE(Engine::Queue(wq, item, 1));
  hold.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 1);
  EXPECT_TRUE(Engine::Queue(wq, item));
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 2);
}

TEST_F(ItemTest, RequeuesItself) {
  Item* self = nullptr;
  Item item([&] {
    if (self->Runs() < 9) {
      EXPECT_TRUE(Engine::Queue(wq, *self));
      EXPECT_FALSE(Engine::Queue(wq, *self));
    }
  });
  self = &item;
  ASSERT_TRUE(Engine::Queue(wq, item));
  Eventually([&] { return item.Runs() == 10; });
}

struct SelfFreeing {
  struct cmwq_work work;
  Gate* freed;
};

TEST_F(ItemTest, FreesItself) {
  Gate freed;
  auto* const item = new SelfFreeing{{}, &freed};
  cmwq_work_init(&item->work, [](struct cmwq_work* w) {
    auto* const self = reinterpret_cast<SelfFreeing*>(w);
    Gate* const done = self->freed;
    delete self;
    done->Open();
  });
  ASSERT_TRUE(wq::QueueWork(wq, 0, &item->work));
  freed.Wait();
}

// An item that was initialised at the address of one whose function still runs is another item, even
// with the same function: the first one may wait for it.
TEST_F(ItemTest, RecycledWithTheSameFunction) {
  struct Context {
    struct cmwq_work work;  // first
    wq::Workqueue* wq;
    int runs;
    Gate second, end;
  };
  static Context* context = nullptr;
  context = new Context{{}, wq, 0, {}, {}};
  static cmwq_work_fn run = nullptr;
  run = [](struct cmwq_work* w) {
    if (++context->runs == 2) {
      context->second.Open();
      return;
    }
    cmwq_work_init(w, run);
    EXPECT_TRUE(wq::QueueWork(context->wq, 0, w));
    context->second.WaitAnnounced();
    context->end.Open();
  };
  cmwq_work_init(&context->work, run);
  ASSERT_TRUE(wq::QueueWork(wq, 0, &context->work));
  context->end.Wait();
  wq::FlushWorkqueue(wq);
  delete context;
}

// An item at the address of one whose function still runs is another item if its function is another.
TEST_F(ItemTest, RecycledFromItsOwnFunction) {
  struct Context {
    struct cmwq_work work;  // first
    Engine* e;
    wq::Workqueue* wq;
    Gate second, end;
  };
  static Context* context = nullptr;
  context = new Context{{}, &e, wq, {}, {}};
  cmwq_work_init(&context->work, [](struct cmwq_work* w) {
    cmwq_work_init(w, [](struct cmwq_work*) { context->second.Open(); });
    EXPECT_TRUE(wq::QueueWork(context->wq, 0, w));
    context->second.WaitAnnounced();
    context->end.Open();
  });
  ASSERT_TRUE(wq::QueueWork(wq, 0, &context->work));
  context->end.Wait();
  wq::FlushWorkqueue(wq);
  delete context;
}

TEST_F(ItemTest, CancelPending) {
  Gate hold;
  Item busy([&] { hold.Wait(); }), item;
  ASSERT_TRUE(Engine::Queue(wq, busy));
  EXPECT_FALSE(e.Cancel(item));
  ASSERT_TRUE(Engine::Queue(wq, item));
  EXPECT_TRUE(e.Cancel(item));
  EXPECT_FALSE(e.Cancel(item));
  ASSERT_TRUE(Engine::Queue(wq, item));
  EXPECT_TRUE(e.CancelSync(item));
  hold.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 0);
}

TEST_F(ItemTest, CancelRunningDoesNotWait) {
  Holder h;
  ASSERT_TRUE(Engine::Queue(wq, h.item));
  h.started.Wait();
  EXPECT_FALSE(e.Cancel(h.item));
  EXPECT_EQ(h.item.Runs(), 0);
  h.end.Open();
  wq::FlushWorkqueue(wq);
}

TEST_F(ItemTest, CancelSyncWaitsForTheRunningOne) {
  Holder h;
  ASSERT_TRUE(Engine::Queue(wq, h.item));
  h.started.Wait();
  std::thread opener([&] { h.end.Open(); });
  EXPECT_FALSE(e.CancelSync(h.item));
  EXPECT_EQ(h.item.Runs(), 1);
  opener.join();
}

TEST_F(ItemTest, CancelSyncEndsASelfRequeueingItem) {
  Item* self = nullptr;
  Item item([&] { Engine::Queue(wq, *self); });
  self = &item;
  for (int round = 0; round < 100; ++round) {
    const int before = item.Runs();
    ASSERT_TRUE(Engine::Queue(wq, item));
    Eventually([&] { return item.Runs() > before; });
    e.CancelSync(item);
    const int runs = item.Runs();
    wq::FlushWorkqueue(wq);
    EXPECT_EQ(item.Runs(), runs);
    EXPECT_EQ(wq::WordOf(item.work()).load() & wq::Word::kPending, 0u);
  }
}

TEST_F(ItemTest, TwoCancelSyncsOfOneRunningItem) {
  for (int round = 0; round < 50; ++round) {
    Holder h;
    ASSERT_TRUE(Engine::Queue(wq, h.item));
    h.started.Wait();
    std::thread one([&] { e.CancelSync(h.item); }), two([&] { e.CancelSync(h.item); });
    h.end.Open();
    one.join();
    two.join();
    EXPECT_EQ(h.item.Runs(), 1);
    EXPECT_FALSE(wq::Word::Disabled(wq::WordOf(h.item.work()).load()));
  }
}

// Reported once in a process.
TEST_F(ItemTest, CancelSyncFromItselfDoesNotWait) {
  LogCapture log;
  Item* self = nullptr;
  Item item([&] {
    EXPECT_FALSE(e.CancelSync(*self));
    EXPECT_FALSE(e.Disable(*self, true));
    EXPECT_TRUE(wq::EnableWork(self->work()));
  });
  self = &item;
  ASSERT_TRUE(Engine::Queue(wq, item));
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 1);
  const std::vector<std::string> lines = log.Take();
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("called from itself"), std::string::npos);
}

TEST_F(ItemTest, DisableNests) {
  Item item;
  EXPECT_FALSE(e.Disable(item));
  EXPECT_FALSE(e.Disable(item, true));
  EXPECT_FALSE(Engine::Queue(wq, item));
  EXPECT_FALSE(wq::EnableWork(item.work()));
  EXPECT_FALSE(Engine::Queue(wq, item));
  EXPECT_FALSE(e.QueueDelayed(wq, item, 5));
  EXPECT_FALSE(e.ModDelayed(wq, item, 5));
  EXPECT_TRUE(wq::EnableWork(item.work()));
  EXPECT_TRUE(Engine::Queue(wq, item));
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 1);
}

TEST_F(ItemTest, DisableTakesAPendingOneBack) {
  Gate hold;
  Item busy([&] { hold.Wait(); }), item;
  ASSERT_TRUE(Engine::Queue(wq, busy));
  ASSERT_TRUE(Engine::Queue(wq, item));
  EXPECT_TRUE(e.Disable(item, true));
  hold.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 0);
  wq::EnableWork(item.work());
}

TEST_F(ItemTest, DisableDepthIsCounted) {
  LogCapture log;
  Item item;
  for (int i = 0; i < 0xffff; ++i) e.Disable(item);
  EXPECT_TRUE(log.Take().empty());
  e.Disable(item);
  EXPECT_LE(log.Take().size(), 1u);  // once per process
  for (int i = 0; i < 0xfffe; ++i) EXPECT_FALSE(wq::EnableWork(item.work()));
  EXPECT_TRUE(wq::EnableWork(item.work()));
  EXPECT_FALSE(wq::EnableWork(item.work()));
  EXPECT_LE(log.Take().size(), 1u);  // once per process
}

// What was stored before the queueing is seen by the execution, also if the queueing said "pending".
TEST_F(ItemTest, NoStoreIsMissed) {
  std::atomic<uint64_t> value{0}, seen{0};  // relaxed: the queueing has to order them
  Item item([&] { seen.store(value.load(std::memory_order_relaxed), std::memory_order_relaxed); });
  for (uint64_t i = 1; i <= 20'000; ++i) {
    value.store(i, std::memory_order_relaxed);
    Engine::Queue(wq, item);
    if (i % 64 == 0) {
      e.Flush(item);
      EXPECT_EQ(seen, i);
    }
  }
  wq::FlushWorkqueue(wq);
}

TEST_F(ItemTest, BusyTellsPendingAndRunning) {
  Holder h;
  ASSERT_TRUE(Engine::Queue(wq, h.item));
  h.started.Wait();
  const uint64_t running = wq::WordOf(h.item.work()).load();
  EXPECT_EQ(running & (wq::Word::kPending | wq::Word::kQueued), 0u);
  ASSERT_TRUE(Engine::Queue(wq, h.item));
  EXPECT_NE(wq::WordOf(h.item.work()).load() & wq::Word::kPending, 0u);
  h.end.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(h.item.Runs(), 2);
}

}  // namespace
}  // namespace cmwq::test
