#!/usr/bin/env python3
"""Models with sums of their blocks: the real programs answer the same, read less, and meet damage
where it is."""

import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

from binaries import (EDGE, TIMEOUT_S, TOOL, Server, edge, lines, main, make_texts, read, records_of,
                      run, without_times, write)  # fmt: skip

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tools", "python"))
import gguf_writer  # noqa: E402
from gguf_reader import GgufFile  # noqa: E402

PLAIN = os.path.join(ROOT, "models", "small.gguf")
DEEP = "blk.3.ffn_down.weight"
TEXTS = lines(make_texts(20))
DAMAGED = "was damaged or changed"
FIRST_EXIT = ("--policy", "fixed", "--split", "1", "--alpha", "0.01")


@functools.cache
def rewritten(with_sums):
    """The bytes of small.gguf, written anew."""
    file = GgufFile(PLAIN)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m.gguf")
        gguf_writer.write_gguf(path, file.with_keys([]), [t.to_write() for t in file.tensors.values()],
                               with_sums=with_sums)  # fmt: skip
        return read(path)


def written(folder, name, with_sums=True):
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(rewritten(with_sums))
    return path


def damage(path, tensor=DEEP, behind=100_000):
    place = GgufFile(path).tensors[tensor].offset + behind
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


def labelled(folder, texts):
    rows = [f"{number % 2}\t{text}\n" for number, text in enumerate(texts)]
    return write(folder, "rows.tsv", "label\ttext\n" + "".join(rows))


def check_sums(path):
    """The key's sums are those of the file's blocks, one for each that begins in the tensor data."""
    file = GgufFile(path)
    start = min(tensor.offset for tensor in file.tensors.values())
    with open(path, "rb") as data:
        sums = gguf_writer.block_sums(data, -(-start // gguf_writer.BLOCK_BYTES))
    assert len(sums) > 50
    assert file.keys["splitee.block_sums"][:len(sums)] == sums
    assert not any(file.keys["splitee.block_sums"][len(sums):])


def test_same_answers(folder):
    summed, bare = written(folder, "summed.gguf"), written(folder, "bare.gguf", with_sums=False)
    check_sums(summed)
    compiled = re.search(r"kernel targets: ([^;]*);", run(EDGE, "--version").out)[1].split(", ")
    targets = [name for name in compiled
               if edge("--target", name, stdin="", model=bare, status=None).status == 0]  # fmt: skip
    assert "scalar" in targets
    for target in targets:
        flags = ("--exits", "--target", target, "--policy", "final")
        expected = without_times(records_of(*flags, stdin=TEXTS, model=bare))
        assert without_times(records_of(*flags, stdin=TEXTS, model=summed)) == expected
    for flags in (FIRST_EXIT, ("--check-model", "--policy", "final")):
        expected = without_times(records_of(*flags, stdin=TEXTS, model=bare))
        assert without_times(records_of(*flags, stdin=TEXTS, model=summed)) == expected


def test_damage(folder):
    path = written(folder, "m.gguf")
    expected = records_of(*FIRST_EXIT, stdin=TEXTS, model=path)
    damage(path)
    assert without_times(records_of(*FIRST_EXIT, stdin=TEXTS, model=path)) == without_times(expected)
    for flags in (("--policy", "final"), (*FIRST_EXIT, "--check-model")):
        edge(*flags, stdin=TEXTS, model=path, status=None).expect(1, path, DAMAGED)
    # It starts, and the sample that comes to the damage ends the run with its reason.
    late = edge("--policy", "fixed", "--split", "4", "--alpha", "1", stdin=TEXTS, model=path,
                status=None)  # fmt: skip
    late.expect(1, path, DAMAGED)
    run(TOOL, "inspect", path, status=None).expect(1, path, DAMAGED)
    output = os.path.join(folder, "out.gguf")
    rows = labelled(folder, make_texts(200))
    command = ("calibrate", "--model", path, "--input", rows, "--output", output)
    run(TOOL, *command, status=None).expect(1, path, DAMAGED)
    assert not os.path.exists(output)


def test_damaged_words_do_not_get_a_new_hash(folder):
    path, output = written(folder, "m.gguf"), os.path.join(folder, "out.gguf")
    rows = labelled(folder, ["good film"] * 200)
    command = ("calibrate", "--model", path, "--input", rows, "--output", output)
    run(TOOL, *command)
    check_sums(output)
    os.unlink(output)
    damage(path, "token_embd.weight", GgufFile(path).tensors["token_embd.weight"].load().nbytes - 10)
    run(TOOL, *command, status=None).expect(1, path, DAMAGED)
    assert not os.path.exists(output)


def test_server_and_reload(folder):
    path, other = written(folder, "m.gguf"), written(folder, "other.gguf")
    expected = records_of("--policy", "final", stdin=TEXTS, model=path)
    damage(other)
    with Server(model=path) as server:
        # A damaged one in its place: everything is checked, and the old one stays.
        os.replace(other, path)
        server.send(signal.SIGHUP)
        while "not reloaded" not in server.messages():
            assert server.process.poll() is None
            time.sleep(0.01)
        assert DAMAGED in server.messages()
        whole = written(folder, "m.gguf")
        link = ("--server", server.endpoint, "--require-server", "--deadline-ms", "60000")
        found = records_of("--policy", "fixed", "--split", "1", "--alpha", "1", *link, stdin=TEXTS,
                           model=whole)  # fmt: skip
        assert [r["class"] for r in found] == [r["class"] for r in expected]


def test_reads_what_it_uses(folder):
    """By the kernel's count of the bytes that a process has read."""
    counts = {}
    for name, sums in (("summed.gguf", True), ("bare.gguf", False)):
        path = written(folder, name, with_sums=sums)
        for whole in ((), ("--check-model",)):
            command = [EDGE, "--model", path, "--quiet", *FIRST_EXIT, *whole]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
                process.stdin.write(b"good film\n")
                process.stdin.flush()
                assert process.stdout.readline()
                read_bytes = int(re.search(rb"rchar: (\d+)", read(f"/proc/{process.pid}/io"))[1])
                process.stdin.close()
                assert process.wait(TIMEOUT_S) == 0
            counts[sums, bool(whole)] = read_bytes / os.path.getsize(path)
    assert counts[True, False] < 0.6 < 1 <= counts[True, True], counts
    assert counts[False, False] >= 1, counts


def test_deleted_or_cut_off_in_use(folder):
    path = written(folder, "m.gguf")
    expected = records_of("--policy", "final", stdin="good film\n", model=path)
    for cut in (False, True):
        path = written(folder, "m.gguf")
        command = [EDGE, "--model", path, "--policy", "fixed", "--split", "1", "--alpha", "1", "--quiet"]
        pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
        with subprocess.Popen(command, **pipes) as process:
            # Opened, once it has the file among its descriptors.
            while not any(os.path.realpath(f"/proc/{process.pid}/fd/{n}") == os.path.realpath(path)
                          for n in os.listdir(f"/proc/{process.pid}/fd")):
                time.sleep(0.01)
            if cut:
                os.truncate(path, 100_000)
            else:
                os.unlink(path)
            out, err = process.communicate(b"good film\n", timeout=TIMEOUT_S)
        assert process.returncode in (0, 1), (process.returncode, err)
        if not cut:
            assert process.returncode == 0 and str(expected[0]["class"]).encode() in out, err
        elif process.returncode == 1:
            assert path.encode() in err, err


if __name__ == "__main__":
    main(globals())
