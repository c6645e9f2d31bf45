"""Changes of files that a converter reads, for fuzz_converter.py: of a JSON text by its tree, of a
pickle by its opcodes, of a zip and a GGUF file by their fields, and of any file by its bytes.

Every function takes a random.Random first and gives new bytes; nothing of what it is given changes.
"""

import copy
import io
import json
import pickletools
import struct
import zipfile

# At and beyond what is a size, a count, a place or a number anywhere.
INTEGERS = (0, 1, 2, 3, 4, 5, 7, 8, 31, 32, 127, 255, 256, 1000, 0x7FFF, 0xFFFF, 1 << 20, (1 << 31) - 2, (1 << 31) - 1,
            1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 60, 1 << 61, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
            1 << 64, -1, -2, -(1 << 31), -(1 << 63))  # fmt: skip
TEXTS = ("", "a", "[PAD]", "[UNK]", "[CLS]", "##", "\ud800", "\0", "..", "a/b", "é", "e\u0301", "\u2581", "x" * 3000,
         "F32", "F64", "BF16", "I64", "U8", "bert", "distilbert", "electra", "BertProcessing", "BertTokenizerFast",
         "BertForSequenceClassification", "PreTrainedTokenizerFast", "WordPiece", "model.safetensors")  # fmt: skip
FLOATS = (0.5, -0.0, 1e-30, 1e308, float("nan"), float("inf"), float("-inf"), 2.5e9, 3.0)


def integer(random):
    near = random.choice(INTEGERS)
    return near if random.random() < 0.7 else near + random.randint(-3, 3)


def blocks(random, data):
    """A few changes of any bytes."""
    data = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5))):
        place, size = random.randrange(len(data) + 1), random.choice((1, 1, 2, 4, 8, 64))
        kind = random.randrange(6)
        if kind == 0:
            data[place : place + size] = random.randbytes(size)
        elif kind == 1 and place < len(data):
            data[place] ^= 1 << random.randrange(8)
        elif kind == 2:
            del data[place : place + size]
        elif kind == 3:
            data[place:place] = random.randbytes(size)
        elif kind == 4:
            data[place:place] = data[place : place + size] * random.choice((1, 2, 40))
        elif random.random() < 0.3:
            del data[place:]
    return bytes(data)


# --- JSON ---


def any_value(random, deep=True):
    kind = random.randrange(10)
    if kind < 3:
        return integer(random)
    if kind < 5:
        return random.choice(TEXTS)
    if kind == 5:
        return random.choice(FLOATS)
    if kind == 6 or not deep:
        return random.choice((None, True, False))
    if kind == 7:
        return [any_value(random, False) for _ in range(random.randrange(4))]
    if kind == 8:
        return {random.choice(TEXTS): any_value(random, False) for _ in range(random.randrange(3))}
    return nested(random)


def nested(random):
    """As deep as a reader may just take, or not; as the text of it, which is a leaf of the tree."""
    before, after = [], []
    for _ in range(random.choice((3, 90, random.randint(900, 1000), 3000))):
        array = random.random() < 0.5
        before.append(b"[" if array else b'{"content":')
        after.append(b"]" if array else b"}")
    return b"".join(before) + random.choice((b"null", b"1", b'"a"', b"[]", b"{}")) + b"".join(after[::-1])


def places(value):
    """(container, key) of everything within a tree."""
    found, open_ = [], [value]
    while open_:
        at = open_.pop()
        keys = list(at) if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else ()
        for key in keys:
            found.append((at, key))
            open_.append(at[key])
    return found


def change_tree(random, tree):
    """A changed copy of what a JSON text holds."""
    tree = copy.deepcopy(tree)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        found = places(tree)
        if not found:
            return any_value(random)
        container, key = random.choice(found)
        kind = random.randrange(8)
        if kind < 4:
            container[key] = any_value(random)
        elif kind == 4:
            del container[key]
        elif kind == 5:
            # Something else that is in the tree already, of another kind perhaps.
            other, place = random.choice(found)
            container[key] = copy.deepcopy(other[place])
        elif kind == 6 and isinstance(container, dict):
            container[random.choice(TEXTS)] = container.pop(key)
        elif isinstance(container, dict):
            container[random.choice(TEXTS)] = any_value(random)
        else:
            container.insert(key, any_value(random))
    return tree


def json_text(random, tree):
    """A text of a changed tree; rarely one that json.dumps() would not write."""
    text = dumps(change_tree(random, tree))
    kind = random.randrange(12)
    if kind == 0:
        return blocks(random, text)
    if kind == 1 and b'":' in text:
        return text.replace(b'":', b'":' + b"9" * random.choice((400, 5000)), 1)
    if kind == 2:
        depth = random.choice((200, 990, 100_000))
        return b'{"a":' * depth if random.random() < 0.5 else b"[" * depth + b"]" * depth
    return text


def dumps(tree):
    """As bytes; what is bytes in the tree is a text already."""
    open_, pieces = [tree], []
    while open_:
        value = open_.pop()
        if isinstance(value, bytes):
            pieces.append(value)
        elif isinstance(value, dict):
            parts = [b"{"]
            for number, (key, inner) in enumerate(value.items()):
                parts += [(b"," if number else b"") + json.dumps(key).encode() + b":", inner]
            open_ += [*parts, b"}"][::-1]
        elif isinstance(value, list):
            parts = [b"["]
            for number, inner in enumerate(value):
                parts += [b"," if number else b"", inner]
            open_ += [*parts, b"]"][::-1]
        else:
            pieces.append(json.dumps(value).encode())
    return b"".join(pieces)


# --- safetensors ---


