#!/usr/bin/env python3
"""Writes the preload's version script from its export macros.

usage: gensyms.py OUTPUT SOURCE...

The script has one anonymous node. With a named one a program's versioned reference would not bind
to the wrapper; without any, instantiations of the C++ library would be exported over the program's.
"""

import re
import sys

EXPORT = re.compile(r'^CMWQ_EXPORT\((?:[^,]*), (\w+),', re.MULTILINE)
ALIAS = re.compile(r'^CMWQ_ALIAS\((\w+), (\w+)\)', re.MULTILINE)


def exported_names(paths):
    """Returns the sorted exported names; raises ValueError on a duplicate or a dangling alias."""
    names = set()
    for path in paths:
        with open(path, encoding='utf-8') as source:
            text = source.read()
        here = EXPORT.findall(text)
        for alias, target in ALIAS.findall(text):
            if target not in here:
                raise ValueError(f'{path}: {alias}: {target} is not defined in this file')
            here.append(alias)
        for name in here:
            if name in names:
                raise ValueError(f'{path}: {name} is exported twice')
            names.add(name)
    return sorted(names)


def main():
    """Entry point."""
    output, *sources = sys.argv[1:]
    names = exported_names(sources)
    with open(output, 'w', encoding='utf-8') as script:
        script.write('{\n  global:\n')
        script.writelines(f'    {name};\n' for name in names)
        script.write('  local:\n    *;\n};\n')


if __name__ == '__main__':
    main()
