#!/usr/bin/env python3
"""Tests models/measure.py, models/contrasts.py and the data that models/make trains on. Exits with 77
without NumPy. usage: models_test.py"""

import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("SKIP: NumPy is not installed")
    sys.exit(77)

MODELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "models")
sys.path.insert(0, MODELS)
import contrasts  # noqa: E402
import making  # noqa: E402
import measure  # noqa: E402
from run_tests import run_tests  # noqa: E402


def test_calibration_error_of_equal_mass(_):
    rng = np.random.default_rng(4)
    confidence = rng.uniform(0.5, 1, 30_000)
    right = rng.random(30_000) < confidence
    assert measure.calibration_error(confidence, right) < 0.012
    assert abs(measure.calibration_error(confidence, rng.random(30_000) < confidence - 0.2) - 0.2) < 0.01
    # Errors of opposite signs that lie side by side do not cancel out.
    crossed = measure.calibration_error(np.tile([0.6, 0.9], 300), np.tile([1, 0], 300))
    assert abs(crossed - (0.4 + 0.9) / 2) < 0.04, crossed
    # 14 of 15 bins lie below 0.6: bins of equal width would hide all of them in two.
    confidence = np.concatenate([np.full(14, 0.55), [0.99]])
    right = np.array([1] * 14 + [0])
    assert abs(measure.calibration_error(confidence, right) - (14 * 0.45 + 0.99) / 15) < 1e-9


def test_layers_of_a_threshold(_):
    classes = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 1, 0]])
    confidences = np.array([[0.9, 0.6, 0.8, 0.7], [0.9, 0.9, 0.9, 0.65], [0.9, 0.9, 0.9, 0.9]])
    # 0.8: rows 1 and 3 leave at exit 1, row 2 at 2, row 4 at 3: none differs.
    assert measure.threshold_layers(classes, confidences, 0.0) == (1 + 2 + 1 + 3) / 4
    # 0.7: row 4 leaves at exit 1 with another class.
    assert measure.threshold_layers(classes, confidences, 0.25) == (1 + 2 + 1 + 1) / 4
    assert measure.threshold_layers(classes, confidences, 1.0) == 1
    # The last exit answers however unsure it is.
    confidences[:, 3] = [0.55, 0.56, 0.5]
    assert measure.threshold_layers(classes, confidences, 0.0) == (1 + 2 + 1 + 3) / 4


def test_table_of_traces(_):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "t.csv")
        with open(path, "w", encoding="ascii") as file:
            file.write("label,pred_1,conf_1,pred_2,conf_2\n" + "1,0,0.6,1,0.8\n0,0,0.7,0,0.9\n" * 10)
        command = [sys.executable, os.path.join(MODELS, "measure.py"), f"films={path}"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "| 1 | 50.0 / 0.650 |" in text and "| 2 | 100.0 / 0.850 |" in text, text
        assert "films (20 rows): one threshold needs 1.50 / 1.50 / 1.50 layers" in text, text
        with open(path, "a", encoding="ascii") as file:
            file.write(",0,0.6,1,0.8\n")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "a sample has no label" in done.stderr


def test_contrasts(_):
    rows = contrasts.sentences(3000, 7)
    assert rows == contrasts.sentences(3000, 7) != contrasts.sentences(3000, 8)
    assert 0.4 < np.mean([label for _, label in rows]) < 0.6
    assert len(set(rows)) > 2000
    assert not [text for text, _ in rows if "{" in text or "\t" in text or "  " in text]


def test_rows_that_share_text_with_kept_ones(_):
    kept = making.HeldOut(["A film that never once lets you go , and does n't try ."])
    for text in ("never once", "LETS you, go", "film", "",
                 "we saw that never once lets you go again and again"):
        assert kept.shares(text), text
    for text in ("never go", "a film that never once let us go", "dull"):
        assert not kept.shares(text), text
    assert making.natural([("it does n't", 1)]) == [("it doesn't", 1)]


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def test_what_make_trains_on(_):
    """No training row of any part shares text with what is kept."""
    making.KEPT_IMDB = making.KEPT_YELP = 4
    making.KEPT_SST2, making.CALIBRATE_IMDB, making.CALIBRATE_YELP, making.CONTRASTS = 2, 1, 2, 50
    sentence = "the plot of film number {} begins in a small town and ends where nobody would have looked for it"
    with tempfile.TemporaryDirectory() as folder:
        def put(name, rows):
            making.write(os.path.join(folder, name + ".tsv"), rows)
        put("sst2_train", [(sentence.format(i), i % 2) for i in range(8)] +
            [("in a small town", 1), ("shared by the test", 0), ("moving", 1), ("was n't dull", 1)])
        put("sst2_dev", [("a deeply moving tale", 1)])
        put("sst2_test", [("words that are shared by the test set", 0)])
        put("imdb_train_200w", [(f"review {i}", 1) for i in range(6)] + [("review 0", 1)])
        put("yelp_sent_dev", [(f"meal {i} was n't bad", 1) for i in range(6)] + [("meal 0 was n't bad", 1)])
        put("subj_all", [("an unseen snippet of a review", 0), ("in a small town", 0), ("a plot is told", 1)])
        making.PRIOR_ROWS = 2
        making.prepare(folder, folder)
        priors = {name: read_lines(os.path.join(folder, f"prior_{name}.tsv")) for name in making.PRIORS}
        read = {name: [text for text, _ in making.read(folder, "train_" + name)]
                for name in ("sst2", "sst2_natural", "imdb", "yelp")}
        kept = [text for text, _ in making.read(folder, "calibrate")]
    assert read["sst2"] == ["was n't dull"], read["sst2"]  # the sentences share six words
    assert read["sst2_natural"] == ["wasn't dull"]
    assert read["imdb"] == ["review 1", "review 2"]
    assert read["yelp"] == ["meal 1 wasn't bad", "meal 2 was n't bad"], read["yelp"]
    assert priors == {"imdb": ["text", "review 4", "review 5"], "yelp": ["text", "meal 5 was n't bad", "meal 0 was n't bad"],
                      "snippets": ["text", "an unseen snippet of a review"]}, priors  # fmt: skip
    assert kept[:3] == ["review 3", "meal 3 was n't bad", "meal 4 was n't bad"] and len(kept) == 5


if __name__ == "__main__":
    run_tests(globals())
