#!/usr/bin/env python3
"""Accuracy of every exit of a real ElasticBERT, from the prediction files of MLiONS/MutiExitDNNs.

  elasticbert_exits.py --data DIR [--trace bench/paper/traces/imdb.csv.zst]

DIR holds imdb_{4,6,8}exits_elasticbert_pred.tsv.xz: for 50,000 IMDb reviews, what ElasticBERT-base
fine-tuned on SST-2 answered at each exit, and the true label in the last column. They have no
confidences, so they cannot be replayed; they say how accuracy grows with depth in a network of
real size, and how often exits agree. Printed as Markdown, the trace's exits beside them.
"""

import argparse
import lzma
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../tools/python"))
from interpreter import need  # noqa: E402

need("numpy")
import numpy as np  # noqa: E402

EXITS = {4: (1, 3, 7, 12), 6: (1, 3, 5, 7, 9, 12), 8: (1, 2, 3, 4, 5, 7, 9, 12)}


def read_predictions(path):
    with lzma.open(path, "rt", encoding="utf-8") as file:
        rows = np.loadtxt(file.read().splitlines()[1:], delimiter="\t", dtype=int, ndmin=2)
    return rows[:, :-1], rows[:, -1]


def read_trace(path):
    text = subprocess.run(["zstd", "-dcq", path], capture_output=True, check=True).stdout
    rows = np.loadtxt(text.decode("ascii").splitlines()[1:], delimiter=",", ndmin=2)
    return rows[:, 1:].reshape(len(rows), -1, 2).argmax(-1), rows[:, 0].astype(int)


def row(name, layers, predictions, labels):
    """Accuracy per layer, and agreement of the layer with the last exit."""
    right = 100 * (predictions == labels[:, None]).mean(0)
    same = 100 * (predictions == predictions[:, -1:]).mean(0)
    cells = {layer: f"{a:.1f} ({s:.1f})" for layer, a, s in zip(layers, right, same)}
    lost = 100 * ((predictions == labels[:, None]).any(1).mean() - (right[-1] / 100))
    return [f"{name}, {len(labels)} rows"] + [cells.get(i, "") for i in range(1, 13)] + [
        f"{lost:.1f}"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR")
    parser.add_argument("--trace", default=os.path.join(HERE, "traces", "imdb.csv.zst"),
                        metavar="FILE")
    args = parser.parse_args()
    rows = []
    for count, layers in EXITS.items():
        path = os.path.join(args.data, f"imdb_{count}exits_elasticbert_pred.tsv.xz")
        rows.append(row(f"ElasticBERT-base, {count} exits", layers, *read_predictions(path)))
    if os.path.exists(args.trace):
        predictions, labels = read_trace(args.trace)
        layers = range(1, predictions.shape[1] + 1)
        rows.append(row("12 x 384, this trace", layers, predictions, labels))
    print("Accuracy % (agreement with the last exit %) at layer:\n")
    header = ["network"] + [str(i) for i in range(1, 13)] + ["some exit right, last wrong %"]
    for cells in [header, ["---"] * len(header)] + rows:
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
