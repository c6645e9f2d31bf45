#!/usr/bin/env python3
"""Tests bench/paper/run on one committed trace, and bench/paper/images on made ones: files, rows and what
must hold exactly.

  paper_test.py BENCH_PAPER SPLITEE
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile

PAPER, SPLITEE = map(os.path.abspath, sys.argv[1:3])
DATA_SET, RUNS = "yelp", 2
FINAL_COST = 0.8 * 12 + 0.2  # twelve layers and the last exit, in lambda


def run(output, *more, status=0):
    words = [sys.executable, os.path.join(PAPER, "run"), "--splitee", SPLITEE, "--runs", str(RUNS),
             "--only", DATA_SET, "--offload", "5", "--no-figures", "--output", output, *more]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == status, f"{words}: {done.returncode}\n{done.stderr}"
    return done


def read_rows(path):
    """Rows of the CSV at the data set's own alpha, by (semantics, policy)."""
    with open(path, encoding="utf-8") as file:
        return {(row["semantics"], row["policy"]): row for row in csv.DictReader(file)
                if row["alpha"] == "0.7"}


def number(row, column):
    return float(row[column])


def close(value, expected, slack=1e-4):
    assert abs(value - expected) <= slack, f"{value} is not {expected}"


def check_rows(rows):
    def got(policy, column, semantics="deployable"):
        return number(rows[semantics, policy], column)

    final_accuracy = got("final", "final_accuracy")
    for policy, cost in (("final", FINAL_COST), ("offload", 5.0)):
        close(got(policy, "cost_lambda"), cost)
        close(got(policy, "accuracy"), final_accuracy)
        close(got(policy, "cost_change"), cost / FINAL_COST - 1)
    close(got("offload", "offload_rate"), 1.0)
    close(got("oracle", "regret_end"), 0.0, 0.01)
    best = int(got("oracle", "best_arm"))
    close(got(f"fixed {best}", "cost_lambda"), got("oracle", "cost_lambda"))
    assert got("threshold", "offload_rate") == 0.0
    assert got("threshold", "cost_lambda", "paper") < got("threshold-published", "cost_lambda",
                                                         "paper")
    assert got("factored", "regret_2000") <= got("splitee-s", "regret_2000") / 4
    assert got("factored", "regret_2000") <= got("splitee", "regret_2000") / 8
    for row in rows.values():
        assert int(row["runs"]) == RUNS and 0 <= number(row, "accuracy") <= 1, row


def check_calibrated(path):
    """With the calibrated alpha nobody loses more than the point that calibration allows, as
    with a small alpha."""
    with open(path, encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["offload_lambda"] == "5"]
    losses = {(row["data_set"], row["policy"], row["alpha"]):
              number(row, "final_accuracy") - number(row, "accuracy") for row in rows}
    calibrated = {key: loss for key, loss in losses.items() if key[0] == DATA_SET + "-calibrated"}
    assert {policy for _, policy, _ in calibrated} == {"splitee", "adaptive"}, calibrated
    assert all(loss < 0.01 for loss in calibrated.values()), calibrated
    assert losses[DATA_SET, "splitee", "0.5"] > 0.02, losses


def test_results(folder):
    run(folder)
    rows = read_rows(os.path.join(folder, "results.csv"))
    assert len(rows) >= 28, sorted(rows)
    check_rows(rows)
    if shutil.which("zstd"):
        check_calibrated(os.path.join(folder, "results.csv"))
    with open(os.path.join(folder, "README.md"), encoding="utf-8") as file:
        text = file.read()
    for part in ("## The claim at o = 5 λ", "## Published and here", "## Regret at t = 2000", "| factored | ", "| adaptive | ",
                 "| offload | ", "| splitee (published form) | "):
        assert part in text, part
    broken = [line for line in text.splitlines() if line.startswith("|") and not line.endswith("|")]
    assert not broken, broken


def test_refusals(folder):
    empty = os.path.join(folder, "empty")
    os.mkdir(empty)
    assert "no trace" in run(folder, "--traces", empty, status=1).stderr
    with open(os.path.join(empty, DATA_SET + ".csv.zst"), "w", encoding="ascii") as file:
        file.write("no trace at all\n")
    assert DATA_SET + ".csv.zst" in run(folder, "--traces", empty, status=1).stderr


def made_trace(folder, name, rows, sure, right):
    """Two exits that agree; of every 10 answers so many are right, all equally sure."""
    plain = os.path.join(folder, name + ".csv")
    with open(plain, "w", encoding="ascii") as file:
        file.write("label,pred_1,conf_1,pred_2,conf_2\n")
        for i in range(rows):
            wrong = i % 10 >= right
            file.write(f"{i % 2},{(i + wrong) % 2},{sure},{(i + wrong) % 2},{sure}\n")
    subprocess.run(["zstd", "-q", "--rm", plain, "-o", plain + ".zst"], check=True)


def table_row(text, below, first):
    """Cells of the first row behind a line that begins with `below` whose first cell is `first`."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(below))
    row = next(line for line in lines[start:] if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_images(folder):
    if not shutil.which("zstd"):
        return
    for name in ("pristine", "blur-0.5", "blur-1", "blur-1.5", "noise-10", "noise-25", "noise-50"):
        made_trace(folder, name, 600, *((0.8, 8) if name == "pristine" else (0.9, 5)))
    with open(os.path.join(folder, "about.json"), "w", encoding="ascii") as file:
        json.dump({"hash": "0", "layers": 4, "exits": [1, 4], "alpha": 0.85, "temperatures": [1, 1], "pictures": 600,
                   "seed": 1}, file)  # fmt: skip
    words = [sys.executable, os.path.join(PAPER, "images"), "--splitee", SPLITEE, "--traces", folder, "--runs", "2",
             "--policies", "final", "--output", folder]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with open(os.path.join(folder, "images.md"), encoding="utf-8") as file:
        text = file.read()
    assert table_row(text, "Accuracy %", "pristine")[1:] == ["80.0 (100)", "80.0 (100)"], text
    assert table_row(text, "Expected calibration error", "pristine")[1:] == ["0.0 (+0.0)"] * 2, text
    assert table_row(text, "Expected calibration error", "noise-50")[1:] == ["40.0 (+40.0)"] * 2, text
    # Alone, a pristine sample runs to the end; the others are sure enough for the first exit.
    cells = table_row(text, "noise-25:", "threshold, no server")
    assert cells[4:7] == ["3.60 ± 0.00", "1.00 ± 0.00", "3.60 ± 0.00"], cells
    assert table_row(text, "### pristine", "final")[3] == "3.400", text
    with open(os.path.join(folder, "images.svg"), encoding="utf-8") as file:
        assert file.read().count("<polyline") == 18
    words[words.index("--traces") + 1] = os.path.join(folder, "none")
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1 and "about.json" in done.stderr, done


def main():
    for test in (test_results, test_refusals, test_images):
        with tempfile.TemporaryDirectory() as folder:
            test(folder)
        print(f"{test.__name__}: ok")


if __name__ == "__main__":
    main()
