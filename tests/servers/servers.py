"""What the tests of whole servers share: skipping, starting and stopping, settings."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SKIP = 77
REPORT = 'cmwq report, pid'


def skip(reason):
    """Ends the test as not applicable here."""
    print(f'skipped: {reason}')
    sys.exit(SKIP)


def find(*names):
    """The first of the programs that is installed, also where only root looks."""
    path = os.environ.get('PATH', '') + ':/usr/sbin:/usr/local/sbin'
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    return None


def seconds():
    """Length of a load."""
    return int(os.environ.get('CMWQ_SERVERS_SECONDS', '20'))


def environment(**settings):
    """The caller's without cmwq's settings, and with these."""
    env = {k: v for k, v in os.environ.items() if not k.startswith('CMWQ_') and k != 'LD_PRELOAD'}
    env.update(settings)
    return env


class Folder:
    """A folder that is gone afterwards, unless the test failed."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix='server-test-')
        os.chmod(self.path, 0o755)

    def __enter__(self):
        return self.path

    def __exit__(self, kind, value, trace):
        if kind is None:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            print(f'left behind: {self.path}')


class Server:
    """A process with its output in a file."""

    def __init__(self, command, output, env):
        self.output = output
        # Closed here at once: the child has its own.
        with open(output, 'wb') as out:
            self.process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=subprocess.STDOUT)

    def text(self):
        """Everything it wrote so far."""
        with open(self.output, errors='replace') as f:
            return f.read()

    def await_ready(self, is_ready, limit_s=60):
        """Waits until is_ready() holds."""
        end = time.monotonic() + limit_s
        while not is_ready():
            if self.process.poll() is not None:
                code = self.process.returncode
                raise AssertionError(f'ended with {code}:\n{self.text()[-1500:]}')
            if time.monotonic() > end:
                self.process.kill()
                raise AssertionError(f'not ready after {limit_s} s:\n{self.text()[-1500:]}')
            time.sleep(0.05)

    def stop(self, how=signal.SIGTERM, limit_s=120):
        """Asks it to end; its exit code."""
        self.process.send_signal(how)
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f'did not end:\n{self.text()[-1500:]}') from None


def report_rows(text):
    """The rows of the pools in a report: lists of numbers, without the name."""
    rows = []
    for line in text.split(REPORT, 1)[-1].splitlines():
        words = line.split()
        if words and words[0].startswith('cpu') and words[0][3:].isdigit():
            rows.append([int(word) for word in words[1:]])
    return rows


def check_report(text, least_requests):
    """A report is there, once, and says what can be true."""
    assert text.count(REPORT) == 1, f'{text.count(REPORT)} reports:\n{text[-1500:]}'
    rows = report_rows(text)
    assert rows, text[-1500:]
    requests = sum(row[2] for row in rows)
    assert requests >= least_requests, f'{requests} requests, expected {least_requests}'
    for _, peak, count, direct, held, *_ in rows:
        assert count == direct + held, rows
        assert peak > 0 or count == 0, rows
    # Held for 292 years would be an underflow.
    assert all(row[6] < 3600 * 1_000_000 for row in rows), rows
    return requests


def check_silent(text):
    """Nothing of cmwq in the output."""
    assert 'cmwq' not in text, text[-1500:]
