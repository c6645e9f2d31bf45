#!/usr/bin/env python3
"""The parts of the Python package that need more than NumPy: scikit-learn's checks of the estimator and a pipeline with
it, pandas frames, plots, type hints, and docs/tour.ipynb from its first cell to its last. Needs pandas, matplotlib,
scikit-learn, nbclient, ipykernel and mypy from PyPI, and fails where one is missing. Arguments: SOURCE_ROOT, and the
program `splitee` to make a trace with."""

import os
import pickle
import subprocess
import sys
import tempfile

ROOT, TOOL = map(os.path.abspath, sys.argv[1:3])
MODEL = os.path.join(ROOT, "models", "default.gguf")
TEXTS = ["a warm and funny film", "dull, loud and far too long", "not bad at all", "I want my money back", "ok"]

import matplotlib  # noqa: E402

matplotlib.use("Agg")
import numpy as np  # noqa: E402
import pandas  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

import splitee  # noqa: E402


def check_classifier():
    check_estimator(splitee.SpliteeClassifier())  # those that apply to X of texts
    classifier = splitee.SpliteeClassifier(exit=3).use_model(MODEL)
    wanted = splitee.Model(MODEL).run(TEXTS)[:, 3]
    assert list(classifier.classes_) == ["negative", "positive"]
    assert np.allclose(classifier.predict_proba(TEXTS), wanted, atol=1e-6)
    assert list(classifier.predict(pandas.Series(TEXTS))) == [classifier.classes_[i] for i in wanted.argmax(axis=1)]
    assert classifier.score(TEXTS, classifier.predict(TEXTS)) == 1
    again = pickle.loads(pickle.dumps(classifier))
    assert np.array_equal(again.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    assert clone(classifier).get_params() == classifier.get_params() and not hasattr(clone(classifier), "model_")
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    assert list(make_pipeline(lower, classifier).predict(["OK", "A WARM AND FUNNY FILM"]))[1] == "positive"
    for call in (lambda: splitee.SpliteeClassifier().predict(TEXTS), lambda: classifier.predict("text"),
                 lambda: classifier.fit(TEXTS, ["a"] * len(TEXTS)), lambda: classifier.fit(TEXTS, ["a", "b"])):  # fmt: skip
        try:
            call()
        except ValueError:
            continue
        raise AssertionError("no ValueError")


def check_frames_and_plots(folder):
    texts, trace = os.path.join(folder, "texts"), os.path.join(folder, "trace.csv")
    with open(texts, "w", encoding="utf-8") as file:
        file.write("".join(text + "\n" for text in TEXTS * 10))
    subprocess.run([TOOL, "trace", "--model", MODEL, "--input", texts, "--output", trace], check=True, capture_output=True)
    frame = splitee.replay(trace, ["splitee", "final"], runs=2)
    assert isinstance(frame, pandas.DataFrame) and len(frame) == 2 and len(frame.attrs["figures"]) == 2
    assert splitee.replay(trace, "splitee", decisions=True).shape[0] == 50
    model = splitee.Model(MODEL)
    pictures = [splitee.plots.exits(model.run(TEXTS), model, truth=[1, 0, 1, 0, 1]), splitee.plots.replays(frame),
                splitee.plots.records(splitee.Edge(model).run(TEXTS))]  # fmt: skip
    assert [len(picture.get_lines()) >= 2 for picture in pictures] == [True] * 3
    assert all(picture.get_xlabel() for picture in pictures)


def check_types(folder):
    program = os.path.join(folder, "program.py")
    with open(program, "w", encoding="utf-8") as file:
        file.write("import splitee\nmodel: splitee.Model = splitee.Model('m')\nprint(model.run(['a']).shape)\n"
                   "for record in splitee.Edge(model).run(['a']):\n    print(record['label'])\n")  # fmt: skip
    package = os.path.dirname(splitee.__file__)
    for what in ([program], ["-p", "splitee"]):  # not the package's path: what lies beside it would be ours, too
        done = subprocess.run([sys.executable, "-m", "mypy", "--ignore-missing-imports", *what], cwd=folder,
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout
    assert os.path.exists(os.path.join(package, "py.typed"))


def check_tour():
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(os.path.join(ROOT, "docs", "tour.ipynb"), as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": os.path.join(ROOT, "docs")}}).execute()
    assert sum(cell.cell_type == "code" for cell in notebook.cells) >= 6


def main():
    with tempfile.TemporaryDirectory() as folder:
        check_classifier()
        check_frames_and_plots(folder)
        check_types(folder)
    check_tour()
    print("estimator, frames, plots, types and the tour are right")


main()
