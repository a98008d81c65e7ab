#!/usr/bin/env python3
"""Sums up meson's test logs of several build folders.

Prints what failed and what was skipped, and as the last line "N passed, N failed, N skipped". Exits
with 1 if anything failed. A gtest program is one test; the cases that it skips are listed and
counted as skipped on their own, as PROGRAM:SUITE.CASE.
"""

import argparse
import fnmatch
import json
import pathlib
import re
import sys

PASSED = {"OK", "EXPECTEDFAIL"}
SKIPPED_CASE = re.compile(r"^\[  SKIPPED \] ([\w/]+\.[\w/]+)", re.MULTILINE)


def read_log(folder):
    """Yields (name, result, skipped gtest cases) of every test in the folder's log."""
    log = pathlib.Path(folder, "meson-logs", "testlog.json")
    for line in log.read_text(errors="replace").splitlines():
        test = json.loads(line)
        # "project:suite / name" when the test has a suite.
        name = test["name"].split(" / ")[-1]
        yield name, test["result"], set(SKIPPED_CASE.findall(test.get("stdout") or ""))


def read_expected(path):
    """The patterns in the file: one a line, with a reason after #."""
    try:
        lines = pathlib.Path(path).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--expected-skips", metavar="FILE", required=True)
    parser.add_argument("--broken", metavar="TEXT", action="append", default=[],
                        help="something else that failed")
    parser.add_argument("folders", nargs="*")
    arguments = parser.parse_args()

    expected = read_expected(arguments.expected_skips)
    passed, skipped = 0, []
    failed = list(arguments.broken)
    for folder in arguments.folders:
        for name, result, cases in read_log(folder):
            if result == "SKIP":
                skipped.append((folder, name))
            elif result in PASSED:
                passed += 1
            else:
                failed.append(f"{folder}: {name}: {result}")
            skipped += [(folder, f"{name}:{case}") for case in sorted(cases)]
    for folder, name in skipped:
        is_expected = any(fnmatch.fnmatchcase(name, pattern) or
                          fnmatch.fnmatchcase(f"{folder}/{name}", pattern) for pattern in expected)
        print(f"skipped: {folder}: {name}{'' if is_expected else ' (unexpected)'}")
        if not is_expected:
            failed.append(f"{folder}: {name}: skipped without being in {arguments.expected_skips}")
    for line in failed:
        print(f"failed: {line}")
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
