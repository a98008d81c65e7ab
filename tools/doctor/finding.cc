#include "tools/doctor/finding.h"

#include <algorithm>

#include "tools/common/json.h"
#include "tools/common/text.h"

namespace cmwq::tools::doctor {
namespace {

constexpr size_t kNameColumn = 20;

// "name .......... "
std::string Dotted(const std::string& name) {
  std::string text = name + ' ';
  if (text.size() < kNameColumn) text.append(kNameColumn - text.size(), '.');
  return text + ' ';
}

}  // namespace

const char* StatusName(Status status, bool lower) {
  switch (status) {
    case Status::kOk:
      return lower ? "ok" : "OK";
    case Status::kNote:
      return lower ? "note" : "NOTE";
    case Status::kWarn:
      return lower ? "warn" : "WARN";
    case Status::kFail:
      return lower ? "fail" : "FAIL";
  }
  return "";
}

Status Findings::Worst() const {
  Status worst = Status::kOk;
  for (const Finding& finding : list_) worst = std::max(worst, finding.status);
  return worst;
}

int Findings::ExitCode() const {
  switch (Worst()) {
    case Status::kFail:
      return 2;
    case Status::kWarn:
      return 1;
    default:
      return 0;
  }
}

std::string Findings::Text(bool quiet) const {
  std::string out;
  for (const Finding& finding : list_) {
    if (quiet && finding.status < Status::kWarn) continue;
    out += StrPrintf("%s%-4s  %s", Dotted(finding.name).c_str(), StatusName(finding.status),
                     finding.text.c_str());
    if (!finding.hint.empty()) out += " (" + finding.hint + ')';
    out += '\n';
  }
  if (quiet) return out;
  out += "\na process started here:\n";
  for (const Use& use : uses_) {
    out += StrPrintf("  %-9s %s: %s\n", use.name.c_str(), use.value.c_str(), use.why.c_str());
  }
  constexpr const char* kVerdicts[] = {"everything that is needed is there", "it works, degraded",
                                       "it does not work"};
  out += StrPrintf("\n%s\n", kVerdicts[ExitCode()]);
  return out;
}

std::string Findings::Json() const {
  constexpr const char* kVerdicts[] = {"ok", "degraded", "unusable"};
  JsonWriter json;
  json.BeginObject();
  json.String("verdict", kVerdicts[ExitCode()]);
  json.Integer("exit_code", ExitCode());
  json.BeginObject("uses");
  for (const Use& use : uses_) json.String(use.name, use.value);
  json.End();
  json.BeginArray("findings");
  for (const Finding& finding : list_) {
    json.BeginObject();
    json.String("name", finding.name);
    json.String("status", StatusName(finding.status, true));
    json.String("text", finding.text);
    json.String("hint", finding.hint);
    json.End();
  }
  json.End();
  json.End();
  return json.Finish();
}

}  // namespace cmwq::tools::doctor
