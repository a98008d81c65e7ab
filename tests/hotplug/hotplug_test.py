#!/usr/bin/env python3
"""Boots a virtual machine in which the guest program and a server under the preload run while CPUs, a
cpuset and a quota change, and judges what the guest program says.

usage: hotplug_test.py [--kernels FOLDER] GUEST [SERVER PRELOAD]

The kernel: $CMWQ_GUEST_KERNEL, or the newest boot/vmlinuz-* below FOLDER, which tools/lib/guest_kernel.sh
fills. $CMWQ_HOTPLUG_SECONDS: how long CPUs come and go (60). A guest that does not get on says itself what
everybody is at, and ends (vigil.h); of one that cannot even do that the emulator is asked where its CPUs are.
"""

import argparse
import glob
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

SKIP = 77
CPUS = 4
QEMU = 'qemu-system-x86_64'
STALL_US = 1_000_000
LOADS = ('cmwq', 'percpu', 'plain')
SLACK_S = 240  # for a machine that does other things as well


def skip(why):
    print(f'skipped: {why}')
    sys.exit(SKIP)


class Archive:
    """A cpio archive as the kernel unpacks it (newc)."""

    def __init__(self):
        self.parts = []
        self.inode = 0
        self.folders = set()

    def _entry(self, name, mode, data=b'', rdev=(0, 0)):
        self.inode += 1
        fields = [self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, rdev[0], rdev[1], len(name) + 1, 0]
        header = b'070701' + ''.join(f'{field:08x}' for field in fields).encode()
        head = header + name.encode() + b'\0'
        self.parts += [head, b'\0' * (-len(head) % 4), data, b'\0' * (-len(data) % 4)]

    def folder(self, name):
        if not name or name in self.folders:
            return
        self.folder(os.path.dirname(name))
        self.folders.add(name)
        self._entry(name, 0o040755)

    def file(self, name, source):
        name = name.lstrip('/')
        self.folder(os.path.dirname(name))
        with open(source, 'rb') as f:
            self._entry(name, 0o100755, f.read())

    def device(self, name, major, minor):
        self.folder(os.path.dirname(name))
        self._entry(name, 0o020600, rdev=(major, minor))

    def write(self, path):
        self._entry('TRAILER!!!', 0)
        with gzip.open(path, 'wb', compresslevel=1) as f:
            f.write(b''.join(self.parts))


def libraries(program):
    """The shared libraries of a program, where it looks for them."""
    out = subprocess.run(['ldd', program], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r'(/[^ ]+) \(0x', out))


def build_archive(path, guest, server, preload):
    archive = Archive()
    archive.device('dev/console', 5, 1)
    archive.file('init', guest)
    programs = [guest]
    if server:
        archive.file('cmwq-demo-server', server)
        archive.file('libcmwq-preload.so', preload)
        programs += [server, preload]
    for library in sorted(set().union(*(libraries(p) for p in programs))):
        archive.file(library, os.path.realpath(library))
    archive.write(path)


def find_kernel(folder):
    kernel = os.environ.get('CMWQ_GUEST_KERNEL')
    if kernel:
        return kernel
    found = sorted(glob.glob(f'{folder}/boot/vmlinuz-*')) if folder else []
    if not found:
        skip(f'no kernel for the guest: tools/lib/guest_kernel.sh {folder} fetches it')
    return found[-1]


def show_cpus(path):
    """Where the CPUs are, several times: what is always the same is where they are stuck."""
    try:
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(10)
            monitor.connect(path)
            answers = monitor.makefile()
            answers.readline()

            def ask(command, **arguments):
                monitor.sendall(json.dumps({'execute': command, 'arguments': arguments}).encode() + b'\n')
                while True:
                    answer = json.loads(answers.readline())
                    if 'event' not in answer:
                        return str(answer.get('return', answer))

            ask('qmp_capabilities')
            for _ in range(5):
                text = ask('human-monitor-command', **{'command-line': 'info registers -a'})
                places = re.findall(r'RIP=(\w+) RFL=(\w+)', text)
                for cpu, (rip, flags) in enumerate(places):
                    code = ask('human-monitor-command',
                               **{'command-line': f'x /6xb 0x{rip}', 'cpu-index': cpu}).strip()
                    print(f'CPU {cpu} flags {flags} at {code}')
                time.sleep(0.2)
    except (OSError, ValueError) as error:
        print(f'no word from {QEMU} either: {error}')


