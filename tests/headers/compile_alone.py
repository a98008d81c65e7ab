#!/usr/bin/env python3
"""Compiles every public header alone, with one compiler at one standard, warnings being errors.

C headers (.h) must pass at every standard; C++ headers (.hpp) must pass at C++20, and at an older
standard pass or say with #error what they need.
"""

import argparse
import glob
import os
import subprocess
import sys

WARNINGS = ['-pedantic', '-Wall', '-Wextra', '-Werror', '-fsyntax-only']


def run(compiler, std, include, header):
    language = 'c' if std.startswith('c') and not std.startswith('c++') else 'c++'
    name = 'cmwq/' + os.path.basename(header)
    # Twice: the include guard must hold.
    source = f'#include <{name}>\n#include <{name}>\nint cmwq_header_test(void);\n'
    command = [compiler, '-x', language, f'-std={std}', *WARNINGS, '-I', include, '-']
    result = subprocess.run(command, input=source, capture_output=True, text=True, timeout=120)
    return result.returncode, result.stderr


def acceptable_refusal(header, std, text):
    errors = [line for line in text.splitlines() if 'error:' in line]
    return header.endswith('.hpp') and std < 'c++20' and bool(errors) and '#error' in text


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--compiler', required=True)
    parser.add_argument('--std', required=True)
    parser.add_argument('include', help='folder that holds cmwq/')
    args = parser.parse_args()

    suffixes = ('.h', '.hpp') if args.std.startswith('c++') else ('.h',)
    headers = [h for h in sorted(glob.glob(os.path.join(args.include, 'cmwq', '*')))
               if h.endswith(suffixes)]
    if not headers:
        print('no public headers found')
        return 1
    failed = 0
    for header in headers:
        code, text = run(args.compiler, args.std, args.include, header)
        ok = code == 0 or acceptable_refusal(header, args.std, text)
        verdict = 'ok' if code == 0 else 'refuses this standard' if ok else 'FAILED'
        print(f'{os.path.basename(header)} {args.std} {args.compiler}: {verdict}')
        if not ok:
            print(text)
            failed += 1
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
