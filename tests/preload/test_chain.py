#!/usr/bin/env python3
"""Checks that another preload of the same names is still reached, in either order.

usage: test_chain.py PRELOAD OTHER_PRELOAD VICTIM
"""

import os
import subprocess
import sys


def output(victim, preloads):
    """What the victim prints with these preloads."""
    env = dict(os.environ, LD_PRELOAD=':'.join(preloads))
    return subprocess.run([victim], env=env, capture_output=True, text=True, timeout=60,
                          check=False)


def main():
    """Entry point."""
    ours, other, victim = sys.argv[1:]
    expected = output(victim, [other])
    failed = expected.returncode != 0
    for order in ([ours, other], [other, ours]):
        got = output(victim, order)
        if (got.returncode, got.stdout) != (0, expected.stdout):
            failed = True
            print(order, got.returncode, got.stdout, got.stderr, 'expected', expected.stdout)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
