"""What a fitted model is worth on rows that nothing of it has seen: report.json and report.html."""

import html
import json
import os

import numpy as np

from . import measure, plot, splits
from .data import DataError

DEEP_ROWS, SHOWN_CLASSES, LONGEST_TEXT = 30, 30, 240
HISTOGRAM_BINS = 20
PARTS = (("train", splits.TRAIN), ("calibration", splits.CALIBRATION),
         ("held_out", splits.HELD_OUT), ("aside", splits.ASIDE))


def make(engine, work, model, data, sides, facts, warnings):
    """All that the report says, as report.json has it; what only plots need is under "plots"."""
    info = json.loads(engine.run("inspect", model, "--json"))
    layers, classes = info["exits"], len(data.names)
    rows = measure.head(os.path.join(work, "held_out.tsv"),
                        measure.most_rows(len(layers), classes))
    labels = measure.labels_of(rows)
    probabilities = engine.probabilities(model, rows, work)
    exits = measure.exit_reports(probabilities, labels, layers)
    for entry, temperature in zip(exits, info["temperatures"]):
        entry["temperature"] = temperature
    numbers = np.flatnonzero(sides == splits.HELD_OUT)
    plots = {
        "bins": [entry.pop("bins") for entry in exits],
        "histograms": histograms(probabilities, labels),
        "curve": measure.threshold_curve(probabilities, labels, layers),
        "deep": deep_rows(probabilities, labels, data, numbers, layers),
        "classes": class_table(probabilities, labels, classes)}
    return {
        "data": data.path, "rows": len(data), "classes": data.names,
        "counts": data.counts().tolist(),
        "samples": {name: int(np.sum(sides == side)) for name, side in PARTS},
        **facts, "exits": exits,
        "policies": measure.rules(probabilities, labels, layers) +
        replayed(engine, work, probabilities, labels, model),
        "warnings": warnings, "plots": plots}


def replayed(engine, work, probabilities, labels, model):
    """What the default policy of `splitee replay` pays at each disagreement, without a server."""
    trace = os.path.join(work, "replay.csv")
    measure.write_trace(trace, probabilities, labels)
    if "--max-disagreement" not in engine.run("replay", "--help"):
        return []
    result = []
    for limit in measure.DISAGREEMENTS:
        try:
            found = json.loads(engine.run(
                "replay", "--trace", trace, "--max-disagreement", limit, "--offload-cost", "none",
                "--lambda", 1, "--model", model, "--json"))
            result.append({"policy": found["policy"], "limit": limit,
                           "layers": found["cost"]["mean"],
                           "disagreement": found["disagreement"]["mean"],
                           "accuracy": found["accuracy"]["mean"]})
        except (DataError, KeyError, TypeError):
            return result
    return result


def histograms(probabilities, labels):
    """Per exit, shares of all rows by confidence: those answered right, and wrong."""
    predicted, confidence = measure.answers(probabilities)
    low = 1 / probabilities.shape[-1]
    edges = np.linspace(low, 1 + 1e-6, HISTOGRAM_BINS + 1)
    result = []
    for classes, sure in zip(predicted, confidence):
        right = classes == labels
        result.append([(np.histogram(sure[part], edges)[0] / len(labels)).tolist()
                       for part in (right, ~right)])
    return result


def deep_rows(probabilities, labels, data, numbers, layers):
    predicted, confidence = measure.answers(probabilities)
    result = []
    for row, first in measure.only_deep(probabilities, labels, DEEP_ROWS):
        number = int(numbers[row])
        texts = [data.texts[number]] + ([data.seconds[number]] if data.seconds else [])
        result.append({"text": " | ".join(texts), "label": data.names[labels[row]],
                       "first_exit": data.names[predicted[0, row]],
                       "first_confidence": float(confidence[0, row]),
                       "right_from_layer": int(layers[first - 1])})
    return result


def class_table(probabilities, labels, classes):
    """Per class: held-out rows, and the share that the first and the last exit get right."""
    predicted = probabilities.argmax(-1)
    result = []
    for k in range(classes):
        own = labels == k
        shares = [float((predicted[i, own] == k).mean()) if own.any() else None for i in (0, -1)]
        result.append([int(own.sum()), *shares])
    return result


def doubts(result):
    """What the figures should make one wary of."""
    held_out = sum(row[0] for row in result["plots"]["classes"])
    largest = max(row[0] for row in result["plots"]["classes"]) / held_out
    accuracy = [entry["accuracy"] for entry in result["exits"]]
    chance = 2 * (largest * (1 - largest) / held_out) ** 0.5
    warnings = []
    if accuracy[-1] < largest + chance:
        warnings.append(f"the last exit is right on {percent(accuracy[-1])} % of the held-out rows, "
                        f"and always saying the largest class would be on {percent(largest)} %: it "
                        "has learned next to nothing (more --minutes, more rows, another backbone?)")
    elif max(accuracy[:-1], default=0) > accuracy[-1] + max(0.01, chance):
        best = max(result["exits"], key=lambda entry: entry["accuracy"])
        warnings.append(f"the exit at layer {best['layer']} is right more often than the last one "
                        f"({percent(best['accuracy'])} against {percent(accuracy[-1])} %)")
    return warnings


