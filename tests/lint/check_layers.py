#!/usr/bin/env python3
"""Includes only point downwards: see the arrows in runtime/HACKING.md."""

import re
import sys

import lint

PUBLIC = 'include/cmwq'
RUNTIME = ['runtime/base', 'runtime/sync', 'runtime/platform', 'runtime/pool', 'runtime/wq',
           'runtime/core']

# Folder -> the folders of ours it may include besides itself.
ALLOWED = {
    PUBLIC: [],
    'hooks/absl': [PUBLIC],
    'hooks/detect': RUNTIME[:4] + [PUBLIC],
    'hooks/gate': ['hooks/detect'] + RUNTIME[:4] + [PUBLIC],
    'hooks/preload': ['hooks/gate', 'runtime/base'],
    'tools': [PUBLIC, 'hooks/detect', 'runtime/base', 'runtime/platform'],
    'tools/bpf': ['hooks/detect', 'tools', PUBLIC],  # the memory that the BPF program and the library share
    'bench': RUNTIME + [PUBLIC],
    'examples': [PUBLIC],
    'tests': None,  # everything
}
for _i, _folder in enumerate(RUNTIME):
    ALLOWED[_folder] = RUNTIME[:_i] + [PUBLIC]

# Packages -> the only folders that may name them.
PACKAGES = {
    'absl': ['bench', 'hooks/absl', 'tests', 'tools'],
    'liburing': ['bench', 'hooks', 'runtime/platform', 'runtime/core', 'tests'],
    'benchmark': ['bench'],
    'gtest': ['tests'],
}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)


def folder_of(path):
    """The longest folder of the table that contains path, or None."""
    best = None
    for folder in ALLOWED:
        if path.startswith(folder + '/') and (best is None or len(folder) > len(best)):
            best = folder
    return best


def judge(path, mark, name):
    """Why `path` may not include `name`, or None."""
    source = folder_of(path)
    if source is None:
        return 'folder is not in the table of tests/lint/check_layers.py'
    package = re.split(r'[/.]', name)[0]
    if package in PACKAGES:
        if any(source == f or source.startswith(f + '/') for f in PACKAGES[package]):
            return None
        return f'{source} must not include {package}'
    target = PUBLIC if name.startswith('cmwq/') else folder_of(name)
    if target is None:
        top = name.split('/')[0]
        if mark == '"' or top in lint.TOP:
            return f'"{name}" is not a path from the project root'
        return None
    allowed = ALLOWED[source]
    if target == source or allowed is None or target in allowed:
        return None
    return f'{source} must not include {target}'


def check(root):
    found = []
    for path in lint.files(root, lint.CXX):
        text = lint.hide(lint.read(root, path), strings=False)
        for match in INCLUDE.finditer(text):
            why = judge(path, match.group(1), match.group(2))
            if why is not None:
                found.append(lint.Finding(path, lint.line_of(text, match.start(1)), why))
    return found


TREE = {
    'include/cmwq/a.h': '#include <stdint.h>\n#include <absl/base/attributes.h>\n'
                        '#include "runtime/base/x.h"\n#include <cmwq/b.h>\n',
    'runtime/base/x.h': '#include <cmwq/a.h>\n#include "runtime/sync/y.h"\n',
    'runtime/pool/p.cc': '#include "runtime/sync/y.h"\n// #include "runtime/wq/w.h"\n'
                         '#include "runtime/wq/w.h"\n#include "p.h"\n#include <liburing.h>\n',
    'runtime/core/c.cc': '#include "runtime/wq/w.h"\n#include "hooks/detect/d.h"\n',
    'hooks/detect/d.cc': '#include "runtime/pool/p.h"\n#include "runtime/core/c.h"\n',
    'hooks/gate/g.cc': '#include "hooks/detect/d.h"\n#include "hooks/preload/h.h"\n',
    'hooks/preload/h.cc': '#include "hooks/gate/g.h"\n#include "runtime/base/x.h"\n'
                          '#include "runtime/pool/p.h"\n',
    'tools/t.cc': '#include <cmwq/a.h>\n#include "tools/common/u.h"\n#include "runtime/pool/p.h"\n'
                  '#include <absl/strings/str_cat.h>\n',
    'tests/unit/t.cc': '#include "runtime/core/c.h"\n#include "hooks/preload/h.h"\n',
    'bench/b.cc': '#include "runtime/core/c.h"\n#include "hooks/gate/g.h"\n',
}
EXPECTED = {
    ('include/cmwq/a.h', 2), ('include/cmwq/a.h', 3), ('runtime/base/x.h', 2),
    ('runtime/pool/p.cc', 3), ('runtime/pool/p.cc', 4), ('runtime/pool/p.cc', 5),
    ('runtime/core/c.cc', 2), ('hooks/detect/d.cc', 2), ('hooks/gate/g.cc', 2),
    ('hooks/preload/h.cc', 3), ('tools/t.cc', 3), ('bench/b.cc', 2),
}

if __name__ == '__main__':
    sys.exit(lint.main(check, TREE, EXPECTED))
