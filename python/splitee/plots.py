"""Pictures, where matplotlib is installed. Each takes an Axes, or makes one, and returns it."""

from __future__ import annotations

from typing import Any, Iterable, Optional, Sequence

import numpy

from .errors import MissingError
from .model import Model

try:
    from matplotlib import pyplot
except ImportError as problem:
    raise MissingError(f"plots need matplotlib: {problem}") from None


def exits(probabilities: numpy.ndarray, model: Model, truth: Optional[Sequence[int]] = None, axes: Any = None) -> Any:
    """What every exit says. probabilities: of Model.run(), (samples, exits, classes). truth: class numbers
    (samples). Draws, by the exit's layer, mean confidence, the share that agrees with the last exit, and accuracy."""
    axes = axes or pyplot.subplots()[1]
    answers = probabilities.argmax(axis=2)
    axes.plot(model.exit_layers, probabilities.max(axis=2).mean(axis=0), marker="o", label="mean confidence")
    axes.plot(model.exit_layers, (answers == answers[:, -1:]).mean(axis=0), marker="o", label="agrees with the last")
    if truth is not None:
        right = answers == numpy.asarray(truth)[:, None]
        axes.plot(model.exit_layers, right.mean(axis=0), marker="o", label="accuracy")
    axes.set(xlabel="layer of the exit", ylabel="share of the samples", xticks=model.exit_layers)
    axes.legend()
    return axes


def replays(rows: Any, axes: Any = None) -> Any:
    """What policies cost and how far they differ. rows: of replay(). Draws cost in lambda (intervals of 95 %)
    against the share of answers that differ from the last exit's, a point a policy."""
    axes = axes or pyplot.subplots()[1]
    for row in rows.to_dict("records") if hasattr(rows, "to_dict") else rows:
        axes.errorbar(row["cost"], row["disagreement"], xerr=row["cost_ci95"], yerr=row["disagreement_ci95"],
                      marker="o", linestyle="", label=row["policy"])  # fmt: skip
    axes.set(xlabel="cost per sample (lambda)", ylabel="differs from the last exit (share)")
    axes.legend()
    return axes


def records(found: Iterable[dict], axes: Any = None) -> Any:
    """A run of an edge: layer of the exit that answered, sample by sample, with the mean so far."""
    axes = axes or pyplot.subplots()[1]
    layers = numpy.array([record["exit_layer"] for record in found])
    axes.plot(layers, ".", alpha=0.3, label="exit that answered")
    axes.plot(layers.cumsum() / numpy.arange(1, len(layers) + 1), label="mean so far")
    axes.set(xlabel="sample", ylabel="layer")
    axes.legend()
    return axes
