#!/usr/bin/env python3
"""The table of published faults in tests/README.md: each row names tests that are there, and each
case of a published_*_test.py has its row."""

import pathlib
import re

TESTS = pathlib.Path(__file__).resolve().parent.parent


def main():
    replayed = {}
    for path in sorted((TESTS / "faults").glob("published_*_test.py")):
        for numbers in re.findall(r'^@case\((.*)\)$', path.read_text(encoding="utf-8"), re.MULTILINE):
            for number in re.findall(r'"(.*?)"', numbers):
                replayed[number] = str(path.relative_to(TESTS))
    assert replayed
    listed = {}
    for line in (TESTS / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 4 or not re.match(r"CVE-|[\w-]+/[\w-]+#|redhat#|gnunet#|memory-|http-|zmq-", cells[0]):
            continue
        number, place = cells[0], cells[3]
        assert number not in listed, f"{number} is listed twice"
        listed[number] = place
        for path, name in re.findall(r"`([\w/.]+)`(?:: `(.+?)`)?", place):
            assert (TESTS / path).is_file(), f"{number}: no file tests/{path}"
            assert not name or name in (TESTS / path).read_text(encoding="utf-8"), f"{number}: no {name!r} in tests/{path}"
        assert "`" in place, f"{number} has no test"
    for number, path in replayed.items():
        assert number in listed, f"{number} of tests/{path} is not in tests/README.md"
        assert f"`{path}`" in listed[number], f"{number} is in tests/{path}, not {listed[number]}"
    assert len(listed) >= 40, len(listed)
    print(f"{len(listed)} faults, {len(replayed)} of them replayed by tests of their own")


if __name__ == "__main__":
    main()
