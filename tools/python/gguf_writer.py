"""Writes a GGUF v3 file as runtime/bert/model_format.h describes it: numpy only, atomic, streaming.

Tensors are produced one at a time, so that a large checkpoint never has to fit in memory twice.
"""

import os
import struct
import tempfile

import numpy as np

ALIGNMENT = 32
CONTENT_HASH_KEY = "splitee.content_hash"
BLOCK_SUMS_KEY = "splitee.block_sums"
OWN_KEYS = (CONTENT_HASH_KEY, BLOCK_SUMS_KEY)  # that writing adds
BLOCK_BYTES = 65536

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
TENSOR_F32, TENSOR_F16, TENSOR_I8, TENSOR_BF16 = 0, 1, 24, 30
ITEM_BYTES = {TENSOR_F32: 4, TENSOR_F16: 2, TENSOR_I8: 1, TENSOR_BF16: 2}

_SCALARS = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f",
            BOOL: "<B", U64: "<Q", I64: "<q", F64: "<d"}  # fmt: skip
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_CHUNK_BLOCKS = 32


class Tensor:
    """One tensor to write: `produce()` gives its elements, of the type's size, in row order."""

    def __init__(self, name, shape, kind, produce):
        self.name, self.shape, self.kind, self.produce = name, tuple(shape), kind, produce

    def size_bytes(self):
        return int(np.prod(self.shape, dtype=np.int64)) * ITEM_BYTES[self.kind]


def _mix(words):
    """MurmurHash3's finalizer, in place."""
    shift = np.uint64(33)
    for multiplier in _MULTIPLIERS:
        words ^= words >> shift
        words *= multiplier
    words ^= words >> shift
    return words


def block_sums(file, first=0, last=None):
    """The sums of the terms (base/hash.h) of blocks [first, last) of an open binary file."""
    file.seek(first * BLOCK_BYTES)
    sums, block = [], first
    while block != last:
        count = _CHUNK_BLOCKS if last is None else min(_CHUNK_BLOCKS, last - block)
        chunk = file.read(count * BLOCK_BYTES)
        if not chunk:
            break
        words = np.frombuffer(chunk + bytes(-len(chunk) % 8), "<u8").astype(np.uint64)
        start = block * BLOCK_BYTES // 8
        words ^= np.arange(start + 1, start + 1 + len(words), dtype=np.uint64) * _STEP
        sums += np.add.reduceat(_mix(words), np.arange(0, len(words), BLOCK_BYTES // 8)).tolist()
        block += count
    return sums


def hash_of_sums(sums, size):
    """Content hash of a file of `size` bytes from the sums of all its blocks."""
    final = (sum(sums) + size * int(_STEP)) % 2**64
    return int(_mix(np.array([final], np.uint64))[0])


def content_hash(file):
    """Content hash (base/hash.h) of an open binary file."""
    sums = block_sums(file)
    return hash_of_sums(sums, file.tell())


def _string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _value(kind, value):
    if kind == STRING:
        return _string(value)
    if kind == ARRAY:
        element, values = value
        head = struct.pack("<IQ", element, len(values))
        if element == STRING:
            return head + b"".join(map(_string, values))
        return head + struct.pack(f"<{len(values)}{_SCALARS[element][1]}", *values)
    return struct.pack(_SCALARS[kind], value)


def _pad(size):
    return -size % ALIGNMENT


def _header(pairs, tensors):
    """The bytes before the tensor data, and the offsets of the values of the keys added."""
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(pairs))]
    places = {}
    for key, kind, value in pairs:
        parts += [_string(key), struct.pack("<I", kind)]
        parts.append(_value(kind, value))
        if key in OWN_KEYS:
            places[key] = sum(map(len, parts)) - 8 * (len(value[1]) if kind == ARRAY else 1)
    offset = 0
    for tensor in tensors:
        dims = tensor.shape[::-1]
        parts += [
            _string(tensor.name),
            struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, tensor.kind, offset),
        ]
        offset += tensor.size_bytes()
        offset += _pad(offset)
    header = b"".join(parts)
    return header + bytes(_pad(len(header))), places


def _own_pairs(tensors, with_sums):
    """The keys that are filled in once the data is there. The blocks of the data are as many as
    there is data for, or one less: the last sum stays 0 then."""
    data = 0
    for tensor in tensors:
        data += _pad(data) + tensor.size_bytes()
    data += _pad(data)
    sums = [(BLOCK_SUMS_KEY, ARRAY, (U64, [0] * -(-data // BLOCK_BYTES)))]
    return (sums if with_sums and data else []) + [(CONTENT_HASH_KEY, U64, 0)]


def _fill_in(file, header_bytes, places):
    """Writes the sums of the blocks, and the content hash, which is returned."""
    first = -(-header_bytes // BLOCK_BYTES)
    data_sums = block_sums(file, first)
    if BLOCK_SUMS_KEY in places:
        file.seek(places[BLOCK_SUMS_KEY])
        file.write(struct.pack(f"<{len(data_sums)}Q", *data_sums))
    size = file.seek(0, os.SEEK_END)
    value = hash_of_sums(block_sums(file, 0, first) + data_sums, size)
    file.seek(places[CONTENT_HASH_KEY])
    file.write(struct.pack("<Q", value))
    return value


def _write_body(file, pairs, tensors):
    header, places = _header(pairs, tensors)
    file.write(header)
    for tensor in tensors:
        data = np.ascontiguousarray(tensor.produce())
        if data.nbytes != tensor.size_bytes():
            raise AssertionError(f"{tensor.name}: {data.nbytes} bytes, not {tensor.size_bytes()}")
        file.write(data.data)
        file.write(bytes(_pad(data.nbytes)))
    value = _fill_in(file, len(header), places)
    file.flush()
    os.fsync(file.fileno())
    return value


def write_gguf(path, pairs, tensors, with_sums=True):
    """Writes `pairs` (key, type, value) and `tensors` to `path`: the old content or the new.

    Returns the content hash. `pairs` must not hold the hash or the sums of the blocks: they are
    added here, these `with_sums`. An array's value is (element type, values). Raises OSError, and whatever a tensor's produce() raises; the old
    file is then untouched.
    """
    pairs = list(pairs) + _own_pairs(tensors, with_sums)
    folder = os.path.dirname(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(dir=folder, prefix="." + os.path.basename(path) + ".")
    try:
        with os.fdopen(handle, "w+b") as file:
            value = _write_body(file, pairs, tensors)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    folder_handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(folder_handle)
    finally:
        os.close(folder_handle)
    return value
