#!/usr/bin/env python3
"""Runs a victim program with and without the preload and compares what it prints.

usage: run_victim.py [--conf=CONF] PRELOAD VICTIM [ARGUMENT...]
"""

import difflib
import os
import subprocess
import sys

TIMEOUT_S = 200  # only against hangs: machines are shared, and slow at times


def run(command, extra):
    """Returns (exit code, output lines) of the command with these variables added."""
    env = {k: v for k, v in os.environ.items() if not k.startswith('CMWQ_') and k != 'LD_PRELOAD'}
    env.update(extra)
    try:
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as expired:
        output = (expired.output or b'').decode(errors='replace').splitlines()
        return 'time-out', output
    return done.returncode, done.stdout.decode(errors='replace').splitlines()


def main():
    """Entry point: exit code 0 if every run prints the same."""
    arguments = sys.argv[1:]
    conf = {}
    if arguments[0].startswith('--conf='):
        conf['CMWQ_CONF'] = arguments.pop(0)[len('--conf='):]
    preload, *command = arguments
    modes = {
        'preload': {'LD_PRELOAD': preload, **conf},
        'disabled': {'LD_PRELOAD': preload, 'CMWQ_DISABLE': '1'},
    }
    expected = run(command, {})
    if expected[0] != 0:
        print('\n'.join(expected[1][-20:]))
        print(f'without the preload: exit code {expected[0]}')
        return 1
    failed = False
    for mode, extra in modes.items():
        got = run(command, extra)
        if got == expected:
            continue
        failed = True
        print(f'{mode}: exit code {got[0]}')
        print('\n'.join(difflib.unified_diff(expected[1], got[1], 'plain', mode, lineterm='', n=2)))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
