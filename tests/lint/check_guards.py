#!/usr/bin/env python3
"""Every data member of a class that owns a lock or an atomic says what protects it.

By annotation (CMWQ_GUARDED_BY, CMWQ_PT_GUARDED_BY) or by a comment on its line, or on the lines in front
of it, that starts with a letter of the legend in runtime/pool/pool.h.
"""

import re
import sys

import cxx_blocks
import lint

LETTER = re.compile(r'^(?:I|S|K|L|T|AT:|AT\([^)]*\))(?=[\s:;,.(]|$)')
SKIPPED = re.compile(r'^(?:using|typedef|friend|static|constexpr|static_assert|template|enum|class|'
                     r'struct|union|explicit|virtual|operator|~|extern)\b')
ACCESS = re.compile(r'\b(?:public|private|protected)\s*:(?!:)')
LOCK = re.compile(r'^(?:mutable\s+)?(?:\w+::)*Mutex\s+\w+')
ATOMIC = re.compile(r'^(?:mutable\s+)?(?:typename\s+)?(?:std::atomic(?:_\w+)?\b|(?:\w+::)*'
                    r'(?:template\s+)?Atomic\s*<)')
GUARDED = re.compile(r'\bCMWQ_(?:PT_)?GUARDED_BY\s*\(')
FUNCTION_POINTER = re.compile(r'\(\s*\*\s*(?:const\s+)?\w+\s*(?:\[[^\]]*\]\s*)?\)\s*\(')


def strip_template_arguments(text):
    while True:
        shorter = re.sub(r'<[^<>()]*>|<[^<>]*\([^<>]*\)[^<>]*>', lambda m: ' ' * len(m.group(0)), text)
        if shorter == text:
            return text
        text = shorter


def members(body, nested):
    """(offset, end, text) of the statements at the top of a class body. `nested`: spans to skip."""
    for begin, end in nested:
        # A nested class or function leaves a mark that ends a statement.
        body = body[:begin] + ';' + ' ' * (end - begin - 1) + body[end:]
    body = ACCESS.sub(lambda m: ';' + ' ' * (len(m.group(0)) - 1), body)
    depth, start = 0, 0
    for i, c in enumerate(body):
        depth += {'(': 1, '{': 1, '[': 1, ')': -1, '}': -1, ']': -1}.get(c, 0)
        if c == ';' and depth == 0:
            text = body[start:i]
            if text.strip():
                yield start + len(text) - len(text.lstrip()), i, text.strip()
            start = i + 1


def is_data(text):
    plain = re.sub(r'\bCMWQ_\w+', ' ', strip_template_arguments(cxx_blocks.drop_calls(text)))
    if SKIPPED.match(plain) or re.search(r'\boperator\b', plain):
        return False
    pointer = FUNCTION_POINTER.search(plain)
    if pointer and '(' not in plain[:pointer.start()]:
        return True
    declarator = re.split(r'[={]', plain)[0]
    return '(' not in declarator and len(re.findall(r'\w+', declarator)) >= 2


def protected(text, first, last, notes, hidden_lines):
    if GUARDED.search(text) or LOCK.match(text):
        return True
    candidates = [notes[line] for line in range(first, last + 1) if line in notes]
    above = []
    line = first - 1
    while line in notes and not hidden_lines[line - 1].strip():
        above.insert(0, notes[line])
        line -= 1
    return any(LETTER.match(note) for note in candidates + above)


def check_class(path, block, all_blocks, index, hidden, notes):
    nested = [(b.begin - block.open - 1, b.close - block.open)
              for b in all_blocks if b.parent == index and b.kind != 'other']
    body = hidden[block.open + 1:block.close]
    data = [(o, e, t) for o, e, t in members(body, nested) if is_data(t)]
    owner = any(LOCK.match(cxx_blocks.drop_calls(t).strip()) or
                ATOMIC.match(cxx_blocks.drop_calls(t).strip()) for _, _, t in data)
    if not owner:
        return []
    found = []
    lines = hidden.split('\n')
    for offset, end, text in data:
        first = lint.line_of(hidden, block.open + 1 + offset)
        last = lint.line_of(hidden, block.open + 1 + end)
        if not protected(text, first, last, notes, lines):
            name = re.findall(r'\w+', re.split(r'[={\[]', cxx_blocks.drop_calls(text))[0])[-1]
            found.append(lint.Finding(path, first, f'{name}: no CMWQ_GUARDED_BY and no letter'))
    return found


def check(root):
    found = []
    for path in lint.files(root, ('.cc', '.h'), ('runtime', 'hooks')):
        text = lint.read(root, path)
        hidden, notes = lint.hide(text), lint.comments(text)
        all_blocks = cxx_blocks.blocks(hidden)
        for index, block in enumerate(all_blocks):
            if block.kind == 'class':
                found += check_class(path, block, all_blocks, index, hidden, notes)
    return found


TREE = {
    'runtime/a.h': '''\
class A {
 public:
  explicit A(int x) : n_(x) {}
  int Get() const { return n_; }
  A& operator=(const A&) = delete;
  void Set(int n) CMWQ_REQUIRES(mu_);
  void Reset() CMWQ_NO_TSA { n_ = 0; }
  void Drop(void (*f)(int)) CMWQ_NO_TSA;
  sync::Mutex mu_{sync::Rank::kPool};

 private:
  struct Inner {
    int free;
    void (*f)(int);
  };
  static constexpr int kMax = 3;
  using Map = std::map<int, void (*)(int)>;
  int n_;                                  // I
  int bare_;
  int held_ CMWQ_GUARDED_BY(mu_) = 0;
  // K: in front
  // of the member
  Inner inner_;
  std::atomic<Worker*> hint_{nullptr};     // a comment without a letter
  std::function<void(int)> call_;
  void (*pointer_)(int) = nullptr;
  int table_[kMax] = {1, 2, 3};            // In words
};
''',
    'runtime/b.h': 'struct B {\n  int plain;\n  Mutex& mu;\n};\n'
                   'struct C {\n  alignas(64) typename Sync::template Atomic<int> x{0};  // AT(F, G)\n'
                   '  int y;\n};\n',
    'tests/c.h': 'struct D {\n  std::atomic<int> x;\n  int y;\n};\n',
}
EXPECTED = {('runtime/a.h', line) for line in (19, 24, 25, 26, 27)} | {('runtime/b.h', 7)}

if __name__ == '__main__':
    sys.exit(lint.main(check, TREE, EXPECTED))
