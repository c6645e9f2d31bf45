#!/usr/bin/env python3
"""Accuracy, confidence and calibration of every exit, and how many layers one threshold needs, from
traces of labelled samples (splitee trace).

usage: models/measure.py NAME=TRACE.csv ...
Traces may be compressed by xz. Calibration error: 15 bins of equal mass, of all traces together.
Layers of a threshold: the least mean number of layers that one threshold on the confidence, the same
for all exits, needs while at most 1, 2 and 5 % of the answers differ from the last exit's; chosen in
hindsight. Needs NumPy.
"""

import sys

import numpy as np

BINS = 15
DISAGREEMENTS = (0.01, 0.02, 0.05)


def read_trace(path):
    """labels (rows,), classes and confidences (exits, rows)."""
    values = np.genfromtxt(path, delimiter=",", skip_header=1)
    if not np.isfinite(values).all():
        sys.exit(f"measure.py: {path}: a sample has no label")
    return values[:, 0].astype(int), values[:, 1::2].T.astype(int), values[:, 2::2].T


def calibration_error(confidence, right):
    """Mean distance between confidence and accuracy over bins of equal mass."""
    bins = np.array_split(np.argsort(confidence, kind="stable"), BINS)
    return sum(abs(confidence[b].sum() - right[b].sum()) for b in bins if len(b)) / len(confidence)


def threshold_layers(classes, confidences, most):
    """Least mean exit of a threshold with at most `most` disagreement with the last exit."""
    exits, rows = classes.shape
    best = float(exits)
    for threshold in np.unique(np.quantile(confidences[:-1], np.linspace(0, 1, 1001))):
        sure = confidences >= threshold
        sure[-1] = True
        answer = sure.argmax(0)
        differs = classes[answer, np.arange(rows)] != classes[-1]
        if differs.mean() <= most:
            best = min(best, float(answer.mean() + 1))
    return best


def main():
    if len(sys.argv) < 2 or any("=" not in argument for argument in sys.argv[1:]):
        sys.exit(__doc__)
    traces = {name: read_trace(path) for name, path in
              (argument.split("=", 1) for argument in sys.argv[1:])}
    print("| exit | " + " | ".join(traces) + " | calibration error |")
    print("|---" * (len(traces) + 2) + "|")
    exits = min(len(classes) for _, classes, _ in traces.values())
    for k in range(exits):
        cells = [f"{100 * (classes[k] == labels).mean():.1f} / {confidences[k].mean():.3f}"
                 for labels, classes, confidences in traces.values()]
        right = np.concatenate([classes[k] == labels for labels, classes, _ in traces.values()])
        confidence = np.concatenate([confidences[k] for _, _, confidences in traces.values()])
        print(f"| {k + 1} | " + " | ".join(cells) + f" | {calibration_error(confidence, right):.4f} |")
    print()
    for name, (labels, classes, confidences) in traces.items():
        layers = [f"{threshold_layers(classes, confidences, most):.2f}" for most in DISAGREEMENTS]
        print(f"{name} ({len(labels)} rows): one threshold needs {' / '.join(layers)} layers at "
              f"{' / '.join(f'{100 * most:g}' for most in DISAGREEMENTS)} % disagreement")


if __name__ == "__main__":
    main()
