#!/usr/bin/env python3
"""Published faults of libpng, libjpeg-turbo and readers of PPM files, replayed on an edge that takes
images: each file is answered or named, and the one behind it is answered.

Arguments: EDGE SERVER TOOL MODEL OTHER_MODEL [number ...]; MODEL is a network on images.
"""

import os
import re
import struct
import sys
import zlib

from published import case, ends, main, write

EDGE, _, _, MODEL = map(os.path.abspath, sys.argv[1:5])
GOOD = b"P6\n8 8\n255\n" + bytes(range(192))


def edge(folder, files):
    """How many of `files` (by name) have no record, and what was said. Of many not all are named."""
    names = [name for name, content in files.items() if write(folder, name, content)]
    write(folder, "good", GOOD)
    table = write(folder, "table.tsv", "".join(["path\tlabel\n", *(f"{name}\t\n" for name in names), "good\t\n"]).encode())
    status, out, err = ends(EDGE, "--model", MODEL, "--policy", "final", "--input", table)
    count = out.count("\n") - 1
    assert status == (count < len(names)), (status, out, err)
    refused = sum(name + ": " in err for name in names)
    if refused:
        refused = int(re.search(r"(\d+) row\(s\) could not be read", err)[1])
    assert count + refused == len(names), (refused, out, err)
    return refused, err


def bad(folder, content, *words):
    refused, err = edge(folder, {"a_picture": content})
    assert refused, err
    for word in words:
        assert word in err, f"{word!r} expected\n{err}"


def taken(folder, content):
    refused, err = edge(folder, {"a_picture": content})
    assert not refused, err


# --- PNG ---

