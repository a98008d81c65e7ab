#!/usr/bin/env python3
"""Every example in a header's first comment, and in CXX.md, is part of a test that compiles it.

An example is a block of comment lines indented by three blanks, or a ```cpp block. Its lines must occur
in the test in this order, with one line of the test's own between two at most (the head of a function).
"""

import glob
import os
import sys

GAP = 1


def header_examples(text):
    lines = []
    for line in text.split('\n'):
        if not line.startswith('//'):
            break
        if line.startswith('//   ') or (line == '//' and lines):
            lines.append(line[5:])
        elif lines:
            break
    while lines and not lines[-1]:
        lines.pop()
    return [lines] if lines else []


def markdown_examples(text):
    found, block = [], None
    for line in text.split('\n'):
        if line == '```cpp':
            block = []
        elif line == '```' and block is not None:
            found.append(block)
            block = None
        elif block is not None:
            block.append(line)
    return found


def contains(test, example):
    """Whether the lines follow one another, at most GAP others between two."""
    wanted = [line.strip() for line in example if line.strip()]
    have = [line.strip() for line in test if line.strip()]
    for start, line in enumerate(have):
        if line != wanted[0]:
            continue
        at = start
        for want in wanted[1:]:
            window = have[at + 1:at + 2 + GAP]
            if want not in window:
                break
            at += 1 + window.index(want)
        else:
            return True
    return False


def main():
    include, test_path = sys.argv[1:]
    with open(test_path, encoding='utf-8') as f:
        test = f.read().split('\n')
    failed = 0
    for path in sorted(glob.glob(os.path.join(include, '*.hpp')) +
                       [os.path.join(include, 'CXX.md')]):
        with open(path, encoding='utf-8') as f:
            text = f.read()
        name = os.path.basename(path)
        examples = (markdown_examples if name.endswith('.md') else header_examples)(text)
        if not examples and name not in ('scheduled.hpp',):
            print(f'{name}: no example')
            failed += 1
        for example in examples:
            if not contains(test, example):
                print(f'{name}: not in {os.path.basename(test_path)}:')
                print('\n'.join('    ' + line for line in example))
                failed += 1
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
