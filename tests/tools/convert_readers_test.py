#!/usr/bin/env python3
"""Tests of the readers behind tools/convert_hf.py (the first argument), one for each fault that
tests/fuzz/fuzz_converter.py found: they take a file or refuse it by name, and raise nothing else."""

import json
import os
import struct

from convert_folder import Folder, main

import gguf_reader  # noqa: E402
import hf_checkpoint  # noqa: E402
import numpy as np  # noqa: E402
from convert_data import VOCAB, pickle_tensor, pickle_text, random_tensors, torch_zip  # noqa: E402
from hf_files import CheckpointError  # noqa: E402


def write(root, name, content):
    path = os.path.join(root, name)
    with open(path, "wb") as file:
        file.write(content)
    return path


def refuses(error, word, read, *arguments):
    try:
        read(*arguments)
    except error as said:
        assert word in str(said), said
    else:
        raise AssertionError(f"{arguments} were taken")


def safetensors(shape, data):
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def torch(shape, strides, offset=0, numbers=6):
    """A zip of one tensor. Numbers of a pickle's J have 32 bits; larger ones are written as LONG1."""
    wide = {value: 2**30 + number for number, value in enumerate((*shape, *strides, offset)) if value >= 2**31}
    narrow = lambda values: [wide.get(value, value) for value in values]  # noqa: E731
    stream = pickle_tensor("F32", "0", numbers, narrow(shape), narrow(strides), wide.get(offset, offset))
    for value, short in wide.items():
        stream = stream.replace(b"J" + struct.pack("<i", short), b"\x8a\x09" + value.to_bytes(9, "little"))
    stored = np.arange(numbers, dtype="<f4").tobytes()
    return torch_zip(b"\x80\x02}" + pickle_text("a") + stream + b"s.", {"0": stored})


def test_shapes_of_no_elements(root):
    """One number has no dimensions; and what has no element may say anything of its size."""
    one = hf_checkpoint.read_safetensors(write(root, "a", safetensors([], struct.pack("<f", 7))))["a"]
    assert one.load().shape == () and one.load() == 7
    none = hf_checkpoint.read_safetensors(write(root, "a", safetensors([0, 3], b"")))["a"]
    assert none.load().shape == (0, 3)
    for shape in ([0, 2**62, 2**62], [2**62, 2, 0], [0, 2**59]):
        refuses(CheckpointError, "/a: a: bad shape", hf_checkpoint.read_safetensors, write(root, "a", safetensors(shape, b"")))
        path = write(root, "a", torch(shape, [1] * len(shape)))
        refuses(CheckpointError, "/a: data.pkl", hf_checkpoint.read_pytorch, path)
    beyond = hf_checkpoint.read_pytorch(write(root, "a", torch([0, 3], [3, 1], offset=1000)))["a"]
    assert beyond.load().shape == (0, 3)


def test_strides_never_taken(root):
    """A dimension of one element may have any stride, as PyTorch's own have."""
    for stride in (7, 2**31 - 1, 2**40 + 5, 2**62 + 5):
        row = hf_checkpoint.read_pytorch(write(root, "a", torch([1, 6], [stride, 1])))["a"]
        assert (row.load() == [np.arange(6)]).all()


def gguf(root, name, *changes):
    """A model file with changes: (bytes that it has once, what takes their place)."""
    folder = Folder(root, random_tensors("bert"))
    folder.convert("--dtype", "i8")
    with open(folder.output, "rb") as file:
        data = file.read()
    for old, new in changes:
        assert data.count(old) == 1 and len(old) == len(new), (old, data.count(old))
        data = data.replace(old, new)
    return write(root, name, data)


def test_damaged_gguf(root):
    key = b"general.alignment" + struct.pack("<I", 4)
    for other in (key + struct.pack("<I", 0), b"general.alignment" + struct.pack("<If", 6, 32.0)):
        path = gguf(root, "m", (key + struct.pack("<I", 32), other))
        refuses(gguf_reader.GgufError, "/m: general.alignment", gguf_reader.GgufFile, path)
    name, rows, columns = b"blk.0.attn_q.weight", 6, 6
    info = name + struct.pack("<IQQI", 2, columns, rows, 24)
    for dims in ((2**62, 2**62), (2**33, 2**31), (2**64 - 1, 1), (0, 6)):
        path = gguf(root, "m", (info, name + struct.pack("<IQQI", 2, *dims, 24)))
        read = lambda: gguf_reader.GgufFile(path).values(name.decode())  # noqa: E731
        refuses(gguf_reader.GgufError, "/m: ", read)
    path = gguf(root, "m", (info, name + struct.pack("<IQQI", 5, columns, rows, 24)))
    refuses(gguf_reader.GgufError, "5 dimensions", gguf_reader.GgufFile, path)
    scale = name + b".scale" + struct.pack("<IQI", 1, rows, 0)
    path = gguf(root, "m", (scale, name + b".scale" + struct.pack("<IQI", 1, 1, 0)))
    refuses(gguf_reader.GgufError, ".scale does not fit", gguf_reader.GgufFile(path).values, name.decode())
    with open(gguf(root, "m"), "rb") as file:
        place = file.read().index(info) + len(info)
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(struct.pack("<Q", 2**64 - 32))
    refuses(gguf_reader.GgufError, "ends before", gguf_reader.GgufFile(path).values, name.decode())


def tokenizer_json(**parts):
    return json.dumps({
        "normalizer": {"type": "BertNormalizer", "lowercase": False}, "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "vocab": {text: number for number, text in enumerate(VOCAB)}},
    } | parts)  # fmt: skip


def test_parts_of_other_kinds(root):
    folder = Folder(root, random_tensors("bert"))
    for ends in ((5, ["[SEP]", 3]), ({"a": 1}, ["[SEP]", 3]), (["[CLS]", 2], None), ("[CLS]", "[SEP]")):
        processor = dict(zip(("cls", "sep"), ends)) | {"type": "BertProcessing"}
        folder.write("tokenizer.json", tokenizer_json(post_processor=processor))
        folder.refused("tokenizer.json", "post_processor")
    # A vocab.txt with a token more is looked up among the added ones, before these are looked at.
    folder.write("vocab.txt", "".join(text + "\n" for text in [*VOCAB, "more"]))
    for added in (0.5, 7, True, "more", {"content": "more"}):
        folder.write("tokenizer.json", tokenizer_json(added_tokens=added)).refused("more", ".json")


def test_numbers_of_nobody(root):
    """One token with a high number does not bring two thousand million others."""
    folder = Folder(root, random_tensors("bert"), vocab_size=2**31 - 1)
    folder.write("added_tokens.json", json.dumps({"far": 2**31 - 2})).refused("vocab.txt", "too many numbers")


if __name__ == "__main__":
    main(globals())
