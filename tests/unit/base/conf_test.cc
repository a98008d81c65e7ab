#include "runtime/base/conf.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <string>

#include "tests/support/log_capture.h"

namespace cmwq::base {
namespace {

class ConfTest : public ::testing::Test {
 protected:
  // Parses and returns the complaints, joined.
  std::string Parse(const char* text) {
    conf_ = Conf();
    ParseConf(text, &conf_);
    std::string all;
    for (const std::string& line : log_.Take()) all += line;
    return all;
  }
  // True if every field has its default.
  bool AllDefault() const {
    const Conf fresh;
    for (int i = 0; i < kConfKeyCount; ++i) {
      if (conf_.*kConfKeys[i].field != fresh.*kConfKeys[i].field) return false;
    }
    return true;
  }

  test::LogCapture log_;
  Conf conf_;
};

TEST_F(ConfTest, NothingKeepsTheDefaults) {
  for (const char* text : {static_cast<const char*>(nullptr), "", ",", " , ,, ", "# a comment"}) {
    EXPECT_EQ(Parse(text), "");
    EXPECT_TRUE(AllDefault());
  }
}

TEST_F(ConfTest, DefaultsAreTheKernelsAndOurs) {
  EXPECT_EQ(conf_.idle_timeout_ms, 300'000);
  EXPECT_EQ(conf_.idle_ratio, 4);
  EXPECT_EQ(conf_.mayday_initial_ms, 10);
  EXPECT_EQ(conf_.mayday_interval_ms, 100);
  EXPECT_EQ(conf_.create_cooldown_ms, 1000);
  EXPECT_EQ(conf_.create_idle_us, 10);
  EXPECT_EQ(conf_.create_wait_ms, 100);
}

TEST_F(ConfTest, EveryKeyTakesItsBoundsAndNothingBeyond) {
  for (int i = 0; i < kConfKeyCount; ++i) {
    const ConfKey& key = kConfKeys[i];
    const auto set = [&](int64_t value) {
      const std::string text = std::string(key.name) + "=" + std::to_string(value);
      return Parse(text.c_str());
    };
    const int64_t fallback = Conf().*key.field;
    if (key.names != nullptr) continue;
    EXPECT_GE(fallback, key.min) << key.name;
    EXPECT_LE(fallback, key.max) << key.name;
    for (const int64_t good : {key.min, key.max}) {
      EXPECT_EQ(set(good), "") << key.name;
      EXPECT_EQ(conf_.*key.field, good) << key.name;
    }
    for (const int64_t bad : {key.min - 1, key.max + 1}) {
      EXPECT_NE(set(bad).find("a whole number from"), std::string::npos) << key.name << " " << bad;
      EXPECT_EQ(conf_.*key.field, fallback) << key.name;
    }
  }
}

TEST_F(ConfTest, WordsForValues) {
  EXPECT_EQ(Parse("default_affinity_scope=numa"), "");
  EXPECT_EQ(conf_.default_affinity_scope, 5);
  EXPECT_EQ(Parse("default_affinity_scope=cpu"), "");
  EXPECT_EQ(conf_.default_affinity_scope, 1);
  for (const char* bad : {"", "node", "6", "systems"}) {
    const std::string text = std::string("default_affinity_scope=") + bad;
    EXPECT_NE(Parse(text.c_str()).find("one of cpu ... system"), std::string::npos) << bad;
    EXPECT_EQ(conf_.default_affinity_scope, 3);
  }
}

TEST_F(ConfTest, KeysAreSortedAndExplained) {
  for (int i = 0; i < kConfKeyCount; ++i) {
    EXPECT_GT(strlen(kConfKeys[i].help), 0u) << kConfKeys[i].name;
    if (i == 0) continue;
    EXPECT_LT(std::string(kConfKeys[i - 1].name), kConfKeys[i].name);
  }
}

TEST_F(ConfTest, SeveralPairsAndBlanks) {
  EXPECT_EQ(Parse(" idle_ratio = 7 ,tick_ms=5,  gate_pin =0"), "");
  EXPECT_EQ(conf_.idle_ratio, 7);
  EXPECT_EQ(conf_.tick_ms, 5);
  EXPECT_EQ(conf_.gate_pin, 0);
}

TEST_F(ConfTest, TheLastOneWins) {
  EXPECT_EQ(Parse("tick_ms=5,tick_ms=6"), "");
  EXPECT_EQ(conf_.tick_ms, 6);
}

TEST_F(ConfTest, BadValuesAreReportedOnceEachAndSkipped) {
  for (const char* bad : {"tick_ms=", "tick_ms=-5", "tick_ms=5ms", "tick_ms=0x10", "tick_ms=1.5",
                          "tick_ms=+5", "tick_ms=99999999999999999999999", "tick_ms=5 5",
                          "tick_ms==5", "tick_ms=9223372036854775807"}) {
    test::LogCapture fresh;
    conf_ = Conf();
    ParseConf(bad, &conf_);
    EXPECT_EQ(fresh.Take().size(), 1u) << bad;
    EXPECT_TRUE(AllDefault()) << bad;
  }
}

TEST_F(ConfTest, ABadPairDoesNotHurtItsNeighbours) {
  EXPECT_NE(Parse("idle_ratio=2,tick_ms=no,nonsense,gate_limit=3"), "");
  EXPECT_EQ(conf_.idle_ratio, 2);
  EXPECT_EQ(conf_.gate_limit, 3);
}

TEST_F(ConfTest, UnknownKeysGetASuggestion) {
  EXPECT_NE(Parse("idle_ration=3").find("did you mean 'idle_ratio'"), std::string::npos);
  EXPECT_NE(Parse("tick=3").find("did you mean 'tick_ms'"), std::string::npos);
  const std::string far = Parse("completely_different_name=3");
  EXPECT_NE(far.find("unknown key"), std::string::npos);
  EXPECT_EQ(far.find("did you mean"), std::string::npos);
  EXPECT_NE(Parse("no_equals_sign").find("key=value"), std::string::npos);
  EXPECT_TRUE(AllDefault());
}

TEST_F(ConfTest, OverlongInputIsRefusedNotCut) {
  const std::string entry(5000, 'a');
  EXPECT_NE(Parse((entry + "=1,tick_ms=3").c_str()).find("entry of 5002 bytes"), std::string::npos);
  EXPECT_EQ(conf_.tick_ms, 3);
  const std::string padded = "tick_ms=" + std::string(200, '0') + "7";
  EXPECT_NE(Parse(padded.c_str()), "");
  EXPECT_TRUE(AllDefault());
}

TEST_F(ConfTest, LogLevelTakesEffect) {
  Parse("log=7");
  EXPECT_TRUE(LogEnabled(LogLevel::kDebug));
  Parse("log=0");
  EXPECT_FALSE(LogEnabled(LogLevel::kError));
  SetLogLevel(LogLevel::kWarn);
}

class ConfFileTest : public ConfTest {
 protected:
  std::string Write(const std::string& content) {
    const std::string path = ::testing::TempDir() + "cmwq_conf_test_" +
                             ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::ofstream(path) << content;
    return path;
  }
  std::string ParseFile(const std::string& path) { return Parse(("@" + path).c_str()); }
};

TEST_F(ConfFileTest, LinesCommentsAndBlanks) {
  const std::string path = Write("# settings\n\n  idle_ratio = 9\r\n\ttick_ms=4\n#gate_limit=5\n");
  EXPECT_EQ(ParseFile(path), "");
  EXPECT_EQ(conf_.idle_ratio, 9);
  EXPECT_EQ(conf_.tick_ms, 4);
  EXPECT_EQ(conf_.gate_limit, Conf().gate_limit);
}

TEST_F(ConfFileTest, PairsBesideAFileFollowItsOrder) {
  const std::string path = Write("tick_ms=4\nidle_ratio=2");
  EXPECT_EQ(Parse(("idle_ratio=9,@" + path + ",tick_ms=8").c_str()), "");
  EXPECT_EQ(conf_.idle_ratio, 2);
  EXPECT_EQ(conf_.tick_ms, 8);
}

TEST_F(ConfFileTest, AFileMayNotNameAnother) {
  const std::string inner = Write("tick_ms=4\n");
  const std::string outer = inner + ".outer";
  std::ofstream(outer) << "@" << inner << "\nidle_ratio=3\n";
  EXPECT_NE(ParseFile(outer).find("may not name another"), std::string::npos);
  EXPECT_EQ(conf_.tick_ms, Conf().tick_ms);
  EXPECT_EQ(conf_.idle_ratio, 3);
}

TEST_F(ConfFileTest, AMissingFileIsReported) {
  EXPECT_NE(Parse("@/nonexistent/cmwq.conf").find("cannot read /nonexistent/cmwq.conf"),
            std::string::npos);
  EXPECT_NE(Parse("@").find("cannot read"), std::string::npos);
  EXPECT_TRUE(AllDefault());
}

TEST_F(ConfFileTest, ADirectoryIsReported) {
  EXPECT_NE(Parse("@/").find("cannot read"), std::string::npos);
  EXPECT_TRUE(AllDefault());
}

}  // namespace
}  // namespace cmwq::base
