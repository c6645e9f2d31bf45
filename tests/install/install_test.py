#!/usr/bin/env python3
"""The installed library and the installed programs, used from outside of the tree: classify.cc is built with what
the pkg-config file says, and answers as splitee-edge does. Arguments: BUILD FOLDER, COMPILER..."""

import json
import os
import shlex
import subprocess
import sys
import tempfile

BUILD, *COMPILER = sys.argv[1:]
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "classify.cc")
TEXTS = ["a warm and funny film", "dull, loud and far too long", "not bad at all", "I want my money back"]
ALPHA = "0.9"


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout


def find(root, name):
    for folder, _, files in os.walk(root):
        if name in files:
            return os.path.join(folder, name)
    raise AssertionError(f"{name} was not installed")


def main():
    with tempfile.TemporaryDirectory() as root:
        run("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", root)
        model = find(root, "default.gguf")
        package = os.path.dirname(find(root, "splitee.pc"))
        environment = {**os.environ, "PKG_CONFIG_SYSROOT_DIR": root, "PKG_CONFIG_PATH": package}
        flags = shlex.split(run("pkg-config", "--cflags", "--libs", "splitee", env=environment))
        # Its libraries come from the system, whose root is not the test's.
        flags = [flag for flag in flags if not flag.startswith(f"-I{root}") or "splitee" in flag]
        program = os.path.join(root, "classify")
        run(*COMPILER, "-std=c++20", SOURCE, "-o", program, *flags)

        lines = "".join(text + "\n" for text in TEXTS)
        ours = run(program, model, ALPHA, input=lines).splitlines()
        edge = (find(root, "splitee-edge"), "--model", model, "--policy", "threshold", "--alpha", ALPHA)
        records = [json.loads(line) for line in run(*edge, input=lines).splitlines()]
        expected = [f"{record['label']} {record['exit_layer']}" for record in records]
        assert len(ours) == len(TEXTS) and ours == expected, (ours, expected)
        assert len({line.split()[0] for line in ours}) == 2, ours
        for name in ("splitee-server", "splitee"):
            run(find(root, name), "--version")
        for name in ("convert_hf.py", "splitee-server.service", "haproxy.cfg"):
            find(root, name)


main()
