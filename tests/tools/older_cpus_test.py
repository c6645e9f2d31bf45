"""On x86 processors that have less than this one, under an emulator: the programs start, take the kernels that
are there, and answer. Skipped (77) where there is no qemu-x86_64 (package qemu-user).

Arguments: EDGE SERVER TOOL MODEL OTHER_MODEL [test names]
"""

import json
import re
import shutil
import signal
import subprocess
import sys

from binaries import ANY_PORT, EDGE, MODEL, SERVER, TIMEOUT_S, lines, main, make_texts

EMULATOR = shutil.which("qemu-x86_64")
# The best target that each of them has.
KERNELS = {"qemu64": "scalar", "Nehalem": "sse4.2", "Haswell-noTSX": "avx2"}
TEXTS = make_texts(5)
TOLERANCE = 1e-3  # sums in another order


def records_of(command, *flags):
    done = subprocess.run([*command, "--model", MODEL, "--quiet", *flags], input=lines(TEXTS), capture_output=True,
                          text=True, timeout=TIMEOUT_S, check=False)  # fmt: skip
    assert done.returncode == 0, (command, done.returncode, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_same(found, expected, route):
    assert len(found) == len(expected) == len(TEXTS)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["route"] == route and ours["class"] == theirs["class"], (ours, theirs)
        assert abs(ours["confidence"] - theirs["confidence"]) < TOLERANCE, (ours, theirs)


def test_edges_and_servers(_):
    expected = records_of([EDGE], "--policy", "final")
    for cpu, kernels in KERNELS.items():
        emulated = [EMULATOR, "-cpu", cpu]
        check_same(records_of([*emulated, EDGE], "--policy", "final"), expected, "final")
        server = subprocess.Popen([*emulated, SERVER, "--model", MODEL, "--bind", ANY_PORT], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        endpoint = server.stdout.readline().strip().removeprefix("listening on ")
        try:
            check_same(records_of([EDGE], "--policy", "offload", "--server", endpoint, "--deadline-ms", "60000"),
                       expected, "offload")  # fmt: skip
        finally:
            server.send_signal(signal.SIGTERM)
            told = server.communicate(timeout=TIMEOUT_S)[1]
        assert server.returncode == 0, (cpu, server.returncode, told)
        taken = re.search(r"kernels ([\w.-]+)", told)
        assert taken and taken[1] == kernels, (cpu, told)
        print(f"  {cpu}: {kernels}")


if __name__ == "__main__":
    if EMULATOR is None:
        print("qemu-x86_64 is not installed")
        sys.exit(77)
    main(globals())
