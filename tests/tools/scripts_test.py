#!/usr/bin/env python3
"""The project's scripts: help answers before anything is installed or built, and an interpreter
without a module gives way to Debian's, or says what is missing.

usage: scripts_test.py PROJECT_ROOT SPLITEE
"""

import os
import pathlib
import subprocess
import sys

from run_tests import run_tests

ROOT, TOOL = pathlib.Path(sys.argv[1]), os.path.abspath(sys.argv[2])
TIMEOUT_S = 120
ENTRIES = ("tools/demo", "tools/test", "tools/cross-build", "tools/package", "tools/wheel", "tools/convert_hf.py",
           "tools/convert_numbers.py", "tools/train.py", ".ci/run", ".ci/deep",
           "bench/peers/run", "bench/peers/images", "bench/peers/texts", "bench/peers/batches", "bench/paper/run",
           "bench/paper/images", "bench/paper/train", "bench/paper/make_traces", "bench/link/run", "bench/link/baselines",
           "bench/link/live")  # fmt: skip
# Those that know every flag that they may be given.
STRICT = ("tools/demo", "tools/cross-build", "tools/package", "tools/wheel", "bench/link/run",
          "bench/link/baselines", "bench/link/live")
# What would install, build or fetch something.
CHANGERS = ("apt-get", "meson", "ninja", "npm", "sudo", "dpkg", "pip")


def bare_python(folder):
    """A folder for the PATH whose python3 has the standard library only."""
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", folder / "bare"], check=True)
    return folder / "bare" / "bin"


def call(command, path, **more):
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1", **more}
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=TIMEOUT_S,
                          check=False, env=environment, stdin=subprocess.DEVNULL)  # fmt: skip


def watched(folder):
    """(A folder for the PATH, a file that is there once something was installed or built.)"""
    bin_, marks = bare_python(folder), folder / "called"
    for name in CHANGERS:
        script = bin_ / name
        script.write_text(f'#!/bin/sh\necho "$0 $*" >> {marks}\nexit 1\n')
        script.chmod(0o755)
    return bin_, marks


def test_help_changes_nothing(folder):
    bin_, marks = watched(folder)
    for entry in ENTRIES:
        for flag in ("--help", "-h"):
            done = call([ROOT / entry, flag], bin_)
            # Without PyTorch train.py can only tell what it is, and what is missing.
            missing = entry == "tools/train.py" and "has no" in done.stderr
            assert done.returncode == 0 or missing, (entry, done)
            assert len(done.stdout.split()) > 20 and "Traceback" not in done.stderr, (entry, done)
            assert not marks.exists(), (entry, marks.read_text())


def test_an_unknown_flag_changes_nothing(folder):
    bin_, marks = watched(folder)
    for entry in STRICT:
        done = call([ROOT / entry, "--no-such-flag"], bin_)
        assert done.returncode == 2 and entry.rsplit("/", 1)[1] in done.stderr, (entry, done)
        assert not marks.exists(), (entry, marks.read_text())


def test_another_interpreter_is_found(folder):
    bin_ = bare_python(folder)
    assert call(["python3", "-c", "import numpy"], bin_).returncode != 0
    random_model = ROOT / "tests/tools/random_model.py"
    model = folder / "m.gguf"
    done = call(["python3", random_model, ROOT / "tools/convert_hf.py", "1", model], bin_)
    assert done.returncode == 0 and model.exists(), done
    for script in ("bench/policy_vs_numpy.py", "bench/paper/elasticbert_exits.py", "tools/training/vocab.py"):
        done = call(["python3", ROOT / script, "--help"], bin_)
        assert done.returncode == 0 and done.stdout, (script, done)


def test_what_is_missing_is_said_at_once(folder):
    """Here: in a script that was already started again."""
    bin_ = bare_python(folder)
    results = folder / "results"
    commands = {
        "numpy": ["python3", ROOT / "tools/convert_hf.py", folder, "--output", folder / "m.gguf"],
        "matplotlib": ["python3", ROOT / "bench/paper/run", "--splitee", TOOL, "--output", results],
    }
    for module, command in commands.items():
        done = call(command, bin_, SPLITEE_INTERPRETER="yes")
        assert done.returncode == 1 and "Traceback" not in done.stderr, done
        assert f"has no {module}" in done.stderr and f"python3-{module}" in done.stderr, done
    assert not results.exists()  # before any replay


if __name__ == "__main__":
    run_tests(globals(), path=pathlib.Path)
