#!/usr/bin/env python3
"""Checks what the preload exports against the running C library.

usage: test_symbols.py PRELOAD GENSYMS SOURCE...

- exactly the names of the export macros, as functions, without a version;
- every exported name is one that the C library has, or has our prefix;
- every other name that the C library gives a wrapped function, so that no caller gets past a
  wrapper by an alias.
"""

import importlib.util
import pathlib
import re
import sys

import elf_symbols

# Compatibility implementations that only programs from before 2003 ask for: they get the wrapper of
# the present one, which libc's other names for the old code need not do.
OLD_CODE = {'GLIBC_2.2.5': {'pthread_cond_wait', 'pthread_cond_timedwait', 'posix_spawn',
                            'posix_spawnp', 'lio_listio', 'lio_listio64'},
            'GLIBC_2.3.3': {'sched_setaffinity', 'sched_getaffinity', 'pthread_setaffinity_np',
                            'pthread_getaffinity_np'}}


def libc_path():
    """Path of the C library this process runs on."""
    maps = pathlib.Path('/proc/self/maps').read_text(encoding='ascii')
    found = re.search(r'\s(/\S*/libc[.-]\S*)$', maps, re.MULTILINE)
    if not found:
        print('no C library in the map of this process')
        sys.exit(77)
    return found.group(1)


def load(path):
    """Imports a script by its path."""
    spec = importlib.util.spec_from_file_location('gensyms', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    """Entry point."""
    preload, gensyms, *sources = sys.argv[1:]
    problems = []
    wanted = set(load(gensyms).exported_names(sources))
    symbols = [s for s in elf_symbols.read(preload) if s.defined]
    exported = {s.name for s in symbols}
    problems += [f'{name}: has a macro, but is not exported' for name in sorted(wanted - exported)]
    problems += [f'{name}: exported without a macro' for name in sorted(exported - wanted)]
    problems += [f'{s.name}: has version {s.version}' for s in symbols if s.version]

    libc = [s for s in elf_symbols.functions(libc_path()) if s.version != 'GLIBC_PRIVATE']
    known = {s.name for s in libc} | {name for name in exported if name.startswith('cmwq_')}
    problems += [f'{name}: not in the C library' for name in sorted(exported - known)]
    addresses = {}
    for symbol in libc:
        if symbol.name not in OLD_CODE.get(symbol.version, ()):
            addresses.setdefault(symbol.address, set()).add(symbol.name)
    for names in addresses.values():
        missing = names - exported
        if missing and names & exported:
            wrapped = ' '.join(sorted(names & exported))
            problems += [f'{name}: is the same code as {wrapped}' for name in sorted(missing)]
    print('\n'.join(problems))
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