# --- text ---


def percent(value, digits=1):
    return "-" if value is None else f"{100 * value:.{digits}f}"


def summary(result):
    """The exits' table for a terminal."""
    lines = [f"on {result['samples']['held_out']} held-out rows, in %",
             "layer  accuracy  confidence  calibration error  same as last  macro-F1"]
    lines += [f"{e['layer']:>5}  {percent(e['accuracy']):>8}  {percent(e['confidence']):>10}  "
              f"{percent(e['ece']):>17}  {percent(e['agreement']):>12}  {percent(e['macro_f1']):>8}"
              for e in result["exits"]]
    for rule in result["policies"]:
        lines.append(f"at most {percent(rule['limit'])} % disagreement, {rule['policy']}: "
                     f"{rule['layers']:.2f} layers, accuracy {percent(rule['accuracy'])} %")
    return "\n".join(lines) + "\n"


# --- HTML ---

STYLE = """
:root { --ink: #1d2430; --soft: #667085; --paper: #fff; --line: #dde2ea; --first: #2563b0;
  --second: #d9622b; --third: #2e8b57; --warn: #fff4e0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaf0; --soft: #9aa4b5; --paper: #161a21;
  --line: #333b48; --first: #6ea8ee; --second: #f0915e; --third: #6cc794; --warn: #3a2f18; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1000px; margin: 2em auto; padding: 0 1.2em; }
h1 { font-size: 1.5em; margin-bottom: .2em; } h2 { font-size: 1.15em; margin: 2em 0 .4em; }
p, .key { color: var(--soft); margin: .3em 0 .8em; max-width: 46em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .9em .25em 0; text-align: right; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; } .left { text-align: left; }
td.text { text-align: left; overflow-wrap: anywhere; max-width: 34em; }
.wide { overflow-x: auto; } .grid-of { display: flex; flex-wrap: wrap; gap: .6em; }
.warning { background: var(--warn); padding: .5em .8em; border-radius: 4px; margin: .4em 0; }
svg { max-width: 100%; height: auto; } .tick, .name { font: 11px system-ui, sans-serif;
  fill: var(--soft); } .name { fill: var(--ink); }
.grid { stroke: var(--line); } .axis { stroke: var(--soft); }
.diagonal { stroke: var(--soft); stroke-dasharray: 3 3; }
.line { fill: none; stroke-width: 2; } .line.first { stroke: var(--first); }
.line.second { stroke: var(--second); } .line.third { stroke: var(--third); }
circle.first, rect.first { fill: var(--first); } circle.second, rect.second { fill: var(--second); }
circle.third { fill: var(--third); } .key b { font-weight: 600; }
.key .first { color: var(--first); } .key .second { color: var(--second); }
.key .third { color: var(--third); }
"""


def table(head, rows, left=()):
    """An HTML table; cells are text, columns in `left` are aligned so."""
    def cells(row, tag):
        return "".join(f'<{tag}{" class=left" if i in left else ""}>{html.escape(str(cell))}</{tag}>'
                       for i, cell in enumerate(row))

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{cells(head, "th")}</tr>{body}</table></div>'


def key(*entries):
    return '<div class="key">' + " &nbsp; ".join(
        f'<b class="{kind}">&#9632;</b> {html.escape(name)}' for name, kind in entries) + "</div>"


def section(title, text, *parts):
    return f"<h2>{html.escape(title)}</h2><p>{html.escape(text)}</p>" + "".join(parts)


def exits_section(result):
    exits = result["exits"]
    series = [(name, kind, [(e["layer"], 100 * e[field]) for e in exits])
              for name, kind, field in (("accuracy", "first", "accuracy"),
                                        ("same class as the last exit", "third", "agreement"),
                                        ("macro-F1", "second", "macro_f1"))]
    if len(result["classes"]) == 2 and max(result["counts"]) < 2 * min(result["counts"]):
        series.pop()
    head = ("layer", "accuracy", "confidence", "calibration error", "same as last", "macro-F1",
            "temperature")
    rows = [(e["layer"], percent(e["accuracy"]), percent(e["confidence"]), percent(e["ece"]),
             percent(e["agreement"]), percent(e["macro_f1"]), f"{e['temperature']:.2f}")
            for e in exits]
    layers = [e["layer"] for e in exits]
    return section(
        "Accuracy against layers",
        f"On {result['samples']['held_out']} rows that share no text, nor a phrase of one, with "
        "those trained or calibrated on. In %.",
        key(*((name, kind) for name, kind, _ in series)),
        plot.curves(series, "layers run", "%", x_ticks=layers if len(layers) <= 24 else None),
        table(head, rows))


