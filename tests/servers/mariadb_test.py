#!/usr/bin/env python3
"""Debian's MariaDB under sysbench, with the preload, and with the preload switched off.

usage: mariadb_test.py CMWQ [--as-nobody]
"""

import os
import re
import subprocess
import sys

import servers

CONNECTIONS = 256


class Database:
    """A private server in a folder."""

    def __init__(self, folder, cmwq, prefix):
        self.folder = folder
        self.cmwq = cmwq
        self.prefix = prefix
        self.mariadbd = servers.find('mariadbd', 'mysqld')
        self.socket = f'{folder}/socket'
        self.log = f'{folder}/error.log'
        self.server = None

    def install(self):
        """Fills an empty data folder."""
        command = self.prefix + [
            servers.find('mariadb-install-db', 'mysql_install_db'), '--no-defaults',
            f'--datadir={self.folder}/data', '--auth-root-authentication-method=normal',
            '--skip-test-db', '--skip-name-resolve']
        if os.geteuid() == 0 and not self.prefix:
            command += ['--user=root', '--rpm']
        done = subprocess.run(command, env=servers.environment(), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
                              check=False)
        assert done.returncode == 0, done.stdout.decode(errors='replace')[-3000:]
        with open(f'{self.folder}/init.sql', 'w') as f:
            f.write('CREATE DATABASE IF NOT EXISTS sbtest;\n')
        os.chmod(f'{self.folder}/init.sql', 0o644)

    def start(self, name, run_options, **settings):
        """Starts it; `run_options` None: without cmwq."""
        command = self.prefix + [] if run_options is None else (
            self.prefix + [self.cmwq, 'run', *run_options, '--'])
        command += [
            self.mariadbd, '--no-defaults', f'--datadir={self.folder}/data',
            f'--socket={self.socket}', f'--pid-file={self.folder}/pid', f'--log-error={self.log}',
            f'--init-file={self.folder}/init.sql', '--skip-networking', '--skip-name-resolve',
            '--skip-log-bin', '--innodb-buffer-pool-size=128M', '--max-connections=400',
            '--max-prepared-stmt-count=1048576']
        if os.geteuid() == 0 and not self.prefix:
            command.append('--user=root')
        self.server = servers.Server(command, f'{self.folder}/{name}.out',
                                     servers.environment(**settings))
        ping = [servers.find('mariadb-admin', 'mysqladmin'), '--no-defaults', '--user=root',
                f'--socket={self.socket}', 'ping']
        self.server.await_ready(lambda: subprocess.run(
            ping, env=servers.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=False).returncode == 0)

    def sysbench(self, test, command, *options):
        """Runs it; its output."""
        done = subprocess.run(
            [servers.find('sysbench'), test, f'--mysql-socket={self.socket}', '--mysql-user=root',
             '--tables=4', '--table-size=5000', *options, command],
            env=servers.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=servers.seconds() + 300, check=False)
        text = done.stdout.decode(errors='replace')
        assert done.returncode == 0 and 'FATAL' not in text, text[-3000:]
        return text

    def load(self, test):
        """The load proper: queries made."""
        text = self.sysbench(test, 'run', f'--threads={CONNECTIONS}', '--report-interval=0',
                             f'--time={servers.seconds()}')
        reconnects = re.search(r'reconnects:\s+(\d+)', text)
        assert reconnects is None or reconnects.group(1) == '0', text
        queries = int(re.search(r'total:\s+(\d+)', text).group(1))
        rate = re.search(r'queries:\s+\d+\s+\(([\d.]+) per sec', text).group(1)
        longest = re.search(r'max:\s+([\d.]+)', text).group(1)
        print(f'{test}: {queries} queries, {rate}/s, longest {longest} ms')
        return queries

    def stop(self):
        """Ends it in order; everything that it and cmwq wrote, wherever it turned its output to."""
        code = self.server.stop()
        output = self.server.text()
        assert code == 0, f'exit code {code}:\n{output[-3000:]}'
        with open(self.log, errors='replace') as f:
            log = f.read()
        os.unlink(self.log)
        assert '[ERROR]' not in log, log[-5000:]
        return output + log


def serve(database, name, run_options, check, **settings):
    """One life of the server under load."""
    print(f'--- {name}')
    database.start(name, run_options, **settings)
    queries = database.load('oltp_read_write')
    check(database.stop(), queries)


def check_managed(output, queries):
    """Each query of the load was a request."""
    requests = servers.check_report(output, queries // 2)
    print(f'{requests} requests')


def main():
    """Entry point."""
    cmwq, *options = sys.argv[1:]
    prefix = []
    if '--as-nobody' in options:
        if os.geteuid() != 0 or servers.find('setpriv') is None:
            servers.skip('needs root and setpriv')
        prefix = ['setpriv', '--reuid', 'nobody', '--clear-groups']
    for names in (('mariadbd', 'mysqld'), ('mariadb-install-db', 'mysql_install_db'),
                  ('mariadb-admin', 'mysqladmin'), ('sysbench',)):
        if servers.find(*names) is None:
            servers.skip(f'{names[0]} is not installed')
    with servers.Folder() as folder:
        if prefix:
            os.chown(folder, 65534, 65534)
        database = Database(folder, cmwq, prefix)
        database.install()
        database.start('prepare', None)
        database.sysbench('oltp_read_write', 'prepare')
        servers.check_silent(database.stop())
        serve(database, 'cmwq', ['--report'], check_managed)
        serve(database, 'disabled', ['--disable', '--report'],
              lambda output, queries: servers.check_silent(output))
    return 0


if __name__ == '__main__':
    sys.exit(main())
