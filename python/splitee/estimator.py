"""A scikit-learn classifier of texts whose model has exits."""

from __future__ import annotations

import os
import pathlib
import tempfile
from typing import Any, Optional, Union

import numpy

from .errors import MissingError
from .fitting import fit
from .model import Model

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as problem:
    raise MissingError(f"SpliteeClassifier needs scikit-learn: {problem}") from None


class SpliteeClassifier(ClassifierMixin, BaseEstimator):
    """Trains with `splitee.fit()` and answers from one exit.

    minutes, backbone, keep, seed, threads: as of fit(). exit: index of the exit that answers, -1 the last one.

    After fit(): classes_ (the labels, sorted), model_ (a Model), report_ (figures of the training),
    n_features_in_ is not set: X is texts."""

    def __init__(self, minutes: float = 30, backbone: Union[str, None] = None, keep: bool = False, seed: int = 1,
                 threads: Optional[int] = None, exit: int = -1) -> None:  # fmt: skip
        self.minutes, self.backbone, self.keep = minutes, backbone, keep
        self.seed, self.threads, self.exit = seed, threads, exit

    def fit(self, X: Any, y: Any) -> "SpliteeClassifier":
        """X: texts or pairs of texts (samples). y: labels (samples), of at least two kinds."""
        X, y = _texts(X), numpy.asarray(y)
        if len(X) != len(y):
            raise ValueError(f"X has {len(X)} samples, y has {len(y)}")
        kinds = numpy.unique(y)
        if len(kinds) < 2:
            raise ValueError(f"y has {len(kinds)} class; at least 2 are wanted")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.gguf")
            model = fit(zip(X, y), path, minutes=self.minutes, backbone=self.backbone, keep=self.keep, seed=self.seed,
                        threads=self.threads)  # fmt: skip
            self.report_ = dict(model.report)
            self._adopt(pathlib.Path(path).read_bytes(), kinds)
        return self

    def use_model(self, path: Union[str, os.PathLike]) -> "SpliteeClassifier":
        """Takes a model file that is there in place of training; its labels are the classes."""
        data = pathlib.Path(path).read_bytes()
        self.report_ = {}
        self._adopt(data, None)
        return self

    def predict_proba(self, X: Any) -> numpy.ndarray:
        """Probabilities float64 (samples, classes), in the order of classes_."""
        check_is_fitted(self, "model_")
        found = self.model_.run(_texts(X))[:, self.exit, :].astype(numpy.float64)
        return found[:, self._columns] / found.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> numpy.ndarray:
        """Labels (samples), values of classes_."""
        places = self.predict_proba(X).argmax(axis=1)
        return self.classes_[places]

    def _adopt(self, data: bytes, kinds: Optional[numpy.ndarray]) -> None:
        """Opens the model from its bytes, which pickles hold: a file may go away."""
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            file.write(data)
            file.flush()
            model = Model(file.name, preload="all")
        names = model.labels
        self.classes_ = numpy.unique(names) if kinds is None else kinds
        self._columns = [names.index(str(kind)) for kind in self.classes_]
        self._file, self.model_ = data, model

    def __getstate__(self) -> dict:
        state = dict(super().__getstate__())
        state.pop("model_", None)
        return state

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        if "_file" in state:
            self._adopt(state["_file"], state["classes_"])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        return tags

    def _more_tags(self) -> dict:  # before scikit-learn 1.6
        return {"X_types": ["string"]}


def _texts(X: Any) -> list:
    """A list of texts or pairs from a list, an array or a pandas column."""
    if isinstance(X, str):
        raise ValueError("X is one text; a list of texts is wanted")
    if hasattr(X, "tolist"):
        X = X.tolist()
    return [tuple(item) if isinstance(item, list) else item for item in X]
