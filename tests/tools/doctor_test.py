#!/usr/bin/env python3
"""cmwq doctor: its output, its exit codes, and what it says of programs and processes.

usage: doctor_test.py CMWQ PRELOAD SANITIZE C_COMPILER...
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

CMWQ, PRELOAD, SANITIZE, *COMPILER = sys.argv[1:]
NAMES = ['kernel', 'sched_idle', 'slice', 'affinity', 'task state', 'close_range', 'io_uring',
         'futex_waitv', 'uevents', 'timer slack', 'autogroup', 'cpus', 'cpu quota', 'cpu.idle',
         'isolated cpus', 'nohz cpus', 'threads', 'descriptors', 'locked memory', '/dev/shm', 'perf',
         'bpf', 'umcg', 'container', 'seccomp', 'CMWQ_CONF', 'CMWQ_DISABLE', 'libc', 'preload',
         'LD_PRELOAD']
PLAIN = 'int main(void) { return 0; }\n'
LOADER = '#define _GNU_SOURCE\n#include <dlfcn.h>\nint main(void) { return !CALL; }\n'
GO_NOTE = '''
__attribute__((section(".note.go.buildid"), aligned(4), used)) static const struct {
  int name_size, text_size, type;
  char name[4];
  char text[4];
} note = {4, 4, 4, "Go\\0", "id"};
'''
NOBODY = 65534


def environment(settings):
    """The caller's without what doctor looks at, and with these."""
    env = {k: v for k, v in os.environ.items() if not k.startswith('CMWQ_') and k != 'LD_PRELOAD'}
    env['CMWQ_PRELOAD'] = PRELOAD
    env.update(settings)
    return env


def run(*arguments, cmwq=CMWQ, prepare=None, **settings):
    """Runs doctor."""
    return subprocess.run([cmwq, 'doctor', *arguments], env=environment(settings), timeout=120,
                          capture_output=True, text=True, check=False, preexec_fn=prepare)


def report(*arguments, **more):
    """Its JSON, with the findings by name."""
    done = run('--json', *arguments, **more)
    result = json.loads(done.stdout)
    assert result['exit_code'] == done.returncode, (result, done)
    result['by_name'] = {finding['name']: finding for finding in result['findings']}
    assert len(result['by_name']) == len(result['findings']), 'a name twice'
    return result


class DoctorTest(unittest.TestCase):
    """One folder for all the programs that are made up."""

    @classmethod
    def setUpClass(cls):
        holder = tempfile.TemporaryDirectory(prefix='cmwq-doctor-')
        cls.addClassCleanup(holder.cleanup)
        cls.folder = holder.name
        os.chmod(cls.folder, 0o755)

    def write(self, name, content, mode=0o755):
        """A file."""
        path = f'{self.folder}/{name}'
        with open(path, 'wb') as f:
            f.write(content if isinstance(content, bytes) else content.encode())
        os.chmod(path, mode)
        return path

    def build(self, name, text, *arguments):
        """A compiled C program."""
        source = self.write(name + '.c', text)
        path = f'{self.folder}/{name}'
        subprocess.run([*COMPILER, source, '-o', path, *arguments], check=True)
        return path

    def expect(self, target, status, text, **more):
        """What doctor says of a program."""
        result = report('--target', target, **more)
        finding = result['by_name']['target']
        self.assertEqual(finding['status'], status, finding)
        self.assertIn(text, finding['text'])
        if status == 'fail':
            self.assertEqual(result['exit_code'], 2)
        return result


