"""What the tests of refused facilities share."""

import json
import os
import subprocess
import sys

SKIP = 77
# Without it nobody would ask for perf.
CONF = 'switches=perf'
FACILITIES = ('affinity', 'bpf', 'io_uring', 'perf', 'proc', 'sched_idle')
# Facility -> doctor's line about it.
FINDINGS = {
    'affinity': 'affinity',
    'bpf': 'bpf',
    'io_uring': 'io_uring',
    'perf': 'perf',
    'proc': 'task state',
    'sched_idle': 'sched_idle',
}


def skip(reason):
    """Ends the test as not applicable here."""
    print(f'skipped: {reason}')
    sys.exit(SKIP)


def environment(**settings):
    """The caller's without cmwq's settings, and with these."""
    env = {k: v for k, v in os.environ.items() if not k.startswith('CMWQ_') and k != 'LD_PRELOAD'}
    env.update(settings)
    return env


class Tools:
    """The programs under test."""

    def __init__(self, probe, refuse, cmwq, preload, sanitize='none'):
        self.probe, self.refuse, self.cmwq, self.preload = probe, refuse, cmwq, preload
        # A sanitizer's run-time needs /proc when a program starts.
        self.sanitized = sanitize != 'none'
        if self.cannot('affinity'):
            skip(self.cannot('affinity'))

    def cannot(self, name):
        """Why this facility cannot be taken away here, or an empty string."""
        done = subprocess.run([self.refuse, name, '/bin/true'], capture_output=True, text=True,
                              timeout=60, check=False)
        return done.stderr.strip() if done.returncode == SKIP else ''

    def doctor(self, names, *arguments):
        """Doctor's report without these facilities."""
        command = [self.cmwq, 'doctor', '--json', *arguments]
        if names:
            command = [self.refuse, ','.join(names), *command]
        done = subprocess.run(command, env=environment(CMWQ_PRELOAD=self.preload, CMWQ_CONF=CONF),
                              capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode in (0, 1, 2) and done.stdout, (done.returncode, done.stderr)
        report = json.loads(done.stdout)
        assert report['exit_code'] == done.returncode, report
        return report

    def refused_here(self):
        """What this machine refuses by itself, and whether that spoils doctor's exit code."""
        report = self.doctor(())
        statuses = {finding['name']: finding['status'] for finding in report['findings']}
        names = {name for name, finding in FINDINGS.items() if statuses[finding] != 'ok'}
        return {'names': names, 'worse': report['exit_code'] != 0}
