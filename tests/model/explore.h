// Runs a model program under many seeds.
//
// CMWQ_MODEL_SEEDS=n sets how many (default below); CMWQ_MODEL_SEED=n runs that one only.

#ifndef CMWQ_TESTS_MODEL_EXPLORE_H_
#define CMWQ_TESTS_MODEL_EXPLORE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "tests/model/scheduler.h"

namespace cmwq::model {

// Creates the objects and threads of one run.
using Program = std::function<void(World&)>;

struct Report {
  bool failed = false;
  uint64_t seeds = 0;  // seeds run; when failed the last one is the failing seed
  uint64_t steps = 0;
  std::string message;
};

// Until the first failure; at least `least_seeds` seeds, whatever the environment says.
Report Explore(const Program& program, uint64_t least_seeds);

// The program must be right under every seed.
void ExpectHolds(const Program& program);
// The program is known to be wrong: some seed must show it, with `message` in the report. Proves
// that the tests can fail.
void ExpectCaught(const char* message, const Program& program);

}  // namespace cmwq::model

#endif  // CMWQ_TESTS_MODEL_EXPLORE_H_
