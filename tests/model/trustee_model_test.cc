// The trustee under every schedule: the CPU leaves and returns at every step of a pool whose items wait for
// each other, whose workers sleep, wake, are made and cannot be made. Everything is executed, nr_running
// is right in the end, and whoever counts is on the CPU.

#include <gtest/gtest.h>

#include "tests/model/explore.h"
#include "tests/model/mini_pool.h"

namespace cmwq::model {
namespace {

using pool::TrusteeState;

struct Weather {
  int events = 3;         // times that the CPU leaves or returns
  bool end_away = false;  // it has left in the end
  int failures = 0;       // creations that fail
  bool silent = false;    // items wait without a word
  bool late_item = true;  // comes after everything, and wakes whom nobody has woken
};

// Three items, of which the first two need another worker; the CPU comes and goes meanwhile; one more item
// when that is over.
Program Changes(Weather weather, PoolDefects defects = {}) {
  return [=](World& world) {
    MiniPool* pool = world.Make<MiniPool>("pool", 0u, defects);
    pool->FailCreations(weather.failures);
    pool->AddWorkers(world);
    const auto wait = [quiet = weather.silent](MiniPool* p, int w, int event) {
      quiet ? p->SilentWait(w, event) : p->AnnouncedWait(w, event);
    };
    world.Thread("queuer", [=] {
      pool->Queue([=](MiniPool* p, int w) { wait(p, w, 0); });
      pool->Queue([=](MiniPool* p, int w) {
        wait(p, w, 1);
        p->Signal(0);
      });
      pool->Queue([](MiniPool* p, int) { p->Signal(1); });
    });
    world.Thread("watcher", [=, &world] {
      bool away = false;
      for (int i = 0; i < weather.events; ++i) {
        // Mostly the other way; now and then the same once more.
        if (world.Random(4) != 0) away = !away;
        away ? pool->LeaveCpu() : pool->ReturnCpu();
      }
      if (away != weather.end_away) weather.end_away ? pool->LeaveCpu() : pool->ReturnCpu();
      if (weather.late_item) pool->Queue([](MiniPool*, int) {});
    });
    world.Daemon("event", [=] { pool->EventLoop(); });
    world.Daemon("detector", [=] { pool->DetectorLoop(); });
    world.AtEnd([=] { pool->CheckEnd(weather.late_item ? 4 : 3); });
  };
}

TEST(TrusteeModel, TheCpuComesAndGoes) { ExpectHolds(Changes({})); }
TEST(TrusteeModel, TheCpuStaysAway) { ExpectHolds(Changes({.end_away = true})); }
TEST(TrusteeModel, CreationsFailMeanwhile) { ExpectHolds(Changes({.failures = 3})); }
TEST(TrusteeModel, CreationsFailAndTheCpuStaysAway) {
  ExpectHolds(Changes({.end_away = true, .failures = 3}));
}
TEST(TrusteeModel, NobodySaysThatHeWaits) { ExpectHolds(Changes({.silent = true})); }
TEST(TrusteeModel, NobodySaysAnythingAndTheCpuStaysAway) {
  ExpectHolds(Changes({.end_away = true, .silent = true, .late_item = false}));
}
TEST(TrusteeModel, NobodySaysAnythingAndTheCpuIsBack) {
  ExpectHolds(Changes({.silent = true, .late_item = false}));
}

// The workers are gone by the time that an item comes, of whoever could not know.
Program LateItem(PoolDefects defects = {}) {
  return [=](World& world) {
    MiniPool* pool = world.Make<MiniPool>("pool", 0u, defects);
    pool->AddWorkers(world);
    world.Thread("watcher", [=] {
      pool->LeaveCpu();
      while (pool->trustee_state() != TrusteeState::kButcher) Yield();
      pool->Queue([](MiniPool* p, int w) { p->AnnouncedWait(w, 0); });
      pool->Queue([](MiniPool* p, int) { p->Signal(0); });
    });
    world.Daemon("event", [=] { pool->EventLoop(); });
    world.AtEnd([=] { pool->CheckEnd(2); });
  };
}

TEST(TrusteeModel, APoolWithoutWorkersServesAndIsEmptyAgain) { ExpectHolds(LateItem()); }

TEST(TrusteeModel, PlantedDefectsAreCaught) {
  const auto caught = [](const char* message, bool PoolDefects::*defect, Weather weather) {
    PoolDefects d;
    d.*defect = true;
    ExpectCaught(message, Changes(weather, d));
  };
  // The event thread looks again and again at a pool that does not drain.
  caught("does not end", &PoolDefects::leaves_without_kick,
         {.end_away = true, .silent = true, .late_item = false});
  caught("RawRunning", &PoolDefects::zaps_running, {});
  caught(".home", &PoolDefects::attaches_as_made, {.end_away = true});
  caught("executed_ == expected", &PoolDefects::butchers_spares, {.end_away = true});
  caught("executed_ == expected", &PoolDefects::role_without_spare, {});
  caught(".home", &PoolDefects::counts_before_placed, {});
}

TEST(TrusteeModel, PlantedDefectsOfAButcheredPoolAreCaught) {
  PoolDefects d;
  d.nobody_calls = true;
  ExpectCaught("executed_ == expected", LateItem(d));
  d = {};
  d.no_look_when_idle = true;
  ExpectCaught("kButcher", LateItem(d));
}

}  // namespace
}  // namespace cmwq::model
