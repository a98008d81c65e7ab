#!/usr/bin/env python3
"""Boots a virtual machine in which the guest program and a server under the preload run while CPUs, a
cpuset and a quota change, and judges what the guest program says.

usage: hotplug_test.py [--kernels FOLDER] [--logs FOLDER] GUEST [SERVER PRELOAD]

The kernel: $CMWQ_GUEST_KERNEL, or the newest boot/vmlinuz-* below FOLDER, which tools/lib/guest_kernel.sh
fills. $CMWQ_HOTPLUG_SECONDS: how long CPUs come and go (60). A guest that does not get on says itself what
everybody is at, and ends (vigil.h); of one that cannot even do that the emulator is asked where its CPUs are.

A guest whose kernel died is booted again, twice at most: that says nothing of the program. Everything else
that is wrong is final. --logs: what the consoles said, one file for each boot.
"""

import argparse
import glob
import os
import re
import shutil
import sys
import tempfile

from machine import CPUS, QEMU, Fate, boot, build_archive, fate_of

SKIP = 77
BOOTS = 3
STALL_MS = 1000
LOADS = ('cmwq', 'percpu', 'plain')
SLACK_S = 240  # for a machine that does other things as well


def skip(why):
    print(f'skipped: {why}')
    sys.exit(SKIP)


def find_kernel(folder):
    kernel = os.environ.get('CMWQ_GUEST_KERNEL')
    if kernel:
        return kernel
    found = sorted(glob.glob(f'{folder}/boot/vmlinuz-*')) if folder else []
    if not found:
        skip(f'no kernel for the guest: tools/lib/guest_kernel.sh {folder} fetches it')
    return found[-1]


def judge(r, text, with_server):
    """What is wrong, a line each."""
    wrong = []

    def expect(holds, what):
        if not holds:
            wrong.append(what)

    for name in LOADS:
        expect(r[f'{name}.queued'] == r[f'{name}.executed'] + r[f'{name}.cancelled'],
               f'{name}: items lost or executed twice')
        expect(r[f'{name}.offline'] > 0, f'{name}: no CPU was taken offline')
    for name in LOADS[:2]:
        expect(r[f'{name}.cpus'] == CPUS, f'{name}: not all CPUs are used again')
        expect(r[f'{name}.bound_threads'] > 0 and r[f'{name}.bound_right'] == r[f'{name}.bound_threads'],
               f'{name}: workers are not on their CPUs afterwards')
    expect(r['cmwq.unnoticed'] == 0, 'CPUs went offline unnoticed')
    expect(r['cmwq.strangers'] == 0, 'items ran in threads without the program\'s descriptors')
    # Not by the clock: what also holds up threads that do nothing but sleep is the machine, or the quota.
    for name in LOADS[:2]:
        expect(r[f'{name}.longest_delay_ms_of_rounds'] < STALL_MS, f'{name}: an item waited too long')
    expect(r['quota.milli'] == 1500, 'the quota was not noticed')
    if with_server:
        expect(r['server.failed'] == 0 and r['server.answered'] > 0, 'requests to the server failed')
        # It waits for the socket, for its CPU and for the journal's mutex.
        expect(r['server.longest_wait_ms_of_rounds'] < 3 * STALL_MS, 'a request waited too long')
        expect(r['server.exit'] == 0, 'the server did not end well')
        expect('cmwq report' in text, 'the server was not under the preload')
    expect('invariant' not in text, 'something said so')
    return wrong


