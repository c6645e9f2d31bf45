"""An edge device: classifies a stream, deciding sample by sample where to exit and what to send."""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import json
import os
import threading
from typing import Any, AsyncIterable, Iterable, Optional, Sequence, Union

from . import _library as c
from ._library import library
from .errors import InvalidError
from .model import Model
from .policy import Calls, Policy

# What json.loads() comes to, without looking for an encoding and for spaces first.
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_POLL_MS = 20  # for how long at most a wait for a server looks away from an asynchronous input


class Edge:
    """What the program splitee-edge does, over any iterable.

    model: a Model, or the path of one. server: ENDPOINT of a splitee-server (or a list of them), such as
    "tcp://10.0.0.2:5555"; None: nothing is sent. max_disagreement: share of the answers that may differ from
    the last exit's, for policies that look at it. policy: a name, a Policy of your own, or None for the
    default. options: the flags of splitee-edge with underscores for dashes: alpha, seed, costs, lambda_ (cost of a
    layer), offload_cost, state (file), window, deadline_ms, payload, secret_key, server_key, threads, exits
    (True: records have every exit's probabilities), require_server, ...

    One thread at a time uses an edge; others are kept waiting. It is a context manager; `close()` saves the
    state, where it has a file for it."""

    def __init__(self, model: Union[Model, str, os.PathLike], server: Union[str, Sequence[str], None] = None,
                 max_disagreement: float = 0.01, policy: Union[str, Policy, None] = None,
                 **options: Any) -> None:  # fmt: skip
        self.model = model if isinstance(model, Model) else Model(model)
        self._lock = threading.RLock()
        self._run: Optional[Run] = None
        self._calls: Optional[Calls] = None
        self._handle: Optional[ctypes.c_void_p] = None
        if "lambda_" in options:
            options["lambda"] = options.pop("lambda_")
        own: Optional[ctypes.c_void_p] = None
        choice: dict[str, Any] = {"max_disagreement": max_disagreement}
        if isinstance(policy, Policy):
            costs: dict[str, Any] = {name: options.pop(name) for name in ("lambda", "lambda1", "lambda2", "offload_cost", "mu")
                     if name in options}  # fmt: skip
            self._calls = Calls(policy)
            own = c.create(library.policy_create, self.model._handle, ctypes.byref(self._calls.calls),
                           c.words(costs), None, 0)  # fmt: skip
            choice = {}
        elif policy is not None:
            choice["policy"] = policy
        try:
            self._handle = c.create(library.edge_create, self.model._handle, own, None,
                                    c.words({"server": server, **choice, **options}))  # fmt: skip
        finally:
            library.free(own)
        self._sample = c.Sample(self.model._kind, self.model.numbers)
        self._record = c.Record()
        self._by_reference = ctypes.byref(self._record)
        self._alone = not server  # no sample ever waits
        self._run_sample = library.classify

    def run(self, samples: Union[Iterable[Any], AsyncIterable[Any]]) -> "Run":
        """Classifies samples: texts, pairs of texts, rows of numbers, pictures (paths, bytes of files, arrays of
        uint8; as Model.run()), or dicts with `text`, `text2`, `numbers` or `image`, and `label` (class name or number)
        where that is known.

        The result is an iterator of records, in the order of the samples, each as soon as it and those before it
        are finished: dicts with the fields of splitee-edge's JSON (id, class, label, confidence, split,
        exit_layer, route, cost, reward, edge_us, link_us, server_us, bytes_sent, payload; truth and exits where there are
        any). It is an asynchronous iterator too (`async for`), and then `samples` may be one. Up to `window`
        samples are taken before the first record has come, while they wait for a server. A run ends the
        one before it."""
        with self._lock:
            self._check_open()
            if self._run is not None:
                self._run._drop()
            self._run = Run(self, samples)
            return self._run

    def classify(self, sample: Any) -> dict:
        """The record of one sample."""
        return next(self.run([sample]))

    def summary(self) -> dict:
        """What the edge has done so far: routes, mean_cost, cost_saved, disagreement (limit, estimate, upper,
        certified; None for a policy that does not audit), latency_us, ... as `splitee-edge --summary-json`."""
        with self._lock:
            self._check_open()
            return json.loads(c.read(library.edge_summary, self._handle)[:-1])

    def close(self) -> None:
        with self._lock:
            handle: Optional[ctypes.c_void_p] = self._handle
            self._handle = None
            library.free(handle)

    def __enter__(self) -> "Edge":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_lock", None) is not None:
            self.close()

    def _check_open(self) -> None:
        if self._handle is None:
            raise InvalidError("the edge is closed")

    def _check(self, result: int, of_sample: bool = False) -> None:
        if self._calls:
            self._calls.check(result)
        elif of_sample:
            self._sample.check(result)
        else:
            c.check(result)

    def _classify(self, sample: Any, number: int) -> dict:
        with self._lock:
            if self._handle is None:
                self._check_open()
            self._sample.fill(sample, number)
            result = self._run_sample(self._handle, self._sample.reference, self._by_reference)
            if result != c.OK or self._calls is not None:
                self._check(result, of_sample=True)
            return _scan(self._record.json.decode("utf-8", "surrogatepass"), 0)[0]

    def _submit(self, sample: Any, number: int) -> bool:
        """False where records are to be taken first."""
        with self._lock:
            self._check_open()
            self._sample.fill(sample, number)
            result = library.edge_submit(self._handle, self._sample.reference)
            if result == c.FULL:
                return False
            self._check(result, of_sample=True)
            return True

    def _next(self, timeout_ms: int) -> Optional[dict]:
        """The next record; negative: waits as long as it takes."""
        with self._lock:
            self._check_open()
            result = library.edge_next(self._handle, timeout_ms, self._by_reference)
            if result == c.NONE:
                return None
            self._check(result)
            return _scan(self._record.json.decode("utf-8", "surrogatepass"), 0)[0]


