#!/usr/bin/env python3
"""Every combination of refused facilities: the library works by what remains, says so, and doctor knows.

usage: refused_test.py PROBE REFUSE CMWQ PRELOAD SANITIZE
"""

import itertools
import json
import re
import subprocess
import sys

import refused

# One line per degradation, and what brings it about.
LINES = {
    r'cannot (create|register|use) an io_uring .*work functions wait': lambda r: 'io_uring' in r,
    r'cannot create an io_uring .*operations are polled for': lambda r: 'io_uring' in r,
    r'(affinity|SCHED_IDLE) refused .* tick': lambda r: r & {'affinity', 'sched_idle'},
    r'cannot place a worker on CPU': lambda r: 'affinity' in r,
    r'cannot read /proc/self/task': lambda r: 'proc' in r,
    r'switches=perf: .* refused': lambda r: 'perf' in r,
}


def expected_uses(gone):
    """How a process works when these are refused."""
    detector = 'tick' if gone & {'affinity', 'sched_idle'} else 'canary'
    return {
        'detector': detector + (' by CPU clock' if 'proc' in gone else ''),
        'waits': 'plain calls' if 'io_uring' in gone else 'io_uring',
        'workers': 'anywhere' if 'affinity' in gone else 'placed',
        'switches': 'getrusage' if 'perf' in gone else 'perf',
    }


def check_lines(errors, gone):
    """What is wrong with the lines that the library wrote."""
    problems = []
    rest = [line for line in errors.splitlines() if line.startswith('cmwq: ')]
    for pattern, because in LINES.items():
        found = [line for line in rest if re.search(pattern, line)]
        rest = [line for line in rest if line not in found]
        wanted = 1 if because(gone) else 0
        if len(found) != wanted:
            problems.append(f'{len(found)} lines like "{pattern}", not {wanted}')
    problems += [f'unexpected: {line}' for line in rest]
    return problems


def check_probe(tools, names, gone):
    """Runs the library."""
    # The rescuer and the hog detector have lines of their own, which depend on how slow the machine is.
    conf = f'log=6,mayday_initial_ms=60000,cpu_intensive_thresh_us=0,{refused.CONF}'
    env = refused.environment(CMWQ_CONF=conf)
    if 'proc' in names:
        # The leak checker of a sanitized build looks for threads there.
        env['ASAN_OPTIONS'] = env.get('ASAN_OPTIONS', '') + ':detect_leaks=0'
    done = subprocess.run([tools.probe, ','.join(names)], env=env, capture_output=True, text=True,
                          timeout=300, check=False)
    if done.returncode != 0:
        return [f'probe: exit code {done.returncode}: {done.stderr[-1500:]}']
    uses = json.loads(done.stdout)
    wanted = expected_uses(gone)
    if uses['workers'] == 'unknown':
        del uses['workers'], wanted['workers']
    problems = [] if uses == wanted else [f'probe: uses {uses}, not {wanted}']
    return problems + check_lines(done.stderr, gone)


def check_doctor(tools, names, gone, here):
    """Asks doctor what a process would do."""
    report = tools.doctor(names)
    wanted = expected_uses(gone)
    problems = [] if report['uses'] == wanted else [f'doctor: {report["uses"]}, not {wanted}']
    statuses = {finding['name']: finding for finding in report['findings']}
    for name in names:
        finding = statuses[refused.FINDINGS[name]]
        usual = 'note' if name == 'bpf' else 'warn'
        if finding['status'] != usual:
            problems.append(f'doctor: {finding}')
        if usual == 'warn' and not finding['hint']:
            problems.append(f'doctor: no hint for {name}')
    if not here['worse'] and report['exit_code'] != (1 if gone - {'bpf'} else 0):
        problems.append(f'doctor: exit code {report["exit_code"]}')
    return problems


def main():
    """Entry point."""
    tools = refused.Tools(*sys.argv[1:])
    here = tools.refused_here()
    failed = 0
    count = 0
    for size in range(len(refused.FACILITIES) + 1):
        for names in itertools.combinations(refused.FACILITIES, size):
            if 'proc' in names and tools.cannot('proc'):
                continue
            gone = set(names) | here['names']
            problems = check_probe(tools, names, gone)
            if not tools.sanitized:
                problems += check_doctor(tools, names, gone, here)
            count += 1
            for problem in problems:
                print(f'without {", ".join(names) or "nothing"}: {problem}')
            failed += bool(problems)
    print(f'{count} combinations, {failed} failed; refused here anyway: {sorted(here["names"])}')
    if failed:
        return 1
    if tools.cannot('proc'):
        refused.skip(f'half of the combinations: {tools.cannot("proc")}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
