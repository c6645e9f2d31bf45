#!/usr/bin/env python3
"""Plants each bug of bugs.py into a copy of the tree, builds the test that has to find it, and runs
it. Prints a table; fails where a bug was not found, or could not be planted.

Usage: tests/planted/planted.py SOURCE_ROOT SCRATCH_FOLDER [--write FILE] [words of names]
       tests/planted/planted.py SOURCE_ROOT --check      only whether each one can be planted
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

from bugs import BUGS

# A test that hangs has found something, too; a sound one takes seconds.
TEST_TIMEOUT_S = 240


def run(command, cwd, timeout=None):
    try:
        return subprocess.run(command, cwd=cwd, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return None


def copy_tree(root, source):
    """What git knows, as it is now; files that did not change keep their times."""
    names = run(["git", "ls-files"], root).stdout.decode().splitlines()
    for name in names:
        original, copied = root / name, source / name
        if not original.is_file():
            continue
        if copied.exists() and copied.read_bytes() == original.read_bytes():
            continue
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, copied)
        shutil.copymode(original, copied)


def build(folder, targets):
    done = run(["ninja", "-C", str(folder), *targets], folder)
    return done.returncode == 0, done.stdout.decode(errors="replace")[-3000:]


def reason(done):
    """A line that says how the test found it."""
    if done is None:
        return "hangs"
    if done.returncode < 0:
        return f"dies of signal {-done.returncode}"
    text = done.stdout.decode(errors="replace")
    for line in text.splitlines():
        if line.startswith(("TEST CASE:", "seed ", "seeds:")):
            return line.replace("TEST CASE:", "").strip()[:100]
    return f"status {done.returncode}"


def not_plantable(bug, source):
    """What is wrong with a bug; nothing where it can be planted."""
    _, name, old, new, _ = bug
    path = source / name
    count = path.read_text(encoding="utf-8").count(old) if path.is_file() else 0
    if count != 1 or new == old:
        return f"NOT PLANTED: the text occurs {count} times in {name}"
    return None


def plant(bug, source, folder):
    """Found or not, and how."""
    _, name, old, new, test = bug
    if problem := not_plantable(bug, source):
        return False, problem
    path = source / name
    original = path.read_text(encoding="utf-8")
    path.write_text(original.replace(old, new), encoding="utf-8")
    try:
        good, output = build(folder, [test[0]])
        if not good:
            return False, f"NOT PLANTED: does not build\n{output}"
        done = run([str(folder / test[0]), *test[1:]], folder, TEST_TIMEOUT_S)
    finally:
        path.write_text(original, encoding="utf-8")
    found = done is None or done.returncode != 0
    return found, reason(done) if found else "NOT FOUND"


def write_table(path, rows):
    """Rows of bugs that were not planted this time stay as they are."""
    old = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    lines = {line.split(" | ")[0][2:]: line for line in old[2:]}
    for row in rows:
        cells = [cell.replace("|", "/").replace("\n", " ") for cell in row]
        lines[cells[0]] = "| " + " | ".join(cells) + " |"
    table = ["| bug | planted in | found by | how |", "|---|---|---|---|"]
    table += [lines[bug[0]] for bug in BUGS if bug[0] in lines]
    path.write_text("\n".join(table) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("scratch", type=pathlib.Path, nargs="?")
    parser.add_argument("--check", action="store_true", help="only whether each one can be planted")
    parser.add_argument("--write", type=pathlib.Path, help="write the table to this file: rows of bugs that were planted")
    parser.add_argument("words", nargs="*", help="only bugs whose name or file has one of them")
    options = parser.parse_intermixed_args()
    if options.check:
        problems = [f"{bug[0]}: {problem}" for bug in BUGS if (problem := not_plantable(bug, options.root))]
        print("\n".join(problems) or f"{len(BUGS)} bugs can be planted")
        return 1 if problems else 0
    if options.scratch is None:
        parser.error("a folder to build in is needed")
    # Tests that have a long form run it: whether a race shows is a matter of tries.
    os.environ["SPLITEE_FULL"] = "1"
    source, folder = options.scratch.absolute() / "source", options.scratch.absolute() / "build"
    copy_tree(options.root.absolute(), source)
    if not (folder / "build.ninja").exists():
        setup = run(["meson", "setup", str(folder), str(source), "-Dbenchmarks=false", "-Dwerror=false"], source)
        assert setup.returncode == 0, setup.stdout.decode()
    bugs = [bug for bug in BUGS if not options.words or any(w in bug[0] + bug[1] for w in options.words)]
    # Without a bug every one of the tests passes.
    for test in sorted({bug[4] for bug in bugs}):
        good, output = build(folder, [test[0]])
        assert good, output
        done = run([str(folder / test[0]), *test[1:]], folder, TEST_TIMEOUT_S)
        assert done is not None and done.returncode == 0, f"{test} fails without a bug: {reason(done)}"
    rows, missed = [], 0
    for bug in bugs:
        found, how = plant(bug, source, folder)
        missed += not found
        rows.append((bug[0], bug[1], pathlib.Path(bug[4][0]).name, how))
        print(f"{'found' if found else 'MISSED':7} {bug[0]}: {rows[-1][2]}: {how}", flush=True)
    print(f"{len(bugs)} bugs planted, {len(bugs) - missed} found")
    if options.write:
        write_table(options.write, rows)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
