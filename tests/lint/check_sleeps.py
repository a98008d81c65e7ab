#!/usr/bin/env python3
"""Unit and model tests wait for events, never for time."""

import re
import sys

import lint

FOLDERS = ('tests/unit', 'tests/model')
# The bare word only as libc's function: a method or another namespace may call itself so.
SLEEP = re.compile(r'\b(sleep_for|sleep_until|usleep|nanosleep|clock_nanosleep)\s*\(|'
                   r'(?<![\w.>:])(?:::)?(sleep)\s*\(')


def check(root):
    found = []
    for path in lint.files(root, lint.CXX, FOLDERS):
        text = lint.hide(lint.read(root, path))
        for match in SLEEP.finditer(text):
            found.append(lint.Finding(path, lint.line_of(text, match.start()),
                                      f'{match.group(1) or match.group(2)}: wait for a parker, a flag or a thread'))
    return found


TREE = {
    'tests/unit/base/a_test.cc': 'void f() { usleep(10); }\n// sleep(1);\nconst char* s = "sleep(1)";\n'
                                 'void g() { std::this_thread::sleep_for(x); }\n',
    'tests/model/m.cc': '  ::nanosleep(&ts, nullptr);\n  word.Sleep();\n  Asleep(3);\n',
    'tests/unit/b_test.cc': '  ::sleep(1);\n  io::sleep(1);\n  ring.sleep(1);\n  ring->sleep(1);\n'
                            '  sleep (2);\n',
    'tests/stress/s.cc': '  sleep(1);\n',
}
EXPECTED = {('tests/unit/base/a_test.cc', 1), ('tests/unit/base/a_test.cc', 4),
            ('tests/model/m.cc', 1), ('tests/unit/b_test.cc', 1), ('tests/unit/b_test.cc', 5)}

if __name__ == '__main__':
    sys.exit(lint.main(check, TREE, EXPECTED))