class Run:
    """The records of one run of an edge; an iterator and an asynchronous iterator."""

    def __init__(self, edge: Edge, samples: Union[Iterable[Any], AsyncIterable[Any]]) -> None:
        self._edge, self._number, self._in_progress = edge, 0, 0
        self._given = samples
        self._samples: Any = None
        self._held: Any = _NOTHING  # taken from the input, not started yet
        self._ended = False
        self._wanted: Optional[asyncio.Future] = None
        self._thread: Optional[concurrent.futures.Executor] = None

    def _drop(self) -> None:
        """Another run begins: what is in progress has no record."""
        while self._in_progress > 0:
            self._take(-1)
        self._ended = True

    def _take(self, timeout_ms: int) -> Optional[dict]:
        if self._in_progress == 0:
            return None
        try:
            record = self._edge._next(timeout_ms)
        except Exception:
            self._in_progress -= 1
            raise
        self._in_progress -= record is not None
        return record

    def _start(self) -> None:
        """Starts the sample that is held, unless the edge is full."""
        sample, number = self._held, self._number
        if sample is _NOTHING:
            return
        try:
            started = self._edge._submit(sample, number)
        except Exception:
            self._held, self._number = _NOTHING, number + 1
            raise
        if started:
            self._held, self._number = _NOTHING, number + 1
            self._in_progress += 1

    def __iter__(self) -> "Run":
        return self

    def __next__(self) -> dict:
        if self._samples is None:
            self._samples = iter(self._given)  # type: ignore[arg-type]
        if self._edge._alone and not self._ended:
            self._number += 1
            return self._edge._classify(next(self._samples), self._number - 1)
        while True:
            must_wait = self._ended or self._held is not _NOTHING
            record = self._take(-1 if must_wait else 0)
            if record is not None:
                return record
            if self._ended:
                raise StopIteration
            if self._held is _NOTHING:
                self._held = next(self._samples, _NOTHING)
                self._ended = self._held is _NOTHING
            self._start()

    def __aiter__(self) -> "Run":
        return self

    async def __anext__(self) -> dict:
        loop = asyncio.get_running_loop()
        if self._samples is None:
            given = self._given
            self._samples = given.__aiter__() if hasattr(given, "__aiter__") else _Async(given)
            self._thread = concurrent.futures.ThreadPoolExecutor(1, "splitee-edge")
        while True:
            if self._wanted is None and not self._ended and self._held is _NOTHING:
                self._wanted = asyncio.ensure_future(self._samples.__anext__())
                await asyncio.sleep(0)
            if self._wanted is not None and (self._wanted.done() or self._in_progress == 0):
                await self._take_wanted()
                await loop.run_in_executor(self._thread, self._start)
            waits = self._ended or self._held is not _NOTHING
            timeout_ms = -1 if waits else 0 if self._wanted is None or self._wanted.done() else _POLL_MS
            record = await loop.run_in_executor(self._thread, self._take, timeout_ms)
            if record is not None:
                return record
            if self._held is not _NOTHING:
                await loop.run_in_executor(self._thread, self._start)
            elif self._ended and self._in_progress == 0:
                self._thread.shutdown(wait=False)  # type: ignore[union-attr]
                raise StopAsyncIteration

    async def _take_wanted(self) -> None:
        wanted, self._wanted = self._wanted, None
        try:
            self._held = await wanted  # type: ignore[misc]
        except StopAsyncIteration:
            self._ended = True


class _Async:
    """An ordinary iterable as an asynchronous one; its items are taken in the event loop's thread."""

    def __init__(self, samples: Iterable[Any]) -> None:
        self._samples = iter(samples)

    async def __anext__(self) -> Any:
        item = next(self._samples, _NOTHING)
        if item is _NOTHING:
            raise StopAsyncIteration
        return item


_NOTHING = object()
