#!/usr/bin/env python3
"""The default decision from outside: it is the default everywhere, labels never reach it, feedback
does, budgets in every unit, what replay says in hindsight."""

import json
import os
import random

from binaries import (LAYERS, MODEL, TOOL, Server, edge, lines, main, make_texts, read, run,
                      write)  # fmt: skip

TEXTS = make_texts(400)
UNIT_US = 500  # of a layer and its exit, in the cost file below


def summary_of(folder, *flags, stdin, status=0):
    path = os.path.join(folder, "summary.json")
    edge("--quiet", "--summary-json", path, *flags, stdin=stdin, status=status)
    return json.loads(read(path))


def table(names, *columns):
    rows = ("\t".join(map(str, row)) + "\n" for row in zip(*columns, strict=True))
    return "\t".join(names) + "\n" + "".join(rows)


def decided(stdin, *flags):
    """What was decided for each sample: all of its record that time and truth leave alone."""
    kept = ("id", "class", "confidence", "split", "exit_layer", "route", "cost", "audited")
    result = edge("--quiet", "--input-format", "tsv", *flags, stdin=stdin)
    return [tuple(record[name] for name in kept) for record in result.records]


def test_is_the_default(folder):
    summary = summary_of(folder, stdin=lines(TEXTS))
    assert summary["policy"] == "audited", summary
    said = summary["disagreement"]
    assert list(said) == ["limit", "audited", "delivered", "estimate", "upper", "certified"], said
    assert said["limit"] == 0.01 and said["audited"] == summary["routes"]["audit"] > 60, summary
    assert summary["audit_rate"] == said["audited"] / len(TEXTS)
    assert said["certified"] == (said["upper"] <= 0.01)
    assert summary["final_cost"] == LAYERS
    limit = summary_of(folder, "--max-disagreement", "0.05", stdin=lines(TEXTS[:80]))
    assert limit["disagreement"]["limit"] == 0.05
    for program in ("splitee-edge", "replay"):
        text = run(TOOL, "replay", "--help").out if program == "replay" else edge("--help").out
        assert "audited" in text and "--budget-unit" in text and "--max-disagreement" in text, text
    assert "--feedback" in edge("--help").out


def test_records_say_what_was_audited(_):
    records = edge("--quiet", "--max-disagreement", "0.2", stdin=lines(TEXTS)).records
    for record in records:
        assert record["audited"] == (record["route"] == "audit"), record
        assert ("would_exit" in record) == record["audited"], record
        if record["audited"]:
            assert record["exit_layer"] == LAYERS
            assert record["would_exit"] in (None, *range(1, LAYERS)), record
    assert any(record.get("would_exit") for record in records)


def test_labels_never_reach_it(folder):
    labels = [i % 2 for i in range(len(TEXTS))]
    shuffled = list(labels)
    random.Random(1).shuffle(shuffled)
    assert shuffled != labels
    streams = [table(("text", "label"), TEXTS, column) for column in (labels, shuffled)]
    flags = ("--max-disagreement", "0.1", "--seed", "3")
    for policy in ("audited", "splitee-s", "adaptive"):
        first, second = (decided(stream, *flags, "--policy", policy) for stream in streams)
        assert first == second, policy
    # In a replay, too.
    decisions = []
    for number, stream in enumerate(streams):
        source = write(folder, f"{number}.tsv", stream)
        trace, out = (os.path.join(folder, f"{number}.{name}") for name in ("csv", "decisions"))
        run(TOOL, "trace", "--model", MODEL, "--input", source, "--input-format", "tsv", "--output", trace)
        run(TOOL, "replay", "--trace", trace, "--decisions", out, "--runs", "2", "--max-disagreement", "0.1")
        decisions.append(read(out))
    assert decisions[0] == decisions[1] and decisions[0].count(b"\n") == 2 * len(TEXTS) + 1


