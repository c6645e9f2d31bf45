"""Tiny random checkpoints, as bytes of safetensors and of PyTorch's zip, and a reader of GGUF files:
for convert_test.py. Nothing here shares code with the converter.
"""

import io
import json
import struct
import zipfile

import numpy as np

SEED = 20230919
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "##ing", "bad", "é", "##\u2581x", "##"]
LAYERS, HIDDEN, HEADS, FFN, POSITIONS, TYPES, CLASSES = 3, 6, 2, 10, 7, 2, 3

def random_tensors(family, exits=LAYERS, layers=LAYERS):
    """Name -> float32 array, in the names of `family`."""
    rng = np.random.default_rng(SEED)
    tensors = {}

    def add(name, *shape):
        tensors[name] = rng.normal(0, 0.5, shape).astype(np.float32)

    def linear(name, rows, columns):
        add(f"{name}.weight", rows, columns)
        add(f"{name}.bias", rows)

    def norm(name):
        add(f"{name}.weight", HIDDEN)
        add(f"{name}.bias", HIDDEN)

    prefix = "elasticbert" if family == "elasticbert" else "bert"
    add(f"{prefix}.embeddings.word_embeddings.weight", len(VOCAB), HIDDEN)
    add(f"{prefix}.embeddings.position_embeddings.weight", POSITIONS, HIDDEN)
    add(f"{prefix}.embeddings.token_type_embeddings.weight", TYPES, HIDDEN)
    norm(f"{prefix}.embeddings.LayerNorm")
    for i in range(layers):
        layer = f"{prefix}.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", HIDDEN, HIDDEN)
        linear(f"{layer}.attention.output.dense", HIDDEN, HIDDEN)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", FFN, HIDDEN)
        linear(f"{layer}.output.dense", HIDDEN, FFN)
        norm(f"{layer}.output.LayerNorm")
    if family == "elasticbert":
        for i in range(exits):
            linear(f"elasticbert.encoder.pooler.{layers - exits + i}.dense", HIDDEN, HIDDEN)
            linear(f"classifiers.{i}", CLASSES, HIDDEN)
        return tensors
    if family == "deebert":
        for i in range(layers):
            linear(f"bert.encoder.highway.{i}.pooler.dense", HIDDEN, HIDDEN)
            linear(f"bert.encoder.highway.{i}.classifier", CLASSES, HIDDEN)
    linear("bert.pooler.dense", HIDDEN, HIDDEN)
    linear("classifier", CLASSES, HIDDEN)
    return tensors


def bf16_bits(values):
    """Round to nearest, ties to even, in exact arithmetic on float64."""
    mantissa, exponent = np.frexp(values.astype(np.float64))
    rounded = np.ldexp(np.rint(mantissa * 256), exponent - 8).astype(np.float32)
    return (rounded.view(np.uint32) >> 16).astype("<u2")


STORED = {
    "F64": lambda v: v.astype("<f8"),
    "F32": lambda v: v.astype("<f4"),
    "F16": lambda v: v.astype("<f2"),
    "BF16": bf16_bits,
    "I64": lambda v: v.astype("<i8"),
}


def safetensors_bytes(tensors, kind="F32"):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, values in tensors.items():
        stored_kind = "I64" if values.dtype == np.int64 else kind
        part = STORED[stored_kind](values).tobytes()
        header[name] = {"dtype": stored_kind, "shape": list(values.shape),
                        "data_offsets": [len(data), len(data) + len(part)]}  # fmt: skip
        data += part
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


TORCH_STORAGE = {"F64": b"DoubleStorage", "F32": b"FloatStorage", "F16": b"HalfStorage",
                 "BF16": b"BFloat16Storage", "I64": b"LongStorage"}  # fmt: skip


def pickle_text(text):
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def pickle_int(value):
    return b"J" + struct.pack("<i", value)


def pickle_tuple(values):
    return b"(" + b"".join(map(pickle_int, values)) + b"t"


def pickle_tensor(kind, key, count, shape, strides, offset=0):
    storage = b"(" + pickle_text("storage") + b"ctorch\n" + TORCH_STORAGE[kind] + b"\n"
    storage += pickle_text(key) + pickle_text("cpu") + pickle_int(count) + b"tQ"
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + pickle_int(offset)
            + pickle_tuple(shape) + pickle_tuple(strides)
            + b"\x89ccollections\nOrderedDict\n)RtR")  # fmt: skip


