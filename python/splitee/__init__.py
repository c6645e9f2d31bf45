"""splitee: split computing with early exits. A multi-exit network runs layer by layer; sample by sample an edge
decides how deep to compute, then answers from an exit or sends the activation to a splitee-server.

    model = splitee.Model("model.gguf")
    model.run(["a warm and funny film"])          # (texts, exits, classes)
    for record in splitee.Edge(model).run(texts): # answers as cheaply as they can be had
        print(record["label"], record["exit_layer"])

Reference: docs/python.md of the project."""

from .edge import Edge, Run
from .errors import (
    CorruptError,
    InputError,
    InvalidError,
    MissingError,
    NoAnswerError,
    NotFoundError,
    OutOfMemoryError,
    PolicyError,
    SpliteeError,
    UnsupportedError,
)
from .fitting import fit
from .model import Model
from .policy import ANSWER, SEND, Outcome, Policy, Reading
from .replay import replay, write_trace

__all__ = [
    "ANSWER", "SEND", "CorruptError", "Edge", "InputError", "InvalidError", "MissingError", "Model",
    "NoAnswerError", "NotFoundError", "Outcome", "OutOfMemoryError", "Policy", "PolicyError", "Reading", "Run",
    "SpliteeError", "UnsupportedError", "fit", "replay",
    "write_trace",
]  # fmt: skip


def __getattr__(name: str) -> object:
    # scikit-learn and matplotlib are imported where they are asked for.
    import importlib

    if name == "SpliteeClassifier":
        return importlib.import_module(".estimator", __name__).SpliteeClassifier
    if name == "plots":
        return importlib.import_module(".plots", __name__)
    if name == "__version__":
        from importlib import metadata

        try:
            return metadata.version("splitee")
        except metadata.PackageNotFoundError:  # in the source tree
            return "0+tree"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
