#!/usr/bin/env python3
"""Published faults of readers of checkpoints (safetensors, pickles, files beside an ONNX model),
replayed on tools/convert_hf.py, whose main() is called in this process, with bounded memory and time.

Arguments: CONVERTER [number ...]
"""

import io
import json
import os
import pickle
import struct
import sys
import zipfile

from published import bound, case, main
from convert_folder import Folder  # noqa: E402
from convert_data import pickle_tensor, pickle_text, random_tensors, safetensors_bytes, torch_bytes, torch_zip  # noqa: E402

BIN, SAFE = "pytorch_model.bin", "model.safetensors"


# --- files beside a model ---


def indexed(folder, location):
    """A checkpoint whose index says that a tensor is at `location`."""
    made = Folder(folder, None)
    return made.write(SAFE + ".index.json", json.dumps({"weight_map": {"bert.pooler.dense.bias": location}}))


@case("CVE-2022-25882", "CVE-2024-27318", "CVE-2026-27489")
def paths_out_of_the_folder(folder, _):
    """A good file elsewhere is not reached by "..", by a folder before "..", by a full path, or through a link to a folder."""
    outside = os.path.join(folder, "outside.safetensors")
    with open(outside, "wb") as file:
        file.write(safetensors_bytes(random_tensors("bert")))
    for location in ("../outside.safetensors", "a/../../outside.safetensors", outside, "./../outside.safetensors",
                     "..", "link/outside.safetensors", "%2e%2e/outside.safetensors", "file://" + outside):  # fmt: skip
        made = indexed(folder, location)
        os.symlink(folder, os.path.join(made.path, "link"))
        made.refused(SAFE + ".index.json", "weight_map")
    indexed(folder, "..\\outside.safetensors").refused("outside.safetensors", "missing")


@case("CVE-2026-34447")
def links(folder, _):
    """Caches of checkpoints are made of links, so they are followed; of what is no checkpoint nothing is told."""
    secret = os.path.join(folder, "secret")
    with open(secret, "w", encoding="ascii") as file:
        file.write("root:topsecret:0:0\n" * 40)
    for name in (SAFE, BIN, "config.json", "tokenizer_config.json"):
        made = Folder(folder, random_tensors("bert"), BIN if name == BIN else SAFE)
        made.remove(name)
        os.symlink(secret, os.path.join(made.path, name))
        made.refused(name)
        assert "topsecret" not in made.run().stderr, name
    made = indexed(folder, "part.safetensors")
    os.symlink("/dev/zero", os.path.join(made.path, "part.safetensors"))
    made.refused("part.safetensors", "not a regular file")


@case("CVE-2024-5187")
def names_in_archives(folder, _):
    """Nothing of an archive is written anywhere, whatever its names are."""
    file = io.BytesIO(torch_bytes(random_tensors("bert")))
    with zipfile.ZipFile(file, "a") as archive:
        for name in ("../escaped", "../../escaped", os.path.join(folder, "escaped"), "archive/../../escaped"):
            archive.writestr(name, "x")
    made = Folder(folder, None).write(BIN, file.getvalue())
    result = made.run("--sample", "none")
    assert result.returncode in (0, 1) and "Traceback" not in result.stderr, result.stderr
    found = [os.path.join(path, name) for path, _, names in os.walk(folder) for name in names]
    assert not any("escaped" in name for name in found), found


# --- safetensors ---


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def bad(folder, name, content, *words):
    Folder(folder, None).write(name, content).refused(name, *words)


@case("safetensors/safetensors#401")
def key_twice(folder, _):
    one = b'"a": {"dtype": "F32", "shape": [1], "data_offsets": [%d, %d]}'
    bad(folder, SAFE, safetensors(b"{" + one % (0, 4) + b"," + one % (4, 8) + b"}", bytes(8)), "a key comes twice")
    bad(folder, SAFE, safetensors(b'{"a": {"dtype": "F32", "dtype": "I8", "shape": [1], "data_offsets": [0, 4]}}', bytes(4)), "twice")


