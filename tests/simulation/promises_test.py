#!/usr/bin/env python3
"""The promises of the simulation: tests/README.md lists those that scenario.h has, word for word, and each is checked
somewhere. Argument: SIMULATION_TEST."""

import pathlib
import re
import subprocess
import sys

TESTS = pathlib.Path(__file__).resolve().parent.parent


def main():
    listed = subprocess.run([sys.argv[1], "--promises"], capture_output=True, text=True, check=True).stdout.splitlines()
    page = (TESTS / "README.md").read_text(encoding="utf-8").splitlines()
    shown = [line for line in page if re.match(r"\| I\d+ \|", line)]
    assert listed and shown == listed, "tests/README.md has other promises than tests/simulation/scenario.h"
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((TESTS / "simulation").glob("*.cc")))
    checked = set(re.findall(r"\bI\d+\b(?=[:,])", "".join(re.findall(r'"(?:I\d+[:,]|seeds: I\d+:).*?"', code))))
    names = {line.split("|")[1].strip() for line in listed}
    assert checked == names, f"promised and not checked, or the other way round: {sorted(checked ^ names)}"
    print(f"{len(names)} promises")


if __name__ == "__main__":
    main()