GREY, RGB, PALETTE, RGBA = 0, 2, 3, 6


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bits, kind, rows, *chunks, interlaced=0, after=b""):
    """`rows`: the bytes of the picture, each row with its filter."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows))
            + after + chunk(b"IEND", b""))  # fmt: skip


def palette(count):
    return chunk(b"PLTE", bytes(i * 7 % 256 for i in range(3 * count)))


def gamma(value):
    return chunk(b"gAMA", struct.pack(">I", value))


def indices(width, height, value=None):
    return b"".join(b"\0" + bytes((x + y) % 256 if value is None else value for x in range(width)) for y in range(height))


def interlaced(width, height, pixel_bits):
    """The rows of all seven passes."""
    rows = b""
    for x, y, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        columns, lines = -(-(width - x) // dx), -(-(height - y) // dy)
        if columns > 0:
            size = -(-columns * pixel_bits // 8)
            rows += b"".join(b"\0" + bytes((i * 11 + line) % 256 for i in range(size)) for line in range(lines))
    return rows


@case("CVE-2025-64720", "CVE-2025-66293")
def palette_with_alpha(folder, _):
    """A palette with partial transparency under another gamma, plain and interlaced."""
    alpha = chunk(b"tRNS", bytes(range(256)))
    for value in (45455, 100000, 10000, 220000):
        taken(folder, png(16, 16, 8, PALETTE, indices(16, 16), gamma(value), palette(256), alpha))
    taken(folder, png(16, 16, 8, PALETTE, interlaced(16, 16, 8), gamma(60000), palette(256), alpha, interlaced=1))


@case("CVE-2025-65018")
def interlaced_16_bits(folder, _):
    for kind, channels in ((GREY, 1), (RGB, 3), (RGBA, 4)):
        rows = interlaced(33, 31, 16 * channels)
        for value in (45455, 100000, 30000):
            taken(folder, png(33, 31, 16, kind, rows, gamma(value), interlaced=1))
            edge(folder, {"short": png(33, 31, 16, kind, rows[:-50], gamma(value), interlaced=1)})


@case("CVE-2015-8126")
def palette_too_long(folder, _):
    """For the bits of an index, and for any."""
    for bits, count in ((1, 256), (2, 16), (4, 256), (8, 257), (8, 4000)):
        edge(folder, {f"p{bits}": png(8, 8, bits, PALETTE, indices(bits, 8), palette(count))})
    bad(folder, png(8, 8, 8, PALETTE, indices(8, 8)), "the PNG is broken")


@case("CVE-2018-14498")
def index_beyond_the_palette(folder, _):
    for alpha in ((), (chunk(b"tRNS", b"\x80"),)):
        edge(folder, {"a": png(8, 8, 8, PALETTE, indices(8, 8, 255), palette(2), *alpha)})
    edge(folder, {"a": png(8, 8, 4, PALETTE, indices(4, 8, 255), palette(2))})


@case("CVE-2018-13785")
def bytes_of_a_row(folder, _):
    for width in (0x55555555, 0x7FFFFFFF, 0x2AAAAAAA, 0x20000001):
        for kind, bits in ((RGB, 8), (RGBA, 16), (GREY, 1)):
            bad(folder, png(width, 3, bits, kind, bytes(100)))
    bad(folder, png(0, 3, 8, RGB, bytes(100)), "the PNG is broken")


@case("CVE-2010-1205")
def rows_too_many(folder, _):
    """More data than the picture has rows, in one chunk and in another one."""
    rows = indices(8, 8)
    edge(folder, {"a": png(8, 8, 8, GREY, rows * 5000), "b": png(8, 8, 8, GREY, rows, after=chunk(b"IDAT", rows * 99))})


@case("CVE-2010-0205")
def bombs_in_chunks(folder, _):
    """Texts and profiles of many megabytes, each in some kilobytes; pixels that are not counted as such."""
    bomb = zlib.compress(bytes(48 << 20), 9)
    texts = [chunk(b"zTXt", b"k\0\0" + bomb), chunk(b"iTXt", b"k\0\1\0\0\0" + bomb), chunk(b"iCCP", b"k\0\0" + bomb)]
    for text in texts:
        edge(folder, {"a": png(8, 8, 8, GREY, indices(8, 8), *[text] * 20)})
    edge(folder, {"a": png(8, 8, 8, GREY, indices(8, 8), chunk(b"tEXt", b"k\0" + b"x" * (4 << 20)), *[chunk(b"tEXt", b"k\0x")] * 5000)})
    bad(folder, png(60000, 60000, 8, GREY, bytes(4 << 20)), "60000 x 60000 pixels")


@case("CVE-2019-7317")
def cut_off(folder, _):
    """Errors at each place leave nothing behind that is freed twice or used."""
    whole = png(16, 16, 8, PALETTE, interlaced(16, 16, 8), gamma(50000), palette(256), chunk(b"tRNS", bytes(range(256))), interlaced=1)
    files = {f"cut{end:05}": whole[:end] for end in range(8, len(whole) - 13, 41)}
    refused, err = edge(folder, files)
    assert refused == len(files), err
    edge(folder, {f"bent{at:05}": whole[:at] + b"\xff" + whole[at + 1 :] for at in range(8, len(whole), 37)})


@case("CVE-2011-2692")
def short_chunks(folder, _):
    """Chunks of fixed sizes, empty or of one byte."""
    names = (b"sCAL", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"oFFs", b"pCAL", b"tIME", b"sBIT", b"bKGD", b"hIST", b"sPLT", b"eXIf")
    for data in (b"", b"\1", b"\0\0", b"\xff" * 64):
        edge(folder, {name.decode(): png(8, 8, 8, GREY, indices(8, 8), chunk(name, data)) for name in names})


# --- JPEG ---


def segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


QUANT = segment(0xDB, b"\0" + b"\1" * 64)
DC_ZERO = segment(0xC4, b"\0" + b"\1" + bytes(15) + b"\0")  # one code, "0": nothing


def sof(marker, width, height, components=(1,), bits=8, sampling=0x11):
    return segment(marker, struct.pack(">BHHB", bits, height, width, len(components)) + b"".join(
        bytes([number, sampling, 0]) for number in components))  # fmt: skip


def sos(components=(1,), first=0, last=63, approximation=0):
    return segment(0xDA, bytes([len(components)]) + b"".join(bytes([number, 0]) for number in components)
                   + bytes([first, last, approximation]))  # fmt: skip


def jpeg(*parts):
    return b"\xff\xd8" + QUANT + DC_ZERO + b"".join(parts) + b"\xff\xd9"


AC_END = segment(0xC4, b"\x10" + b"\1" + bytes(15) + b"\0")  # one code, "0": end of block


@case("redhat#1344214")
def scan_after_scan(folder, _):
    """A progressive picture whose scans of a few bytes go over all its blocks, thousands of them."""
    side = 2048
    blocks = (side // 8) ** 2
    # One code, "0": the next 2^14 blocks and more, as 14 bits say, are empty; four times.
    run = segment(0xC4, b"\x10" + b"\1" + bytes(15) + b"\xe0")
    scan = sos(first=1, last=1) + bytes(7) + b"\x0f"
    start = (sof(0xC2, side, side), sos(last=0), bytes(blocks // 8), run)
    bad(folder, jpeg(*start, scan * 20_000), "the JPEG is broken", "too many scans")
    taken(folder, jpeg(*start, scan * 3))


@case("CVE-2013-6629")
def component_twice(folder, _):
    frame = sof(0xC0, 16, 16, (1, 2, 3))
    for scan in ((1, 1, 2), (1, 1, 1), (3, 3), (1, 9)):
        bad(folder, jpeg(AC_END, frame, sos(scan), bytes(64)), "the JPEG is broken")
    bad(folder, jpeg(AC_END, sof(0xC0, 16, 16, (1, 1, 1)), sos((1, 1, 1)), bytes(64)), "the JPEG is broken")


@case("CVE-2018-11212")
def no_size(folder, _):
    for frame in (sof(0xC0, 0, 8), sof(0xC0, 8, 0), sof(0xC0, 8, 8, ()), sof(0xC0, 8, 8, sampling=0), sof(0xC0, 8, 8, sampling=0xFF)):
        bad(folder, jpeg(AC_END, frame, sos(), bytes(64)), "the JPEG is broken")
    bad(folder, jpeg(AC_END, sof(0xC0, 65500, 65500), sos(), bytes(64)), "65500 x 65500 pixels")


@case("CVE-2023-2804")
def twelve_bits(folder, _):
    for bits in (0, 2, 12, 16, 255):
        bad(folder, jpeg(AC_END, sof(0xC1, 16, 16, bits=bits), sos(), bytes(64)), "the JPEG is broken")
    # Lossless.
    bad(folder, jpeg(AC_END, sof(0xC3, 16, 16, bits=12), sos(first=1), bytes(64)), "the JPEG is broken")


@case("CVE-2021-29390")
def progressive_cut_off(folder, _):
    """With its first coefficients only, where a decoder would smooth what is missing."""
    for width, height in ((8, 8), (1, 64), (64, 1), (65, 17)):
        blocks = -(-width // 8) * -(-height // 8)
        start = (sof(0xC2, width, height, sampling=0x11), sos(last=0), bytes(-(-blocks // 8)))
        whole = jpeg(*start)
        edge(folder, {"whole": whole})
        bad(folder, whole[: len(whole) - 3], "the JPEG is broken")


# --- PPM ---


@case("CVE-2020-13790")
def values_above_the_largest(folder, _):
    for head in (b"P6 8 8 1\n", b"P6 8 8 254\n", b"P5 8 24 1\n"):
        edge(folder, {"a": head + b"\xff" * 192})


@case("CVE-2021-46822")
def sixteen_bit_grey(folder, _):
    for head in (b"P5 4 4 65535\n", b"P6 4 4 256\n", b"P5 4 4 65536\n", b"P6 4 4 0\n", b"P5 4 4 -1\n", b"P3 4 4 255\n"):
        bad(folder, head + bytes(600))


if __name__ == "__main__":
    main(sys.argv[6:])
