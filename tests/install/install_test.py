#!/usr/bin/env python3
"""The installed libraries and the installed programs, used from outside of the tree: classify.cc (C++),
classify.c and halves.cc (the C library) are built with what the pkg-config files say, and answer as
splitee-edge does. Arguments: BUILD FOLDER, COMPILER..."""

import json
import os
import shlex
import subprocess
import sys
import tempfile

BUILD, *COMPILER = sys.argv[1:]
HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = ["a warm and funny film", "dull, loud and far too long", "not bad at all", "I want my money back", "ok"]
ALPHA = "0.9"


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout


def find(root, name):
    for folder, _, files in os.walk(root):
        if name in files:
            return os.path.join(folder, name)
    raise AssertionError(f"{name} was not installed")


def find_headers(root):
    return sorted(os.path.join(folder, name) for folder, _, files in os.walk(root) for name in files
                  if name.endswith(".h"))  # fmt: skip


def pkg_config(root, name, *words):
    folder = os.path.dirname(find(root, name + ".pc"))
    # Nothing but what was installed here: a user of a library needs no other's .pc file.
    environment = {**os.environ, "PKG_CONFIG_SYSROOT_DIR": root, "PKG_CONFIG_LIBDIR": folder}
    return shlex.split(run("pkg-config", *words, name, env=environment))


def build_cpp(root, model):
    package = os.path.dirname(find(root, "splitee-cpp.pc"))
    environment = {**os.environ, "PKG_CONFIG_SYSROOT_DIR": root, "PKG_CONFIG_PATH": package}
    flags = shlex.split(run("pkg-config", "--cflags", "--libs", "splitee-cpp", env=environment))
    # Its libraries come from the system, whose root is not the test's.
    flags = [flag for flag in flags if not flag.startswith(f"-I{root}") or "splitee" in flag]
    program = os.path.join(root, "classify-cpp")
    run(*COMPILER, "-std=c++20", os.path.join(HERE, "classify.cc"), "-o", program, *flags)

    # What is installed needs nothing of the tree: every header stands by itself.
    headers = find_headers(root)
    assert len(headers) > 10, headers
    run(*COMPILER, "-std=c++20", "-fsyntax-only", "-x", "c++", "-", *flags,
        input="".join(f'#include "{header}"\n' for header in headers))
    return (program, model, ALPHA)


def build_c(root):
    """The programs on the C library: C99 by a C compiler, C++11, warnings are errors."""
    flags = pkg_config(root, "splitee", "--cflags", "--libs")
    assert pkg_config(root, "splitee", "--print-requires", "--print-requires-private") == [], "it needs others"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    strict = ("-Wall", "-Wextra", "-Wpedantic", "-Wno-missing-field-initializers", "-Werror")
    classify, halves = (os.path.join(root, name) for name in ("classify-c", "halves"))
    run(*compiler, "-std=c99", *strict, os.path.join(HERE, "classify.c"), "-o", classify, *flags)
    run(*COMPILER, "-std=c++11", *strict, os.path.join(HERE, "halves.cc"), "-o", halves, *flags)
    # The libraries that it needs come from the system; itself it is where it was installed to.
    os.environ["LD_LIBRARY_PATH"] = os.path.dirname(find(root, "libsplitee.so.1"))
    return classify, halves


def main():
    with tempfile.TemporaryDirectory() as root:
        run("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", root)
        model = find(root, "default.gguf")
        lines = "".join(text + "\n" for text in TEXTS)
        edge = (find(root, "splitee-edge"), "--model", model)

        def records(*flags):
            return [json.loads(line) for line in run(*edge, *flags, input=lines).splitlines()]

        def ask(*command):
            return run(*command, input=lines).splitlines()

        expected = [f"{r['label']} {r['exit_layer']}" for r in records("--policy", "threshold", "--alpha", ALPHA)]
        assert len(expected) == len(TEXTS) and len({line.split()[0] for line in expected}) == 2, expected
        ours = ask(*build_cpp(root, model))
        assert ours == expected, (ours, expected)

        classify, halves = build_c(root)
        ours = ask(classify, model, "policy=threshold", f"alpha={ALPHA}")
        assert ours == expected, (ours, expected)
        # With nothing but a model: as the program with nothing but a model.
        by_default = [f"{r['label']} {r['exit_layer']}" for r in records()]
        assert ask(classify, model) == by_default

        # Sent from the first exit where that is not sure: answered by the last one, as here.
        ours = ask(halves, model, "policy=fixed", "split=1", f"alpha={ALPHA}")
        whole = records("--policy", "final")
        first = records("--policy", "threshold", "--alpha", ALPHA)
        assert [line.split()[2] for line in ours] == ["here" if r["exit_layer"] == 1 else "sent" for r in first], ours
        assert len({line.split()[2] for line in ours}) == 2, ours
        for line, answer, early in zip(ours, whole, first):
            right = early if line.endswith("here") else answer
            assert line.split()[:2] == [right["label"], str(right["exit_layer"])], (line, right)

        for name in ("splitee-server", "splitee"):
            run(find(root, name), "--version")
        for name in ("convert_hf.py", "convert_images.py", "convert_numbers.py"):
            run("/usr/bin/python3", find(root, name), "--help")
        for name in ("splitee-server.service", "haproxy.cfg"):
            find(root, name)


main()
