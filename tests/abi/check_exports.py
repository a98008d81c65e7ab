#!/usr/bin/env python3
"""What a shared object exports, against what it should.

  library: only cmwq_* names, exactly those that the public headers declare with CMWQ_API, which are
           also those of the golden file. A name that disappears breaks programs; a new one is a
           promise: both must be seen in a review. (write-golden: after that review.)
  preload: exactly the names of the version script that it was linked with.
"""

import argparse
import glob
import os
import re
import subprocess
import sys

DECLARATION = re.compile(r'\bCMWQ_API\b[^;{]*?\b(\w+)\s*\(')


def exported(path):
    text = subprocess.run(['nm', '-D', '--defined-only', path], check=True, capture_output=True,
                          text=True).stdout
    names = set()
    for line in text.splitlines():
        kind, name = line.split()[-2:]
        if kind != 'A':  # names of version nodes
            names.add(name.split('@')[0])
    return names


def declared(include):
    names = set()
    for path in glob.glob(os.path.join(include, 'cmwq', '*.h')):
        with open(path, encoding='utf-8') as f:
            text = re.sub(r'/\*.*?\*/|//[^\n]*|^[ \t]*#[^\n]*', ' ', f.read(), flags=re.S | re.M)
        names |= set(DECLARATION.findall(text))
    return names


def golden(path):
    with open(path, encoding='utf-8') as f:
        return {line.strip() for line in f if line.strip() and not line.startswith('#')}


def map_names(path):
    with open(path, encoding='utf-8') as f:
        text = re.sub(r'/\*.*?\*/|#[^\n]*', ' ', f.read(), flags=re.S)
    body = re.search(r'global\s*:(.*?)local\s*:', text, re.S)
    return {n for n in re.split(r'[;\s]+', body.group(1)) if n}


def compare(what, have, want, origin):
    for name in sorted(want - have):
        print(f'{what}: {name} is in {origin} but not exported')
    for name in sorted(have - want):
        print(f'{what}: {name} is exported but not in {origin}')
    return have == want


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('kind', choices=['library', 'preload', 'headers', 'write-golden'])
    parser.add_argument('--object')
    parser.add_argument('--include')
    parser.add_argument('--golden')
    parser.add_argument('--map')
    args = parser.parse_args()

    if args.kind == 'write-golden':
        with open(args.golden, 'w', encoding='utf-8') as f:
            f.write('# What libcmwq.so exports: one name a line.\n')
            f.writelines(f'{name}\n' for name in sorted(declared(args.include)))
        return 0

    if args.kind == 'preload':
        names = exported(args.object)
        return 0 if compare('preload', names, map_names(args.map), args.map) and names else 1

    ok = compare('headers', declared(args.include), golden(args.golden), args.golden)
    if args.kind == 'library':
        names = exported(args.object)
        for name in sorted(n for n in names if not n.startswith('cmwq_')):
            print(f'library: {name} does not start with cmwq_')
            ok = False
        ok = compare('library', names, golden(args.golden), args.golden) and ok
    return 0 if ok else 1


if __name__ == '__main__':
    sys.exit(main())
