#!/usr/bin/env python3
"""cmwq as others get it: as a Meson subproject, and installed with pkg-config. Needs no network.

Exit status 77: a tool that the test needs is missing.
"""

import argparse
import glob
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SKIP = 77


class Failed(Exception):
    pass


def run(command, cwd=None, extra_env=None, timeout=540):
    env = dict(os.environ)
    env.pop('DESTDIR', None)
    env.update(extra_env or {})
    result = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True,
                            timeout=timeout)
    if result.returncode != 0:
        raise Failed(f'{" ".join(command)}: status {result.returncode}\n'
                     f'{result.stdout[-4000:]}\n{result.stderr[-4000:]}')
    return result.stdout


def expect(condition, text):
    if not condition:
        raise Failed(text)
    print(f'ok: {text}')


def needed(program):
    """The shared libraries that an executable asks for."""
    text = run(['readelf', '-d', program])
    return [line.split('[')[1].split(']')[0] for line in text.splitlines() if '(NEEDED)' in line]


def check_consumers(c_program, cc_program, env=None):
    out = run([c_program], extra_env=env, timeout=60)
    expect(out.startswith('executed 64 version '), 'the C99 consumer runs: ' + out.strip())
    out = run([cc_program], extra_env=env, timeout=60)
    expect(out.startswith('served 32'), 'the C++17 consumer runs: ' + out.strip())


def subproject(args, temp):
    parent = os.path.join(temp, 'parent')
    shutil.copytree(os.path.join(HERE, 'parent'), parent)
    os.makedirs(os.path.join(parent, 'subprojects'))
    os.rename(os.path.join(parent, 'cmwq.wrap'), os.path.join(parent, 'subprojects', 'cmwq.wrap'))
    os.symlink(args.source, os.path.join(parent, 'subprojects', 'cmwq'))
    build = os.path.join(temp, 'build')
    # The preload is not part of what a parent links; leaving it out halves the time.
    run([args.meson, 'setup', build, parent, '--wrap-mode=nodownload',
         f'-Ddefault_library={args.default_library}', '-Dcmwq:preload=disabled'])
    run([args.meson, 'compile', '-C', build])
    c_program, cc_program = (os.path.join(build, n) for n in ('consumer-c', 'consumer-cc'))
    linked = [n for n in needed(c_program) if n.startswith('libcmwq')]
    if args.default_library == 'static':
        expect(not linked, 'a static consumer needs no libcmwq.so')
    else:
        expect(linked == ['libcmwq.so.0'], f'a shared consumer needs libcmwq.so.0: {linked}')
    check_consumers(c_program, cc_program)
    tree = glob.glob(os.path.join(build, 'subprojects', 'cmwq', '**'), recursive=True)
    built = [os.path.basename(p) for p in tree if os.path.isfile(p)]
    expect('cmwq' not in built and not any(n.endswith('_test') for n in built),
           'tools and tests stay off inside a parent')


def installed(args, temp):
    for program in ('pkg-config', 'cc', 'c++', 'readelf'):
        if shutil.which(program) is None:
            print(f'skipped: no {program}')
            return SKIP
    root = os.path.join(temp, 'root')
    run([args.meson, 'install', '-C', args.build, '--destdir', root, '--quiet'])
    pkgconfig = glob.glob(os.path.join(root, '**', 'cmwq.pc'), recursive=True)
    expect(len(pkgconfig) == 1, 'one cmwq.pc is installed')
    libdir = os.path.dirname(os.path.dirname(pkgconfig[0]))
    env = {'PKG_CONFIG_LIBDIR': os.path.dirname(pkgconfig[0]), 'PKG_CONFIG_PATH': '',
           'PKG_CONFIG_SYSROOT_DIR': root, 'LD_LIBRARY_PATH': libdir}
    def ask(option):
        return run(['pkg-config', option, 'cmwq'], extra_env=env).split()
    expect(ask('--modversion') == [args.version], f'pkg-config says version {args.version}')
    flags = ask('--cflags')
    expect(not any('absl' in f or 'std=' in f for f in flags), f'cflags are clean: {flags}')
    libs = ask('--libs')
    source = os.path.join(HERE, 'parent')
    programs = []
    for compiler, std, name in (('cc', 'c99', 'consumer.c'), ('c++', 'c++17', 'consumer.cc')):
        program = os.path.join(temp, name.replace('.', '-'))
        run([compiler, f'-std={std}', '-Wall', '-Werror', *flags, os.path.join(source, name),
             '-o', program, *libs])
        programs.append(program)
    check_consumers(*programs, env=env)
    check_absl(temp, os.path.dirname(pkgconfig[0]), env)
    headers = {os.path.basename(p) for p in
               glob.glob(os.path.join(root, '**', 'include', 'cmwq', '*'), recursive=True)}
    public = {os.path.basename(p) for p in
              glob.glob(os.path.join(args.source, 'include', 'cmwq', '*.h*'))}
    expect(headers == public, f'exactly the public headers are installed: {sorted(headers)}')
    check_command(root, libdir, env)
    return 0


def check_absl(temp, pkgconfig, env):
    """cmwq-absl, where this build has it: its own file for pkg-config, and abseil's."""
    if not os.path.exists(os.path.join(pkgconfig, 'cmwq-absl.pc')):
        print('no cmwq-absl in this build: it is not tried')
        return
    folders = run(['pkg-config', '--variable', 'pc_path', 'pkg-config']).strip()
    env = {**env, 'PKG_CONFIG_LIBDIR': f'{pkgconfig}:{folders}', 'CMWQ_CONF': 'canary=0'}
    flags, libs = (run(['pkg-config', option, 'cmwq-absl'], extra_env=env).split()
                   for option in ('--cflags', '--libs'))
    program = os.path.join(temp, 'absl-consumer')
    run(['c++', '-std=c++17', '-Wall', *flags, os.path.join(HERE, 'absl_consumer.cc'), '-o', program,
         *libs])
    out = run([program], extra_env=env, timeout=60)
    expect(out.strip() == 'the wait was announced', 'the consumer of cmwq-absl runs: ' + out.strip())


def check_command(root, libdir, env):
    commands = glob.glob(os.path.join(root, '**', 'bin', 'cmwq'), recursive=True)
    if not commands:
        print('no tools in this build: cmwq run is not tried')
        return
    preload = os.path.join(libdir, 'cmwq', 'libcmwq-preload.so')
    if not os.path.exists(preload):
        print('no preload in this build: cmwq run is not tried')
        return
    maps = run([commands[0], 'run', '--', 'cat', '/proc/self/maps'], extra_env=env, timeout=60)
    expect(os.path.realpath(preload) in maps, 'cmwq run finds the preload beside it')
    outside = os.path.join(os.path.dirname(root), 'elsewhere')
    os.makedirs(outside)
    out = run([commands[0], 'run', '--', 'pwd'], cwd=outside, extra_env=env, timeout=60)
    expect(out.strip() == os.path.realpath(outside), 'from any directory')


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('mode', choices=['subproject', 'installed'])
    parser.add_argument('--meson', default='meson')
    parser.add_argument('--source', required=True)
    parser.add_argument('--build')
    parser.add_argument('--version')
    parser.add_argument('--default-library', default='shared')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='cmwq-install-') as temp:
        try:
            return (subproject if args.mode == 'subproject' else installed)(args, temp) or 0
        except Failed as failure:
            print(f'FAILED: {failure}')
            return 1


if __name__ == '__main__':
    sys.exit(main())
