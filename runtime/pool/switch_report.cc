// What the switch audits say, as lines for reports.

#include <cstring>

#include "runtime/platform/symbol.h"
#include "runtime/pool/dump.h"
#include "runtime/pool/switch_audit.h"

namespace cmwq::pool {
namespace {

constexpr int kSites = 8;  // shown

using ULong = unsigned long;  // what RawFormat prints

// In tenths of a percent; part <= whole.
ULong PerMille(uint64_t part, uint64_t whole) {
  return static_cast<ULong>(static_cast<double>(part) * 1000.0 / static_cast<double>(whole) + 0.5);
}

void WriteSite(LineWriter* out, const BlockSite& site) {
  char line[400], call[32];
  const platform::Symbol at(site.pc);
  if (site.nr >= 0) {
    base::RawFormat(call, sizeof(call), "system call %ld", site.nr);
  } else {
    base::RawFormat(call, sizeof(call), "no system call");
  }
  const char* const sep = site.wchan[0] != '\0' ? ", waits in " : "";
  if (site.fn != nullptr) {
    const platform::Symbol fn(site.fn);
    base::RawFormat(line, sizeof(line), "    %lu x in %s: %s at %s%s%s",
                    static_cast<ULong>(site.samples), fn.text, call, at.text, sep, site.wchan);
  } else {
    base::RawFormat(line, sizeof(line), "    %lu x %s at %s%s%s", static_cast<ULong>(site.samples),
                    call, at.text, sep, site.wchan);
  }
  out->Line(line);
}

}  // namespace

void WriteSwitches(LineWriter* out) {
  SwitchTotals t;
  if (!ReadSwitchTotals(&t)) return;
  const uint64_t bare = t.slept[static_cast<int>(Phase::kItem)];
  const uint64_t announced = t.slept[static_cast<int>(Phase::kAnnounced)];
  char line[400], coverage[48];
  if (bare + announced > 0) {
    const ULong tenths = PerMille(announced, bare + announced);
    base::RawFormat(coverage, sizeof(coverage), "%lu.%lu %%", tenths / 10, tenths % 10);
  } else {
    base::RawFormat(coverage, sizeof(coverage), "none slept");
  }
  base::RawFormat(
      line, sizeof(line),
      "  coverage: %s (items slept %lu times, %lu of them announced, by %s; %lu regions, "
      "%lu preemptions)",
      coverage, static_cast<ULong>(bare + announced), static_cast<ULong>(announced), t.source,
      static_cast<ULong>(t.announced), static_cast<ULong>(t.preempted));
  out->Line(line);
  const uint64_t all = bare + announced + t.slept[static_cast<int>(Phase::kEngine)];
  // getrusage is not compared with itself: it has not been asked since the last change of phase.
  if (t.lost > 0 || (all != t.nvcsw && strcmp(t.source, "getrusage") != 0)) {
    base::RawFormat(line, sizeof(line),
                    "  coverage: %lu records lost; getrusage counts %lu sleeps in all, %s %lu",
                    static_cast<ULong>(t.lost), static_cast<ULong>(t.nvcsw), t.source,
                    static_cast<ULong>(all));
    out->Line(line);
  }
  BlockSite sites[kSites];
  const int n = ReadBlockSites(sites, kSites);
  if (n > 0) out->Line("  unannounced, samples of the detector:");
  for (int i = 0; i < n; ++i) WriteSite(out, sites[i]);
}

}  // namespace cmwq::pool
