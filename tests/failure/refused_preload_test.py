#!/usr/bin/env python3
"""The preload in the demo's server, without one facility after the other: every request is answered.

usage: refused_preload_test.py PROBE REFUSE CMWQ PRELOAD SANITIZE DEMO_SERVER
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import refused

CONNECTIONS = 16
REQUESTS = 50
LIMIT_S = 120


class Server:
    """The server under the preload, with its output in a file."""

    def __init__(self, tools, name, folder, program):
        self.path = f'{folder}/socket'
        self.output = f'{folder}/output'
        command = [tools.cmwq, 'run', '--report', '--', program, f'--socket={self.path}',
                   f'--journal={folder}/journal', '--rounds=1000']
        if name:
            command = [tools.refuse, name, *command]
        env = refused.environment(CMWQ_PRELOAD=tools.preload, CMWQ_CONF='log=6')
        with open(self.output, 'wb') as out:
            self.process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=subprocess.STDOUT)
        until(lambda: os.path.exists(self.path) or self.process.poll() is not None)
        assert self.process.poll() is None, self.text()

    def text(self):
        """Everything it wrote so far."""
        with open(self.output, errors='replace') as f:
            return f.read()

    def connect(self):
        """A new connection."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(LIMIT_S)
        until(lambda: connection.connect_ex(self.path) == 0)
        return connection


def until(holds):
    """Waits for others to bring something about."""
    end = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < end, 'nothing happened'
        time.sleep(0.02)


def ask(connection, count, errors):
    """So many requests, each answered by its own number."""
    try:
        with connection.makefile('rwb', buffering=0) as stream:
            for i in range(count):
                stream.write(f'PUT {i} {i} 7\n'.encode())
                answer = stream.readline()
                assert answer.startswith(f'{i} '.encode()), answer
    except (OSError, AssertionError) as error:
        errors.append(error)


def detector(tools, pid):
    """The detector that doctor sees in a running process, and its other findings."""
    report = tools.doctor((), '--pid', str(pid))
    findings = {finding['name']: finding for finding in report['findings']}
    assert findings['pid libraries']['text'] == 'the preload', findings['pid libraries']
    text = findings['pid detector']['text']
    return text.rsplit(' ', 1)[-1] if ': ' in text else 'none'


def check(tools, name, program, here):
    """One server's life."""
    gone = {name} | here['names']
    expected = 'tick' if gone & {'affinity', 'sched_idle'} else 'canary'
    with tempfile.TemporaryDirectory(prefix='cmwq-refused-') as folder:
        server = Server(tools, name, folder, program)
        try:
            connections = [server.connect() for _ in range(CONNECTIONS)]
            errors = []
            threads = [threading.Thread(target=ask, args=(c, REQUESTS, errors)) for c in connections]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not errors, errors[:3]
            # A detector's thread may not have got as far as its scheduling class. One that was refused it
            # has said so, and is gone or parked.
            if expected == 'canary':
                until(lambda: detector(tools, server.process.pid) == 'canary')
            else:
                until(lambda: 'refused' in server.text())
                until(lambda: detector(tools, server.process.pid) in ('tick', 'none'))
            for connection in connections:
                connection.close()
            server.process.send_signal(signal.SIGTERM)
            code = server.process.wait(LIMIT_S)
        finally:
            server.process.kill()
            server.process.wait()
        text = server.text()
        assert code == 0, f'exit code {code}: {text[-1500:]}'
        assert text.count('cmwq report, pid') == 1, text[-1500:]
        lines = [line for line in text.splitlines() if line.startswith('cmwq: ')]
        assert len(lines) == len(set(lines)), lines
        assert sum('refused' in line for line in lines) == (expected == 'tick'), lines


def main():
    """Entry point."""
    *arguments, program = sys.argv[1:]
    tools = refused.Tools(*arguments)
    if tools.sanitized:
        refused.skip('the preload stays inert beside a sanitizer')
    here = tools.refused_here()
    failed = False
    for name in ('', *refused.FACILITIES):
        if name and tools.cannot(name):
            print(f'{name}: skipped: {tools.cannot(name)}')
            continue
        try:
            check(tools, name, program, here)
            print(f'without {name or "nothing"}: fine')
        except AssertionError as error:
            failed = True
            print(f'without {name or "nothing"}: {error}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
