"""Accuracy, confidence and calibration of every exit."""

import numpy as np
import torch

from .data import encode_row, group_by_length, pad_rows

ALPHAS = [round(0.60 + 0.05 * i, 2) for i in range(8)]
ALPHA_MAX_LOSS = 0.01
ECE_BINS = 15
EVAL_BATCH_TOKENS = 8192


def batch_tensors(examples, rows, limit, rng=None, longest=None):
    encoded = [encode_row(*examples.sentences(row), limit, rng) for row in rows]
    ids, types = map(torch.from_numpy, pad_rows(encoded, longest or limit))
    lengths = torch.tensor([len(row_ids) for row_ids, _ in encoded])
    return ids, types, lengths, torch.from_numpy(examples.labels[rows])


def all_logits(model, examples):
    """Logits of every exit for every row, in order: [exits, rows, labels]."""
    limit = model.shape.max_position_embeddings
    lengths = examples.encoded_lengths(limit)
    result = np.zeros((model.depth, len(examples), model.shape.num_labels), np.float32)
    model.eval()
    with torch.no_grad():
        for rows, _ in group_by_length(np.argsort(lengths), lengths, EVAL_BATCH_TOKENS):
            ids, types, sizes, _ = batch_tensors(examples, rows, limit)
            result[:, rows] = model.exit_logits(ids, types, sizes).numpy()
    model.train()
    return result


def softmax(logits, temperature=1.0):
    scaled = logits / temperature
    powers = np.exp(scaled - scaled.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def calibration_error(confidence, correct):
    """Expected calibration error over bins of equal width."""
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    sums = [np.bincount(bins, values, ECE_BINS) for values in (correct, confidence)]
    return float(np.abs(sums[0] - sums[1]).sum() / len(confidence))


def exit_report(logits, labels):
    """Accuracy, mean confidence and calibration error of one exit."""
    probabilities = softmax(logits)
    confidence, correct = probabilities.max(-1), probabilities.argmax(-1) == labels
    return {
        "accuracy": round(float(correct.mean()), 4),
        "confidence": round(float(confidence.mean()), 4),
        "ece": round(calibration_error(confidence, correct), 4),
    }


def fit_temperature(logits, labels):
    """The temperature of least negative log-likelihood, from a fine grid."""
    def loss(temperature):
        chosen = softmax(logits, temperature)[np.arange(len(labels)), labels]
        return -np.log(np.maximum(chosen, 1e-12)).mean()

    return round(float(min(np.exp(np.linspace(np.log(0.25), np.log(4.0), 241)), key=loss)), 4)


def early_exit(logits, labels, alpha):
    """Accuracy and mean exit layer when the first exit with confidence >= alpha answers."""
    probabilities = softmax(logits)
    sure = probabilities.max(-1) >= alpha
    sure[-1] = True
    layer = sure.argmax(0)
    answers = probabilities[layer, np.arange(len(labels))].argmax(-1)
    return float((answers == labels).mean()), float(layer.mean() + 1)


def suggest_alpha(logits, labels):
    """The smallest alpha that costs less than a point against the last exit."""
    final = float((logits[-1].argmax(-1) == labels).mean())
    for alpha in ALPHAS:
        accuracy, mean_layer = early_exit(logits, labels, alpha)
        if final - accuracy < ALPHA_MAX_LOSS:
            return {"alpha": alpha, "accuracy": round(accuracy, 4),
                    "final_accuracy": round(final, 4), "mean_layer": round(mean_layer, 2)}
    return {"alpha": None, "final_accuracy": round(final, 4)}


def calibrate(logits, labels):
    """Per-exit temperatures, and alphas for raw and for calibrated confidences."""
    temperatures = [fit_temperature(exit_logits, labels) for exit_logits in logits]
    scaled = logits / np.array(temperatures, np.float32)[:, None, None]
    return {"rows": len(labels), "temperatures": temperatures,
            "alpha": suggest_alpha(logits, labels),
            "alpha_calibrated": suggest_alpha(scaled, labels)}


def format_table(report):
    """Accuracy and mean confidence, a row per exit and two columns per data set."""
    names = list(report)
    lines = ["exit " + "".join(f"{name + ' acc':>14}{'conf':>8}" for name in names)]
    for i, _ in enumerate(report[names[0]]):
        cells = (report[name][i] for name in names)
        lines.append(f"{i + 1:4} " + "".join(
            f"{100 * cell['accuracy']:13.2f}%{cell['confidence']:8.3f}" for cell in cells))
    return "\n".join(lines)
