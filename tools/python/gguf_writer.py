"""Writes a GGUF v3 file as runtime/bert/model_format.h describes it: numpy only, atomic, streaming.

Tensors are produced one at a time, so that a large checkpoint never has to fit in memory twice.
"""

import os
import struct
import tempfile

import numpy as np

ALIGNMENT = 32
CONTENT_HASH_KEY = "splitee.content_hash"

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
TENSOR_F32, TENSOR_F16, TENSOR_I8, TENSOR_BF16 = 0, 1, 24, 30
ITEM_BYTES = {TENSOR_F32: 4, TENSOR_F16: 2, TENSOR_I8: 1, TENSOR_BF16: 2}

_SCALARS = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f",
            BOOL: "<B", U64: "<Q", I64: "<q", F64: "<d"}  # fmt: skip
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_HASH_CHUNK_WORDS = 1 << 18


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


def content_hash(file):
    """Content hash (base/hash.h) of an open binary file, from its start."""
    file.seek(0)
    total, size = 0, 0
    while chunk := file.read(8 * _HASH_CHUNK_WORDS):
        first = size // 8
        size += len(chunk)
        words = np.frombuffer(chunk + bytes(-len(chunk) % 8), "<u8").astype(np.uint64)
        words ^= np.arange(first + 1, first + 1 + len(words), dtype=np.uint64) * _STEP
        total += int(np.add.reduce(_mix(words)))
    final = (total + size * int(_STEP)) % 2**64
    return int(_mix(np.array([final], np.uint64))[0])


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
    """The bytes before the tensor data, and the offset of the content hash's value."""
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(pairs))]
    hash_offset = None
    for key, kind, value in pairs:
        parts += [_string(key), struct.pack("<I", kind)]
        if key == CONTENT_HASH_KEY:
            hash_offset = sum(map(len, parts))
        parts.append(_value(kind, value))
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
    return header + bytes(_pad(len(header))), hash_offset


def _write_body(file, pairs, tensors):
    header, hash_offset = _header(pairs, tensors)
    file.write(header)
    for tensor in tensors:
        data = np.ascontiguousarray(tensor.produce())
        if data.nbytes != tensor.size_bytes():
            raise AssertionError(f"{tensor.name}: {data.nbytes} bytes, not {tensor.size_bytes()}")
        file.write(data.data)
        file.write(bytes(_pad(data.nbytes)))
    value = content_hash(file)
    file.seek(hash_offset)
    file.write(struct.pack("<Q", value))
    file.flush()
    os.fsync(file.fileno())
    return value


def write_gguf(path, pairs, tensors):
    """Writes `pairs` (key, type, value) and `tensors` to `path`: the old content or the new.

    Returns the content hash. `pairs` must not hold the hash: it is added here. An array's value
    is (element type, values). Raises OSError, and whatever a tensor's produce() raises; the old
    file is then untouched.
    """
    pairs = list(pairs) + [(CONTENT_HASH_KEY, U64, 0)]
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
