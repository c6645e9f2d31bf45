"""Traces with calibrated confidences, made from the committed ones.

traces/calibration.json, written by make_traces, has for each trace the temperatures and the alpha
that `splitee calibrate` chose on held-back rows of the source set. With two classes the largest
probability tells the logits' difference, so the trace suffices; with three it does not, and those
have no entry.
"""

import json
import math
import os
import subprocess


def read_calibration(folder):
    path = os.path.join(folder, "calibration.json")
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def rescaled(confidence, temperature):
    """The larger of two probabilities, its logit divided by the temperature."""
    if confidence >= 1.0:
        return 1.0
    logit = math.log(confidence / (1.0 - confidence))
    return 1.0 / (1.0 + math.exp(-logit / temperature))


def write_calibrated(trace, temperatures, output):
    """A plain CSV trace beside a .csv.zst one; the file begins with label, or with pred_1."""
    text = subprocess.run(["zstd", "-dcq", trace], capture_output=True, check=True).stdout
    lines = text.decode("ascii").splitlines()
    columns = [i for i, name in enumerate(lines[0].split(",")) if name.startswith("conf_")]
    if len(columns) != len(temperatures):
        raise RuntimeError(f"{trace}: {len(columns)} exits, {len(temperatures)} temperatures")
    with open(output, "w", encoding="ascii") as file:
        file.write(lines[0] + "\n")
        for line in lines[1:]:
            fields = line.split(",")
            for column, temperature in zip(columns, temperatures):
                fields[column] = f"{rescaled(float(fields[column]), temperature):.6f}"
            file.write(",".join(fields) + "\n")
