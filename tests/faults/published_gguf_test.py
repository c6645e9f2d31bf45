#!/usr/bin/env python3
"""Published faults of readers of GGUF files, replayed on the programs that take a model.

Arguments: EDGE SERVER TOOL MODEL OTHER_MODEL [number ...]
"""

import os
import struct
import sys

from published import (ARRAY, BERT, F32, STRING, U32, U64, U8, case, ends, entry, gguf, main, place, refused, string,
                       write)  # fmt: skip
from zmtp import content_hash

EDGE, SERVER, TOOL, MODEL = map(os.path.abspath, sys.argv[1:5])
MAX64 = (1 << 64) - 1


def no_model(folder, content, *words):
    """Each program refuses the file by its name, with these words."""
    path = content if isinstance(content, str) else write(folder, "bad.gguf", content)
    refused(TOOL, "inspect", path, words=(path, *words))
    refused(EDGE, "--model", path, words=(path, *words), stdin=b"good\n")
    refused(SERVER, "--model", path, "--bind", "tcp://127.0.0.1:*", words=(path, *words))


def changed(key, kind, value):
    """MODEL with another value, of another kind and as many bytes, of a key, and a right hash."""
    with open(MODEL, "rb") as file:
        data = bytearray(file.read())
    at = data.index(string(key)) + len(string(key))
    data[at : at + 4 + len(value)] = struct.pack("<I", kind) + value
    hash_at = data.index(string("splitee.content_hash")) + len(string("splitee.content_hash")) + 4
    data[hash_at : hash_at + 8] = bytes(8)
    data[hash_at : hash_at + 8] = struct.pack("<Q", content_hash(bytes(data)))
    return bytes(data)


@case("CVE-2024-21802")
def dimensions(folder, _):
    for rank in (5, 200, 0xFFFFFFFF):
        no_model(folder, gguf(BERT, place("t", [1] * min(rank, 200), rank=rank), data=bytes(64)), f"{rank} dimensions")


@case("CVE-2024-21825")
def arrays(folder, _):
    inner = struct.pack("<IQ", U8, 1) + b"x"
    no_model(folder, gguf(BERT, entry("a", ARRAY, struct.pack("<IQ", ARRAY, 1) + inner)), "array of arrays")
    no_model(folder, gguf(BERT, entry("a", ARRAY, struct.pack("<IQ", STRING, 1 << 61))), "array elements")


