"""Shared by the lints: finding sources, hiding comments and literals, reporting, self-tests.

A lint is a function check(root) that returns Findings. Run with --self-test it must report each planted
violation and nothing else, so that a lint that has gone blind is noticed.
"""

import collections
import os
import re
import sys
import tempfile

Finding = collections.namedtuple('Finding', 'path line text')

TOP = ('bench', 'examples', 'hooks', 'include', 'runtime', 'tests', 'tools')
CXX = ('.c', '.cc', '.h', '.hpp')
SKIPPED_DIRS = ('.git', '__pycache__', 'subprojects')


def files(root, suffixes=None, under=TOP, root_files=False):
    """Paths relative to root, sorted."""
    found = []
    if root_files:
        found += [f for f in os.listdir(root) if os.path.isfile(os.path.join(root, f))]
    for top in under:
        for folder, dirs, names in os.walk(os.path.join(root, top)):
            dirs[:] = [d for d in dirs if d not in SKIPPED_DIRS and not d.startswith('build')]
            found += [os.path.relpath(os.path.join(folder, n), root) for n in names]
    return sorted(f for f in found if suffixes is None or f.endswith(suffixes))


def read(root, path):
    """The text, or None if it is not text."""
    try:
        with open(os.path.join(root, path), encoding='utf-8') as f:
            return f.read()
    except UnicodeDecodeError:
        return None


_TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<tag>[^()\s]*)\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*"|'
    r"(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'",
    re.DOTALL)


def _blank(text):
    return re.sub(r'[^\n]', ' ', text)


def hide(text, strings=True):
    """The text with comments (and literals) blanked, every character at its old place."""
    def replace(match):
        token = match.group(0)
        if token.startswith(('//', '/*')):
            return _blank(token)
        if not strings:
            return token
        return token[0] + _blank(token[1:-1]) + token[-1]
    return _TOKEN.sub(replace, text)


def comments(text):
    """Line number -> text of the comment on that line, without its marks."""
    found = {}
    for match in _TOKEN.finditer(text):
        token = match.group(0)
        if not token.startswith(('//', '/*')):
            continue
        line = text.count('\n', 0, match.start()) + 1
        for part in token.split('\n'):
            found[line] = part.strip().lstrip('/*').rstrip('*/').strip()
            line += 1
    return found


def line_of(text, offset):
    return text.count('\n', 0, offset) + 1


def plant(tree):
    """Writes {path: text} to a temporary root; returns the TemporaryDirectory."""
    temp = tempfile.TemporaryDirectory(prefix='cmwq-lint-')
    for path, text in tree.items():
        full = os.path.join(temp.name, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, 'w', encoding='utf-8') as f:
            f.write(text)
    return temp


def self_test(check, tree, expected):
    """expected: set of (path, line) that check must report, exactly."""
    with plant(tree) as root:
        found = {(f.path, f.line) for f in check(root)}
    missed, extra = expected - found, found - expected
    for path, line in sorted(missed):
        print(f'self-test: planted violation not reported: {path}:{line}')
    for path, line in sorted(extra):
        print(f'self-test: false report: {path}:{line}')
    return 1 if missed or extra else 0


def main(check, tree, expected):
    if len(sys.argv) != 2:
        print(f'usage: {sys.argv[0]} ROOT | --self-test', file=sys.stderr)
        return 2
    if sys.argv[1] == '--self-test':
        return self_test(check, tree, expected)
    found = check(sys.argv[1])
    for f in found:
        print(f'{f.path}:{f.line}: {f.text}')
    return 1 if found else 0
