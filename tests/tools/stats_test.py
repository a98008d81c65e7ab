#!/usr/bin/env python3
"""cmwq ls, dump and top, and the pages that they read.

usage: stats_test.py CMWQ STATS_LOAD SANITIZE [PRELOAD SERVER]
"""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

CMWQ, LOAD, SANITIZE, *SERVED = sys.argv[1:]
# Nobody but the items themselves decides how many workers there are.
CONF = 'canary=0,cpu_intensive_thresh_us=0,stats=1'
ROUNDS = 3000


def environment(conf):
    """The caller's, with these settings."""
    env = {k: v for k, v in os.environ.items() if not k.startswith('CMWQ_') and k != 'LD_PRELOAD'}
    env['CMWQ_CONF'] = conf
    # It ends in the middle of items: what those hold is nobody's leak.
    env['ASAN_OPTIONS'] = 'detect_leaks=0'
    return env


def cmwq(*arguments, code=0):
    """Runs the command."""
    done = subprocess.run([CMWQ, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done
    return done


def pages(pid):
    """Its pages."""
    return [name for name in os.listdir('/dev/shm') if name.startswith(f'cmwq.{pid}.')]


def dump(pid):
    """Its pools, by name."""
    processes = json.loads(cmwq('dump', '--json', str(pid)).stdout)['processes']
    assert [p['pid'] for p in processes] == [pid]
    return {pool['name']: pool for pool in processes[0]['pools']}


def executed(pid):
    """Items that ran in its pools, as far as those are published."""
    return sum(pool['executed'] for pool in dump(pid).values())


def blocked(pid):
    """Its workers that are in a block."""
    return [w for pool in dump(pid).values() for w in pool['workers'] if w['state'] == 'blocked']


def connect(path):
    """A connection to the server, as a file. It listens a moment after the name is there."""
    while True:
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(path)
            except ConnectionRefusedError:
                continue
            return s.makefile('rw')


class Load:
    """A process with workqueues that does what it is told."""

    def __init__(self, conf=CONF, **more):
        self.process = subprocess.Popen([LOAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=environment(conf), **more)
        assert self.process.stdout.readline() == 'ready\n'
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if not self.process.stdin.closed:
            self.process.stdin.close()
        code = self.process.wait()
        assert kind is not None or code in (0, -signal.SIGKILL), code
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def tell(self, line):
        """Returns the answer."""
        self.process.stdin.write(line + '\n')
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@unittest.skipUnless(os.access('/dev/shm', os.W_OK), 'no /dev/shm: no pages')
class StatsTest(unittest.TestCase):
    """A page lives as long as its process and says what it does."""

    def until(self, ask):
        """Until it holds: what is published comes a moment later."""
        for _ in range(ROUNDS):
            result = ask()
            if result:
                return result
        self.fail('never')

    def test_page_is_private_and_goes_at_the_end(self):
        """The file's mode; a normal end removes it."""
        with Load() as load:
            (name,) = pages(load.pid)
            self.assertEqual(os.stat(f'/dev/shm/{name}').st_mode & 0o777, 0o600)
            listed = [p for p in json.loads(cmwq('ls', '--json').stdout)['pages'] if p['pid'] == load.pid]
            self.assertEqual([(p['state'], p['edition'], p['command']) for p in listed],
                             [('running', 'library', 'stats_load')])
            load.process.stdin.close()
            self.assertEqual(load.process.wait(), 0)
            self.assertEqual(pages(load.pid), [])

    def test_killed_process_is_cleaned_up_after(self):
        """ls takes its page away; nobody takes that of a running one."""
        with Load() as alive, Load() as load:
            load.process.stdin.write('kill\n')
            load.process.stdin.flush()
            load.process.wait()
            cmwq('ls')
            self.assertEqual(pages(load.pid), [])
            self.assertEqual(len(pages(alive.pid)), 1)

    def test_another_process_with_the_number_of_a_dead_one(self):
        """The start time tells them apart."""
        with Load() as load:
            (name,) = pages(load.pid)
            other = f'/dev/shm/cmwq.{load.pid}.1.library'
            with open(f'/dev/shm/{name}', 'rb') as page, open(other, 'wb') as copy:
                copy.write(page.read())
            cmwq('ls')
            self.assertEqual(pages(load.pid), [name])

    def test_switched_off(self):
        """stats=0: no page, and dump says so."""
        with Load(CONF + ',stats=0') as load:
            self.assertEqual(load.tell('items 10'), 'done')
            self.assertEqual(pages(load.pid), [])
            done = cmwq('dump', str(load.pid), code=1)
            self.assertEqual(done.stdout, '')
            self.assertIn('stats=1', done.stderr)

    def test_no_room(self):
        """The page cannot be had: one line, and all works."""
        def no_files():
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        # The signal of that limit would end it: it is ignored here, and so there.
        old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            with Load(stderr=subprocess.PIPE, preexec_fn=no_files, restore_signals=False) as load:
                self.assertEqual(load.tell('items 10'), 'done')
                self.assertEqual(pages(load.pid), [])
                load.process.stdin.close()
                self.assertEqual(load.process.wait(), 0)
                lines = load.process.stderr.read().splitlines()
                self.assertEqual(len(lines), 1, lines)
                self.assertIn('no statistics page', lines[0])
        finally:
            signal.signal(signal.SIGXFSZ, old)

    def test_items_are_counted(self):
        """What ran, and how long it waited."""
        with Load() as load:
            load.tell('items 1000')
            self.until(lambda: executed(load.pid) >= 1000)
            pools = dump(load.pid)
            self.assertGreater(max(p['delay_p50_ns'] for p in pools.values()), 0)
            self.assertLessEqual(max(p['delay_p50_ns'] for p in pools.values()),
                                 max(p['delay_p99_ns'] for p in pools.values()))
            self.until(lambda: sum(p['queued'] for p in dump(load.pid).values()) >= 1000)

    def test_blocked_worker(self):
        """Its state at once, its queue when it was published; afterwards it is idle."""
        with Load() as load:
            load.tell('block')
            (worker,) = self.until(lambda: blocked(load.pid))
            self.assertEqual(worker['blocks'], 1)
            self.assertRegex(worker['function'], r'^stats_load\+0x')
            self.until(lambda: blocked(load.pid)[0]['queue'] == 'looked-at')
            self.until(lambda: blocked(load.pid)[0]['running_ns'] > 0)
            load.tell('release')
            self.assertEqual(blocked(load.pid), [])

    def test_pending_items(self):
        """They are counted while one computes in front of them."""
        with Load() as load:
            load.tell('pile 25')
            self.until(lambda: any(p['pending'] == 25 for p in dump(load.pid).values()))
            load.tell('release')
            self.until(lambda: all(p['pending'] == 0 for p in dump(load.pid).values()))

    @unittest.skipIf('thread' in SANITIZE, 'ThreadSanitizer cannot follow the fork of a threaded process')
    def test_forked_child_has_its_own(self):
        """It counts for itself; its end leaves the parent's alone."""
        with Load() as load:
            load.tell('items 100')
            self.until(lambda: executed(load.pid) >= 100)
            child = int(load.tell('fork'))
            try:
                self.assertEqual(len(pages(child)), 1)
                self.assertNotEqual(pages(child)[0].split('.')[1], str(load.pid))
                self.until(lambda: executed(child) >= 1)
                self.assertLess(executed(child), 100)
            finally:
                os.kill(child, signal.SIGKILL)
            self.assertGreaterEqual(executed(load.pid), 100)
            self.assertEqual(len(pages(load.pid)), 1)

    def test_damaged_pages_are_refused(self):
        """Whatever they say, it is not believed; the others are shown."""
        with Load() as load:
            (name,) = pages(load.pid)
            with open(f'/dev/shm/{name}', 'rb') as page:
                good = page.read()
            # Magic, version, size, tables, fields: each a word that must not be believed.
            for at in (0, 8, 40, 56, 60, 64, 68):
                fake = f'/dev/shm/cmwq.{load.pid}.{name.split(".")[2]}.preload'
                with open(fake, 'wb') as page:
                    page.write(good[:at] + b'\xff\xff\xff\x7f' + good[at + 4:])
                try:
                    self.assertEqual(subprocess.run([CMWQ, 'dump', str(load.pid)], capture_output=True,
                                                    check=False).returncode, 0, at)
                finally:
                    if os.path.exists(fake):
                        os.unlink(fake)

    def test_top(self):
        """A table and JSON; patterns and keys."""
        with Load() as load:
            load.tell('block')
            self.until(lambda: blocked(load.pid))
            done = cmwq('top', '-b', '-n', '2', '-i', '0.1', '-p', str(load.pid))
            self.assertEqual(done.stderr, '')
            self.assertEqual(done.stdout.count('COMMAND'), 2)
            document = json.loads(cmwq('top', '--json', '-n', '1', '-i', '0.1', '-p', str(load.pid)).stdout)
            self.assertEqual({p['pid'] for p in document['pools']}, {load.pid})
            self.assertEqual([p['blocked'] for p in document['pools'] if p['blocked'] > 0], [1])
            done = cmwq('top', '-b', '-n', '1', '-i', '0.1', '-p', str(load.pid), 'nothing of that name')
            self.assertEqual(len(done.stdout.splitlines()), 1)

    @unittest.skipUnless(SERVED and SANITIZE == 'none', 'no preload, or the server is sanitized')
    def test_preloaded_server(self):
        """Its gates, its threads, and the end of its page."""
        preload, program = SERVED
        env = environment('canary=0,stats=1')
        env['LD_PRELOAD'] = preload
        with tempfile.TemporaryDirectory(prefix='cmwq-stats-') as folder:
            path = f'{folder}/socket'
            server = subprocess.Popen([program, f'--socket={path}', f'--journal={folder}/journal'], env=env)
            self.until(lambda: os.path.exists(path))
            clients = [connect(path) for _ in range(3)]
            for i in range(50):
                for client in clients:
                    client.write(f'GET {i} {i}\n')
                    client.flush()
                    self.assertEqual(client.readline().split()[0], str(i))
            (name,) = pages(server.pid)
            self.assertTrue(name.endswith('.preload'))
            gates = dump(server.pid)
            self.assertTrue(all(name.startswith('gate') for name in gates))
            self.assertGreaterEqual(sum(g['executed'] for g in gates.values()), 100)
            self.assertGreaterEqual(sum(w['executed'] for g in gates.values() for w in g['workers']), 100)
            self.until(lambda: [w['state'] for g in dump(server.pid).values() for w in g['workers']] ==
                       ['idle'] * 3)
            for client in clients:
                client.close()
            server.terminate()
            self.assertEqual(server.wait(), 0)
            self.assertEqual(pages(server.pid), [])

    def test_wrong_use(self):
        """Exit code 2 with a hint; 1 without a process."""
        for arguments in (['top', '-s', 'beauty'], ['top', '-i', '0'], ['top', '('], ['ls', 'x'], ['dump', 'x'],
                          ['dump', '1', '2'], ['top', 'a', 'b']):
            self.assertIn('cmwq help', cmwq(*arguments, code=2).stderr, arguments)
        self.assertIn('no statistics page', cmwq('dump', str(os.getpid()), code=1).stderr)
        for command in ('ls', 'top', 'dump'):
            self.assertEqual(cmwq(command, '--help').stdout, cmwq('help', command).stdout)


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1], verbosity=2)
