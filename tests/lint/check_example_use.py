#!/usr/bin/env python3
"""Every public function and method is used in a program of examples/, and every program is listed.

C functions: declared with CMWQ_API, used in a .c file. C++: classes, public methods with a body, and
functions and names of namespaces other than detail, used in a .cc file. Operators, constructors and what a
coroutine calls (await_*) are used by using the class. Programs are listed in examples/meson.build and
examples/README.md.
"""

import re
import sys

import cxx_blocks
import lint

FUNCTION = re.compile(r'\bCMWQ_API\b[^;{]*?\b(cmwq_\w+)\s*\(')
ACCESS = re.compile(r'\b(public|private|protected)\s*:(?!:)')
NAMESPACE_NAME = re.compile(r'^(?:using|inline constexpr \w+) (\w+)(?= =|\{)', re.M)
# Called by co_await, by Asio, by sync_wait; what functions return and nobody has to name.
IMPLICIT = re.compile(r'await_\w+|query|finished|Take|Awaiter|Finished|Schedule|ScheduleAfter|'
                      r'\w+Operation|\w*Sender|Env|get_\w+_t')


def without_template(head):
    """Removes template <...> in front, however nested."""
    while match := re.match(r'\s*template\s*<', head):
        depth, i = 1, match.end()
        while i < len(head) and depth > 0:
            depth += {'<': 1, '>': -1}.get(head[i], 0)
            i += 1
        head = head[i:]
    return head


def name_of(block):
    head = without_template(cxx_blocks.drop_calls(block.head))
    if re.search(r'\boperator\b|~\w+\s*\(', head):
        return None
    if block.kind == 'class':
        match = re.search(r'\b(?:class|struct)\s+(?:\[\[\w+\]\]\s*)?(\w+)', head)
    else:
        match = re.search(r'(\w+)\s*\(', head)
    return match.group(1) if match else None


def is_public(hidden, blocks, parent, block):
    last = None
    for match in ACCESS.finditer(hidden, parent.open, block.begin):
        # Not one of a class inside.
        if not any(parent.open < b.open < match.start() < b.close <= block.begin for b in blocks):
            last = match.group(1)
    if last is None:
        return re.search(r'\bclass\b', parent.head) is None
    return last == 'public'


def cxx_names(hidden):
    """(name, offset) of what a C++ header offers."""
    blocks = cxx_blocks.blocks(hidden)

    def offered(index):
        block = blocks[index]
        if block.kind == 'scope':
            inner = not re.search(r'\bdetail\b', block.head)
            return inner and (block.parent < 0 or offered(block.parent))
        if block.parent < 0 or not offered(block.parent):
            return False
        parent = blocks[block.parent]
        if parent.kind == 'class' and not is_public(hidden, blocks, parent, block):
            return False
        return block.kind in ('class', 'function') and parent.kind in ('class', 'scope')

    for index, block in enumerate(blocks):
        if block.kind not in ('class', 'function') or not offered(index):
            continue
        name = name_of(block)
        parent = blocks[block.parent]
        constructor = parent.kind == 'class' and name == name_of(parent)
        if name is None or constructor or IMPLICIT.fullmatch(name):
            continue
        yield name, block.begin
    yield from ((m.group(1), m.start()) for m in NAMESPACE_NAME.finditer(hidden))


def check(root):
    found = []
    programs = lint.files(root, ('.c', '.cc'), ('examples',))
    used = {'.c': '', '.cc': ''}
    lists = {p: lint.read(root, p) for p in ('examples/meson.build', 'examples/README.md')}
    for path in programs:
        used[path[path.rindex('.'):]] += lint.hide(lint.read(root, path))
        name = path.split('/')[-1]
        found += [lint.Finding(path, 1, f'is not in {where}')
                  for where, text in lists.items() if not re.search(rf"['`]{name}['`]", text)]
    for path in lint.files(root, ('.h', '.hpp'), ('include',)):
        hidden = lint.hide(cxx_blocks.without_detail(lint.read(root, path)))
        if path.endswith('.h'):
            names = [(m.group(1), m.start(1)) for m in FUNCTION.finditer(hidden)]
            where = used['.c']
        else:
            names = list(cxx_names(hidden))
            where = used['.cc']
        for name, offset in names:
            if not re.search(rf'\b{name}\b', where):
                found.append(lint.Finding(path, lint.line_of(hidden, offset),
                                          f'{name} is in no example'))
    return found


TREE = {
    'examples/a.c': 'int main() { cmwq_a(1); /* cmwq_b(); */ }\n',
    'examples/a.cc': 'int main() { Used u; u.go(); io::read(1); }\n',
    'examples/b.cc': '\n',
    'examples/meson.build': "'a.c', 'a.cc',\n",
    'examples/README.md': '`a.c` `a.cc` `b.cc`\n',
    'include/cmwq/a.h': 'CMWQ_API void cmwq_a(int);\nCMWQ_API void cmwq_b(void);\n',
    'include/cmwq/a.hpp': 'namespace cmwq {\nnamespace detail {\nusing None = int;\n'
                          'inline int hidden() { return 0; }\n}  // namespace detail\n'
                          'class Used {\n public:\n  explicit Used(int a) : a_(a) {}\n'
                          '  ~Used() { stop(); }\n  void go() {}\n  template <class F>\n'
                          '  bool stop(F f) noexcept { return f; }\n'
                          '  bool await_ready() { return 1; }\n  Used& operator=(Used&&) { }\n'
                          '  class Inner {\n   private:\n  };\n  void seen() {}\n'
                          ' private:\n  void secret() {}\n};\n'
                          'template <class T>\nclass Unused : private ::cmwq::Used {\n  void inner() {}\n public:\n  Unused() {}\n  void open() {}\n};\n'
                          'namespace io {\ninline int read(int fd) { return fd; }\n'
                          'template <class B>\nauto write(B&& b) -> decltype(f(b), int()) {\n}\n}\n'
                          'using Alias = Used;\ninline constexpr T tag{};\n}\n',
}
EXPECTED = {('examples/b.cc', 1), ('include/cmwq/a.h', 2), ('include/cmwq/a.hpp', 11),
            ('include/cmwq/a.hpp', 15), ('include/cmwq/a.hpp', 18), ('include/cmwq/a.hpp', 22),
            ('include/cmwq/a.hpp', 27), ('include/cmwq/a.hpp', 31), ('include/cmwq/a.hpp', 35),
            ('include/cmwq/a.hpp', 36)}

if __name__ == '__main__':
    sys.exit(lint.main(check, TREE, EXPECTED))
