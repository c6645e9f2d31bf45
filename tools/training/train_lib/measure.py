"""What exits are worth, from the engine's probabilities. Needs NumPy only.

Shapes: probabilities are (exits, rows, classes), a row's answer is its most probable class, the
lowest of equal ones.
"""

import os

import numpy as np

from .engine import MOST_VALUES, convert
from .tokenizer import UNK, Tokenizer, basic_tokenize

BINS = 15
FORMATS = ("f32", "bf16", "i8")  # largest first
FORMAT_ROWS = 1000
AGREEMENT, ACCURACY_LOSS = 0.99, 0.005  # of a format that will do
TOKENIZER_ROWS = 2000
DISAGREEMENTS = (0.005, 0.01, 0.02)


def read_lines(path):
    with open(path, encoding="utf-8", newline="\n") as file:
        return file.read().split("\n")[:-1]


def count_rows(path):
    return len(read_lines(path)) - 1


def head(path, rows):
    """A file of the first rows of a TSV: itself where it has no more."""
    lines = read_lines(path)
    if len(lines) - 1 <= rows:
        return path
    short = f"{path}.{rows}"
    with open(short, "w", encoding="utf-8", newline="\n") as file:
        file.write("".join(line + "\n" for line in lines[: rows + 1]))
    return short


def labels_of(path):
    """Class numbers, the last column of what table.write_rows() wrote."""
    return np.array([int(line.rsplit("\t", 1)[1]) for line in read_lines(path)[1:]], np.int64)


