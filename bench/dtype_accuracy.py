#!/usr/bin/env python3
"""What narrower arithmetic does to a model's answers: at every exit, the share of samples whose
class is that of the fp32 file, and the difference of the mean confidence.

usage: dtype_accuracy.py --data FILE.tsv --reference F32.gguf [--splitee PATH] MODEL.gguf ...
The files are one checkpoint, converted with different --dtype and the same temperatures. Exits with
1 where a model keeps the class of less than --least of the samples at some exit, or its mean
confidence moves by more than --most.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile


def trace(arguments, model, folder):
    """(labels, predictions per exit, confidences per exit) of all samples."""
    output = os.path.join(folder, "trace.csv")
    command = [arguments.splitee, "trace", "--model", model, "--input", arguments.data,
               "--input-format", "tsv", "--output", output]  # fmt: skip
    if arguments.target:
        command += ["--target", arguments.target]
    subprocess.run(command, check=True)
    with open(output, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    exits = (len(header) - 1) // 2
    predictions = [[row[1 + 2 * i] for row in rows] for i in range(exits)]
    confidences = [[float(row[2 + 2 * i]) for row in rows] for i in range(exits)]
    return [row[0] for row in rows], predictions, confidences


def share(pairs):
    pairs = list(pairs)
    return sum(a == b for a, b in pairs) / len(pairs)


def compare(arguments, model, reference, folder):
    """Prints a model's table; whether it keeps to the limits."""
    labels, expected, expected_confidences = reference
    _, found, confidences = trace(arguments, model, folder)
    print(f"{model}\n exit  same class  mean confidence (difference)  accuracy (fp32)")
    good = True
    for i, (a, b) in enumerate(zip(expected, found)):
        same = share(zip(a, b))
        mean = sum(confidences[i]) / len(confidences[i])
        moved = mean - sum(expected_confidences[i]) / len(expected_confidences[i])
        good = good and same >= arguments.least and abs(moved) <= arguments.most
        print(f" {i + 1:4}  {same:9.2%}  {mean:.4f} ({moved:+.4f})  "
              f"{share(zip(labels, b)):.2%} ({share(zip(labels, a)):.2%})")  # fmt: skip
    return good


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL.gguf")
    parser.add_argument("--reference", required=True, metavar="F32.gguf")
    parser.add_argument("--data", required=True, metavar="FILE.tsv", help="with columns text, label")
    parser.add_argument("--splitee", default="build/tools/splitee", help="(default: %(default)s)")
    parser.add_argument("--target", help="kernel target (default: the best)")
    parser.add_argument("--least", type=float, default=0.99, help="(default: %(default)s)")
    parser.add_argument("--most", type=float, default=0.01, help="(default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reference = trace(arguments, arguments.reference, folder)
        print(f"{len(reference[0])} samples of {arguments.data}")
        results = [compare(arguments, model, reference, folder) for model in arguments.models]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