class Output(DoctorTest):
    """Forms, options, exit codes."""

    def test_a_line_for_each_facility(self):
        result = report()
        self.assertEqual([finding['name'] for finding in result['findings']], NAMES)
        self.assertEqual(set(result['uses']), {'detector', 'waits', 'workers', 'switches'})
        for finding in result['findings']:
            self.assertIn(finding['status'], ('ok', 'note', 'warn', 'fail'))
            self.assertTrue(finding['text'])
            self.assertNotIn('\n', finding['text'] + finding['hint'])
        statuses = {finding['status'] for finding in result['findings']}
        code = 2 if 'fail' in statuses else 1 if 'warn' in statuses else 0
        self.assertEqual(result['exit_code'], code)
        self.assertEqual(result['verdict'], ('ok', 'degraded', 'unusable')[code])

    def test_text(self):
        done = run()
        lines = done.stdout.splitlines()
        for name, line in zip(NAMES, lines):
            self.assertRegex(line, f'^{name} \\.* ?(OK  |NOTE|WARN|FAIL)  ')
        self.assertIn('a process started here:', lines)
        self.assertEqual(done.stderr, '')
        quiet = run('-q').stdout
        self.assertEqual(quiet.splitlines(),
                         [line for line in lines if ' WARN  ' in line or ' FAIL  ' in line])

    def test_usage(self):
        for wrong in (['--pid', '0'], ['--pid', 'x'], ['--wrong'], ['--target', ''],
                      ['--target', '/bin/true', '/bin/true']):
            done = run(*wrong)
            self.assertEqual((done.returncode, done.stdout), (2, ''), wrong)
            self.assertIn("'cmwq help doctor'", done.stderr)
        done = run('--help')
        self.assertEqual(done.returncode, 0)
        for option in ('--json', '--pid', '--target', '--quiet', 'Exit code'):
            self.assertIn(option, done.stdout)

    def test_result_that_cannot_be_written(self):
        with open('/dev/full', 'w') as full:
            done = subprocess.run([CMWQ, 'doctor'], env=environment({}), stdout=full, timeout=120,
                                  stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b'cannot write', done.stderr)


class Settings(DoctorTest):
    """The environment."""

    def test_conf(self):
        self.assertEqual(report(CMWQ_CONF='log=3')['by_name']['CMWQ_CONF']['status'], 'ok')
        result = report(CMWQ_CONF='canry=1,tick_ms=0')
        finding = result['by_name']['CMWQ_CONF']
        self.assertEqual(finding['status'], 'warn')
        self.assertIn("did you mean 'canary'", finding['text'])
        self.assertIn('tick_ms=0', finding['text'])
        self.assertGreaterEqual(result['exit_code'], 1)
        self.assertEqual(run(CMWQ_CONF='canry=1').stderr, '')

    def test_conf_decides_what_is_used(self):
        uses = report(CMWQ_CONF='canary=0,io_uring=0')['uses']
        self.assertEqual((uses['detector'], uses['waits']), ('none', 'plain calls'))

    def test_disable(self):
        self.assertEqual(report(CMWQ_DISABLE='1')['by_name']['CMWQ_DISABLE']['status'], 'warn')
        self.assertEqual(report(CMWQ_DISABLE='0')['by_name']['CMWQ_DISABLE']['status'], 'note')

    def test_preload(self):
        missing = report(CMWQ_PRELOAD=self.folder + '/none.so')
        self.assertEqual(missing['by_name']['preload']['status'], 'fail')
        self.assertEqual(missing['exit_code'], 2)
        damaged = self.write('damaged.so', b'\x7fELF')
        self.assertEqual(report(CMWQ_PRELOAD=damaged)['by_name']['preload']['status'], 'fail')
        other = self.build('libneeded.so', 'int needed(void) { return 1; }\n', '-shared', '-fPIC')
        unloadable = self.build('unloadable.so', 'int needed(void);\n'
                                'int f(void) { return needed(); }\n', '-shared', '-fPIC', other)
        os.unlink(other)
        if SANITIZE == 'none':
            finding = report()['by_name']['preload']
            self.assertEqual(finding['status'], 'ok', finding)
            # What would make the preload write something is no complaint.
            finding = report(CMWQ_REPORT='1', CMWQ_QUIET='1', CMWQ_CONF='x=1')['by_name']['preload']
            self.assertEqual(finding['status'], 'ok', finding)
            finding = report(CMWQ_PRELOAD=unloadable)['by_name']['preload']
            self.assertEqual(finding['status'], 'fail', finding)
            self.assertIn('libneeded.so', finding['text'])
        with open(unloadable, 'rb') as f:
            other = bytearray(f.read())
        other[18:20] = struct.pack('<H', 243)
        finding = report(CMWQ_PRELOAD=self.write('riscv.so', bytes(other)))['by_name']['preload']
        self.assertEqual(finding['status'], 'fail')
        self.assertIn('another machine', finding['text'])

    @unittest.skipIf(SANITIZE != 'none', 'a sanitizer must be the first preload')
    def test_other_preloads(self):
        other = self.build('other.so', 'int unused;\n', '-shared', '-fPIC')
        finding = report(LD_PRELOAD=other)['by_name']['LD_PRELOAD']
        self.assertEqual(finding['status'], 'note')
        finding = report(LD_PRELOAD=f'{other} {PRELOAD}')['by_name']['LD_PRELOAD']
        self.assertEqual(finding['status'], 'warn')
        finding = report(LD_PRELOAD=f'{PRELOAD}:{other}')['by_name']['LD_PRELOAD']
        self.assertEqual(finding['status'], 'note')
        self.assertEqual(report(LD_PRELOAD=PRELOAD)['by_name']['LD_PRELOAD']['status'], 'ok')


