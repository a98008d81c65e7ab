#!/usr/bin/env python3
"""No unfinished business, no paths of one machine, no trailing blanks."""

import re
import sys

import lint

# Written in pieces: this file is checked too.
NOTES = ['TO' 'DO', 'FIX' 'ME', 'X' 'XX']
PATHS = ['/wo' 'rk/', '/ho' 'me/', '/ro' 'ot/']
NOTE = re.compile(r'\b(' + '|'.join(NOTES) + r')\b')
PATH = re.compile(r'(?<![\w.}])(' + '|'.join(PATHS) + ')')
TRAILING = re.compile(r'[ \t]+$')


def judge(line):
    match = NOTE.search(line) or PATH.search(line)
    if match:
        return f'"{match.group(1)}"'
    if TRAILING.search(line):
        return 'trailing blanks'
    return None


def check(root):
    found = []
    for path in lint.files(root, root_files=True):
        text = lint.read(root, path)
        if text is None:
            continue
        for number, line in enumerate(text.split('\n'), 1):
            why = judge(line)
            if why is not None:
                found.append(lint.Finding(path, number, why))
    return found


TREE = {
    'README.md': 'fine\nsee ' + PATHS[0] + 'notes\nframework/x is fine\n',
    'runtime/a.cc': '// ' + NOTES[0] + ': later\nint x; \nchar t[] = "fileXXXXXX";\n',
    'tools/b.py': 'x = "' + PATHS[1] + 'me"\n\ty = 1\t\n',
    'runtime/c.h': '// ' + NOTES[1] + '\n// ' + NOTES[2] + '\n',
}
EXPECTED = {('README.md', 2), ('runtime/a.cc', 1), ('runtime/a.cc', 2), ('tools/b.py', 1),
            ('tools/b.py', 2), ('runtime/c.h', 1), ('runtime/c.h', 2)}

if __name__ == '__main__':
    sys.exit(lint.main(check, TREE, EXPECTED))
