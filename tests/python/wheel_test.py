#!/usr/bin/env python3
"""The wheel in a bare virtual environment: `tools/wheel` makes one, pip installs it, and what is inside answers as the
build folder does, with no library from outside but the C and C++ run times and zlib. Then, with scikit-learn, pandas,
matplotlib and Jupyter beside it, the estimator's checks, the plots and docs/tour.ipynb. Needs PyPI.

Arguments: SOURCE_ROOT EDGE SERVER TOOL MODEL OTHER_MODEL NUMBERS_MODEL."""

import glob
import json
import os
import platform
import subprocess
import sys
import tempfile
import zipfile

ROOT, *PROGRAMS = map(os.path.abspath, sys.argv[1:])
HERE = os.path.dirname(os.path.abspath(__file__))
OUTSIDE = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6", "libpthread.so.0", "librt.so.1", "libdl.so.2",
           "libresolv.so.2", "libz.so.1"}  # fmt: skip


def run(*command, **options):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SPLITEE_", "PYTHON"))}
    done = subprocess.run(command, text=True, capture_output=True, env=environment, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def needed(path):
    lines = run("readelf", "-dW", path).splitlines()
    return {line.split("[")[1].rstrip("]") for line in lines if "(NEEDED)" in line}


def check_contents(wheel, folder, machine="x86_64"):
    """Every library that any file needs is inside, or one of those that every Linux has."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    files = [path for path in glob.glob(os.path.join(folder, "**"), recursive=True) if os.path.isfile(path)]
    programs = [path for path in files if open(path, "rb").read(4) == b"\x7fELF"]
    inside = {os.path.basename(path) for path in programs}
    assert "libsplitee.so.1" in inside and "splitee" in inside, inside
    for path in programs:
        assert {"x86_64": "X86-64", "aarch64": "AArch64"}[machine] in run("readelf", "-hW", path), path
        outside = needed(path) - inside
        assert all(name in OUTSIDE or name.startswith("ld-linux") for name in outside), (path, outside)
    assert os.path.basename(wheel).startswith("splitee-") and "-py3-none-manylinux_" in wheel, wheel
    assert wheel.endswith(f"_{machine}.whl"), wheel


def main():
    with tempfile.TemporaryDirectory() as folder:
        run(os.path.join(ROOT, "tools", "wheel"), os.path.join(folder, "dist"))
        (wheel,) = glob.glob(os.path.join(folder, "dist", "*.whl"))
        check_contents(wheel, os.path.join(folder, "wheel"), platform.machine())
        run(sys.executable, "-m", "venv", os.path.join(folder, "env"))
        python = os.path.join(folder, "env", "bin", "python")
        run(python, "-m", "pip", "install", "-q", wheel)
        print(run(python, os.path.join(HERE, "package_test.py"), *PROGRAMS, cwd=folder))
        answer = run(python, "-c", "import splitee, json\n"
                     f"print(json.dumps(splitee.Edge({os.path.join(ROOT, 'models', 'default.gguf')!r}).classify("
                     "'a warm and funny film')))", cwd=folder)  # fmt: skip
        assert json.loads(answer)["label"] == "positive", answer
        assert "fit" in run(python, "-c", "import splitee.fitting, subprocess\n"
                            "subprocess.run([splitee.fitting.program(), '--help'], check=True)", cwd=folder)  # fmt: skip
        run(python, "-m", "pip", "install", "-q", "pandas", "matplotlib", "scikit-learn", "nbclient", "ipykernel", "mypy")
        print(run(python, os.path.join(HERE, "parts_test.py"), ROOT, PROGRAMS[2], cwd=folder))


if __name__ == "__main__":
    main()
