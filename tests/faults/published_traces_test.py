#!/usr/bin/env python3
"""Published faults of readers of compressed files, replayed on `splitee replay`, which takes traces
compressed by zstd.

Arguments: EDGE SERVER TOOL MODEL OTHER_MODEL [number ...]
"""

import os
import struct
import sys

from published import case, ends, main, refused, write

TOOL = os.path.abspath(sys.argv[3])
HEADER = b"label,pred_1,conf_1,pred_2,conf_2\n"
MAGIC = struct.pack("<I", 0xFD2FB528)
BLOCK = 1 << 17
RAW, RUN = 0, 1


def block(kind, data, size=None, last=False):
    return struct.pack("<I", (len(data) if size is None else size) << 3 | kind << 1 | last)[:3] + data


def frame(*blocks, window=7 << 3):
    """Of blocks, with a window of 128 KiB."""
    return MAGIC + bytes([0, window]) + b"".join(blocks)


def replay(path):
    return (TOOL, "replay", "--trace", path, "--alpha", "0.9", "--lambda", "0.1", "--offload-cost", "0.5")


def bad(folder, content, *words):
    path = write(folder, "bad.csv.zst", content)
    refused(*replay(path), words=(path, *words))


def whole(text):
    return frame(block(RAW, text, last=True))


@case("CVE-2025-66471", "CVE-2026-21441")
def bombs(folder, _):
    """128 KiB of text for 4 bytes of file: more of it than a trace may have, or than there is memory for."""
    status, _, err = ends(*replay(write(folder, "good.csv.zst", whole(HEADER + b"1,0,0.5,1,0.9\n" * 50))))
    assert status == 0, err
    run = block(RUN, b"7", BLOCK)
    bad(folder, frame(block(RAW, HEADER), run * 100, block(RUN, b"7", 1, last=True)))
    bad(folder, frame(block(RAW, HEADER), run * 50_000, block(RUN, b"7", 1, last=True)))
    # Each frame is small, all of them are not.
    bad(folder, whole(HEADER) + frame(run * 1_000, block(RUN, b"\n", BLOCK, last=True)) * 50)


@case("CVE-2025-66418")
def chains(folder, _):
    """Steps of decoding without number: empty frames, frames to be skipped, empty blocks, a file packed twice."""
    skipped = struct.pack("<II", 0x184D2A50, 0)
    for content in (whole(b"") * 100_000, skipped * 100_000, frame(block(RAW, b"") * 200_000, block(RAW, b"", last=True))):
        bad(folder, content)
    bad(folder, whole(whole(HEADER)), "line 1")


@case("CVE-2022-4899")
def nothing(folder, _):
    for content in (b"", b"\x28", MAGIC, MAGIC + b"\0", whole(b"")):
        bad(folder, content)
    refused(*replay(""), words=("--trace", "empty"))


@case("CVE-2019-11922")
def claims_of_sizes(folder, _):
    """Sizes that the data has not: of the window, of the content, of a block, of what is skipped."""
    bad(folder, frame(block(RAW, HEADER, last=True), window=0xFF), "zstd")
    bad(folder, MAGIC + b"\xe0" + struct.pack("<Q", 1 << 62) + block(RAW, HEADER, last=True), "zstd")
    bad(folder, MAGIC + b"\x20\x01" + block(RAW, HEADER, last=True), "zstd")
    bad(folder, frame(block(RAW, HEADER, size=(1 << 21) - 1, last=True)), "zstd")
    bad(folder, frame(block(3, HEADER, last=True)), "zstd")
    bad(folder, struct.pack("<II", 0x184D2A50, 0xFFFFFFFF) + b"x", "zstd")
    # A dictionary that nobody has.
    bad(folder, MAGIC + b"\3\x38" + struct.pack("<I", 7) + block(RAW, HEADER, last=True), "zstd")


if __name__ == "__main__":
    main(sys.argv[6:])