def show(r):
    rows = [('steps of the storm', 'steps'), ('  ms', 'storm_ms'), ('CPUs taken offline', 'offline'),
            ('cpuset shrunk and grown', 'cpuset'), ('quota changed', 'quota'),
            ('items queued', 'queued'), ('items executed', 'executed'), ('items cancelled', 'cancelled'),
            ('CPU offline to first item served elsewhere, p50 us', 'served_p50_us'),
            ('  p99 us', 'served_p99_us'), ('  longest us', 'served_longest_us'),
            ('CPU offline to given up by the engine, p50 us', 'noticed_p50_us'),
            ('  p99 us', 'noticed_p99_us'), ('any item, queued to begun, p50 us', 'delay_p50_us'),
            ('  p99 us', 'delay_p99_us'), ('  longest us', 'longest_delay_us'),
            ('  longest, ms in which others got on', 'longest_delay_ms_of_rounds'),
            ('  items later than 100 ms', 'late'), ('longest nap of a thread that sleeps 5 ms, us', 'nap_us'),
            ('afterwards: threads meant for one CPU', 'bound_threads'), ('  bound to it', 'bound_right'),
            ('  items run in a second', 'after_executed'),
            ('  on another CPU than theirs', 'after_elsewhere')]
    print(f'{"":52} {"everything":>10} {"the same load, storm, no server":>32}')
    print(f'{"":52} {"cmwq":>10} {"cmwq":>16} {"plain pool":>15}')
    for title, key in rows:
        everything, percpu, plain = (r.get(f'{load}.{key}', '-') for load in LOADS)
        if key == 'after_elsewhere':
            everything = '-'  # most of these items are for any CPU
        print(f'{title:52} {everything:>10} {percpu:>16} {plain:>15}')
        if key == 'executed' and all(f'{load}.{key}' in r for load in LOADS):
            everything, percpu, plain = (r[f'{load}.queued'] - r[f'{load}.executed'] - r[f'{load}.cancelled']
                                         for load in LOADS)
            print(f'{"items lost":52} {everything:>10} {percpu:>16} {plain:>15}')
    for key in ('server.answered', 'server.failed', 'server.longest_wait_us',
                'server.longest_wait_ms_of_rounds', 'quota.noticed_us'):
        print(f'{key:52} {r.get(key, "-"):>10}')


def run(kernel, args, seconds, folder):
    """Boots until the kernel lives to the end. Returns the console's text, the fate and its reason."""
    archive = f'{folder}/initrd'
    build_archive(archive, args.guest, args.server, args.preload)
    compare_seconds = max(5, seconds // 4)
    logs = args.logs or folder
    os.makedirs(logs, exist_ok=True)
    for old in glob.glob(f'{logs}/console.*'):
        os.unlink(old)
    for n in range(1, BOOTS + 1):
        console = f'{logs}/console.{n}'
        text, end = boot(kernel, archive, console, f'{folder}/monitor', f'{seconds} {compare_seconds}',
                            seconds + 4 * compare_seconds + SLACK_S)
        fate, why = fate_of(text, end)
        if fate != Fate.KERNEL:
            break
        print(f'boot {n} of at most {BOOTS}: the kernel of the guest died ({why}); console in {console}')
        print(text[-5000:])
    return text, fate, why


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--kernels')
    parser.add_argument('--logs')
    parser.add_argument('guest')
    parser.add_argument('server', nargs='?')
    parser.add_argument('preload', nargs='?')
    args = parser.parse_args()
    if shutil.which(QEMU) is None:
        skip(f'no {QEMU}: apt-get install qemu-system-x86')
    if os.uname().machine != 'x86_64':
        skip('the guest has the libraries of this machine, which is no x86-64')
    kernel = find_kernel(args.kernels)
    seconds = int(os.environ.get('CMWQ_HOTPLUG_SECONDS', '60'))
    with tempfile.TemporaryDirectory(prefix='cmwq-hotplug-') as folder:
        text, fate, why = run(kernel, args, seconds, folder)
    if fate == Fate.KERNEL:
        skip(f'the kernel of the guest died {BOOTS} times under {QEMU}, which says nothing of cmwq')
    results = {m[1]: int(m[2]) for m in re.finditer(r'^RESULT (\S+) (\d+)$', text, re.M)}
    show(results)
    wrong = judge(results, text, bool(args.server)) if fate == Fate.DONE else [f'{fate.value}: {why}']
    if wrong:
        print(text[-20000:])
    for line in wrong:
        print(f'WRONG: {line}')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
