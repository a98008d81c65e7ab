#!/usr/bin/env python3
"""Runs victims with another allocator preloaded before and after the preload.

usage: test_allocators.py PRELOAD VICTIM PART...

Each allocator that the loader finds. Skipped if there is none.
"""

import os
import subprocess
import sys

ALLOCATORS = ('libjemalloc.so.2', 'libtcmalloc_minimal.so.4', 'libmimalloc.so.2')


def run(command, preloads):
    """Returns (exit code, standard output, standard error)."""
    env = {k: v for k, v in os.environ.items() if not k.startswith('CMWQ_')}
    env['LD_PRELOAD'] = ':'.join(preloads)
    env['CMWQ_CONF'] = 'canary=0'  # see meson.build
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=300, check=False)
    return done.returncode, done.stdout, done.stderr


def main():
    """Entry point."""
    ours, victim, *parts = sys.argv[1:]
    found = [name for name in ALLOCATORS if 'cannot be preloaded' not in run(['/bin/true'], [name])[2]]
    if not found:
        print('none of these is installed:', ' '.join(ALLOCATORS))
        return 77
    failed = False
    for name in found:
        for part in parts:
            expected = run([victim, part], [name])[:2]
            for order in ([ours, name], [name, ours]):
                got = run([victim, part], order)
                if got[:2] != expected or expected[0] != 0:
                    failed = True
                    print(part, order, got, 'expected', expected)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
