#!/usr/bin/env python3
"""Builds everything with one kind of network alone and runs the default suites on it: what serves
one kind must not need another. Usage: networks_apart.py SOURCE_ROOT SCRATCH [KIND ...]"""
import os
import subprocess
import sys

KINDS = ("text", "numbers", "images")


def main():
    root, scratch, *kinds = sys.argv[1:]
    for kind in kinds or KINDS:
        build = os.path.join(scratch, kind)
        options = [f"-Dnetworks={kind}", "-Dbenchmarks=false", "-Doptimization=1"]  # compiles faster
        again = ["--reconfigure"] if os.path.exists(os.path.join(build, "build.ninja")) else []
        for command in (["meson", "setup", *again, *options, build, root],
                        ["ninja", "-C", build],
                        ["meson", "test", "-C", build, "--no-rebuild", "--print-errorlogs"]):  # fmt: skip
            print(" ".join(command), flush=True)
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
