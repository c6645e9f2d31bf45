#!/usr/bin/env python3
"""Training from Python, on a tiny backbone; and what is said where PyTorch is not installed, which is all that is
tested where it is not. Arguments: TOOL MODEL (a small random model)."""

import importlib.util
import os
import random
import sys
import tempfile

import numpy as np

import splitee

MODEL = os.path.abspath(sys.argv[2])


def two_classes(count):
    rng = random.Random(3)
    rows = []
    for i in range(count):
        words = [rng.choice("klmnprst") + rng.choice("aeiou") for _ in range(rng.randint(5, 9))]
        words.insert(rng.randrange(len(words)), rng.choice(["du", "fe", "gi"] if i % 2 else ["ba", "ko", "mi"]))
        rows.append((" ".join(words), "no" if i % 2 else "yes"))
    return rows


def check_fit(folder):
    rows = two_classes(1300)
    rows[0] = (rows[0][0] + "\twith a tab\nand a line", rows[0][1])
    path = os.path.join(folder, "my.gguf")
    model = splitee.fit(rows, path, backbone=MODEL, steps=20, threads=2)
    assert model.labels == ["no", "yes"] and os.path.exists(path) and model.path == path
    assert [exit["layer"] for exit in model.report["exits"]] == model.exit_layers, model.report
    # What was trained, not what it began with; that training learns is the test `fit`'s business.
    texts = [text for text, _ in rows[:50]]
    assert not np.allclose(model.run(texts), splitee.Model(MODEL).run(texts), atol=1e-3)
    assert all({"accuracy", "confidence", "ece", "agreement"} <= exit.keys() for exit in model.report["exits"])


def check_errors(folder):
    os.environ["PYTHON"] = "/bin/false"
    try:
        splitee.fit(two_classes(10), os.path.join(folder, "none.gguf"), backbone=MODEL, steps=1)
    except splitee.MissingError as problem:
        assert "PyTorch" in str(problem), problem
    else:
        raise AssertionError("no MissingError")


def main():
    with tempfile.TemporaryDirectory() as folder:
        if importlib.util.find_spec("torch") is None:
            print("PyTorch is not installed: only that this is said is tested")
        else:
            check_fit(folder)
        check_errors(folder)


main()
