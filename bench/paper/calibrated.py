"""Traces with calibrated confidences, made from the committed ones, and what calibration is worth on them.

traces/calibration.json, written by make_traces, has for each trace the temperatures and the alpha
that `splitee fit` chose on held-out rows of the source set, and what the exits say there.
"""

import json
import os
import subprocess

BINS = 15  # of equal mass, for the expected calibration error


def read_calibration(folder):
    path = os.path.join(folder, "calibration.json")
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def at_temperature(probabilities, temperature):
    """Of logits / temperature, from those of the logits."""
    powers = [p ** (1 / temperature) for p in probabilities]
    total = sum(powers)
    return [power / total for power in powers]


def calibrated_rows(trace, temperatures):
    """(label, [(class, confidence) of every exit]) of each row of a trace of probabilities."""
    text = subprocess.run(["zstd", "-dcq", trace], capture_output=True, check=True).stdout
    header, *lines = text.decode("ascii").splitlines()
    classes, left_over = divmod(header.count(",p_"), len(temperatures))
    if left_over or not classes:
        raise RuntimeError(f"{trace}: not the probabilities of {len(temperatures)} exits, as there are temperatures")
    for line in lines:
        label, *fields = line.split(",")
        exits = []
        for i, temperature in enumerate(temperatures):
            own = at_temperature([float(p) for p in fields[i * classes : (i + 1) * classes]], temperature)
            best = max(range(classes), key=own.__getitem__)
            exits.append((best, own[best]))
        yield label, exits


def calibration_error(answers):
    """Of (confidence, right) pairs: the mean over BINS of equal mass of how far confidence is from accuracy."""
    answers, total = sorted(answers), 0.0
    for i in range(BINS):
        part = answers[i * len(answers) // BINS : (i + 1) * len(answers) // BINS]
        total += abs(sum(confidence - right for confidence, right in part))
    return total / len(answers)


def write_calibrated(trace, temperatures, output):
    """A plain CSV trace of classes and confidences; returns per exit (accuracy, confidence, calibration error)."""
    answers = [[] for _ in temperatures]
    with open(output, "w", encoding="ascii") as file:
        file.write("label" + "".join(f",pred_{i + 1},conf_{i + 1}" for i in range(len(temperatures))) + "\n")
        for label, exits in calibrated_rows(trace, temperatures):
            file.write(label + "".join(f",{best},{confidence:.6f}" for best, confidence in exits) + "\n")
            for i, (best, confidence) in enumerate(exits):
                answers[i].append((confidence, str(best) == label))
    count = len(answers[0])
    return [(sum(right for _, right in one) / count, sum(confidence for confidence, _ in one) / count,
             calibration_error(one)) for one in answers]  # fmt: skip
