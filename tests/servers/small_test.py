#!/usr/bin/env python3
"""A threaded server in Python and the demo's server, with the preload and with it switched off.

usage: small_test.py CMWQ DEMO_SERVER
"""

import os
import socket
import sys
import threading
import time

import servers

CONNECTIONS = 64
PYTHON_SERVER = '''
import signal, socketserver, sys, threading
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        while True:
            got = self.request.recv(4096)
            if not got:
                return
            self.request.sendall(got.upper())
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 256
server = Server(('127.0.0.1', 0), Handler)
with open(sys.argv[1] + '.part', 'w') as f:
    f.write(str(server.server_address[1]))
import os
os.rename(sys.argv[1] + '.part', sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
'''


class Client(threading.Thread):
    """Asks until told to stop; counts what it asked and what was right."""

    def __init__(self, connect, ask, stop):
        super().__init__()
        self.connect, self.ask, self.stop = connect, ask, stop
        self.answered = 0
        self.error = None

    def run(self):
        try:
            while not self.stop.is_set():
                with self.connect() as connection:
                    connection.settimeout(30)
                    # Connections come and go.
                    for i in range(200):
                        if self.stop.is_set():
                            break
                        self.ask(connection, i)
                        self.answered += 1
        except (OSError, AssertionError) as error:
            self.error = error


def load(connect, ask):
    """Number of requests answered; every one was."""
    stop = threading.Event()
    clients = [Client(connect, ask, stop) for _ in range(CONNECTIONS)]
    for client in clients:
        client.start()
    time.sleep(min(servers.seconds(), 5))
    stop.set()
    for client in clients:
        client.join()
    errors = [client.error for client in clients if client.error is not None]
    assert not errors, errors[:5]
    return sum(client.answered for client in clients)


def receive(connection, size):
    """Exactly so many bytes."""
    got = b''
    while len(got) < size:
        part = connection.recv(size - len(got))
        assert part, 'hung up'
        got += part
    return got


def ask_python(connection, i):
    """One request and its answer."""
    text = f'request {i}'.encode()
    connection.sendall(text)
    assert receive(connection, len(text)) == text.upper()


def ask_demo(connection, i):
    """One request of the demo's protocol: a line, answered by its number and a value."""
    connection.sendall(f'PUT {i} {i} 7\n'.encode() if i % 2 else f'GET {i} {i}\n'.encode())
    got = b''
    while not got.endswith(b'\n'):
        got += receive(connection, 1)
    assert got.startswith(f'{i} '.encode()), got


def python_server(folder):
    """Its command, how to know that it is up, how to connect, how to ask."""
    script, port = f'{folder}/server.py', f'{folder}/port'
    with open(script, 'w') as f:
        f.write(PYTHON_SERVER)

    def connect():
        with open(port) as f:
            return socket.create_connection(('127.0.0.1', int(f.read())), timeout=30)

    return [sys.executable, script, port], lambda: os.path.exists(port), connect, ask_python


def demo_server(folder, program):
    """The same of the demo's server."""
    path = f'{folder}/socket'

    def connect():
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(path)
        return connection

    command = [program, f'--socket={path}', f'--journal={folder}/journal', '--rounds=1000']
    return command, lambda: os.path.exists(path), connect, ask_demo


def serve(cmwq, name, server, options, check):
    """One server's life."""
    with servers.Folder() as folder:
        command, is_ready, connect, ask = server(folder)
        process = servers.Server([cmwq, 'run', *options, '--', *command], f'{folder}/out',
                                 servers.environment())
        process.await_ready(is_ready, 20)
        answered = load(connect, ask)
        code = process.stop(limit_s=20)
        print(f'{name}: {answered} requests')
        assert code == 0, f'{name}: exit code {code}:\n{process.text()[-3000:]}'
        check(process.text(), answered)


def main():
    """Entry point."""
    cmwq, program = sys.argv[1:]
    kinds = {
        'python': python_server,
        'demo': lambda folder: demo_server(folder, program),
    }
    for kind, server in kinds.items():
        serve(cmwq, f'{kind}, cmwq', server, ['--report'],
              # A request that is there before it is waited for never comes to the gate.
              lambda output, answered: servers.check_report(output, answered // 10))
        serve(cmwq, f'{kind}, disabled', server, ['--disable', '--report'],
              lambda output, answered: servers.check_silent(output))
    return 0


if __name__ == '__main__':
    sys.exit(main())