@unittest.skipIf(SANITIZE != 'none', 'programs without the sanitizer are judged alike')
class Target(DoctorTest):
    """Programs of each kind."""

    def test_plain(self):
        plain = self.build('plain', PLAIN)
        self.expect(plain, 'ok', plain)
        finding = report('--', plain, '--json')['by_name']['target']
        self.assertEqual(finding['status'], 'ok')

    def test_static(self):
        self.expect(self.build('static', PLAIN, '-static'), 'fail', 'is statically linked:')
        self.expect(self.build('static_pie', PLAIN, '-static-pie'), 'fail', '(static-pie)')

    def test_go_and_musl(self):
        self.expect(self.build('go', GO_NOTE + 'int _start(void) { return 0; }\n', '-nostdlib',
                               '-static'), 'fail', 'Go program without libc')
        # The interpreter need not exist: the compiler's own libc is used to link.
        self.expect(self.build('musl', PLAIN, '-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1'), 'fail',
                    'musl')

    def test_other_machines(self):
        with open(self.build('machine', PLAIN), 'rb') as f:
            program = bytearray(f.read())
        program[18:20] = struct.pack('<H', 243)
        self.expect(self.write('riscv', bytes(program)), 'fail', 'riscv')
        # The header of a 32-bit program is all that the machine is known by.
        header = b'\x7fELF\x01\x01\x01' + bytes(9) + struct.pack('<HHI', 2, 3, 1) + bytes(28)
        self.expect(self.write('i386', header), 'fail', 'i386')

    def test_damaged_and_no_program(self):
        with open(self.build('whole', PLAIN), 'rb') as f:
            program = f.read()
        self.expect(self.write('truncated', program[:64]), 'fail', 'damaged')
        self.expect(self.write('short', program[:10]), 'fail', 'neither')
        self.expect(self.write('text', 'hello\n'), 'fail', 'neither')
        self.expect(self.write('empty', ''), 'fail', 'neither')
        self.expect(self.write('data', program, 0o644), 'fail', 'not executable')
        self.expect(self.folder, 'fail', 'is no file')
        self.expect(self.folder + '/none', 'fail', 'No such file')
        self.expect('no-program-has-this-name', 'fail', 'not found in PATH')

    def test_scripts(self):
        plain = self.build('interpreter', PLAIN)
        script = self.write('script', f'#!{plain} -x\n')
        self.expect(script, 'ok', 'is a script')
        self.expect(self.write('twice', f'#! {script}\n'), 'ok', plain)
        self.expect(self.write('by_env', '#!/usr/bin/env -S interpreter\n'), 'ok', plain,
                    PATH=self.folder + ':' + os.environ['PATH'])
        self.expect(self.write('dangling', '#!/nowhere/interpreter\n'), 'fail', 'No such file')
        self.expect(self.write('unknown', '#!/usr/bin/env no-such-interpreter\n'), 'fail',
                    'no-such-interpreter')
        static = self.build('static_interpreter', PLAIN, '-static')
        self.expect(self.write('static_script', f'#!{static}\n'), 'fail', 'is a script and')
        loop = self.write('loop', f'#!{self.folder}/loop\n')
        self.expect(loop, 'fail', 'neither')

    def test_loaders(self):
        for name, call, status in (('dlopen', 'dlopen("x", 1)', 'note'),
                                   ('dlmopen', 'dlmopen(-1, "x", 1)', 'warn')):
            program = self.build(name, LOADER.replace('CALL', call), '-ldl')
            finding = report('--target', program)['by_name']['target libraries']
            self.assertEqual(finding['status'], status, finding)
        plain = self.build('loads_none', PLAIN)
        subprocess.run(['strip', plain], check=False)
        self.assertEqual(report('--target', plain)['by_name']['target libraries']['status'], 'ok')

    @unittest.skipIf(os.geteuid() != 0, 'needs root, to make a program of another user')
    def test_secure_mode(self):
        with open('/proc/self/status', encoding='ascii') as f:
            if 'NoNewPrivs:\t1' in f.read():
                self.skipTest('no program gains privilege here')
        volume = os.statvfs(self.folder)
        if volume.f_flag & os.ST_NOSUID:
            self.skipTest('this file system ignores set-user-ID')
        program = self.build('set_id', PLAIN)
        os.chown(program, NOBODY, NOBODY)
        os.chmod(program, 0o4755)
        self.expect(program, 'fail', 'is set-user-ID')
        os.chmod(program, 0o2755)
        self.expect(program, 'fail', 'is set-group-ID')
        os.chmod(program, 0o755)
        self.expect(program, 'ok', program)
        # vfs_cap_data of revision 2 with one capability, net_bind_service.
        try:
            os.setxattr(program, 'security.capability', struct.pack('<IIIII', 0x02000001, 1 << 10, 0, 0, 0))
        except OSError as error:
            self.skipTest(f'no file capabilities: {error}')
        self.expect(program, 'ok', program)  # root gains nothing by them
        result = self.expect(program, 'fail', 'has file capabilities', **self.as_nobody())
        self.assertEqual(result['exit_code'], 2)

    @unittest.skipIf(os.geteuid() != 0, 'needs root, to become another user')
    def test_unreadable(self):
        secret = self.build('secret', PLAIN)
        os.chmod(secret, 0o711)
        self.expect(secret, 'fail', 'cannot be read', **self.as_nobody())

    def as_nobody(self):
        """Doctor and preload where anybody reads them, run by a user without privilege."""
        cmwq, preload = self.folder + '/cmwq', self.folder + '/libcmwq-preload.so'
        for source, copy in ((CMWQ, cmwq), (PRELOAD, preload)):
            shutil.copyfile(source, copy)
            os.chmod(copy, 0o755)

        def drop():
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        return {'cmwq': cmwq, 'CMWQ_PRELOAD': preload, 'prepare': drop}


