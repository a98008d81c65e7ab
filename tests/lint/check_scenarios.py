#!/usr/bin/env python3
"""The table of scenarios and the scenario tests say the same: 48 numbers, each once; each row names tests
of its number that exist, or gives a reason; every scenario test is in the row of its number."""

import os
import re
import sys

import lint

FOLDER = 'tests/unit/scenarios'
TABLE = FOLDER + '/README.md'
COUNT = 48
ROW = re.compile(r'^\| *(\d+) *\|(.*)\|(.*)\|$')
NAME = re.compile(r'`(?:\w+\.)?(Scenario(\d\d)\w*)`')
PATH = re.compile(r'`(tests/[\w./]+)`')
TEST = re.compile(r'^TEST(?:_F)?\(\w+, (\w+)\)', re.MULTILINE)
NUMBERED = re.compile(r'Scenario(\d\d)[A-Z]\w*$')
LEAST_REASON = 60  # characters: shorter is no reason


def tests_in(root):
    """Name -> (path, line)."""
    found = {}
    for path in lint.files(root, ('.cc',), (FOLDER,)):
        text = lint.hide(lint.read(root, path))
        for match in TEST.finditer(text):
            found[match.group(1)] = (path, lint.line_of(text, match.start()))
    return found


def check_row(root, number, line, answer, tests):
    """The findings of one row, and the tests that it names."""
    found, named = [], set()
    for name, digits in NAME.findall(answer):
        named.add(name)
        if name not in tests:
            found.append(lint.Finding(TABLE, line, f'{name}: there is no such test'))
        elif int(digits) != number:
            found.append(lint.Finding(TABLE, line, f'{name}: in the row of {number}'))
    for path in PATH.findall(answer):
        if not os.path.exists(os.path.join(root, path)):
            found.append(lint.Finding(TABLE, line, f'{path}: there is no such file'))
    if re.search(r'\bopen:', answer):
        found.append(lint.Finding(TABLE, line, f'scenario {number} is open'))
    elif not named and len(answer.strip()) < LEAST_REASON:
        found.append(lint.Finding(TABLE, line, f'scenario {number}: neither a test nor a reason'))
    return found, named


def check(root):
    found, rows, named = [], {}, set()
    tests = tests_in(root)
    text = lint.read(root, TABLE) if os.path.exists(os.path.join(root, TABLE)) else ''
    for line, content in enumerate(text.split('\n'), 1):
        match = ROW.match(content)
        if match is None:
            continue
        number = int(match.group(1))
        if number in rows or not 1 <= number <= COUNT:
            found.append(lint.Finding(TABLE, line, f'scenario {number}: twice, or no such number'))
        rows[number] = line
        row_found, row_named = check_row(root, number, line, match.group(3), tests)
        found += row_found
        named |= row_named
    missing = [str(n) for n in range(1, COUNT + 1) if n not in rows]
    if missing:
        found.append(lint.Finding(TABLE, 1, 'no row for ' + ', '.join(missing)))
    for name, (path, line) in sorted(tests.items()):
        if NUMBERED.match(name) is None:
            found.append(lint.Finding(path, line, f'{name}: not of the form Scenario07What'))
        elif name not in named:
            found.append(lint.Finding(path, line, f'{name}: not in {TABLE}'))
    return found


REASON = 'There is nothing here to which this could happen, and this is a long enough text to say why.'


def planted_table():
    rows = {n: f'| {n} | x | {REASON} |' for n in range(1, COUNT + 1)}
    rows[1] = '| 1 | x | `S.Scenario01Good`, `S.Scenario01Gone` |'
    rows[2] = '| 2 | x | `S.Scenario03Other` |'
    rows[4] = '| 4 | x | open: needs something that is not there yet, and this is a long text to say so |'
    rows[5] = '| 5 | x | no |'
    rows[6] = '| 6 | x | `S.Scenario06Good` and `tests/model/gone.cc` |'
    rows[7] = rows[8]
    return 'Table\n' + '\n'.join(rows[n] for n in sorted(rows)) + '\n'


TREE = {
    TABLE: planted_table(),
    FOLDER + '/a_test.cc': 'TEST(S, Scenario01Good) {}\n// TEST(S, Scenario09Comment) {}\n'
                           'TEST_F(S, Scenario03Other) {}\nTEST(S, Scenario06Good) {}\n'
                           'TEST(S, Scenario10NotListed) {}\nTEST(S, Plain) {}\n',
}
EXPECTED = {(TABLE, 1), (TABLE, 2), (TABLE, 3), (TABLE, 5), (TABLE, 6), (TABLE, 7), (TABLE, 9),
            (FOLDER + '/a_test.cc', 5), (FOLDER + '/a_test.cc', 6)}

if __name__ == '__main__':
    sys.exit(lint.main(check, TREE, EXPECTED))
