#include "tools/doctor/umcg.h"

#include <linux/btf.h>
#include <string.h>
#include <unistd.h>

#include "tools/common/text.h"

namespace cmwq::tools::doctor {
namespace {

// Kinds that the build machine's header may be too old for.
constexpr unsigned kKindDeclTag = 17, kKindTypeTag = 18, kKindEnum64 = 19;
// An entry of ENUM64, and what follows a DECL_TAG.
constexpr size_t kEnum64Size = 12, kDeclTagSize = 4;

// Bytes that follow a type of this kind, or -1 for a kind that is not known.
long TrailingBytes(unsigned kind, unsigned vlen) {
  switch (kind) {
    case BTF_KIND_INT:
      return sizeof(uint32_t);
    case BTF_KIND_ARRAY:
      return sizeof(btf_array);
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION:
      return static_cast<long>(vlen * sizeof(btf_member));
    case BTF_KIND_ENUM:
      return static_cast<long>(vlen * sizeof(btf_enum));
    case BTF_KIND_FUNC_PROTO:
      return static_cast<long>(vlen * sizeof(btf_param));
    case BTF_KIND_VAR:
      return sizeof(btf_var);
    case BTF_KIND_DATASEC:
      return static_cast<long>(vlen * sizeof(btf_var_secinfo));
    case kKindDeclTag:
      return kDeclTagSize;
    case kKindEnum64:
      return static_cast<long>(vlen * kEnum64Size);
    case BTF_KIND_PTR:
    case BTF_KIND_FWD:
    case BTF_KIND_TYPEDEF:
    case BTF_KIND_VOLATILE:
    case BTF_KIND_CONST:
    case BTF_KIND_RESTRICT:
    case BTF_KIND_FUNC:
    case BTF_KIND_FLOAT:
    case kKindTypeTag:
      return 0;
    default:
      return -1;
  }
}

// BTF in memory. Every offset in it may be wrong.
class BtfView {
 public:
  explicit BtfView(const std::string& data) : data_(data) {}

  bool Open() {
    btf_header header;
    if (!Load(0, &header) || header.magic != BTF_MAGIC) return false;
    types_ = uint64_t{header.hdr_len} + header.type_off;
    types_end_ = types_ + header.type_len;
    strings_ = uint64_t{header.hdr_len} + header.str_off;
    strings_end_ = strings_ + header.str_len;
    return types_end_ <= data_.size() && strings_end_ <= data_.size() && header.str_len > 0 &&
           data_[strings_end_ - 1] == '\0';
  }

  template <typename T>
  bool Load(uint64_t at, T* out) const {
    if (at > data_.size() || data_.size() - at < sizeof *out) return false;
    memcpy(out, data_.data() + at, sizeof *out);
    return true;
  }
  const char* Name(uint32_t offset) const {
    return offset < strings_end_ - strings_ ? data_.data() + strings_ + offset : "";
  }
  uint64_t types() const { return types_; }
  uint64_t types_end() const { return types_end_; }

 private:
  const std::string& data_;
  uint64_t types_ = 0, types_end_ = 0, strings_ = 0, strings_end_ = 0;
};

bool HasMember(const BtfView& btf, uint64_t at, unsigned count, const char* name) {
  for (unsigned i = 0; i < count; ++i) {
    btf_member member;
    if (!btf.Load(at + i * sizeof member, &member)) return false;
    if (strcmp(btf.Name(member.name_off), name) == 0) return true;
  }
  return false;
}

// "ffffffff81000000 T __x64_sys_umcg_ctl": the architecture's wrapper is in front of the name.
bool IsUmcgSymbol(const std::string& line) {
  const std::vector<std::string> words = Split(line, ' ');
  if (words.size() < 3) return false;
  const std::string name = words[2].substr(0, words[2].find('\t'));
  constexpr std::string_view kName = "sys_umcg_ctl";
  if (name.size() < kName.size()) return false;
  const size_t at = name.size() - kName.size();
  return name.compare(at, std::string::npos, kName) == 0 && (at == 0 || name[at - 1] == '_');
}

std::string Unzip(const std::string& path) {
  if (access(path.c_str(), R_OK) != 0) return {};
  // gzip is part of every Debian; a library only for this would be one more to install.
  std::string quoted;
  for (const char c : path) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  FILE* const pipe = popen(("exec gzip -dc '" + quoted + "' 2>/dev/null").c_str(), "re");
  if (pipe == nullptr) return {};
  std::string text;
  char buffer[65536];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, n);
  return pclose(pipe) == 0 ? text : std::string();
}

Umcg SearchLines(const std::string& text, bool (*matches)(const std::string& line)) {
  if (text.empty()) return Umcg::kUnknown;
  for (const std::string& line : Split(text, '\n')) {
    if (matches(line)) return Umcg::kPresent;
  }
  return Umcg::kAbsent;
}

}  // namespace

Umcg SearchBtf(const std::string& data) {
  BtfView btf(data);
  if (!btf.Open()) return Umcg::kUnknown;
  for (uint64_t at = btf.types(); at < btf.types_end();) {
    btf_type type;
    if (!btf.Load(at, &type)) return Umcg::kUnknown;
    at += sizeof type;
    // Not BTF_INFO_KIND: the header's may know four bits of it only.
    const unsigned kind = (type.info >> 24) & 0x1f, count = type.info & 0xffff;
    const long trailing = TrailingBytes(kind, count);
    if (trailing < 0) return Umcg::kUnknown;
    if (kind == BTF_KIND_STRUCT) {
      const char* const name = btf.Name(type.name_off);
      if (strcmp(name, "umcg_task") == 0) return Umcg::kPresent;
      if (strcmp(name, "task_struct") == 0 && HasMember(btf, at, count, "umcg_worker_id")) {
        return Umcg::kPresent;
      }
    }
    at += static_cast<uint64_t>(trailing);
  }
  return Umcg::kAbsent;
}

UmcgProbe ProbeUmcg(const Root& root) {
  struct Source {
    const char* what;
    const char* path;
    Umcg (*search)(const std::string& text);
    bool zipped;
  };
  constexpr Source kSources[] = {
      {"struct umcg_task", "/sys/kernel/btf/vmlinux", &SearchBtf, false},
      {"sys_umcg_ctl", "/proc/kallsyms",
       [](const std::string& text) { return SearchLines(text, &IsUmcgSymbol); }, false},
      {"CONFIG_UMCG", "/proc/config.gz",
       [](const std::string& text) {
         return SearchLines(text, [](const std::string& line) { return line == "CONFIG_UMCG=y"; });
       },
       true},
  };
  std::string denied;
  for (const Source& source : kSources) {
    const std::string path = root.PathOf(source.path);
    const Umcg state = source.search(source.zipped ? Unzip(path) : ReadFile(path));
    if (state == Umcg::kPresent) {
      return {Umcg::kPresent, StrPrintf("%s in %s", source.what, source.path)};
    }
    if (state == Umcg::kAbsent) denied += (denied.empty() ? "" : ", ") + std::string(source.path);
  }
  if (!denied.empty()) return {Umcg::kAbsent, "not in " + denied};
  return {Umcg::kUnknown, "neither BTF nor kallsyms nor config.gz can be read"};
}

}  // namespace cmwq::tools::doctor
