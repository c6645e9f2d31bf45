"""Training: a calibrated multi-exit model from labelled texts, by the program `splitee fit`."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Any, Iterable, Mapping, Sequence, Union

from .errors import MissingError, SpliteeError
from .model import Model


def fit(data: Union[str, os.PathLike, Iterable[Any]], output: Union[str, os.PathLike], *,
        minutes: float = 30, backbone: Union[str, os.PathLike, None] = None, keep: bool = False,
        report: Union[str, os.PathLike, None] = None, seed: int = 1, threads: Union[int, None] = None,
        quiet: bool = True, **options: Any) -> "Fitted":  # fmt: skip
    """Trains a model and opens it.

    data: a TSV whose first line names the columns `text`, `label` and, for pairs, `text2`; or pairs (text,
    label), where a text may be a pair of texts. output: the model file to write. minutes: to train for.
    backbone: a Hugging Face folder of a BERT-like encoder or a model of ours (default: the default model). keep:
    leave its weights and its last exit as they are, and add exits. report: a folder for report.html and
    report.json. quiet: no progress on standard error. options: further flags of `splitee fit`.

    Needs the program `splitee` (see `program()`) and a Python with PyTorch and NumPy.
    Returns a Model, whose `report` has the figures of report.json: of every exit accuracy, confidence, ece and
    agreement with the last one on rows held out."""
    with tempfile.TemporaryDirectory() as folder:
        if not isinstance(data, (str, os.PathLike)):
            data = _write_table(data, os.path.join(folder, "data.tsv"))
        report = report or os.path.join(folder, "report")
        flags: dict[str, Any] = {"output": output, "minutes": minutes, "backbone": backbone, "keep": keep,
                                 "report": report, "seed": seed, "threads": threads, **options}  # fmt: skip
        _run([program(), "fit", os.fspath(data), *_flags(flags)], quiet)
        figures = json.loads(pathlib.Path(report, "report.json").read_text(encoding="utf-8"))
    return Fitted(output, figures)


class Fitted(Model):
    """A Model with the `report` of its training."""

    def __init__(self, path: Union[str, os.PathLike], report: Mapping[str, Any]) -> None:
        super().__init__(path)
        self.report = report


def program() -> str:
    """The program `splitee`: $SPLITEE_PROGRAM, or the one of this package, of the path, or of a build folder
    around the source tree."""
    package = pathlib.Path(__file__).resolve().parent
    places = [os.environ.get("SPLITEE_PROGRAM"), package / "bin" / "splitee", shutil.which("splitee"),
              package.parents[1] / "build" / "tools" / "splitee"]  # fmt: skip
    for place in places:
        if place and os.access(place, os.X_OK):
            return os.fspath(place)
    raise MissingError("the program splitee is not installed; SPLITEE_PROGRAM may name it")


def _flags(options: Mapping[str, Any]) -> list[str]:
    flags: list[str] = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            flags.append(flag)
        elif value is not None and value is not False:
            flags += [flag, os.fspath(value) if isinstance(value, os.PathLike) else str(value)]
    return flags


def _environment() -> dict[str, str]:
    """With this Python to train with, where it has PyTorch."""
    environment = dict(os.environ)
    if importlib.util.find_spec("torch") is not None:
        environment.setdefault("PYTHON", sys.executable)
    return environment


def _run(command: Sequence[str], quiet: bool) -> None:
    done = subprocess.run(command, stderr=subprocess.PIPE if quiet else None, stdout=subprocess.PIPE if quiet else None,
                          text=True, errors="replace", check=False, env=_environment())  # fmt: skip
    if done.returncode == 0:
        return
    error = MissingError if "needs a python3 with" in (done.stderr or "") else SpliteeError
    raise error((done.stderr or f"{command[0]}: exit status {done.returncode}").strip())


def _write_table(rows: Iterable[Any], path: str) -> str:
    """Tabs and line ends in texts become spaces: a TSV knows no quoting."""

    def field(text: Any) -> str:
        return " ".join(str(text).split())

    rows = list(rows)
    pairs = any(isinstance(text, (tuple, list)) for text, _ in rows)
    with open(path, "w", encoding="utf-8") as file:
        file.write("text\ttext2\tlabel\n" if pairs else "text\tlabel\n")
        for text, label in rows:
            texts = list(text) if isinstance(text, (tuple, list)) else [text]
            file.write("\t".join([*map(field, texts), field(label)]) + "\n")
    return path