def test_feedback(folder):
    given = ["" if i % 4 else ("negative", "1")[i % 8 == 0] for i in range(len(TEXTS))]
    stream = table(("text", "feedback"), TEXTS, given)
    flags = ("--input-format", "tsv", "--feedback")
    summary = summary_of(folder, *flags, stdin=stream)
    assert summary["feedback"]["given"] == len(TEXTS) // 4, summary
    answers = [record["class"] for record in edge("--quiet", *flags, stdin=stream).records]
    right = sum(answers[i] == (1 if i % 8 == 0 else 0) for i in range(0, len(TEXTS), 4))
    assert summary["feedback"]["right"] == right and summary["accuracy"] is None, summary
    # Not asked for, it is a column like any other.
    assert summary_of(folder, "--input-format", "tsv", stdin=stream)["feedback"] is None
    edge("--feedback", stdin=lines(TEXTS), status=None).expect(2, "--feedback")
    edge(*flags, stdin=table(("text",), TEXTS), status=None).expect(1, "feedback")
    bad = table(("text", "feedback"), TEXTS[:2], ["maybe", ""])
    edge(*flags, stdin=bad, status=None).expect(1, "column 'feedback'", "maybe")


def test_units_of_a_budget(folder):
    costs = write(folder, "costs.json", json.dumps({
        "format": "splitee-costs", "version": 1, "layers_us": [0.8 * UNIT_US] * LAYERS,
        "exits_us": [0.2 * UNIT_US] * LAYERS}))  # fmt: skip
    stream = lines(TEXTS * 12)
    in_lambda = summary_of(folder, "--budget", "2.5", "--lambda1", "0.08", stdin=stream)["mean_cost"]
    assert abs(in_lambda / 2.5 - 1) < 0.02, in_lambda
    flags = ("--costs", costs, "--budget-unit", "ms", "--budget", str(2.5 * UNIT_US / 1000))
    in_ms = summary_of(folder, *flags, stdin=stream)["mean_cost"]
    assert abs(in_ms / 2.5 - 1) < 0.02, in_ms
    # Bytes: what may be sent on average, where sending is the cheapest there is.
    with Server() as remote:
        flags = ("--server", remote.endpoint, "--offload-cost", "0", "--payload", "input", "--deadline-ms", "60000")
        free = summary_of(folder, *flags, stdin=stream)
        assert free["routes"]["offload"] > 0.9 * len(TEXTS) * 12, free
        most = 0.3 * free["bytes_sent"] / free["samples"]
        kept = summary_of(folder, *flags, "--budget", str(most), "--budget-unit", "bytes", stdin=stream)
        assert abs(kept["bytes_sent"] / kept["samples"] / most - 1) < 0.02, (kept, most)
        assert kept["disagreement"]["limit"] == 0.01
    for unit, words in (("ms", ("--costs",)), ("mJ", ("--objective energy",)), ("bytes", ("--server",))):
        edge("--budget", "3", "--budget-unit", unit, status=None).expect(2, unit, *words)
    edge("--budget-unit", "ms", status=None).expect(2, "--budget")


def test_hindsight_and_plot(folder):
    source = write(folder, "in.tsv", table(("text", "label"), TEXTS, [i % 2 for i in range(len(TEXTS))]))
    trace = os.path.join(folder, "trace.csv")
    run(TOOL, "trace", "--model", MODEL, "--input", source, "--input-format", "tsv", "--output", trace)
    flags = ("replay", "--trace", trace, "--max-disagreement", "0.1", "--offload-cost", "none", "--json")
    result = json.loads(run(TOOL, *flags).out)
    assert result["policy"] == "audited" and set(result["disagreement"]) == {"mean", "ci95"}, result
    rule = result["hindsight"]
    assert set(rule) >= {"policy", "setting", "cost"}, rule
    assert rule["disagreement"] <= max(result["disagreement"]["mean"], 0) and 0 < rule["cost"] <= LAYERS
    assert 0 < result["audit_rate"] <= 1
    page = os.path.join(folder, "plot.html")
    run(TOOL, *flags, "--plot", page)
    text = read(page).decode()
    for part in ("<svg", "prefers-color-scheme: dark", "audited", "splitee-s", "simple rules in hindsight",
                 "disagreement with the last exit", "cost, lambda a sample", "regret"):  # fmt: skip
        assert part in text, part
    for outside in ("http://", "https://", "src=", "@import", "url("):
        assert outside not in text.replace("http://www.w3.org/2000/svg", ""), outside
    run(TOOL, *flags, "--plot", trace, status=None).expect(1, "trace.csv")


if __name__ == "__main__":
    main(globals())