def calibration_section(result):
    low = 1 / len(result["classes"])
    bins = [plot.reliability(b, f"layer {e['layer']}: {percent(e['ece'])} %", low)
            for e, b in zip(result["exits"], result["plots"]["bins"])]
    bars = [plot.histogram(*h, f"layer {e['layer']}", low)
            for e, h in zip(result["exits"], result["plots"]["histograms"])]
    return section(
        "Calibration", "Accuracy (upwards) against confidence, in groups of equally many rows; on "
        "the diagonal a confidence means what it says. Above each plot the calibration error.",
        f'<div class="grid-of">{"".join(bins)}</div>') + section(
        "Confidences", "Share of rows, in %, by confidence: what an exit is sure of can leave "
        "there.", key(("answered right", "first"), ("answered wrong", "second")),
        f'<div class="grid-of">{"".join(bars)}</div>')


def policies_section(result):
    curve = [(layers, 100 * disagreement)
             for _, layers, disagreement, _ in result["plots"]["curve"]]
    exits = [(e["layer"], 100 - 100 * e["agreement"]) for e in result["exits"]]
    rows = [(percent(r["limit"]), r["policy"],
             f"{r['setting']:.4g}" if "setting" in r else "-", f"{r['layers']:.2f}",
             percent(r["disagreement"], 2), percent(r["accuracy"])) for r in result["policies"]]
    return section(
        "What leaving early costs", "Layers a sample against disagreement with the last exit, "
        "without a server: one threshold for all exits, and always the same exit. Settings are "
        "chosen in hindsight on the same rows, so a stream will do a little worse.",
        key(("one threshold", "first"), ("always one exit", "second")),
        plot.curves([("one threshold", "first", sorted(curve)),
                     ("always one exit", "second", exits)], "layers a sample",
                    "disagreement, %", marks=False),
        table(("at most, %", "policy", "setting", "layers", "disagreement, %", "accuracy, %"), rows,
              left=(1,)))


def formats_section(result):
    rows = []
    for name, found in result["formats"].items():
        measured = "agreement" in found
        rows.append((name + (" (chosen)" if name == result["dtype"] else ""),
                     f"{found['bytes'] / 1e6:.1f}",
                     percent(min(found["agreement"]), 2) if measured else "-",
                     percent(found["agreement"][-1], 2) if measured else "-",
                     f"{max(found['confidence_change']):.4f}" if measured else "-",
                     percent(found["accuracy"][-1]) if measured else "-"))
    return section(
        "Number formats", "How often the engine gives the same class as in f32, at the exit where "
        "that is rarest and at the last; the largest mean change of a confidence.",
        table(("format", "MB", "same class, worst exit, %", "last exit, %", "change",
               "accuracy, last, %"), rows, left=(0,)))


def classes_section(result):
    rows = [(name, count, held, percent(first), percent(last)) for name, count, (held, first, last)
            in zip(result["classes"], result["counts"], result["plots"]["classes"])]
    rows.sort(key=lambda row: -row[1])
    more = f" The {SHOWN_CLASSES} largest of {len(rows)}." if len(rows) > SHOWN_CLASSES else ""
    return section("Classes", "Share of each class that is found, at the first and at the last "
                   "exit." + more,
                   table(("class", "rows", "held out", "first exit, %", "last exit, %"),
                         rows[:SHOWN_CLASSES], left=(0,)))


def deep_section(result):
    rows = result["plots"]["deep"]
    if not rows:
        return section("Only deep exits get these right", "No held-out row is of this kind.")
    cells = [(row["text"][:LONGEST_TEXT] + ("..." if len(row["text"]) > LONGEST_TEXT else ""),
              row["label"], f"{row['first_exit']} ({percent(row['first_confidence'], 0)} %)",
              row["right_from_layer"]) for row in rows]
    body = table(("text", "label", "first exit says", "right from layer"), cells, left=(0, 1, 2))
    return section("Only deep exits get these right", "Held-out rows that no exit of the first "
                   "half answers right, and the last one does.",
                   body.replace("<td class=left>", '<td class="text">'))


def facts_line(result):
    samples = result["samples"]
    aside = f", {samples['aside']} set aside" if samples["aside"] else ""
    return (f"{result['data']}: {result['rows']} rows, {len(result['classes'])} classes; "
            f"{samples['train']} trained on, {samples['calibration']} for calibration, "
            f"{samples['held_out']} held out{aside}. Started from {result['backbone']}, written "
            f"as {result['dtype']}, {result['seconds']:.0f} s.")


def page(result):
    warnings = "".join(f'<div class="warning">{html.escape(warning)}</div>'
                       for warning in result["warnings"])
    title = f"splitee fit: {os.path.basename(result['data'])}"
    parts = [exits_section, policies_section, calibration_section, classes_section, deep_section,
             formats_section]
    return ("<!doctype html><html lang=en><meta charset=utf-8>"
            '<meta name=viewport content="width=device-width">'
            f"<title>{html.escape(title)}</title><style>{STYLE}</style><h1>{html.escape(title)}"
            f"</h1><p>{html.escape(facts_line(result))}</p>{warnings}"
            + "".join(part(result) for part in parts) + "</html>\n")


def write(folder, result):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "report.html"), "w", encoding="utf-8") as file:
        file.write(page(result))
    with open(os.path.join(folder, "report.json"), "w", encoding="utf-8") as file:
        json.dump({name: value for name, value in result.items() if name != "plots"}, file,
                  indent=1, ensure_ascii=False)
        file.write("\n")