def most_rows(exits, classes):
    """Rows whose probabilities may be held at a time."""
    return max(1, MOST_VALUES // (exits * classes))


def answers(probabilities):
    """(exits, rows): classes and confidences."""
    return probabilities.argmax(-1), probabilities.max(-1)


def calibration_bins(confidence, right):
    """Rows in at most BINS groups of equal size by confidence: [(rows, confidence, accuracy)]."""
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(BINS, max(1, len(order) // 5)))
    return [(len(part), float(confidence[part].mean()), float(right[part].mean()))
            for part in parts]


def calibration_error(bins):
    """Mean distance of confidence and accuracy over bins of equal mass."""
    rows = sum(count for count, _, _ in bins)
    return sum(count * abs(accuracy - confidence) for count, confidence, accuracy in bins) / rows


def macro_f1(predicted, labels, classes):
    """Mean F1 of the classes that occur among the labels."""
    hits = np.bincount(labels[predicted == labels], minlength=classes)
    total = np.bincount(labels, minlength=classes)
    named = np.bincount(predicted, minlength=classes)
    present = total > 0
    return float((2 * hits[present] / (total[present] + named[present])).mean())


def exit_reports(probabilities, labels, layers):
    """Per exit what report.json has of it, and its bins."""
    predicted, confidence = answers(probabilities)
    reports = []
    for layer, classes, sure in zip(layers, predicted, confidence):
        right = classes == labels
        bins = calibration_bins(sure, right)
        reports.append({
            "layer": int(layer), "accuracy": float(right.mean()),
            "confidence": float(sure.mean()), "ece": calibration_error(bins),
            "agreement": float((classes == predicted[-1]).mean()),
            "macro_f1": macro_f1(classes, labels, probabilities.shape[-1]), "bins": bins})
    return reports


def formats(engine, folder, work, dtype):
    """The model in each number format, or in one: files DTYPE.gguf in `work`, and how they answer
    the first held-out rows compared with f32."""
    wanted = FORMATS if dtype == "auto" else (dtype,)
    result, reference = {}, None
    rows = head(os.path.join(work, "held_out.tsv"), FORMAT_ROWS)
    labels = labels_of(rows)
    for name in wanted:
        path = os.path.join(work, name + ".gguf")
        convert(folder, path, name)
        result[name] = {"bytes": os.path.getsize(path)}
        if len(wanted) == 1:
            break
        probabilities = engine.probabilities(path, rows, work)
        reference = probabilities if reference is None else reference
        result[name] |= against(probabilities, reference, labels)
    return result


def against(probabilities, reference, labels):
    """How a format answers compared with another one."""
    predicted, confidence = answers(probabilities)
    expected, expected_confidence = answers(reference)
    return {"rows": len(labels), "agreement": (predicted == expected).mean(1).tolist(),
            "accuracy": (predicted == labels).mean(1).tolist(),
            "confidence_change": np.abs(confidence - expected_confidence).mean(1).tolist()}


def choose(found):
    """The smallest format that answers as f32 does, but for the chance of one row."""
    best = found["f32"]
    for name in reversed(FORMATS):
        one = 1 / best["rows"]
        loss = np.subtract(best["accuracy"], found[name]["accuracy"]).max()
        if min(found[name]["agreement"]) >= AGREEMENT - one and loss <= ACCURACY_LOSS + one:
            return name
    return FORMATS[0]


def tokenizer_fit(backbone, texts, seed):
    """How a backbone's tokenizer takes a sample of the texts: shares, and pieces a word."""
    chosen = np.random.default_rng(seed).permutation(len(texts))[:TOKENIZER_ROWS]
    tokenizer = Tokenizer(backbone.vocab, backbone.lower_case)
    room = backbone.sizes["max_position_embeddings"] - 2
    words = tokens = unknown = too_long = 0
    for i in chosen:
        ids = tokenizer.encode(texts[i])
        words += len(basic_tokenize(texts[i], backbone.lower_case))
        tokens += len(ids)
        unknown += ids.count(UNK)
        too_long += len(ids) > room
    return {"unknown": unknown / max(1, tokens), "pieces_per_word": tokens / max(1, words),
            "too_long": too_long / max(1, len(chosen))}


def threshold_curve(probabilities, labels, layers):
    """One threshold for all exits: (threshold, mean layers run, disagreement, accuracy)."""
    predicted, confidence = answers(probabilities)
    exits, rows = predicted.shape
    grid = np.unique(np.quantile(confidence[:-1], np.linspace(0, 1, 400))) if exits > 1 else []
    curve = []
    for threshold in [*grid, 2.0]:
        sure = confidence >= threshold
        sure[-1] = True
        at = sure.argmax(0)
        given = predicted[at, np.arange(rows)]
        curve.append((float(min(threshold, 1.0)), float(np.asarray(layers)[at].mean()),
                      float((given != predicted[-1]).mean()), float((given == labels).mean())))
    return curve


def rules(probabilities, labels, layers):
    """The cheapest threshold, and the first exit that always answers, within each disagreement,
    chosen in hindsight on these rows."""
    curve = threshold_curve(probabilities, labels, layers)
    predicted = probabilities.argmax(-1)
    result = []
    for limit in DISAGREEMENTS:
        allowed = [point for point in curve if point[2] <= limit]
        threshold, mean, disagreement, accuracy = min(allowed, key=lambda point: point[1])
        always = next(i for i, row in enumerate(predicted)
                      if (row != predicted[-1]).mean() <= limit)
        result += [
            {"policy": "one threshold", "limit": limit, "setting": threshold, "layers": mean,
             "disagreement": disagreement, "accuracy": accuracy},
            {"policy": "always one exit", "limit": limit, "setting": int(layers[always]),
             "layers": float(layers[always]),
             "disagreement": float((predicted[always] != predicted[-1]).mean()),
             "accuracy": float((predicted[always] == labels).mean())}]
    return result


def only_deep(probabilities, labels, count):
    """Rows that exits of the deeper half alone get right: [(row, first exit right from then on)]."""
    predicted = probabilities.argmax(-1)
    right = predicted == labels
    half = max(1, len(right) // 2)
    rows = np.flatnonzero(right[-1] & ~right[:half].any(0))
    first = len(right) - np.argmin(right[::-1, rows], 0) if len(rows) else np.zeros(0, int)
    order = np.argsort(-first, kind="stable")[:count]
    return [(int(rows[i]), int(first[i]) + 1) for i in order]


def write_trace(path, probabilities, labels):
    """A trace as `splitee replay` reads it."""
    predicted, confidence = answers(probabilities)
    exits = len(predicted)
    header = "label" + "".join(f",pred_{i},conf_{i}" for i in range(1, exits + 1))
    with open(path, "w", encoding="ascii") as file:
        file.write(header + "\n")
        for row, label in enumerate(labels):
            cells = (f",{predicted[i, row]},{float(min(confidence[i, row], 1.0))!r}"
                     for i in range(exits))
            file.write(f"{label}{''.join(cells)}\n")
