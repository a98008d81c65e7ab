#!/usr/bin/env python3
"""Checks that the preload leaves alone what it must, says so once, and says nothing when disabled.

usage: test_inert.py PRELOAD PROGRAM WORK_FOLDER C_COMPILER...

PROGRAM is any victim that ends with exit code 0.
"""

import os
import pathlib
import shutil
import subprocess
import sys

SAYS = 'cmwq: inert: '

GO_NOTE = r'''
__attribute__((section(".note.go.buildid"), aligned(4), used)) static const struct {
  int name_size, text_size, type;
  char name[4];
  char text[4];
} note = {4, 4, 4, "Go\0", "id"};
int main(void) { return 0; }
'''
SANITIZER = '__attribute__((visibility("default"))) void __tsan_init(void) {}\n' \
            'int main(void) { return 0; }\n'
PLAIN = 'int main(void) { return 0; }\n'


class Case:
    """Runs programs and collects what is wrong."""

    def __init__(self, preload, folder, compiler):
        self.preload = preload
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.compiler = compiler
        self.problems = []

    def build(self, name, text, *arguments):
        """Compiles a C program; returns its path."""
        source = self.folder / f'{name}.c'
        source.write_text(text, encoding='ascii')
        program = self.folder / name
        subprocess.run([*self.compiler, str(source), '-o', str(program), *arguments], check=True)
        return str(program)

    def run(self, command, **extra):
        """Returns what the command writes to descriptor 2."""
        env = {k: v for k, v in os.environ.items() if not k.startswith('CMWQ_')}
        env['LD_PRELOAD'] = self.preload
        env.update(extra)
        done = subprocess.run(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                              timeout=60, check=False)
        if done.returncode != 0:
            self.problems.append(f'{command} {extra}: exit code {done.returncode}')
        return done.stderr.decode()

    def expect(self, what, got, wanted):
        """Notes a difference."""
        if got != wanted:
            self.problems.append(f'{what}: wrote {got!r}, not {wanted!r}')


def check_inert(case):
    """Programs that are left alone, with a line that says why."""
    go_program = case.build('go_program', GO_NOTE)
    sanitized = case.build('sanitized', SANITIZER, '-rdynamic')
    plain = case.build('plain', PLAIN)
    case.expect('Go', case.run([go_program]), SAYS + 'Go program\n')
    case.expect('Go, quiet', case.run([go_program], CMWQ_QUIET='1'), '')
    case.expect('Go, disabled', case.run([go_program], CMWQ_DISABLE='1'), '')
    case.expect('sanitizer', case.run([sanitized]), SAYS + 'sanitizer\n')
    case.expect('ordinary', case.run([plain]), '')
    pretend = case.folder / 'vgpreload_pretended.so'
    shutil.copy(case.preload, pretend)
    case.expect('valgrind', case.run([plain], LD_PRELOAD=str(pretend)), SAYS + 'valgrind\n')
    static = case.build('static_program', PLAIN, '-static')
    case.expect('static', case.run([static]), '')
    # No descriptor 2: the line must not land in a file that takes the number.
    script = f'exec 2>&-; exec {go_program}'
    case.expect('closed descriptor', case.run(['/bin/sh', '-c', script]), '')


def check_set_id(case):
    """The loader drops the preload from set-id programs; they must run as ever."""
    if os.geteuid() != 0:
        print('set-id: skipped, needs root')
        return
    program = case.build('set_id', PLAIN)
    os.chown(program, 65534, 65534)
    os.chmod(program, 0o6755)
    errors = case.run([program])
    if SAYS in errors and 'set-id' not in errors:
        case.problems.append(f'set-id: wrote {errors!r}')


def check_file_capabilities(case):
    """The same for programs with file capabilities."""
    setcap = shutil.which('setcap', path=os.environ.get('PATH', '') + ':/usr/sbin:/sbin')
    if os.geteuid() != 0 or setcap is None:
        print('file capabilities: skipped, needs root and setcap')
        return
    program = case.build('capable', PLAIN)
    if subprocess.run([setcap, 'cap_net_bind_service+ep', program], stderr=subprocess.DEVNULL,
                      check=False).returncode != 0:
        print('file capabilities: skipped, this file system has none')
        return
    errors = case.run([program], CMWQ_REPORT='1')
    if 'requests' in errors:
        case.problems.append(f'file capabilities: wrote {errors!r}')


def check_children(case):
    """children=drop: what the program starts is not preloaded, other preloads are kept."""
    show = 'echo "[$LD_PRELOAD]" >&2; sh -c "grep -c libcmwq-preload /proc/self/maps" >&2'
    none = case.folder / 'none.so'
    subprocess.run([*case.compiler, '-shared', '-o', str(none), '-x', 'c', '/dev/null'], check=True)
    # The shell itself is started by the one that is preloaded.
    for before, after in (('', ''), (f'{none}:', ''), ('', f' {none}'), (f'{none}:', f':{none}')):
        preloads = before + case.preload + after
        wrote = case.run(['/bin/sh', '-c', f"sh -c '{show}'; true"], LD_PRELOAD=preloads,
                         CMWQ_CONF='children=drop')
        kept = ':'.join([str(none)] * bool(before) + [str(none)] * bool(after))
        case.expect(f'children=drop of {preloads}', wrote, f'[{kept}]\n0\n')
    wrote = case.run(['/bin/sh', '-c', 'sh -c \'echo "[$LD_PRELOAD]" >&2\'; true'],
                     CMWQ_CONF='children=keep')
    case.expect('children=keep', wrote, f'[{case.preload}]\n')


def check_report(case, program):
    """One report, at every way out, to descriptor 2 or to a file; none unless asked for."""
    case.expect('no report', case.run([program]), '')
    if not case.run([program], CMWQ_REPORT='1'):
        case.problems.append('report: nothing written')
    case.expect('report, disabled', case.run([program], CMWQ_REPORT='1', CMWQ_DISABLE='1'), '')
    for name, statement in (('exit', 'exit(0)'), ('_exit', '_exit(0)'), ('_Exit', '_Exit(0)'),
                            ('quick_exit', 'quick_exit(0)')):
        ending = case.build(f'ending_{name}', '#include <stdlib.h>\n#include <unistd.h>\n'
                            f'int main(void) {{ {statement}; }}\n')
        for old in case.folder.glob('report.*'):
            old.unlink()
        errors = case.run([ending], CMWQ_REPORT='1',
                          CMWQ_REPORT_FILE=str(case.folder / 'report.%p'))
        case.expect(name, errors, '')
        reports = list(case.folder.glob('report.*'))
        if len(reports) != 1 or not reports[0].name[7:].isdigit() or not reports[0].stat().st_size:
            case.problems.append(f'{name}: reports {reports}')


def main():
    """Entry point."""
    preload, program, folder, *compiler = sys.argv[1:]
    case = Case(preload, folder, compiler)
    check_inert(case)
    check_set_id(case)
    check_file_capabilities(case)
    check_children(case)
    check_report(case, program)
    print('\n'.join(case.problems))
    return 1 if case.problems else 0


if __name__ == '__main__':
    sys.exit(main())