def safetensors(random, data):
    length = struct.unpack("<Q", data[:8])[0]
    header, rest = data[8 : 8 + length], data[8 + length :]
    kind = random.randrange(8)
    if kind == 0:
        return blocks(random, data)
    if kind == 1:
        rest = blocks(random, rest)
    if kind == 2:
        return struct.pack("<Q", integer(random) % 2**64) + header + rest
    header = json_text(random, json.loads(header))
    return struct.pack("<Q", len(header)) + header + rest


# --- pickles, and the zip around them ---


def opcodes(data):
    """A pickle cut before every opcode."""
    starts = [place for _, _, place in pickletools.genops(data)] + [len(data)]
    return [data[begin:end] for begin, end in zip(starts, starts[1:])]


def any_opcode(random):
    """An opcode, allowed or not, with an argument that fits it as far as its form goes."""
    code = random.choice(pickletools.opcodes)
    argument = code.arg
    if argument is None:
        return code.code.encode("latin-1")
    if argument.n == pickletools.UP_TO_NEWLINE:
        line = random.choice((b"torch._utils _rebuild_tensor_v2", b"torch FloatStorage", b"os system", b"7", b"L", b"'a'"))
        return code.code.encode("latin-1") + line.replace(b" ", b"\n") + b"\n"
    if argument.n >= 0:
        return code.code.encode("latin-1") + (integer(random) % 2**64).to_bytes(8, "little")[: argument.n]
    width = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT8U: 8}.get(argument.n, 4)
    size = random.choice((0, 1, 5, 9, 255, 1 << 31, (1 << 63) - 1)) % 256**width
    return code.code.encode("latin-1") + size.to_bytes(width, "little") + random.randbytes(min(size, 300))


def pickled(random, data):
    parts = opcodes(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        place = random.randrange(len(parts))
        kind = random.randrange(7)
        if kind == 0:
            parts[place] = any_opcode(random)
        elif kind == 1:
            parts.insert(place, any_opcode(random))
        elif kind == 2 and len(parts) > 1:
            del parts[place]
        elif kind == 3:
            parts.insert(place, random.choice(parts))
        elif kind == 4:
            # Numbers of shapes, strides, offsets and storages.
            numbers = [i for i, part in enumerate(parts) if part[:1] in (b"J", b"K", b"M")] or [place]
            value = integer(random)
            size = (value.bit_length() + 8) // 8
            parts[random.choice(numbers)] = b"\x8a" + bytes((size,)) + value.to_bytes(size, "little", signed=True)
        elif kind == 5:
            other = random.randrange(len(parts))
            parts[place], parts[other] = parts[other], parts[place]
        else:
            parts[place] = parts[place] * random.choice((2, 3, 2000))
    return b"".join(parts)


# Fields of 2 and 4 bytes behind the signature: local header, entry of the directory, its end; then of zip64.
_ZIP_FIELDS = {
    b"PK\3\4": ((4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)),
    b"PK\1\2": ((6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (34, 2), (42, 4)),
    b"PK\5\6": ((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)),
}


def zip_fields(random, data):
    """One or two fields of the headers of a zip become others."""
    data = bytearray(data)
    for _ in range(random.choice((1, 1, 2))):
        signature = random.choice(list(_ZIP_FIELDS))
        found, at = [], data.find(signature)
        while at >= 0:
            found.append(at)
            at = data.find(signature, at + 4)
        if not found:
            continue
        offset, size = random.choice(_ZIP_FIELDS[signature])
        place = random.choice(found) + offset
        data[place : place + size] = (integer(random) % 256**size).to_bytes(size, "little")
    if random.random() < 0.1:
        end = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, *(integer(random) % 2**64 for _ in range(4)))
        locator = struct.pack("<4sIQI", b"PK\6\7", 0, random.choice((0, len(data), integer(random) % 2**64)), 1)
        place = data.rfind(b"PK\5\6")
        data[place:place] = end + locator
    return bytes(data)


def torch_zip(random, data):
    """A checkpoint of PyTorch: its pickle, its storages, its archive or its bytes."""
    kind = random.randrange(8)
    if kind == 0:
        return blocks(random, data)
    if kind < 3:
        return zip_fields(random, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    for place, (name, content) in enumerate(entries):
        if name.endswith("data.pkl"):
            entries[place] = (name, pickled(random, content))
    if kind == 3:
        place = random.randrange(len(entries))
        name, content = entries[place]
        entries[place] = random.choice(((name, blocks(random, content)), (name + "x", content), (name, b"")))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return zip_fields(random, file.getvalue()) if kind == 4 else file.getvalue()


# --- GGUF ---

_WIDTHS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}


class _Walk:
    """Goes through a good file and notes where its numbers are."""

    def __init__(self, data):
        self.data, self.place, self.fields = data, 4, []
        self.take("I")
        tensors, keys = self.take("Q"), self.take("Q")
        for _ in range(keys):
            self.string()
            self.value(self.take("I"))
        for _ in range(tensors):
            self.string()
            for _ in range(self.take("I")):
                self.take("Q")
            self.take("I")
            self.take("Q")

    def take(self, form):
        size = struct.calcsize("<" + form)
        self.fields.append((self.place, size))
        self.place += size
        return struct.unpack_from("<" + form, self.data, self.place - size)[0]

    def string(self):
        size = self.take("Q")
        self.place += size

    def value(self, kind):
        if kind == 8:
            return self.string()
        if kind != 9:
            return self.take(_WIDTHS[kind])
        element = self.take("I")
        for _ in range(self.take("Q")):
            self.value(element)
        return None


def gguf(random, data):
    if random.random() < 0.2:
        return blocks(random, data)
    fields, data = _Walk(data).fields, bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        place, size = random.choice(fields)
        data[place : place + size] = (integer(random) % 256**size).to_bytes(size, "little")
    if random.random() < 0.1:
        del data[random.randrange(len(data)) :]
    return bytes(data)