def boot(kernel, archive, folder, seconds, compare_seconds):
    """What the machine wrote on its console."""
    console, monitor = f'{folder}/console', f'{folder}/monitor'
    command = [QEMU, '-accel', 'tcg,thread=multi', '-smp', str(CPUS), '-m', '512', '-nodefaults',
               '-no-user-config', '-no-reboot', '-display', 'none', '-serial', f'file:{console}',
               '-qmp', f'unix:{monitor},server=on,wait=off', '-kernel', kernel, '-initrd', archive,
               # The check of the timer takes a host that is slow for one without.
               '-append', 'console=ttyS0 quiet panic=-1 reboot=t tsc=unstable no_timer_check '
                          f'rcupdate.rcu_expedited=1 -- {seconds} {compare_seconds}']
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as machine:
        try:
            machine.wait(seconds + 2 * compare_seconds + SLACK_S)
        except subprocess.TimeoutExpired:
            print('the guest does not end; its CPUs:')
            show_cpus(monitor)
            machine.kill()
    with open(console, 'rb') as f:
        return f.read().decode(errors='replace').replace('\r', '')


def judge(r, text, with_server):
    """What is wrong, a line each."""
    wrong = []

    def expect(holds, what):
        if not holds:
            wrong.append(what)

    if 'done' not in r:
        return ['the guest did not come to its end']
    for name in LOADS:
        expect(r[f'{name}.queued'] == r[f'{name}.executed'] + r[f'{name}.cancelled'],
               f'{name}: items lost or executed twice')
        expect(r[f'{name}.offline'] > 0, f'{name}: no CPU was taken offline')
    for name in LOADS[:2]:
        expect(r[f'{name}.unnoticed'] == 0, f'{name}: CPUs went offline unnoticed')
        expect(r[f'{name}.cpus'] == CPUS, f'{name}: not all CPUs are used again')
        expect(r[f'{name}.bound_threads'] > 0 and r[f'{name}.bound_right'] == r[f'{name}.bound_threads'],
               f'{name}: workers are not on their CPUs afterwards')
    expect(r['cmwq.strangers'] == 0, 'items ran in threads without the program\'s descriptors')
    # What also holds up a thread that does nothing but sleep is the machine, or the quota.
    expect(r['cmwq.longest_delay_us'] < STALL_US + 10 * r['cmwq.heartbeat_us'], 'an item waited too long')
    expect(r['quota.milli'] == 1500, 'the quota was not noticed')
    if with_server:
        expect(r['server.failed'] == 0 and r['server.answered'] > 0, 'requests to the server failed')
        expect(r['server.exit'] == 0, 'the server did not end well')
        expect('cmwq report' in text, 'the server was not under the preload')
    expect('Kernel panic' not in text and 'invariant' not in text, 'something said so')
    return wrong


def show(r):
    rows = [('CPUs taken offline', 'offline'), ('cpuset shrunk and grown', 'cpuset'), ('quota changed', 'quota'),
            ('items queued', 'queued'), ('items executed', 'executed'), ('items cancelled', 'cancelled'),
            ('event to first item served elsewhere, p50 us', 'served_p50_us'), ('  p99 us', 'served_p99_us'),
            ('  longest us', 'served_longest_us'), ('event to the CPU given up, p50 us', 'noticed_p50_us'),
            ('  p99 us', 'noticed_p99_us'), ('any item, queued to begun, p50 us', 'delay_p50_us'),
            ('  p99 us', 'delay_p99_us'), ('  longest us', 'longest_delay_us'),
            ('  items later than 100 ms', 'late'),
            ('longest nap of a thread that sleeps 1 ms, us', 'heartbeat_us'),
            ('threads bound to a CPU', 'bound_threads'), ('  on it afterwards', 'bound_right')]
    print(f'{"":46} {"everything":>10} {"the same load without a server":>32}')
    print(f'{"":46} {"cmwq":>10} {"cmwq":>16} {"plain pool":>15}')
    for title, key in rows:
        everything, percpu, plain = (r.get(f'{load}.{key}', '-') for load in LOADS)
        print(f'{title:46} {everything:>10} {percpu:>16} {plain:>15}')
    for key in ('server.answered', 'server.failed', 'server.longest_wait_us', 'quota.noticed_us'):
        print(f'{key:46} {r.get(key, "-"):>10}')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--kernels')
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
        archive = f'{folder}/initrd'
        build_archive(archive, args.guest, args.server, args.preload)
        for _ in range(2):
            text = boot(kernel, archive, folder, seconds, max(5, seconds // 3))
            if 'RESULT' in text or 'Kernel panic' not in text:
                break
            print(f'the kernel did not come up, once more:\n{text[:2000]}')
    results = {m[1]: int(m[2]) for m in re.finditer(r'RESULT (\S+) (\d+)', text)}
    show(results)
    wrong = judge(results, text, bool(args.server))
    if wrong:
        print(text[-20000:])
    for line in wrong:
        print(f'WRONG: {line}')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
