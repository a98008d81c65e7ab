"""A virtual machine for a test: its initial archive, its run, and who is to blame if it does not end."""

import enum
import gzip
import json
import os
import re
import socket
import subprocess
import time

CPUS = 4
QEMU = 'qemu-system-x86_64'
SILENCE_S = 180  # the guest says every ten seconds that it is alive (vigil.h), a slow one later


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


class Fate(enum.Enum):
    """How a run ended."""
    DONE = 'the guest came to its end'
    KERNEL = 'the kernel of the guest died'
    PROGRAM = 'the guest did not come to its end'


class End(enum.Enum):
    """Who ended it: the machine itself, or we because it said nothing any more, or took too long."""
    ITSELF = 1
    SILENT = 2
    LATE = 3


# Only what is beyond doubt the kernel's own is held against it: its own lines begin with the time. A panic
# for want of memory or of a first process is the program's, unless the kernel had killed that.
KERNEL_DIED = re.compile(
    r'^\[ *\d+\.\d+\].*?(Oops|kernel BUG at|BUG: (unable|kernel)|Tainted: G[ A-Z]* D |int3: 0000|'
    r'general protection fault, |double fault: |'
    r'Kernel panic - not syncing: (?!Attempted to kill init|Out of memory|System is deadlocked|sysrq)).*', re.M)
# Waits inside of a system call that nobody else in the guest can hold up.
KERNEL_STUCK = re.compile(r"^STUCK for .* at: the kernel's .*", re.M)


def fate_of(text, end):
    """What the console tells of a machine. Returns the fate and a reason."""
    if 'RESULT done 1' in text:
        return Fate.DONE, ''
    said = KERNEL_DIED.search(text) or KERNEL_STUCK.search(text)
    if said:
        return Fate.KERNEL, said[0]
    if 'STUCK for ' in text:
        return Fate.PROGRAM, 'it says itself where it is stuck'
    if end == End.LATE:
        return Fate.PROGRAM, 'it was alive when its time was up'
    if end == End.SILENT:
        return Fate.KERNEL, 'it does not even run a thread of real-time priority any more'
    if 'Kernel panic' in text:
        return Fate.PROGRAM, 'the guest program died or used up the memory'
    if 'FAILED to ' in text or 'reboot: ' in text:
        return Fate.PROGRAM, 'it gave up'
    return Fate.KERNEL, 'the machine was reset without a word'


def boot(kernel, archive, console, monitor, words, limit_s):
    """Runs the machine. Returns what it wrote on its console, and who ended it."""
    command = [QEMU,
               # One thread for all CPUs. With one each, QEMU before 8.1 may go on executing code that the
               # guest's kernel has rewritten meanwhile, for a translation of the old code may be entered just
               # after it was to be thrown away: a breakpoint of a jump label that nobody expects any more.
               '-accel', 'tcg,thread=single', '-smp', str(CPUS), '-m', '512', '-nodefaults',
               '-no-user-config', '-no-reboot', '-display', 'none', '-serial', f'file:{console}',
               '-qmp', f'unix:{monitor},server=on,wait=off', '-kernel', kernel, '-initrd', archive,
               # The check of the timer takes a host that is slow for one without.
               '-append', 'console=ttyS0 quiet oops=panic panic=-1 reboot=t tsc=unstable no_timer_check '
                          f'rcupdate.rcu_expedited=1 -- {words}']
    end = End.ITSELF
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as machine:
        begin = said = time.monotonic()
        size = 0
        while True:
            try:
                machine.wait(1)
                break
            except subprocess.TimeoutExpired:
                pass
            now = time.monotonic()
            if os.path.exists(console) and os.path.getsize(console) != size:
                size, said = os.path.getsize(console), now
            if now - said > SILENCE_S:
                end = End.SILENT
            elif now - begin > limit_s:
                end = End.LATE
            if end != End.ITSELF:
                print('the guest does not end; its CPUs:')
                show_cpus(monitor)
                machine.kill()
                break
    with open(console, 'rb') as f:
        return f.read().decode(errors='replace').replace('\r', ''), end
