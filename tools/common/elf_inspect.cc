#include "tools/common/elf_inspect.h"

#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "tools/common/text.h"

namespace cmwq::tools {
namespace {

// The kernel's own limit is of this order; a longer chain fails in exec.
constexpr int kMaxScriptDepth = 5;

// A file read at offsets that the file itself names: every one may be wrong.
class InputFile {
 public:
  explicit InputFile(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~InputFile() {
    if (fd_ >= 0) close(fd_);
  }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  // At most `size` bytes from `offset`.
  std::string Read(uint64_t offset, size_t size) const {
    std::string data(size, '\0');
    const ssize_t got = pread(fd_, data.data(), size, static_cast<off_t>(offset));
    data.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return data;
  }

  template <typename T>
  bool ReadAs(uint64_t offset, T* out) const {
    return pread(fd_, out, sizeof *out, static_cast<off_t>(offset)) ==
           static_cast<ssize_t>(sizeof *out);
  }

 private:
  const int fd_;
};

struct Elf32Types {
  using Ehdr = Elf32_Ehdr;
  using Phdr = Elf32_Phdr;
  using Dyn = Elf32_Dyn;
  using Shdr = Elf32_Shdr;
  using Sym = Elf32_Sym;
};
struct Elf64Types {
  using Ehdr = Elf64_Ehdr;
  using Phdr = Elf64_Phdr;
  using Dyn = Elf64_Dyn;
  using Shdr = Elf64_Shdr;
  using Sym = Elf64_Sym;
};

// Go's linker marks every program with a note of this name.
bool HasGoNote(const std::string& notes) {
  for (size_t at = 0; at + sizeof(Elf64_Nhdr) <= notes.size();) {
    Elf64_Nhdr note;  // 32-bit files use the same layout
    memcpy(&note, notes.data() + at, sizeof note);
    const size_t name = at + sizeof note;
    if (note.n_namesz == 4 && notes.compare(name, 3, "Go\0", 3) == 0) return true;
    at = name + ((size_t{note.n_namesz} + 3) & ~size_t{3}) +
         ((size_t{note.n_descsz} + 3) & ~size_t{3});
  }
  return false;
}

// Looks for libc among the DT_NEEDED entries. The string table is given by its address in memory;
// `loads` tells where in the file that is.
template <typename Types>
bool NeedsLibc(const InputFile& file, const typename Types::Phdr& dynamic,
               const std::vector<typename Types::Phdr>& loads) {
  constexpr size_t kMaxEntries = 4096;  // arbitrary, against nonsense
  const size_t count =
      std::min<size_t>(dynamic.p_filesz / sizeof(typename Types::Dyn), kMaxEntries);
  std::vector<uint64_t> names;
  std::optional<uint64_t> strings;
  for (size_t i = 0; i < count; ++i) {
    typename Types::Dyn entry;
    if (!file.ReadAs(dynamic.p_offset + i * sizeof entry, &entry) || entry.d_tag == DT_NULL) break;
    if (entry.d_tag == DT_NEEDED) names.push_back(entry.d_un.d_val);
    if (entry.d_tag == DT_STRTAB) strings = entry.d_un.d_ptr;
  }
  if (!strings.has_value()) return false;
  for (const auto& load : loads) {
    if (*strings < load.p_vaddr || *strings >= load.p_vaddr + load.p_filesz) continue;
    for (const uint64_t name : names) {
      const uint64_t offset = *strings - load.p_vaddr + load.p_offset + name;
      if (file.Read(offset, 7) == "libc.so") return true;
    }
  }
  return false;
}

// Looks for undefined dlopen and dlmopen in the dynamic symbols. Section headers are the only place that
// says how many there are; a program without them counts as importing neither.
template <typename Types>
void ReadImports(const InputFile& file, const typename Types::Ehdr& header, ElfFacts* facts) {
  constexpr uint64_t kMaxBytes = 64 << 20;  // arbitrary, against nonsense
  typename Types::Shdr symbols, strings;
  for (int i = 0; i < header.e_shnum; ++i) {
    if (!file.ReadAs(header.e_shoff + i * sizeof symbols, &symbols)) return;
    if (symbols.sh_type != SHT_DYNSYM) continue;
    if (symbols.sh_link >= header.e_shnum || symbols.sh_size > kMaxBytes) return;
    if (!file.ReadAs(header.e_shoff + symbols.sh_link * sizeof strings, &strings)) return;
    if (strings.sh_size > kMaxBytes) return;
    const std::string table = file.Read(symbols.sh_offset, symbols.sh_size);
    const std::string names = file.Read(strings.sh_offset, strings.sh_size);
    for (size_t at = 0; at + sizeof(typename Types::Sym) <= table.size();
         at += sizeof(typename Types::Sym)) {
      typename Types::Sym symbol;
      memcpy(&symbol, table.data() + at, sizeof symbol);
      if (symbol.st_shndx != SHN_UNDEF || symbol.st_name >= names.size()) continue;
      const char* const name = names.c_str() + symbol.st_name;
      facts->imports_dlopen |= strcmp(name, "dlopen") == 0;
      facts->imports_dlmopen |= strcmp(name, "dlmopen") == 0;
    }
    return;
  }
}

template <typename Types>
void ReadSegments(const InputFile& file, ElfFacts* facts) {
  typename Types::Ehdr header;
  if (!file.ReadAs(0, &header) || header.e_phentsize != sizeof(typename Types::Phdr)) return;
  std::vector<typename Types::Phdr> loads;
  std::optional<typename Types::Phdr> dynamic;
  for (int i = 0; i < header.e_phnum; ++i) {
    typename Types::Phdr segment;
    if (!file.ReadAs(header.e_phoff + i * sizeof segment, &segment)) return;
    // Both are short in every real program.
    const size_t size = std::min<uint64_t>(segment.p_filesz, 4096);
    if (segment.p_type == PT_LOAD) loads.push_back(segment);
    if (segment.p_type == PT_DYNAMIC) dynamic = segment;
    if (segment.p_type == PT_INTERP) facts->interpreter = file.Read(segment.p_offset, size).c_str();
    if (segment.p_type == PT_NOTE) facts->is_go |= HasGoNote(file.Read(segment.p_offset, size));
  }
  facts->has_segments = true;
  facts->has_dynamic = dynamic.has_value();
  if (dynamic.has_value()) facts->needs_libc = NeedsLibc<Types>(file, *dynamic, loads);
  if (header.e_shentsize == sizeof(typename Types::Shdr)) ReadImports<Types>(file, header, facts);
}

// The command that a script's #! line starts, or an empty string. "env NAME" stands for NAME.
std::string ScriptInterpreter(const std::string& path) {
  const std::string start = InputFile(path).Read(0, 256);
  if (start.compare(0, 2, "#!") != 0) return {};
  std::vector<std::string> words;
  std::string line = start.substr(2, start.find('\n') - 2);
  for (char& c : line) {
    if (c == '\t' || c == '\r') c = ' ';
  }
  for (std::string& word : Split(line, ' ')) {
    if (!word.empty()) words.push_back(std::move(word));
  }
  if (words.empty()) return {};
  if (Basename(words[0]) != "env") return words[0];
  for (size_t i = 1; i < words.size(); ++i) {
    if (words[i][0] != '-' && words[i].find('=') == std::string::npos) return words[i];
  }
  return words[0];
}

// The kernel starts such a program in secure mode, in which the loader ignores LD_PRELOAD.
std::string WhySecureMode(const std::string& path) {
  struct stat info;
  struct statvfs volume;
  if (stat(path.c_str(), &info) != 0) return {};
  if (statvfs(path.c_str(), &volume) == 0 && (volume.f_flag & ST_NOSUID) != 0) return {};
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) return {};
  if ((info.st_mode & S_ISUID) != 0 && info.st_uid != getuid()) {
    return "is set-user-ID for another user";
  }
  if ((info.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && info.st_gid != getgid()) {
    return "is set-group-ID for another group";
  }
  // Root gains nothing by file capabilities, so for root they change nothing.
  if (getuid() != 0 && getxattr(path.c_str(), "security.capability", nullptr, 0) > 0) {
    return "has file capabilities";
  }
  return {};
}

const char* MachineName(uint16_t machine) {
  switch (machine) {
    case EM_386:
      return "i386";
    case EM_X86_64:
      return "x86-64";
    case EM_ARM:
      return "arm";
    case EM_AARCH64:
      return "arm64";
    case EM_RISCV:
      return "riscv";
    case EM_PPC64:
      return "ppc64";
    case EM_S390:
      return "s390";
    default:
      return "another machine";
  }
}

PreloadVerdict JudgeElf(const ElfFacts& program, const ElfFacts& preload) {
  if (preload.is_elf &&
      (program.machine != preload.machine || program.elf_class != preload.elf_class)) {
    return {StrPrintf("is built for %s, the preload for %s", MachineName(program.machine),
                      MachineName(preload.machine)),
            true};
  }
  if (!program.has_segments) return {};
  if (program.is_go && !program.needs_libc) return {"is a Go program without libc"};
  if (program.interpreter.empty()) {
    return {program.has_dynamic ? "is statically linked (static-pie)" : "is statically linked"};
  }
  // musl's loader ends the program when a preload needs a library that it cannot find: glibc.
  if (program.interpreter.find("ld-musl") != std::string::npos) {
    return {"uses musl, not glibc", true};
  }
  return {};
}

}  // namespace

ElfFacts ReadElfFacts(const std::string& path) {
  ElfFacts facts;
  const InputFile file(path);
  Elf32_Ehdr header;  // e_ident, e_type and e_machine lie at the same place in both classes
  if (!file.ReadAs(0, &header) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return facts;
  facts.is_elf = true;
  facts.elf_class = header.e_ident[EI_CLASS];
  facts.machine = header.e_machine;
  const bool same_order = header.e_ident[EI_DATA] ==
                          (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB);
  if (!same_order) {
    facts.machine = __builtin_bswap16(header.e_machine);
  } else if (facts.elf_class == ELFCLASS64) {
    ReadSegments<Elf64Types>(file, &facts);
  } else if (facts.elf_class == ELFCLASS32) {
    ReadSegments<Elf32Types>(file, &facts);
  }
  return facts;
}

std::string ResolveCommand(const std::string& command) {
  if (command.empty()) return {};
  if (command.find('/') != std::string::npos) return command;
  const char* path = getenv("PATH");
  for (const std::string& dir : Split(path != nullptr ? path : "/bin:/usr/bin", ':')) {
    const std::string candidate = (dir.empty() ? "." : dir) + '/' + command;
    struct stat info;
    if (stat(candidate.c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
        access(candidate.c_str(), X_OK) == 0) {
      return candidate;
    }
  }
  return {};
}

std::vector<std::string> FollowScripts(const std::string& command) {
  std::vector<std::string> chain;
  std::string path = ResolveCommand(command);
  for (int depth = 0; depth < kMaxScriptDepth && !path.empty(); ++depth) {
    chain.push_back(path);
    const std::string interpreter = ScriptInterpreter(path);
    if (interpreter.empty()) break;
    path = ResolveCommand(interpreter);
    // Named as it was found wanting.
    if (path.empty()) chain.push_back(interpreter);
  }
  return chain;
}

PreloadVerdict JudgePreload(const std::string& command, const std::string& preload) {
  const std::vector<std::string> chain = FollowScripts(command);
  if (chain.empty()) return {};
  const std::string& path = chain.back();
  const ElfFacts facts = ReadElfFacts(path);
  if (!facts.is_elf) return {};
  PreloadVerdict verdict{WhySecureMode(path)};
  if (verdict.why_not.empty()) verdict = JudgeElf(facts, ReadElfFacts(preload));
  if (!verdict.why_not.empty() && chain.size() > 1) {
    verdict.why_not = "is a script and " + path + ' ' + verdict.why_not;
  }
  return verdict;
}

}  // namespace cmwq::tools
