#!/usr/bin/env python3
"""Runs an example and compares what it prints with the block "Prints:" of its first comment."""

import difflib
import re
import subprocess
import sys


def expected(path):
    """The lines below "Prints:", without the comment's marks and indentation."""
    with open(path, encoding='utf-8') as f:
        lines = iter(f.read().split('\n'))
    for line in lines:
        if re.fullmatch(r'(?://| \*) Prints:', line):
            break
    else:
        return None
    found = []
    for line in lines:
        match = re.fullmatch(r'(?://| \*)   (.*)', line)
        if match is None:
            return found
        found.append(match.group(1))
    return found


def main():
    source, program = sys.argv[1:]
    want = expected(source)
    if not want:
        print(f'{source}: no block "Prints:" in its first comment')
        return 1
    result = subprocess.run([program], capture_output=True, text=True, timeout=100)
    have = result.stdout.rstrip('\n').split('\n')
    sys.stderr.write(result.stderr)
    for line in difflib.unified_diff(want, have, 'expected', 'printed', lineterm=''):
        print(line)
    if result.returncode != 0:
        print(f'{program}: status {result.returncode}')
    return 0 if have == want and result.returncode == 0 else 1


if __name__ == '__main__':
    sys.exit(main())
