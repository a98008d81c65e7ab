// UMCG is recognised by what a kernel says of itself, in each of the three places, and nothing that is
// damaged is believed or read beyond its end.

#include "tools/doctor/umcg.h"

#include <gtest/gtest.h>
#include <linux/btf.h>
#include <string.h>

#include <utility>
#include <vector>

#include "tests/support/fake_root.h"

namespace cmwq::test {
namespace {

using tools::doctor::ProbeUmcg;
using tools::doctor::Root;
using tools::doctor::SearchBtf;
using tools::doctor::Umcg;
using tools::doctor::UmcgProbe;

// BTF as a kernel's build makes it.
class Btf {
 public:
  Btf() : strings_(1, '\0') {}

  // A type and what follows it.
  Btf& Add(unsigned kind, const char* name, unsigned vlen = 0, const std::string& trailing = {}) {
    const uint32_t head[] = {Name(name), kind << 24 | vlen, 0};
    types_.append(reinterpret_cast<const char*>(head), sizeof head);
    types_ += trailing;
    return *this;
  }
  Btf& Struct(const char* name, const std::vector<const char*>& members) {
    std::string trailing;
    for (const char* member : members) {
      const uint32_t entry[] = {Name(member), 0, 0};
      trailing.append(reinterpret_cast<const char*>(entry), sizeof entry);
    }
    return Add(BTF_KIND_STRUCT, name, static_cast<unsigned>(members.size()), trailing);
  }
  // One of every kind, so that a wrong size anywhere hides what comes after.
  Btf& Everything() {
    Add(BTF_KIND_INT, "int", 0, std::string(4, 'x')).Add(BTF_KIND_PTR, "");
    Add(BTF_KIND_ARRAY, "", 0, std::string(12, 'x')).Struct("other", {"a", "b"});
    Add(BTF_KIND_UNION, "u", 1, std::string(12, 'x')).Add(BTF_KIND_ENUM, "e", 3, std::string(24, 'x'));
    Add(BTF_KIND_FWD, "f").Add(BTF_KIND_TYPEDEF, "t").Add(BTF_KIND_VOLATILE, "");
    Add(BTF_KIND_CONST, "").Add(BTF_KIND_RESTRICT, "").Add(BTF_KIND_FUNC, "umcg_task");
    Add(BTF_KIND_FUNC_PROTO, "", 2, std::string(16, 'x')).Add(BTF_KIND_VAR, "v", 0, std::string(4, 'x'));
    Add(BTF_KIND_DATASEC, "d", 2, std::string(24, 'x')).Add(16, "float");
    Add(17, "tag", 0, std::string(4, 'x')).Add(18, "type tag");
    return Add(19, "e64", 2, std::string(24, 'x'));
  }
  std::string Finish() const {
    btf_header header = {};
    header.magic = BTF_MAGIC;
    header.version = 1;
    header.hdr_len = sizeof header;
    header.type_len = static_cast<uint32_t>(types_.size());
    header.str_off = header.type_len;
    header.str_len = static_cast<uint32_t>(strings_.size());
    return std::string(reinterpret_cast<const char*>(&header), sizeof header) + types_ + strings_;
  }

