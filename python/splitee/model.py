"""Networks with exits: what every exit says of samples."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Sequence, Tuple, Union

import numpy

from . import _library as c
from ._library import library

Text = Union[str, Tuple[str, str]]


class Model:
    """A model file (GGUF). Immutable; any number of threads may use it at once.

    path: the file. target: kernels to use, "avx2" for instance (default: $SPLITEE_TARGET, else the best that
    this CPU has). preload: layers to read at once instead of when they are first needed, or "all".
    check_model: check the whole file now; otherwise, where it has sums of its blocks, as it is read.

    Attributes: path; labels (names of the classes); exit_layers (layers of the exits, from 1, the last one
    is the network's last); layers, exits, classes (how many); input ("text", "numbers" or "images");
    pairs (whether pairs of texts are taken); numbers (of a row; 0 for other inputs), columns (their names,
    where the file has them); output ("classes", "labels" or "value"); alpha (confidence that the file
    suggests to exit at, or None); hash (of the content), dtype (of the weights), target (kernels in use)."""

    def __init__(self, path: Union[str, os.PathLike], *, target: Union[str, None] = None,
                 preload: Union[int, str] = 1, check_model: bool = False) -> None:  # fmt: skip
        self.path = os.fspath(path)
        options = c.words({"target": target, "preload": preload, "check_model": check_model})
        self._handle = c.create(library.model_open, os.fsencode(self.path), options)
        info = c.ModelInfo()
        c.check(library.model_info_get(self._handle, ctypes.byref(info)))
        self.hash, self.layers, self.exits, self.classes = info.hash, info.layers, info.exits, info.classes
        self.architecture, self.dtype = info.architecture.decode(), info.dtype.decode()
        self.target, self.library = info.target.decode(), info.library.decode()
        self.input = {c.TEXT: "text", c.NUMBERS: "numbers", c.IMAGE: "images"}[info.input]
        self.output = {c.CLASSES: "classes", c.LABELS: "labels", c.VALUE: "value"}[info.output]
        self.pairs, self.numbers, self.max_length = bool(info.pairs), info.numbers, info.max_length
        self.exit_layers = [info.exit_layers[i] for i in range(info.exits)]
        self.labels = c.strings(info.labels, info.classes)
        self.columns = c.strings(info.columns, info.numbers)
        self.alpha = info.alpha or None
        self._kind, self._payload_bytes = info.input, info.max_payload_bytes
        self._engines: dict[int, list[_Engine]] = {}  # not in use now, by their threads

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            library.free(self._handle)

    def __repr__(self) -> str:
        return f"Model({self.path!r}: {self.exits} exits in {self.layers} layers, {self.classes} classes)"

    def __reduce__(self) -> Any:  # for pickle: opened anew from its path
        return Model, (self.path,)

    def run(self, samples: Union[Sequence[Text], numpy.ndarray], *, threads: int = 1) -> numpy.ndarray:
        """What every exit says of every sample.

        samples: a list of texts or of pairs of texts (first, second); for a network on numbers, anything
        that is an array (samples, numbers); for one on images, a list of pictures, each a path, the bytes of a file
        (PNG, JPEG, PGM, PPM), an array (height, width, 3) of uint8 or an image of Pillow, or an array (samples,
        height, width, 3) of uint8. Pictures are resized as the model's file says. threads: for the products of one sample. The GIL is released
        while a sample runs, so that several threads may call this for parts of the samples.

        Returns float32 (samples, exits, classes): probabilities of the classes, which add up to 1 for each
        exit (or of labels that do not exclude each other, or one value; see `output`)."""
        if isinstance(samples, (str, bytes)):
            raise TypeError(f"a list of samples is wanted, not one {type(samples).__name__}")
        if self._kind == c.NUMBERS:
            samples = numpy.asarray(samples, dtype=numpy.float32)
            if samples.ndim != 2:
                raise ValueError(f"an array (samples, {self.numbers}) is wanted, not one of shape {samples.shape}")
        elif self._kind == c.IMAGE and isinstance(samples, numpy.ndarray) and samples.ndim != 4:
            raise ValueError(f"an array (samples, height, width, 3) is wanted, not one of shape {samples.shape}")
        elif not isinstance(samples, (list, tuple)):
            samples = list(samples)
        found = numpy.empty((len(samples), self.exits, self.classes), dtype=numpy.float32)
        idle = self._engines.setdefault(threads, [])
        try:
            engine = idle.pop()  # atomic: another thread gets another one
        except IndexError:
            engine = _Engine(self, threads)
        for number, sample in enumerate(samples):
            engine.run(sample, found[number])
        idle.append(engine)
        return found

    def predict(self, samples: Union[Sequence[Text], numpy.ndarray], exit: int = -1) -> numpy.ndarray:
        """Class numbers (samples) that exit `exit` (0 is the first, -1 the last) says."""
        return self.run(samples)[:, exit, :].argmax(axis=1)


class _Engine:
    """Runs one sample at a time; used by one thread at a time."""

    def __init__(self, model: Model, threads: int) -> None:
        self._exits, self._classes = model.exits, model.classes
        self._model = model._handle
        self._handle = c.create(library.engine_create, model._handle, threads)
        self._sample = c.Sample(model._kind, model.numbers)
        self._buffer = ctypes.create_string_buffer(model._payload_bytes)
        self._payload = c.Payload(data=ctypes.addressof(self._buffer), capacity=model._payload_bytes)
        self._by_reference = ctypes.byref(self._payload)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            library.free(self._handle)

    def run(self, sample: Any, found: numpy.ndarray) -> None:
        """`found`: float32 (exits, classes), contiguous."""
        self._sample.fill(sample, 0)
        self._sample.check(library.prepare(self._model, self._sample.reference, self._by_reference))
        self._sample.check(library.engine_begin(self._handle, self._by_reference))
        address, row_bytes = found.ctypes.data, found.strides[0]
        for exit in range(self._exits):
            c.check(library.engine_run(self._handle, exit, address + exit * row_bytes, self._classes))