@case("CVE-2024-21836")
def tensors(folder, _):
    for count in (1 << 60, MAX64, MAX64 // 88 + 2):
        no_model(folder, gguf(BERT, tensors=count), "tensors")


@case("CVE-2024-23605")
def keys(folder, _):
    for count in (1 << 60, MAX64, MAX64 // 48 + 2):
        no_model(folder, gguf(BERT, keys=count), "key-values")


@case("CVE-2024-23496")
def lengths(folder, _):
    for length in (MAX64, 1 << 63, 1 << 40):
        no_model(folder, gguf(struct.pack("<Q", length) + b"general", data=bytes(64)), "length")
        no_model(folder, gguf(string("k") + struct.pack("<IQ", STRING, length), data=bytes(64)), "length")


@case("CVE-2024-32878", "CVE-2024-12055")
def cut_off(folder, _):
    """Behind every few bytes of the header."""
    whole = gguf(BERT, entry("n", U32, 3), entry("a", ARRAY, struct.pack("<IQ", STRING, 3) + string("x") * 3), place("t", [4]))
    for end in range(24, len(whole), 9):
        path = write(folder, "cut.gguf", whole[:end])
        refused(TOOL, "inspect", path, words=(path,))
    no_model(folder, gguf(BERT, entry("a", ARRAY, struct.pack("<IQ", U8, 1 << 63))), "array elements")


@case("CVE-2024-41130")
def no_name(folder, _):
    no_model(folder, gguf(BERT, place("", [1]), data=bytes(32)), "tensor name has 0 bytes")
    no_model(folder, gguf(BERT, (struct.pack("<Q", 1 << 40),), data=bytes(32)), "length")


@case("CVE-2025-53630", "CVE-2026-27940")
def sum_of_sizes(folder, _):
    """Each size is right by itself, or nearly; their sum with its padding is a small number."""
    for first in (MAX64 // 4 - 7, (1 << 62) - 8, 0x1FFFFFFFFFFFFFF8):
        no_model(folder, gguf(BERT, place("a", [first]), place("b", [16], offset=32), data=bytes(128)), "tensor a: dimension")
    no_model(folder, gguf(BERT, place("a", [8]), place("b", [8], offset=MAX64 - 31), data=bytes(64)), "data offset")


@case("CVE-2026-33298")
def product_of_sizes(folder, _):
    for dims in ([1 << 63, 2], [MAX64, MAX64], [4194305, 4194305, 211106198978564], [1 << 16] * 4):
        no_model(folder, gguf(BERT, place("t", dims), data=bytes(64)), "dimension")


@case("CVE-2025-49847")
def long_token(folder, _):
    """A token longer than a signed length of 32 bits says."""
    for length in ((1 << 31) + 1, (1 << 32) + 5):
        tokens = struct.pack("<IQ", STRING, 1) + struct.pack("<Q", length) + b"x"
        no_model(folder, gguf(BERT, entry("tokenizer.ggml.tokens", ARRAY, tokens), data=bytes(64)), "length")


@case("CVE-2025-52566")
def long_text(folder, _):
    """More tokens than the model's context, in one word and in many: cut, or a message, and the next text is answered."""
    for text in (b"ba" * 500_000, b"ba " * 500_000, b"\xe4\xb8\x80" * 300_000, b"[SEP]" * 100_000):
        status, out, err = ends(EDGE, "--model", MODEL, "--policy", "final", "--quiet", stdin=text + b"\nba\n")
        assert (status == 0 and out.count("\n") == 2) or "line 1" in err, (status, out[-300:], err[-300:])


@case("CVE-2024-39720")
def four_bytes(folder, _):
    for content in (b"GGUF", b"GGUF" + bytes(4), b"GGUF\3\0\0\0", b"FUGG", b"GGUF\3\0\0\0" + bytes(15), b""):
        no_model(folder, content)


@case("CVE-2024-39721")
def devices(folder, _):
    """Files without end, and one that nobody writes to."""
    pipe = os.path.join(folder, "pipe")
    os.mkfifo(pipe)
    for path in ("/dev/random", "/dev/zero", pipe, folder):
        no_model(folder, path)


@case("CVE-2025-0312")
def no_architecture(folder, _):
    no_model(folder, gguf(entry("n", U32, 1)), "general.architecture")
    no_model(folder, gguf(entry("general.architecture", U32, 1)), "general.architecture")


@case("CVE-2025-0315")
def claims_of_memory(folder, _):
    for kind in (U8, F32, STRING, U64):
        for count in (1 << 31, 1 << 36, 1 << 40):
            no_model(folder, gguf(BERT, entry("a", ARRAY, struct.pack("<IQ", kind, count)), data=bytes(4096)), "array elements")


@case("CVE-2025-0317")
def alignment(folder, _):
    for value in (0, 1, 3, 1 << 31):
        no_model(folder, gguf(BERT, entry("general.alignment", U32, value), place("t", [8]), data=bytes(32)), "general.alignment")
    no_model(folder, gguf(BERT, entry("general.alignment", STRING, ""), place("t", [8]), data=bytes(32)), "general.alignment")


@case("CVE-2024-8063")
def block_count(folder, _):
    no_model(folder, changed("bert.block_count", U32, bytes(4)), "bert.block_count")
    no_model(folder, changed("bert.attention.head_count", U32, bytes(4)), "head_count")
    no_model(folder, changed("bert.block_count", F32, struct.pack("<f", 4)), "bert.block_count", "f32")


@case("CVE-2026-7482")
def beyond_the_end(folder, _):
    """A tensor that is larger than what the file holds of it, or lies behind its end."""
    no_model(folder, gguf(BERT, place("t", [1 << 20]), data=bytes(64)), "tensor t")
    no_model(folder, gguf(BERT, place("t", [8], offset=1 << 20), data=bytes(64)), "tensor t")
    with open(MODEL, "rb") as file:
        no_model(folder, file.read()[:-64], "beyond the end")


if __name__ == "__main__":
    main(sys.argv[6:])
