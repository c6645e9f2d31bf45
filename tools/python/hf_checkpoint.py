"""Reads the tensors of a Hugging Face checkpoint folder: safetensors, or PyTorch's zip of a pickle.

Both are hostile input. Every length and offset is checked against the file before it is used, and
the pickle is read by a small interpreter of its own, which knows nothing but what torch.save()
writes for a dict of tensors. Tensors are read lazily, one at a time.
"""

import collections
import json
import math
import os
import pickletools
import struct
import zipfile

import numpy as np

from hf_files import CheckpointError, check_file, read_json_object, unique_keys

MAX_HEADER_BYTES = 100 << 20
MAX_PICKLE_BYTES = 16 << 20
MAX_DIMS = 8

# Bytes of one element; the kinds that can become weights are also in _AS_FLOAT.
_ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U64": 8, "I32": 4, "U32": 4,
    "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
_AS_FLOAT = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class StoredTensor:
    """A tensor in a checkpoint file: name, shape, kind ("F32", ...), and load() -> float32."""

    def __init__(self, path, name, shape, kind, read):
        self.path, self.name, self.shape, self.kind = path, name, tuple(shape), kind
        self._read = read

    def load(self):
        """Finite float32 values, in row order, in the tensor's shape."""
        if self.kind not in _AS_FLOAT:
            raise CheckpointError(f"{self.path}: {self.name}: {self.kind} is not a weight's type")
        values = np.asarray(self._read()).reshape(self.shape)
        if self.kind == "BF16":
            values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(values, np.float32).reshape(self.shape)  # of one number too
        if not np.isfinite(values).all():
            raise CheckpointError(f"{self.path}: {self.name}: a value is not finite")
        return values


def read_checkpoint(folder):
    """The tensors of `folder` by name, and the file they come from. Prefers safetensors."""
    safetensors = os.path.join(folder, "model.safetensors")
    pytorch = os.path.join(folder, "pytorch_model.bin")
    if os.path.exists(safetensors):
        return read_safetensors(safetensors), safetensors
    if os.path.exists(pytorch):
        return read_pytorch(pytorch), pytorch
    for path, read in ((safetensors, read_safetensors), (pytorch, read_pytorch)):
        index = path + ".index.json"
        if os.path.lexists(index):
            return read_shards(index, read), index
    raise CheckpointError(f"{folder}: neither model.safetensors nor pytorch_model.bin is there")


