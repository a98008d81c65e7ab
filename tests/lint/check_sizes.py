#!/usr/bin/env python3
"""Sources of at most 600 lines, headers of 300, functions of 60, or a reason.

The reason is a comment line "size: ...": before the first line of code it covers the file, in front of
a function or inside it that function.
"""

import re
import sys

import cxx_blocks
import lint

SOURCE, HEADER, FUNCTION = 600, 300, 60
REASON = re.compile(r'^size: \S')


def file_reason(text, notes, hidden):
    first_code = len(text) - len(hidden.lstrip())
    last = lint.line_of(text, first_code)
    return any(REASON.match(note) for line, note in notes.items() if line < last)


def check_functions(path, text, notes, hidden):
    found = []
    for block in cxx_blocks.blocks(hidden):
        if block.kind != 'function':
            continue
        first = lint.line_of(hidden, block.begin)
        last = lint.line_of(hidden, min(block.close, len(hidden) - 1))
        if last - first + 1 <= FUNCTION:
            continue
        start = first
        while start - 1 in notes:
            start -= 1
        if any(REASON.match(notes.get(line, '')) for line in range(start, last + 1)):
            continue
        found.append(lint.Finding(path, first, f'function of {last - first + 1} lines'))
    return found


def check(root):
    found = []
    for path in lint.files(root, lint.CXX + ('.py', '.sh')):
        text = lint.read(root, path)
        limit = HEADER if path.endswith(('.h', '.hpp')) else SOURCE
        lines = text.count('\n')
        if path.endswith(lint.CXX):
            notes, hidden = lint.comments(text), lint.hide(text)
            covered = file_reason(text, notes, hidden)
            if not covered:
                found += check_functions(path, text, notes, hidden)
        else:
            covered = any(REASON.match(line.lstrip('# ')) for line in text.split('\n')[:20])
        if lines > limit and not covered:
            found.append(lint.Finding(path, 1, f'{lines} lines; at most {limit}'))
    return found


def _function(name, lines, note=''):
    return f'int {name}(int a) const {{{note}\n' + '  a++;\n' * (lines - 2) + '}\n'


TREE = {
    'runtime/long.cc': 'int x;\n' * 601,
    'runtime/long.h': 'int x;\n' * 301,
    'runtime/table.cc': '// A table.\n// size: one row per call\n' + 'int x;\n' * 700,
    'runtime/short.cc': 'namespace a {\n' + _function('f', 60) + _function('g', 61) + '}\n'
                        'const int t[] = {\n' + '  1,\n' * 80 + '};\n',
    'runtime/method.h': 'class A {\n public:\n' + _function('h', 70) + '};\n',
    'runtime/why.cc': '// size: a switch over all kinds\n' + 'int y = 0;\n' + _function('f', 61),
    'runtime/inner.cc': '#include <x>\n' + _function('k', 62, '  // size: one table'),
}
EXPECTED = {('runtime/long.cc', 1), ('runtime/long.h', 1), ('runtime/short.cc', 62),
            ('runtime/method.h', 3)}

if __name__ == '__main__':
    sys.exit(lint.main(check, TREE, EXPECTED))
