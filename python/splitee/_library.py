"""libsplitee.so through ctypes, which releases the GIL during every call: the structures and functions of
splitee.h, by the same names without their prefix. Internal; model.py, edge.py and policy.py are for users."""

from __future__ import annotations

import ctypes
import os
import pathlib
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, Mapping, Optional

from .errors import MissingError, error_of

OK, TOO_SMALL, FULL, NONE = 0, 8, 11, 12
TEXT, NUMBERS, IMAGE = 1, 2, 3
CLASSES, LABELS, VALUE = 0, 1, 2
ANSWER, SEND, FAIL = -1, -2, -3
LINKS = ("none", "up", "down")
ROUTES = ("exit", "offload", "fallback", "final", "audit")


class Sized(ctypes.Structure):
    """A structure that begins with its size."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(struct_size=ctypes.sizeof(self), **fields)


class ModelInfo(Sized):
    _fields_ = [
        ("struct_size", c_size_t), ("hash", c_uint64), ("library", c_char_p), ("architecture", c_char_p),
        ("dtype", c_char_p), ("target", c_char_p), ("input", c_int), ("output", c_int), ("pairs", c_int),
        ("layers", c_size_t), ("exits", c_size_t), ("classes", c_size_t), ("exit_layers", POINTER(c_size_t)),
        ("labels", POINTER(c_char_p)), ("numbers", c_size_t), ("columns", POINTER(c_char_p)),
        ("max_length", c_size_t), ("max_payload_bytes", c_size_t), ("alpha", c_double),
    ]  # fmt: skip


class Input(Sized):
    _fields_ = [
        ("struct_size", c_size_t), ("data", c_char_p), ("bytes", c_size_t), ("second", c_char_p),
        ("second_bytes", c_size_t), ("id", c_uint64), ("label", c_char_p),
    ]  # fmt: skip


class Payload(Sized):
    _fields_ = [
        ("struct_size", c_size_t), ("data", c_void_p), ("capacity", c_size_t), ("bytes", c_size_t),
        ("layer", c_size_t), ("length", c_size_t), ("rows", c_size_t), ("cols", c_size_t),
    ]  # fmt: skip


class Outcome(Sized):
    _fields_ = [
        ("struct_size", c_size_t), ("sample", c_uint64), ("route", c_int), ("exit", c_size_t),
        ("class_index", c_uint32), ("confidence", c_float), ("cost", c_double), ("exits", c_size_t),
        ("confidences", POINTER(c_float)), ("class_indices", POINTER(c_uint32)),
    ]  # fmt: skip


class Reading(Sized):
    _fields_ = [
        ("struct_size", c_size_t), ("sample", c_uint64), ("exit", c_size_t), ("exits", c_size_t),
        ("confidence", c_float), ("class_index", c_uint32), ("probabilities", POINTER(c_float)),
        ("classes", c_size_t), ("link", c_int),
    ]  # fmt: skip


PLAN = ctypes.CFUNCTYPE(c_int, c_void_p, c_uint64, c_int)
DECIDE = ctypes.CFUNCTYPE(c_int, c_void_p, POINTER(Reading))
OBSERVE = ctypes.CFUNCTYPE(None, c_void_p, POINTER(Outcome))


class PolicyCalls(Sized):
    _fields_ = [
        ("struct_size", c_size_t), ("user", c_void_p), ("plan", PLAN), ("decide", DECIDE), ("observe", OBSERVE),
    ]  # fmt: skip


class Record(Sized):
    _fields_ = [
        ("struct_size", c_size_t), ("id", c_uint64), ("class_index", c_uint32), ("label", c_char_p),
        ("confidence", c_float), ("split", c_size_t), ("exit_layer", c_size_t), ("route", c_int),
        ("cost", c_double), ("reward", c_double), ("edge_us", c_int64), ("link_us", c_int64),
        ("server_us", c_int64), ("bytes_sent", c_uint64), ("values_count", c_size_t),
        ("values", POINTER(c_float)), ("json", c_char_p),
    ]  # fmt: skip


_WORDS = POINTER(c_char_p)
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "model_open": (c_char_p, _WORDS, POINTER(c_void_p)),
    "model_info_get": (c_void_p, POINTER(ModelInfo)),
    "prepare": (c_void_p, POINTER(Input), POINTER(Payload)),
    "engine_create": (c_void_p, c_size_t, POINTER(c_void_p)),
    "engine_begin": (c_void_p, POINTER(Payload)),
    "engine_run": (c_void_p, c_size_t, c_void_p, c_size_t),
    "policy_create": (c_void_p, POINTER(PolicyCalls), _WORDS, c_void_p, c_size_t, POINTER(c_void_p)),
    "policy_save": (c_void_p, c_void_p, c_size_t, POINTER(c_size_t)),
    "edge_create": (c_void_p, c_void_p, c_void_p, _WORDS, POINTER(c_void_p)),
    "classify": (),  # an edge, and an Input and a Record by reference: of every sample, and nothing is to be converted
    "edge_submit": (c_void_p, POINTER(Input)),
    "edge_next": (c_void_p, c_int64, POINTER(Record)),
    "edge_summary": (c_void_p, c_void_p, c_size_t, POINTER(c_size_t)),
    "replay": (c_char_p, POINTER(PolicyCalls), _WORDS, c_void_p, c_size_t, POINTER(c_size_t)),
}


def _load() -> ctypes.CDLL:
    """$SPLITEE_LIBRARY, the one in this package, or an installed one."""
    beside = pathlib.Path(__file__).with_name("libsplitee.so.1")
    places = [os.environ.get("SPLITEE_LIBRARY"), str(beside) if beside.exists() else None, "libsplitee.so.1"]
    place = next(place for place in places if place)
    try:
        return ctypes.CDLL(place)
    except OSError as problem:
        raise MissingError(f"libsplitee: {problem}; SPLITEE_LIBRARY may name its file") from None


class _Functions:
    """The functions as attributes; each returns its result."""

    def __init__(self) -> None:
        library = _load()
        for name, arguments in _FUNCTIONS.items():
            function = getattr(library, "splitee_" + name)
            function.argtypes, function.restype = arguments, c_int
            setattr(self, name, function)
        library.splitee_last_error.argtypes, library.splitee_last_error.restype = (), c_char_p
        library.splitee_free.argtypes, library.splitee_free.restype = (c_void_p,), None
        self.last_error, self.free = library.splitee_last_error, library.splitee_free

    def __getattr__(self, name: str) -> Any:  # for type checkers: the rest is set above
        raise AttributeError(name)


library = _Functions()


def check(result: int) -> None:
    """Raises what a result other than OK means."""
    if result != OK:
        raise error_of(result, library.last_error().decode(errors="replace"))


def words(options: Mapping[str, Any]) -> Any:
    """Options as the library takes them: "name=value", "name" for True; None and False are left out; a list
    is the option several times. Underscores stand for dashes."""
    found: list[bytes] = []

    def add(name: str, value: Any) -> None:
        if isinstance(value, (list, tuple)):
            for one in value:
                add(name, one)
        elif value is True:
            found.append(name.encode())
        elif value is not None and value is not False:
            found.append(f"{name}={os.fspath(value) if isinstance(value, os.PathLike) else value}".encode())

    for name, value in options.items():
        add(name.replace("_", "-"), value)
    return (c_char_p * (len(found) + 1))(*found, None)


def create(function: Any, *arguments: Any) -> c_void_p:
    """The handle that a create function gives out."""
    handle = c_void_p()
    check(function(*arguments, ctypes.byref(handle)))
    return handle


def read(function: Any, *arguments: Any, room: int = 1 << 16) -> bytes:
    """What a function that fills a buffer has to say."""
    size = c_size_t()
    while True:
        buffer = ctypes.create_string_buffer(room)
        result = function(*arguments, buffer, room, ctypes.byref(size))
        if result != TOO_SMALL:
            check(result)
            return buffer.raw[: size.value]
        room = size.value


def strings(values: Any, count: int) -> list[str]:
    return [values[i].decode(errors="replace") for i in range(count)] if values else []


class Sample:
    """Fills an Input from what users hand in: a text, a pair of texts, a row of numbers, a picture (its path, the
    bytes of its file, or its pixels), or a dict with `text`, `text2`, `numbers` or `image`, and `label`. The input
    points into what was handed in last; `path` is that of a picture."""

    def __init__(self, kind: int, numbers: int) -> None:
        self.input = Input()
        self.reference = ctypes.byref(self.input)
        self.kind, self.numbers = kind, numbers
        self._kept: Any = None
        self._bare = True  # no label, second text or path of the sample before is left
        self.path: Optional[str] = None

    def fill(self, item: Any, number: int) -> None:
        given = self.input
        given.id = number
        if not self._bare:
            given.label, given.second, self.path, self._bare = None, None, None, True
        if type(item) is str and self.kind == TEXT:  # the usual case, without the questions below
            given.data = text = item.encode("utf-8", "replace")
            given.bytes = len(text)
            return
        self._bare = False
        if isinstance(item, Mapping):
            label = item.get("label")
            given.label = None if label is None else str(label).encode()
            names = {NUMBERS: "numbers", IMAGE: "image"}
            item = item.get(names[self.kind]) if self.kind in names else self._texts(item)
        if self.kind == NUMBERS:
            self._fill_numbers(item)
        elif self.kind == IMAGE:
            self._fill_image(item)
        else:
            self._fill_texts(item)

    @staticmethod
    def _texts(item: Mapping[str, Any]) -> Any:
        second = item.get("text2")
        return item["text"] if second is None else (item["text"], second)

    def _fill_texts(self, item: Any) -> None:
        given = self.input
        if isinstance(item, (tuple, list)) and len(item) == 2:
            item, second = item
            if not isinstance(second, str):
                raise TypeError(f"a pair of texts is wanted, not one with a {type(second).__name__}")
            encoded = second.encode("utf-8", "replace")
            given.second, given.second_bytes = encoded, len(encoded)
        if not isinstance(item, str):
            raise TypeError(f"a text or a pair of texts is wanted, not a {type(item).__name__}")
        text = item.encode("utf-8", "replace")
        given.data, given.bytes = text, len(text)

    def _fill_numbers(self, item: Any) -> None:
        import numpy

        row = numpy.ascontiguousarray(item, dtype=numpy.float32)
        if row.shape != (self.numbers,):
            raise ValueError(f"a row of {self.numbers} numbers is wanted, not an array of shape {row.shape}")
        self.input.data, self.input.bytes = row.ctypes.data, row.nbytes
        self._kept = row

    def _fill_image(self, item: Any) -> None:
        if isinstance(item, (str, os.PathLike)):
            self.path = os.fspath(item)
            file = pathlib.Path(item).read_bytes()
        elif isinstance(item, (bytes, bytearray, memoryview)):
            file = bytes(item)
        else:
            file = _picture(item)
        self.input.data, self.input.bytes = file, len(file)

    def check(self, result: int) -> None:
        """As check(), naming the picture."""
        if result != OK:
            message = library.last_error().decode(errors="replace")
            raise error_of(result, message if self.path is None else f"{self.path}: {message}")


def _picture(item: Any) -> bytes:
    """Pixels as a file (PPM, or PGM for grey ones)."""
    import numpy

    if item is None:
        raise TypeError("a picture is wanted: a path, the bytes of a file, or an array of pixels")
    pixels = numpy.asarray(item.convert("RGB") if hasattr(item, "convert") else item)  # Pillow's have a palette, or more
    grey = pixels.ndim == 2
    if pixels.dtype != numpy.uint8 or not (grey or (pixels.ndim == 3 and pixels.shape[2] == 3)) or pixels.size == 0:
        raise ValueError("a picture is an array (height, width, 3) or (height, width) of uint8, not one of shape "
                         f"{pixels.shape} of {pixels.dtype}")  # fmt: skip
    return b"P%d %d %d 255\n" % (5 if grey else 6, pixels.shape[1], pixels.shape[0]) + pixels.tobytes()