def checkpoint_files(folder):
    """The files that read_checkpoint() may read."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        path = os.path.join(folder, name)
        yield path
        if os.path.lexists(path + ".index.json"):
            yield path + ".index.json"
            yield from {os.path.join(folder, shard) for shard in _weight_map(path + ".index.json").values()}


# --- several files: an index says which tensor is in which ---


def _weight_map(path):
    weight_map = read_json_object(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path}: weight_map does not say which tensor is in which file")
    for name, shard in weight_map.items():
        if type(shard) is not str or shard in ("", ".", "..") or "/" in shard or "\0" in shard:
            raise CheckpointError(f"{path}: weight_map: {name}: {shard!r} is not the name of a file beside it")
        if any(0xD800 <= ord(c) < 0xE000 for c in shard):
            raise CheckpointError(f"{path}: weight_map: {name}: {shard!r} is not Unicode text")
    return weight_map


def read_shards(index, read):
    """The tensors of all files that an index names, each where it says."""
    weight_map = _weight_map(index)
    tensors = {}
    for shard in sorted(set(weight_map.values())):
        path = os.path.join(os.path.dirname(index), shard)
        if not os.path.lexists(path):
            raise CheckpointError(f"{path}: missing, but {os.path.basename(index)} names it")
        for name, tensor in read(path).items():
            if weight_map.get(name) != shard:
                place = f"is in {weight_map[name]}" if name in weight_map else "does not exist"
                raise CheckpointError(f"{path}: {name}: {place} according to {os.path.basename(index)}")
            tensors[name] = tensor
    for name, shard in weight_map.items():
        if name not in tensors:
            raise CheckpointError(f"{index}: {name} is not in {shard}")
    return tensors


# --- safetensors: u64 length of the header | JSON header | data ---


def read_safetensors(path):
    check_file(path)
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            start = file.read(8)
            if len(start) < 8:
                raise CheckpointError(f"{path}: {size} bytes are too few for safetensors")
            length = struct.unpack("<Q", start)[0]
            if length > min(size - 8, MAX_HEADER_BYTES):
                raise CheckpointError(f"{path}: header of {length} bytes does not fit the file")
            text = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: header is not a JSON object")
    header.pop("__metadata__", None)
    data_bytes = size - 8 - length
    tensors, ranges = {}, []
    for name, info in header.items():
        begin, end, shape, kind = _safetensors_entry(path, name, info, data_bytes)
        ranges.append((begin, end, name))
        read = _range_reader(path, 8 + length + begin, end - begin, kind)
        tensors[name] = StoredTensor(path, name, shape, kind, read)
    expected = 0
    for begin, end, name in sorted(ranges):
        if begin != expected:
            raise CheckpointError(f"{path}: {name}: data starts at {begin}, expected {expected}")
        expected = end
    if expected != data_bytes:
        raise CheckpointError(f"{path}: {data_bytes - expected} bytes after the last tensor")
    return tensors


def _is_size(value):
    return type(value) is int and 0 <= value < 2**63


def _is_shape(dims):
    """Whether an array can have it. With elements the file bounds it; without, numpy does."""
    if len(dims) > MAX_DIMS or not all(map(_is_size, dims)):
        return False
    return 0 not in dims or math.prod(n or 1 for n in dims) < 2**59


def _safetensors_entry(path, name, info, data_bytes):
    if not isinstance(info, dict):
        raise CheckpointError(f"{path}: {name}: its entry is not an object")
    shape, kind, offsets = info.get("shape"), info.get("dtype"), info.get("data_offsets")
    if not isinstance(kind, str) or kind not in _ITEM_BYTES:
        raise CheckpointError(f"{path}: {name}: type {kind!r} is not supported")
    if not isinstance(shape, list) or not _is_shape(shape):
        raise CheckpointError(f"{path}: {name}: bad shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise CheckpointError(f"{path}: {name}: bad data_offsets")
    begin, end = offsets
    if not begin <= end <= data_bytes:
        raise CheckpointError(
            f"{path}: {name}: bytes {begin} to {end} of {data_bytes} (truncated file?)"
        )
    if end - begin != math.prod(shape) * _ITEM_BYTES[kind]:
        raise CheckpointError(f"{path}: {name}: {end - begin} bytes do not fit its shape")
    return begin, end, shape, kind


def _range_reader(path, offset, size, kind):
    def read():
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) != size:
            raise CheckpointError(f"{path}: ends early")
        return np.frombuffer(data, _AS_FLOAT[kind])

    return read


# --- pytorch_model.bin: a zip with <root>/data.pkl and one <root>/data/<key> per storage ---

_STORAGE_KINDS = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL",
}  # fmt: skip

# The callables that torch.save() refers to. They are names here, nothing is ever imported.
_ORDERED_DICT = "collections OrderedDict"
_REBUILD_TENSOR = "torch._utils _rebuild_tensor_v2"
_REBUILD_PARAMETER = "torch._utils _rebuild_parameter"


class _Global(collections.namedtuple("_Global", "name")):
    __slots__ = ()


class _Storage(collections.namedtuple("_Storage", "kind key count")):
    __slots__ = ()


class _View(collections.namedtuple("_View", "storage offset shape strides")):
    __slots__ = ()


class _Mark:
    """Where MARK was on the stack."""


class _Unpickler:
    """The few pickle opcodes that make a dict of tensors, and not one more.

    Python's own unpickler is not used: here no stream can import, call or build anything else.
    Raises ValueError, IndexError, KeyError or TypeError on anything unexpected.
    """

    def __init__(self):
        self.stack, self.memo = [], {}

    def load(self, data):
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return self.stack.pop()
            action = getattr(self, "op_" + opcode.name.lower(), None)
            if action is not None:
                action(argument)
            elif opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name])
            elif opcode.name in _LITERALS:
                self.stack.append(argument)
            elif opcode.name not in ("PROTO", "FRAME"):
                raise ValueError(f"opcode {opcode.name} is not allowed")
        raise ValueError("no end")

    def pop_to_mark(self):
        items = []
        while (item := self.stack.pop()) is not _Mark:
            items.append(item)
        return items[::-1]

    def op_mark(self, _):
        self.stack.append(_Mark)

    def op_empty_dict(self, _):
        self.stack.append({})

    def op_tuple(self, _):
        self.stack.append(tuple(self.pop_to_mark()))

    def op_tuple1(self, _):
        self.stack[-1:] = [(self.stack[-1],)]

    def op_tuple2(self, _):
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def op_tuple3(self, _):
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    def op_binput(self, index):
        self.memo[index] = self.stack[-1]

    op_long_binput = op_binput

    def op_memoize(self, _):
        self.memo[len(self.memo)] = self.stack[-1]

    def op_binget(self, index):
        self.stack.append(self.memo[index])

    op_long_binget = op_binget

    def op_setitem(self, _):
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def op_setitems(self, _):
        self.set_items(self.pop_to_mark())

    def set_items(self, items):
        target = self.stack[-1]
        if type(target) is not dict or not all(type(key) is str for key in items[::2]):
            raise ValueError("a dictionary's keys are not strings")
        target.update(zip(items[::2], items[1::2], strict=True))

    def op_global(self, name):
        module, _, attribute = name.partition(" ")
        known = name in (_ORDERED_DICT, _REBUILD_TENSOR, _REBUILD_PARAMETER)
        if not known and not (module == "torch" and attribute in _STORAGE_KINDS):
            raise ValueError(f"wants {name.replace(' ', '.')[:200]}, which is not allowed")
        self.stack.append(_Global(name))

    def op_stack_global(self, _):
        attribute, module = self.stack.pop(), self.stack.pop()
        if type(attribute) is not str or type(module) is not str:
            raise ValueError("bad name of a global")
        self.op_global(f"{module} {attribute}")

    def op_binpersid(self, _):
        tag, kind, key, _, count = self.stack.pop()
        name = kind.name.partition(" ")[2] if type(kind) is _Global else None
        if tag != "storage" or name not in _STORAGE_KINDS or type(key) is not str:
            raise ValueError("bad reference to a storage")
        if not _is_size(count):
            raise ValueError("bad size of a storage")
        self.stack.append(_Storage(_STORAGE_KINDS[name], key, count))

    def op_reduce(self, _):
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not _Global or type(arguments) is not tuple:
            raise ValueError("a call of what is no function")
        if function.name == _ORDERED_DICT and arguments == ():
            self.stack.append({})
        elif function.name == _REBUILD_TENSOR:
            self.stack.append(_rebuild_tensor(*arguments[:4]))
        elif function.name == _REBUILD_PARAMETER:
            self.stack.append(arguments[0])
        else:
            raise ValueError(f"a call of {function.name}")

    def op_build(self, _):
        self.stack.pop()  # state_dict()._metadata: versions of modules, of no use here
        if type(self.stack[-1]) is not dict:
            raise ValueError("state for what is no dictionary")


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE")


def _rebuild_tensor(storage, offset, shape, strides):
    if type(storage) is not _Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise ValueError("bad arguments of a tensor")
    if len(shape) != len(strides) or not _is_shape(shape):
        raise ValueError("bad shape of a tensor")
    if not all(map(_is_size, (offset, *strides))):
        raise ValueError("bad sizes of a tensor")
    return _View(storage, offset, shape, strides)


# What zipfile raises on damaged archives, by experience: far more than BadZipFile.
_ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, LookupError,
               ArithmeticError, ValueError, struct.error, OSError)  # fmt: skip


def read_pytorch(path):
    check_file(path)
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
        if magic != b"PK\3\4":
            raise CheckpointError(
                f"{path}: not a zip: either damaged or saved by PyTorch before 1.6; load it with "
                "torch and save it again"
            )
        archive = zipfile.ZipFile(path)
    except _ZIP_ERRORS as error:
        raise CheckpointError(f"{path}: {error}") from error
    entries = {}
    for info in archive.infolist():
        if info.filename in entries:
            raise CheckpointError(f"{path}: {info.filename} comes twice")
        entries[info.filename] = info
    roots = [name[: -len("data.pkl")] for name in entries if name.split("/")[1:] == ["data.pkl"]]
    if len(roots) != 1:
        raise CheckpointError(f"{path}: a zip, but no PyTorch checkpoint (no data.pkl)")
    root = roots[0]
    order = root + "byteorder"
    if order in entries and _zip_read(path, archive, entries[order], 16) != b"little":
        raise CheckpointError(f"{path}: saved on a big-endian machine: not supported")
    pickled = _zip_read(path, archive, entries[root + "data.pkl"], MAX_PICKLE_BYTES)
    try:
        state = _Unpickler().load(pickled)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path}: data.pkl: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: does not hold a dictionary of tensors")
    tensors = {}
    for name, view in state.items():
        if not isinstance(view, _View):
            raise CheckpointError(f"{path}: {name} is not a tensor")
        tensors[name] = _view_tensor(path, archive, entries, root, name, view)
    return tensors


def _zip_read(path, archive, info, limit):
    # PyTorch stores without compression; anything else could be a bomb.
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise CheckpointError(f"{path}: {info.filename} is compressed: not supported")
    if info.file_size > min(limit, os.path.getsize(path)):
        raise CheckpointError(f"{path}: {info.filename}: {info.file_size} bytes are too many")
    try:
        return archive.read(info)
    except _ZIP_ERRORS as error:
        raise CheckpointError(f"{path}: {info.filename}: {error}") from error


def _view_tensor(path, archive, entries, root, name, view):
    storage, item = view.storage, _ITEM_BYTES[view.storage.kind]
    info = entries.get(f"{root}data/{storage.key}")
    if info is None:
        raise CheckpointError(f"{path}: {name}: its storage {storage.key!r} is missing")
    if info.file_size != storage.count * item:
        raise CheckpointError(f"{path}: {name}: its storage has {info.file_size} bytes, "
                              f"expected {storage.count * item}")  # fmt: skip
    elements = math.prod(view.shape)
    last = view.offset + sum((n - 1) * stride for n, stride in zip(view.shape, view.strides))
    if elements > storage.count or (elements and last >= storage.count):
        raise CheckpointError(f"{path}: {name}: reaches beyond its storage")

    def read():
        data = np.frombuffer(_zip_read(path, archive, info, info.file_size), _AS_FLOAT[storage.kind])
        if not elements:  # wherever it says that it begins
            return data[:0]
        # The stride of one element is never taken, whatever it is.
        strides = [stride * item if n > 1 else 0 for n, stride in zip(view.shape, view.strides)]
        return np.ndarray(view.shape, data.dtype, data, view.offset * item, strides)

    return StoredTensor(path, name, view.shape, storage.kind, read)
