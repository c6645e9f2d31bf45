"""What the tests of published faults share: cases by the number of the fault, programs with bounded
memory and time, and bytes of GGUF files. tests/README.md lists all cases."""

import contextlib
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile

MEMORY_BYTES = 2 << 30  # of addresses
CPU_S = 60
TIMEOUT_S = 120
CASES = {}


def case(*numbers):
    """The decorated function replays the faults of these numbers."""

    def add(function):
        for number in numbers:
            assert number not in CASES, number
            CASES[number] = function
        return function

    return add


def main(wanted, setup=None):
    """Runs every case, or those named, in an empty folder of its own, with what setup() gives for all of them."""
    functions = {}
    for number, function in CASES.items():
        if not wanted or number in wanted:
            functions.setdefault(function, []).append(number)
    assert functions, f"no case {wanted}"
    with setup() if setup else contextlib.nullcontext() as subject:
        for function, numbers in functions.items():
            print(*numbers, flush=True)
            folder = tempfile.mkdtemp(prefix="splitee_published_")
            try:
                function(folder, subject)
            finally:
                shutil.rmtree(folder)


def bound(pid=0, memory_bytes=MEMORY_BYTES):
    """Bounds the memory and the time of a process, by default of this one."""
    resource.prlimit(pid, resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.prlimit(pid, resource.RLIMIT_CPU, (CPU_S, CPU_S))


def ends(*command, stdin=b""):
    """A program's status, output and messages; it must end by itself, within the bounds."""
    done = subprocess.run([*map(str, command)], input=stdin, capture_output=True, timeout=TIMEOUT_S, check=False,
                          preexec_fn=bound)  # fmt: skip
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    assert done.returncode in (0, 1, 2), f"{command}\nstatus {done.returncode}\n{err[-3000:]}"
    assert "Traceback" not in err and "std::" not in err and "bad_alloc" not in err, err[-3000:]
    return done.returncode, out, err


def refused(*command, words, stdin=b""):
    """The program fails with a message that has every one of `words`, of a few lines."""
    status, out, err = ends(*command, stdin=stdin)
    assert status != 0, f"{command} succeeded\n{out[-2000:]}\n{err[-2000:]}"
    for word in words:
        assert word in err, f"{word!r} expected\n{err[-3000:]}"
    assert len(err) < 20_000, f"{len(err)} bytes of messages"


def peak_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


# --- GGUF ---

U8, U32, F32, STRING, ARRAY, U64 = 0, 4, 6, 8, 9, 10


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key, kind, value):
    if kind in (U32, U64):
        value = struct.pack("<I" if kind == U32 else "<Q", value)
    elif kind == STRING:
        value = string(value)
    return string(key) + struct.pack("<I", kind) + value


def tensor(name, dims, kind=0, offset=0, rank=None):
    rank = len(dims) if rank is None else rank
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", rank, *dims, kind, offset)


BERT = entry("general.architecture", STRING, "bert")


def gguf(*parts, keys=None, tensors=None, data=b"", version=3):
    """A file of these key-values and tensors; the counts are as told, or those of the parts."""
    infos = [part for part in parts if isinstance(part, tuple)]
    entries = [part for part in parts if not isinstance(part, tuple)]
    keys = len(entries) if keys is None else keys
    tensors = len(infos) if tensors is None else tensors
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + b"".join(entries) + b"".join(info[0] for info in infos)
    return head + bytes(-len(head) % 32) + data


def place(name, dims, **more):
    """A tensor, for gguf()."""
    return (tensor(name, dims, **more),)


def write(folder, name, content):
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(content)
    return path


sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