 private:
  uint32_t Name(const char* name) {
    const auto at = static_cast<uint32_t>(strings_.size());
    strings_.append(name, strlen(name) + 1);
    return at;
  }
  std::string types_, strings_;
};

const char kBtf[] = "/sys/kernel/btf/vmlinux";
const char kSymbols[] = "/proc/kallsyms";
const char kConfig[] = "/proc/config.gz";

TEST(UmcgBtf, StructOrMemberIsFoundBehindEveryKind) {
  EXPECT_EQ(SearchBtf(Btf().Everything().Finish()), Umcg::kAbsent);
  EXPECT_EQ(SearchBtf(Btf().Everything().Struct("umcg_task", {"state"}).Finish()), Umcg::kPresent);
  EXPECT_EQ(SearchBtf(Btf().Everything().Struct("task_struct", {"pid", "umcg_worker_id"}).Finish()),
            Umcg::kPresent);
  EXPECT_EQ(SearchBtf(Btf().Everything().Struct("task_struct", {"pid"}).Finish()), Umcg::kAbsent);
  EXPECT_EQ(SearchBtf(Btf().Struct("another", {"umcg_worker_id"}).Finish()), Umcg::kAbsent);
}

TEST(UmcgBtf, DamageIsNoAnswer) {
  const std::string good = Btf().Everything().Struct("umcg_task", {"state"}).Finish();
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(SearchBtf(good.substr(0, size)), Umcg::kUnknown) << size;
  }
  EXPECT_EQ(SearchBtf(Btf().Add(31, "of the future").Struct("umcg_task", {}).Finish()), Umcg::kUnknown);
  std::string other_order = good;
  std::swap(other_order[0], other_order[1]);
  EXPECT_EQ(SearchBtf(other_order), Umcg::kUnknown);
  // Whatever single byte is wrong, it is read without harm.
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0xff);
    SearchBtf(bad);
  }
}

class UmcgTest : public ::testing::Test {
 protected:
  UmcgProbe Probe() { return ProbeUmcg(Root(root_.folder())); }
  void WriteConfig(const std::string& text) {
    root_.Write("/proc/config", text);
    ASSERT_EQ(system(("gzip -c " + root_.folder() + "/proc/config > " + root_.folder() + kConfig).c_str()),
              0);
  }
  FakeRoot root_;
};

TEST_F(UmcgTest, NothingReadableIsUnknown) { EXPECT_EQ(Probe().state, Umcg::kUnknown); }

TEST_F(UmcgTest, OrdinaryKernelHasNone) {
  root_.Write(kBtf, Btf().Everything().Finish());
  root_.Write(kSymbols, "0000000000000000 T __x64_sys_futex_waitv\n0000000000000000 t not_umcg\t[mod]\n");
  WriteConfig("CONFIG_FUTEX=y\n# CONFIG_UMCG is not set\n");
  const UmcgProbe probe = Probe();
  EXPECT_EQ(probe.state, Umcg::kAbsent);
  EXPECT_EQ(probe.evidence, "not in /sys/kernel/btf/vmlinux, /proc/kallsyms, /proc/config.gz");
}

TEST_F(UmcgTest, BtfSaysYes) {
  root_.Write(kBtf, Btf().Struct("umcg_task", {"state"}).Finish());
  EXPECT_EQ(Probe().state, Umcg::kPresent);
  EXPECT_EQ(Probe().evidence, "struct umcg_task in /sys/kernel/btf/vmlinux");
}

TEST_F(UmcgTest, SymbolSaysYesWhereBtfIsMissing) {
  root_.Write(kSymbols, "0 T __x64_sys_read\n0 T __x64_sys_umcg_ctl\n");
  EXPECT_EQ(Probe().evidence, "sys_umcg_ctl in /proc/kallsyms");
  root_.Write(kSymbols, "0 T sys_umcg_ctl\n");
  EXPECT_EQ(Probe().state, Umcg::kPresent);
  root_.Write(kSymbols, "0 T sys_umcg_ctl_helper\n0 T mysys_umcg_ctl\n");
  EXPECT_EQ(Probe().state, Umcg::kAbsent);
}

TEST_F(UmcgTest, ConfigurationSaysYesAtLast) {
  root_.Write(kBtf, "damaged");
  WriteConfig("CONFIG_UMCG=y\nCONFIG_X=m\n");
  EXPECT_EQ(Probe().evidence, "CONFIG_UMCG in /proc/config.gz");
  root_.Write(kConfig, "not zipped: CONFIG_UMCG=y\n");
  EXPECT_EQ(Probe().state, Umcg::kUnknown);
}

}  // namespace
}  // namespace cmwq::test
