#!/usr/bin/env python3
"""Lists of sources in meson.build files are sorted, so that merges do not collide."""

import re
import sys

import lint

LIST = re.compile(r'\bfiles\(([^()]*)\)')
NAME = re.compile(r"'([^']*)'")


def check(root):
    found = []
    for path in lint.files(root, ('meson.build',)):
        text = lint.read(root, path)
        for match in LIST.finditer(text):
            names = NAME.findall(match.group(1))
            # A list may be in several runs, one per folder; within a folder names ascend.
            for before, after in zip(names, names[1:]):
                if before.rpartition('/')[0] == after.rpartition('/')[0] and before > after:
                    line = lint.line_of(text, text.index("'" + after + "'", match.start()))
                    found.append(lint.Finding(path, line, f"'{after}' comes before '{before}'"))
    return found


TREE = {'runtime/meson.build': "a = files(\n  'base/b.cc',\n  'base/a.cc',\n  'core/a.cc',\n)\n"
                               "b = files('x.cc', 'y.cc')\n"}
EXPECTED = {('runtime/meson.build', 3)}

if __name__ == '__main__':
    sys.exit(lint.main(check, TREE, EXPECTED))
