#!/usr/bin/env python3
"""The table of include/cmwq/README.md and the public headers name the same things.

Every function that a header declares with CMWQ_API, every cmwq_* name of tests/abi/libcmwq.syms and
every CMWQ_* constant and macro must occur there; every such name there must occur in a header. Classes
of the C++ headers must occur in it, or in CXX.md.
"""

import os
import re
import sys

import cxx_blocks
import lint

TABLE = 'include/cmwq/README.md'
CXX_TOUR = 'include/cmwq/CXX.md'
SYMS = 'tests/abi/libcmwq.syms'
FUNCTION = re.compile(r'\bCMWQ_API\b[^;{]*?\b(cmwq_\w+)\s*\(')
CONSTANT = re.compile(r'^[ \t]*(?:#[ \t]*define[ \t]+)?(CMWQ_\w+)(?=[ \t]*(?:[,=]|$)|[ \t]+\w)', re.M)
CLASS = re.compile(r'^(?:class|struct)\s+(?:\[\[\w+\]\]\s*)?(\w+)(?:\s+final)?\s*(?=[{:])|'
                   r'^using\s+(\w+)\s*=', re.M)
NAME = re.compile(r'\b(?:cmwq|CMWQ)_\w+')
# Not part of the interface for its own sake: visibility, guards, versions.
NO_ROW = re.compile(r'CMWQ_API|CMWQ_\w+_HP?P?_|CMWQ_VERSION_\w+')
ENVIRONMENT = {'CMWQ_CONF', 'CMWQ_REPORT'}


def check(root):
    table = lint.read(root, TABLE)
    tour = table
    if os.path.exists(os.path.join(root, CXX_TOUR)):
        tour += lint.read(root, CXX_TOUR)
    in_table = set(NAME.findall(table))
    known, found = set(ENVIRONMENT), []

    def want(where, path, line, name):
        if name not in where:
            found.append(lint.Finding(path, line, f'{name} is not in {TABLE}'))

    for path in lint.files(root, ('.h', '.hpp'), ('include',)):
        text = lint.hide(lint.read(root, path))
        known |= set(NAME.findall(text))
        for pattern in (FUNCTION, CONSTANT):
            for match in pattern.finditer(text):
                if not NO_ROW.fullmatch(match.group(1)):
                    want(in_table, path, lint.line_of(text, match.start(1)), match.group(1))
        if path.endswith('.hpp'):
            public = lint.hide(cxx_blocks.without_detail(lint.read(root, path)))
            for match in CLASS.finditer(public):
                name = match.group(1) or match.group(2)
                if not re.search(rf'\b{name}\b', tour):
                    found.append(lint.Finding(path, lint.line_of(public, match.start()),
                                              f'{name} is not in {TABLE}'))
    for number, line in enumerate(lint.read(root, SYMS).split('\n'), 1):
        if line and not line.startswith('#'):
            want(in_table, SYMS, number, line.strip())
    for number, line in enumerate(table.split('\n'), 1):
        for name in NAME.findall(line):
            if name not in known:
                found.append(lint.Finding(TABLE, number, f'{name} is in no public header'))
    return found


TREE = {
    TABLE: '| `a` | `cmwq_a` |\n| b | `cmwq_gone`, `CMWQ_B` | set CMWQ_CONF\n`cmwq::Known`\n',
    SYMS: '# names\ncmwq_a\ncmwq_unlisted\n',
    'include/cmwq/a.h': '#ifndef CMWQ_A_H_\n#define CMWQ_API x\nCMWQ_API int\ncmwq_a(void);\n'
                        '/* CMWQ_API void cmwq_note(void); */\nCMWQ_API struct s *cmwq_new(int);\n'
                        'enum {\n  CMWQ_B = 1,\n  CMWQ_C = 2\n};\n#define CMWQ_D UINT64_MAX\n'
                        'enum e {\n  CMWQ_E,\n  CMWQ_F\n};\n',
    'include/cmwq/a.hpp': 'namespace cmwq {\nnamespace detail {\nclass Hidden {\n};\n'
                          '}  // namespace detail\nclass Known {\n};\nclass Missing : Known {\n};\n}\n',
}
EXPECTED = {(TABLE, 2), (SYMS, 3), ('include/cmwq/a.h', 6), ('include/cmwq/a.h', 9),
            ('include/cmwq/a.h', 11), ('include/cmwq/a.h', 13), ('include/cmwq/a.h', 14),
            ('include/cmwq/a.hpp', 8)}

if __name__ == '__main__':
    sys.exit(lint.main(check, TREE, EXPECTED))