def torch_zip(pickled, storages, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def torch_bytes(tensors, kind="F32"):
    """What torch.save() writes; every second matrix is a transposed view, with an offset."""
    pickled, storages = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(", {}
    for number, (name, values) in enumerate(tensors.items()):
        key, strided = str(number), values.ndim == 2 and number % 2
        stored_kind = "I64" if values.dtype == np.int64 else kind
        stored = STORED[stored_kind](values)
        strides = [s // stored.itemsize for s in stored.strides]
        flat = stored
        if strided:
            flat = np.concatenate([np.zeros(2, stored.dtype), stored.T.ravel()])
            strides = [1, values.shape[0]]
        storages[key] = flat.tobytes()
        pickled += pickle_text(name)
        pickled += pickle_tensor(stored_kind, key, flat.size, values.shape, strides, 2 * bool(strided))
    # The state of the dictionary: _metadata, itself a dictionary.
    pickled += b"u}" + pickle_text("_metadata") + b"}" + pickle_text("x") + b"K\x01ssb."
    return torch_zip(pickled, storages)


WRITERS = {"model.safetensors": safetensors_bytes, "pytorch_model.bin": torch_bytes}


# --- reading GGUF ---

SCALARS = {4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q"}


def read_gguf(path):
    """(metadata, tensors by name as float64 or int8, names in file order, content hash)."""
    with open(path, "rb") as file:
        data = file.read()
    position = 0

    def take(layout):
        nonlocal position
        value = struct.unpack_from(layout, data, position)
        position += struct.calcsize(layout)
        return value[0]

    def string():
        nonlocal position
        size = take("<Q")
        position += size
        return data[position - size : position].decode("utf-8")

    def value(kind):
        if kind == 8:
            return string()
        if kind == 9:
            element, count = take("<I"), take("<Q")
            return [value(element) for _ in range(count)]
        return take(SCALARS[kind])

    assert data[:4] == b"GGUF"
    position = 4
    version, tensor_count, pair_count = take("<I"), take("<Q"), take("<Q")
    assert version == 3
    pairs, hash_position = {}, None
    for _ in range(pair_count):
        key, kind = string(), take("<I")
        hash_position = position if key == "splitee.content_hash" else hash_position
        assert key not in pairs
        pairs[key] = value(kind)
    infos = []
    for _ in range(tensor_count):
        name = string()
        dims = [take("<Q") for _ in range(take("<I"))]
        infos.append((name, tuple(dims[::-1]), take("<I"), take("<Q")))
    start, end = position + -position % 32, 0
    tensors = {}
    for name, shape, kind, offset in infos:
        assert offset == end + -end % 32, name
        layout = {0: "<f4", 1: "<f2", 24: "i1", 30: "<u2"}[kind]
        stored = np.frombuffer(data, layout, int(np.prod(shape)), start + offset).reshape(shape)
        end = offset + stored.nbytes
        if kind == 30:
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        assert name not in tensors
        tensors[name] = stored if kind == 24 else stored.astype(np.float64)
    assert len(data) == start + end + -end % 32
    zeroed = data[:hash_position] + bytes(8) + data[hash_position + 8 :]
    assert pairs["splitee.content_hash"] == slow_hash(zeroed)
    return pairs, tensors, [info[0] for info in infos], {info[0]: info[2] for info in infos}


def slow_hash(data):
    """base/hash.h, word by word in Python's integers."""
    mask, step = 2**64 - 1, 0x9E3779B97F4A7C15

    def mix(x):
        x ^= x >> 33
        x = x * 0xFF51AFD7ED558CCD & mask
        x ^= x >> 33
        x = x * 0xC4CEB9FE1A85EC53 & mask
        return x ^ x >> 33

    padded = data + bytes(-len(data) % 8)
    words = struct.unpack(f"<{len(padded) // 8}Q", padded)
    total = sum(mix(word ^ ((i + 1) * step & mask)) for i, word in enumerate(words))
    return mix((total + len(data) * step) & mask)
