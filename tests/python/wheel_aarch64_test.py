#!/usr/bin/env python3
"""The wheel for 64-bit ARM, cross built by `tools/wheel aarch64`: its tags, what is inside and what it needs from outside;
then pip installs it in a bare Debian 12 of that architecture (debootstrap, under qemu), where it answers as the program of
the build folder does here.

Skipped (77), with what is missing, as tests/packages is. Needs a Debian mirror and PyPI.

Arguments: SOURCE_ROOT EDGE [--keep FOLDER] (works in FOLDER, and uses a bare Debian that is there)."""

import glob
import json
import os
import shutil
import sys
import tempfile

ROOT, EDGE = map(os.path.abspath, sys.argv[1:3])
KEPT = sys.argv[4] if sys.argv[3:4] == ["--keep"] else None
sys.path.insert(1, os.path.join(ROOT, "tests", "packages"))

import packages_test  # noqa: E402
import wheel_test  # noqa: E402

TEXTS = ["a warm and funny film", "dull, loud and far too long", "not bad at all", ""]
PROGRAM = """import json, platform, sys
import splitee
edge = splitee.Edge("/default.gguf", policy="final")
print(json.dumps([platform.machine(), [record["label"] for record in edge.run(json.load(sys.stdin))]]))"""


def check_in_debian(debian, wheel):
    debian.run("apt-get", "update", "-q")
    debian.run("apt-get", "install", "-q", "-y", "--no-install-recommends", "python3-numpy", "python3-pip")
    shutil.copy(wheel, debian.path("/packages"))
    shutil.copy(os.path.join(ROOT, "models", "default.gguf"), debian.path("/default.gguf"))
    debian.run("python3", "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--force-reinstall",
               "--break-system-packages", "/packages/" + os.path.basename(wheel))  # fmt: skip
    machine, labels = json.loads(debian.run("python3", "-c", PROGRAM, input=json.dumps(TEXTS)))
    here = wheel_test.run(EDGE, "--model", os.path.join(ROOT, "models", "default.gguf"), "--policy", "final", "--quiet",
                          input="".join(text + "\n" for text in TEXTS))  # fmt: skip
    assert machine == "aarch64", machine
    assert labels == [json.loads(line)["label"] for line in here.splitlines()], labels


def main():
    if lacking := packages_test.missing("arm64"):
        print(f"skipped: needs {lacking}")
        return 77
    folder = KEPT or tempfile.mkdtemp(prefix="splitee_wheel_")
    os.makedirs(folder, exist_ok=True)
    work = tempfile.mkdtemp(dir=folder)
    try:
        wheel_test.run(os.path.join(ROOT, "tools", "wheel"), "aarch64", os.path.join(work, "dist"))
        (wheel,) = glob.glob(os.path.join(work, "dist", "*.whl"))
        wheel_test.check_contents(wheel, os.path.join(work, "wheel"), "aarch64")
        print(f"  built: {os.path.basename(wheel)}", flush=True)
        with packages_test.Debian(folder, "arm64") as debian:
            check_in_debian(debian, wheel)
        print("  installed and run in a bare Debian", flush=True)
    finally:
        shutil.rmtree(work if KEPT else folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