class Process(DoctorTest):
    """Running processes."""

    def test_without_cmwq(self):
        result = report('--pid', str(os.getpid()))
        self.assertEqual(result['by_name']['pid']['status'], 'ok')
        self.assertEqual(result['by_name']['pid libraries']['status'], 'warn')
        self.assertGreaterEqual(result['exit_code'], 1)

    @unittest.skipIf(SANITIZE != 'none', 'a sanitizer must be the first preload')
    def test_with_the_preload(self):
        for disable in ('', '1'):
            env = environment({'LD_PRELOAD': PRELOAD, 'CMWQ_DISABLE': disable})
            # It answers once, so it has been started for good, and waits for the end of its input.
            with subprocess.Popen(['cat'], env=env, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE) as process:
                process.stdin.write(b'x')
                process.stdin.flush()
                process.stdout.read(1)
                result = report('--pid', str(process.pid))
                process.stdin.close()
            self.assertEqual(result['by_name']['pid libraries']['text'], 'the preload')
            self.assertEqual('pid CMWQ_DISABLE' in result['by_name'], disable == '1')

    def test_no_process(self):
        with subprocess.Popen(['true']) as gone:
            gone.wait()
        result = report('--pid', str(gone.pid))
        self.assertEqual(result['by_name']['pid']['status'], 'fail')
        self.assertEqual(result['exit_code'], 2)


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
