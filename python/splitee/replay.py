"""Replays of traces: what policies would have done on a recorded stream."""

from __future__ import annotations

import csv
import ctypes
import json
import os
import tempfile
from typing import Any, Iterable, Mapping, Optional, Sequence, Union

import numpy

from . import _library as c
from ._library import library
from .policy import Calls, Policy

_ROOM = 1 << 20  # bytes of figures


def replay(trace: Union[str, os.PathLike], policy: Union[str, Policy, Iterable[Union[str, Policy]]], *,
           decisions: bool = False, **options: Any) -> Any:  # fmt: skip
    """Replays policies on a trace of `splitee trace` (.csv or .csv.zst): the same code as on an edge, with the
    trace for a network.

    policy: a name, a Policy of your own, or several of them. A Policy sees the runs one after the other, each
    beginning with sample 0. options: the flags of `splitee replay` with underscores for dashes: alpha, lambda_,
    offload_cost ("none": there is no server), max_disagreement, runs, seed, order ("shuffled" or "file"),
    semantics, model, split, ...

    Returns one row a policy: policy, samples, runs, accuracy (share; None without labels), cost (lambda per
    sample), final_cost, cost_reduction (share), offload_rate, disagreement (share that differs from the last
    exit), audit_rate, upper, best_arm (from 1), ..., and *_ci95, half the width of a 95 % interval over runs, beside
    each mean. With decisions: one row a sample and run: policy, run, t, arm (from 1; as
    `splitee replay --help` says), route, reward, cost.
    A pandas.DataFrame where pandas is installed, whose attrs["figures"] has the whole of what `splitee replay
    --json` says of each policy; else a list of dicts."""
    several = [policy] if isinstance(policy, (str, Policy)) else list(policy)
    if "lambda_" in options:
        options["lambda"] = options.pop("lambda_")
    rows: list[dict] = []
    figures = []
    for one in several:
        found, decided = _replay(trace, one, decisions, options)
        figures.append(found)
        rows += decided if decisions else [_flat(found)]
    try:
        import pandas
    except ImportError:
        return rows
    frame = pandas.DataFrame(rows)
    frame.attrs["figures"] = figures
    return frame


def write_trace(path: Union[str, os.PathLike], probabilities: numpy.ndarray,
                truth: Optional[Sequence[Optional[int]]] = None) -> None:  # fmt: skip
    """Writes a trace, as `splitee trace` does.

    probabilities: of Model.run(), (samples, exits, classes). truth: class numbers (samples), None where not
    known."""
    samples, exits, _ = probabilities.shape
    answers, confidences = probabilities.argmax(axis=2), probabilities.max(axis=2)
    with open(path, "w", encoding="utf-8") as file:
        file.write(",".join(["label", *(f"pred_{i},conf_{i}" for i in range(1, exits + 1))]) + "\n")
        for sample in range(samples):
            label = None if truth is None else truth[sample]
            # str() of a float32 is the shortest text that reads back as it.
            pairs = (f"{answers[sample, i]},{confidences[sample, i]!s}" for i in range(exits))
            file.write(",".join(["" if label is None else str(int(label)), *pairs]) + "\n")


def _replay(trace: Union[str, os.PathLike], policy: Union[str, Policy], decisions: bool,
            options: Mapping[str, Any]) -> tuple[dict, list[dict]]:  # fmt: skip
    calls = Calls(policy) if isinstance(policy, Policy) else None
    name = type(policy).__name__ if isinstance(policy, Policy) else policy
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "decisions.csv") if decisions else None
        words = c.words({**options, "policy": None if calls else policy, "decisions": path})
        size, buffer = ctypes.c_size_t(), ctypes.create_string_buffer(_ROOM)
        result = library.replay(os.fsencode(trace), ctypes.byref(calls.calls) if calls else None, words,
                                buffer, _ROOM, ctypes.byref(size))  # fmt: skip
        calls.check(result) if calls else c.check(result)
        return {**json.loads(buffer.value), "policy": name}, _decisions(path, name) if path else []


def _flat(figures: Mapping[str, Any]) -> dict:
    """A row: numbers, and means beside their intervals."""
    row: dict = {}
    for name, value in figures.items():
        if isinstance(value, dict) and "mean" in value:
            row[name], row[name + "_ci95"] = value["mean"], value["ci95"]
        elif not isinstance(value, (dict, list)):
            row[name] = value
    return row


def _decisions(path: str, name: str) -> list[dict]:
    kinds = {"run": int, "t": int, "arm": int, "route": str, "reward": float, "cost": float}
    with open(path, encoding="utf-8", newline="") as file:
        return [{"policy": name, **{key: kinds.get(key, str)(value) for key, value in row.items()}}
                for row in csv.DictReader(file)]  # fmt: skip