@case("safetensors/safetensors#668", "ztxz16/fastllm#713")
def header_length(folder, _):
    for length in ((1 << 64) - 5, (1 << 64) - 1, 1 << 63, 1 << 40, 132095296):
        bad(folder, SAFE, safetensors({}, length=length), "header of")
    for offsets in ([], [0], [4, 0], [0, 1 << 62], [0, 4, 8], None, {"0": 0}):
        bad(folder, SAFE, safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": offsets}}, bytes(4)), "a")
    bad(folder, SAFE, safetensors({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}, bytes(4)), "do not fit its shape")


@case("ohdearquant/lattice#752")
def shared_bytes(folder, _):
    info = lambda begin, end: {"dtype": "F32", "shape": [(end - begin) // 4], "data_offsets": [begin, end]}  # noqa: E731
    for others in ({"b": info(0, 8)}, {"b": info(4, 12)}, {"b": info(12, 16)}, {"b": info(0, 4)}):
        bad(folder, SAFE, safetensors({"a": info(0, 8)} | others, bytes(16)))


@case("CVE-2024-27319")
def long_names(folder, _):
    """Errors with names of many bytes, and of those that a terminal obeys."""
    for name in ("n" * 70_000, "\x1b[2J" * 5000, "\0" * 300):
        bad(folder, SAFE, safetensors({name: 7}))


# --- pickles ---


def text_of(callable_name, argument="x"):
    """A pickle that would call something by its name, in protocol 2 and 4."""
    module, _, name = callable_name.rpartition(".")
    call = pickle_text(argument) + b"\x85R."
    yield b"\x80\x02c" + f"{module}\n{name}\n".encode() + call
    yield b"\x80\x04" + pickle_text(module) + pickle_text(name) + b"\x93" + call


def calls_nothing(folder, *names):
    trap = os.path.join(folder, "trap")
    for name in names:
        for stream in text_of(name, f"touch {trap}"):
            bad(folder, BIN, torch_zip(stream, {}), "data.pkl")
            # In the place of a tensor, too.
            bad(folder, BIN, torch_zip(b"\x80\x02}" + pickle_text("bert.a") + stream[2:-1] + b"s.", {}), "data.pkl")
    assert not os.path.exists(trap)


@case("CVE-2025-1716")
def calls_of_pip(folder, _):
    calls_nothing(folder, "pip.main", "pip._internal.main", "pip._internal.cli.main.main")


@case("CVE-2025-10157", "CVE-2026-56315")
def names_on_no_list(folder, _):
    calls_nothing(folder, "asyncio.unix_events._UnixSubprocessTransport._start", "uuid._get_command_stdout", "imaplib.IMAP4_stream",
                  "_pyrepl.pager.pipe_pager", "_osx_support._read_output", "_aix_support._read_cmd_output", "builtins.eval")  # fmt: skip


@case("CVE-2022-45907")
def calls_of_torch(folder, _):
    """What is of torch is no better."""
    calls_nothing(folder, "torch.jit.annotations.parse_type_line", "torch.load", "torch.hub.load", "torch._utils.os.system",
                  "torch._utils._rebuild_tensor_v2.__globals__", "collections.OrderedDict.__init__")  # fmt: skip


@case("CVE-2019-6446")
def calls_of_numpy(folder, _):
    calls_nothing(folder, "numpy.load", "numpy.core.multiarray._reconstruct", "numpy.testing._private.utils.runstring")


@case("CVE-2025-32434", "CVE-2025-10155")
def other_containers(folder, _):
    """A bare pickle, PyTorch's older forms, a tar: under the name of a zip."""
    import tarfile

    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            data = b"".join(text_of("os.system"))
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    legacy = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + next(text_of("os.system"))
    for content in (next(text_of("os.system")), legacy, tar.getvalue(), pickle.dumps({"a": 1}), b"\x93NUMPY\1\0" + bytes(90)):
        bad(folder, BIN, content)


@case("CVE-2025-1889")
def pickles_of_other_names(folder, _):
    """What the archive has beside data.pkl is never unpickled."""
    trap = os.path.join(folder, "trap")
    file = io.BytesIO(torch_bytes(random_tensors("bert")))
    with zipfile.ZipFile(file, "a") as archive:
        for name in ("archive/config.p", "archive/constants.pkl", "archive/code/x.py", "data.pkl"):
            archive.writestr(name, next(text_of("os.system", f"touch {trap}")))
    result = Folder(folder, None).write(BIN, file.getvalue()).run("--sample", "none")
    assert result.returncode in (0, 1) and "Traceback" not in result.stderr, result.stderr
    assert not os.path.exists(trap)


def bent(content, place, change):
    """A zip, changed behind each header of data.pkl: its local one, or that of the directory."""
    data, at = bytearray(content), -1
    signature, name_at = (b"PK\3\4", 30) if place == "local" else (b"PK\1\2", 46)
    while (at := data.find(signature, at + 1)) >= 0:
        if data[at + name_at :].startswith(b"archive/data.pkl"):
            change(data, at, name_at)
    return bytes(data)


@case("CVE-2025-1944")
def two_names(folder, _):
    """The directory says another name than the file's own header."""
    good = torch_bytes(random_tensors("bert"))

    def rename(data, at, name_at):
        data[at + name_at : at + name_at + 16] = b"archive/other.pk"

    for place in ("local", "directory"):
        bad(folder, BIN, bent(good, place, rename))


@case("CVE-2025-1945")
def flags_of_a_zip(folder, _):
    """Encrypted, patched, strongly encrypted: bits that some readers heed and others do not."""
    good = torch_bytes(random_tensors("bert"))
    for bit in (0x01, 0x20, 0x40):
        for place, flag_at in (("local", 6), ("directory", 8)):

            def set_bit(data, at, _):
                data[at + flag_at] |= bit

            result = Folder(folder, None).write(BIN, bent(good, place, set_bit)).run("--sample", "none")
            assert result.returncode in (0, 1) and "Traceback" not in result.stderr, result.stderr
            assert result.returncode == 0 or BIN in result.stderr, result.stderr


@case("CVE-2025-10156")
def wrong_sums(folder, _):
    """A check of a file's bytes that fails is an error, not a reason to look elsewhere."""
    good = torch_bytes(random_tensors("bert"))

    def zero(at_crc):
        def change(data, at, _):
            data[at + at_crc : at + at_crc + 4] = b"\1\2\3\4"

        return change

    bad(folder, BIN, bent(good, "directory", zero(16)))


@case("memory-of-pickles")
def memory_of_pickles(folder, _):
    """Sizes and repetitions that some bytes ask for."""
    tensor = pickle_tensor("F32", "0", 1 << 30, [1 << 30], [1])
    bad(folder, BIN, torch_zip(b"\x80\x02}" + pickle_text("bert.a") + tensor + b"s.", {"0": bytes(24)}), "bert.a")
    doubled = b"\x80\x02(K\1tq\0" + b"".join(b"0h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(200)) + b"."
    bad(folder, BIN, torch_zip(doubled, {}))
    for opcode in (b"\x8e", b"\x8d", b"\x96"):
        bad(folder, BIN, torch_zip(b"\x80\x05" + opcode + struct.pack("<Q", 1 << 40) + b"x.", {}))
    bad(folder, BIN, torch_zip(b"\x80\x02" + b"(" * 1_000_000 + b"t" * 1_000_000 + b".", {}))


if __name__ == "__main__":
    bound()
    main(sys.argv[2:])
