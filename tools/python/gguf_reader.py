"""Reads GGUF v3 files as runtime/bert/model_format.h describes them: numpy only, nothing beyond the
header is read before it is asked for. What convert_hf.py reads from a checkpoint, this reads from
the file that it writes."""

import math
import os
import struct

import numpy as np

import gguf_writer as gguf

_NUMBERS = {gguf.U8: "<u1", gguf.I8: "<i1", gguf.U16: "<u2", gguf.I16: "<i2", gguf.U32: "<u4",
            gguf.I32: "<i4", gguf.F32: "<f4", gguf.BOOL: "<u1", gguf.U64: "<u8", gguf.I64: "<i8",
            gguf.F64: "<f8"}  # fmt: skip
_TENSORS = {gguf.TENSOR_F32: "<f4", gguf.TENSOR_F16: "<f2", gguf.TENSOR_I8: "<i1",
            gguf.TENSOR_BF16: "<u2"}  # fmt: skip
_MAX_RANK = 4


class GgufError(Exception):
    """A file that cannot be read; the message names it."""


class _Bytes:
    """Reads forward through a file, and says where it ends too early."""

    def __init__(self, file, path):
        self.file, self.path, self.left = file, path, os.fstat(file.fileno()).st_size

    def take(self, size):
        if size > self.left:
            raise GgufError(f"{self.path}: ends within its header: not a whole GGUF file")
        self.left -= size
        return self.file.read(size)

    def number(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize(form)))[0]

    def string(self):
        data = self.take(self.number("Q"))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise GgufError(f"{self.path}: a string of the header is not UTF-8") from error

    def numbers(self, kind, count):
        if kind not in _NUMBERS:
            raise GgufError(f"{self.path}: value type {kind} of a key is unknown")
        item = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self.take(count * item.itemsize), item)

    def value(self, kind):
        if kind == gguf.STRING:
            return self.string()
        if kind == gguf.ARRAY:
            element, count = self.number("I"), self.number("Q")
            if element == gguf.STRING:
                return element, [self.string() for _ in range(count)]
            return element, self.numbers(element, count).tolist()
        value = self.numbers(kind, 1)[0]
        return bool(value) if kind == gguf.BOOL else value.item()


class StoredTensor:
    """A tensor of a file: its bytes on request."""

    def __init__(self, path, name, shape, kind, offset):
        self.path, self.name, self.shape, self.kind, self.offset = path, name, shape, kind, offset

    def load(self):
        """Elements as they are stored, in the tensor's shape (bf16 as u16)."""
        item = np.dtype(_TENSORS[self.kind])
        count = math.prod(self.shape)
        try:
            if self.offset + count * item.itemsize > os.path.getsize(self.path):
                raise GgufError(f"{self.path}: ends before tensor {self.name} does")
            values = np.fromfile(self.path, item, count, offset=self.offset)
        except OSError as error:
            raise GgufError(f"{self.path}: {error.strerror}") from error
        if len(values) != count:
            raise GgufError(f"{self.path}: ends before tensor {self.name} does")
        return values.reshape(self.shape)

    def to_write(self):
        """The same tensor for write_gguf()."""
        return gguf.Tensor(self.name, self.shape, self.kind, self.load)


class GgufFile:
    """`pairs`: [(key, type, value)] in file order; `keys`: values by key (an array's without its
    type); `tensors`: by name, in file order."""

    def __init__(self, path):
        self.path = path
        try:
            with open(path, "rb") as file:
                self._read(_Bytes(file, path), file)
        except OSError as error:
            raise GgufError(f"{path}: {error.strerror}") from error

    def _read(self, data, file):
        if data.left < 24 or data.take(4) != b"GGUF":
            raise GgufError(f"{self.path}: not a GGUF file")
        version, tensors, keys = data.number("I"), data.number("Q"), data.number("Q")
        if version != 3:
            raise GgufError(f"{self.path}: GGUF version {version}; version 3 is read")
        self.pairs = []
        for _ in range(keys):
            key, kind = data.string(), data.number("I")
            self.pairs.append((key, kind, data.value(kind)))
        self.keys = {key: value[1] if kind == gguf.ARRAY else value
                     for key, kind, value in self.pairs}
        infos = []
        for _ in range(tensors):
            name, rank = data.string(), data.number("I")
            if rank > _MAX_RANK:
                raise GgufError(f"{self.path}: {name}: {rank} dimensions")
            dims = tuple(data.number("Q") for _ in range(rank))[::-1]
            if not all(0 < size < 2**63 for size in dims):
                raise GgufError(f"{self.path}: {name}: shape {dims}")
            infos.append((name, dims, data.number("I"), data.number("Q")))
        alignment = self.keys.get("general.alignment", gguf.ALIGNMENT)
        if type(alignment) is not int or not 0 < alignment < 2**32:
            raise GgufError(f"{self.path}: general.alignment is no number of bytes")
        start = -(-file.tell() // alignment) * alignment
        self.tensors = {}
        for name, shape, kind, offset in infos:
            if kind not in _TENSORS:
                raise GgufError(f"{self.path}: {name}: tensor type {kind} is not one of ours")
            self.tensors[name] = StoredTensor(self.path, name, shape, kind, start + offset)

    def values(self, name):
        """A tensor's values as float32, whatever the type in the file."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise GgufError(f"{self.path}: no tensor {name}")
        stored = tensor.load()
        if tensor.kind == gguf.TENSOR_BF16:
            return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
        values = stored.astype(np.float32)
        if tensor.kind == gguf.TENSOR_I8:
            with np.errstate(over="ignore", invalid="ignore"):
                values *= self._scales_of(tensor)
        return values

    def _scales_of(self, tensor):
        """One number per row of bytes."""
        scales, rows = self.tensors.get(tensor.name + ".scale"), tensor.shape[:1]
        if scales is not None and (scales.kind == gguf.TENSOR_I8 or scales.shape != rows or not rows):
            raise GgufError(f"{self.path}: {scales.name} does not fit {tensor.name}")
        return self.values(tensor.name + ".scale").reshape(-1, *(1,) * (len(tensor.shape) - 1))

    def with_keys(self, pairs):
        """This file's pairs with others in place of those of the same key, or behind them; without
        those that writing adds."""
        new = {key for key, _, _ in pairs} | set(gguf.OWN_KEYS)
        return [pair for pair in self.pairs if pair[0] not in new] + list(pairs)
