#!/usr/bin/env python3
"""What the linker and the compiler leave in a program that was built to hold a memory error up: any address, tables
of functions that are read-only before it starts, no stack that can be run, checks of stacks and of copies whose sizes
are known. Arguments: PROGRAM..."""

import os
import re
import subprocess
import sys


def readelf(option, path):
    return subprocess.run(["readelf", option, "-W", path], capture_output=True, text=True, check=True,
                          env={**os.environ, "LC_ALL": "C"}).stdout  # fmt: skip


def check(path):
    header, segments, dynamic, symbols = (readelf(option, path) for option in ("-h", "-l", "-d", "--dyn-syms"))
    assert re.search(r"Type:\s+DYN", header), (path, "is at one address")
    assert "GNU_RELRO" in segments, (path, "has writable tables")
    assert re.search(r"BIND_NOW|FLAGS_1.*\bNOW\b", dynamic), (path, "finds its functions late")
    stack = re.search(r"GNU_STACK\s+(?:0x[0-9a-f]+\s+){5}(\S+)", segments)
    assert stack and "E" not in stack.group(1), (path, "has a stack that can be run")
    assert "__stack_chk_fail" in symbols, (path, "does not check its stacks")
    assert re.search(r"\b__\w+_chk\b", symbols.replace("__stack_chk_fail", "")), (path, "does not check its copies")


for program in sys.argv[1:]:
    check(program)
print(f"{len(sys.argv) - 1} files are hardened")
