#!/usr/bin/env python3
"""splitee compare: what it says of two models is worked out again from splitee-edge's records."""

import json
import math
import os

from binaries import (LAYERS, MODEL, OTHER_MODEL, TOOL, lines, main, make_texts, records_of, run,
                      write)  # fmt: skip

TEXTS = make_texts(157, seed=5)


def compare(first, second, *flags, stdin="", status=0):
    return run(TOOL, "compare", first, second, *flags, stdin=stdin, status=status)


def quantile(values, share):
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


def close(a, b):
    return abs(a - b) < 1e-6


def expect_spread(spread, values):
    assert close(spread["mean"], sum(values) / len(values)) and close(spread["max"], max(values))
    assert set(spread["quantiles"]) == {"0.5", "0.9", "0.99", "0.999"}
    for share, value in spread["quantiles"].items():
        assert close(value, quantile(values, float(share))), (share, value)


def test_report(_):
    records = [records_of("--exits", stdin=lines(TEXTS), model=m) for m in (MODEL, OTHER_MODEL)]
    report = json.loads(compare(MODEL, OTHER_MODEL, "--json", stdin=lines(TEXTS)).out)
    assert report["samples"] == len(TEXTS) and report["labelled"] == 0
    assert [exit_["layer"] for exit_ in report["exits"]] == list(range(1, LAYERS + 1))
    largest = {}
    for index, exit_ in enumerate(report["exits"]):
        a, b = ([r["exits"][index]["probabilities"] for r in model] for model in records)
        changes = [max(abs(y - x) for x, y in zip(p, q)) for p, q in zip(a, b, strict=True)]
        confidences = [abs(max(q) - max(p)) for p, q in zip(a, b)]
        same = [p.index(max(p)) == q.index(max(q)) for p, q in zip(a, b)]
        assert exit_["disagreements"] == same.count(False) > 0
        assert close(exit_["agreement"], sum(same) / len(same))
        expect_spread(exit_["probability_change"], changes)
        expect_spread(exit_["confidence_change"], confidences)
        assert "accuracy" not in exit_
        for sample, change in enumerate(changes):
            largest[sample] = max(largest.get(sample, (0, 0)), (change, index + 1))
    worst = report["worst"]
    expected = sorted(largest, key=lambda sample: -largest[sample][0])[:10]
    assert [row["id"] for row in worst] == expected
    for row in worst:
        change, layer = largest[row["id"]]
        assert row["layer"] == layer and close(row["probability_change"], change)
        assert row["text"] == TEXTS[row["id"]]
        for name, model in zip(("first", "second"), records):
            seen = model[row["id"]]["exits"][layer - 1]["probabilities"]
            assert all(map(close, row[name]["probabilities"], seen))
            assert row[name]["class"] == seen.index(max(seen))
            assert close(row[name]["confidence"], max(seen))


def test_labels_pairs_and_text(folder):
    rows = "".join(f"{t}\t{u}\t{i % 2 if i % 3 else ''}\n"
                   for i, (t, u) in enumerate(zip(TEXTS, TEXTS[1:])))  # fmt: skip
    path = write(folder, "in.tsv", "text\ttext2\tlabel\n" + rows)
    flags = ("--input", path, "--input-format", "tsv")
    report = json.loads(compare(MODEL, OTHER_MODEL, *flags, "--json").out)
    count = len(TEXTS) - 1
    assert report["samples"] == count and report["labelled"] == count - (count + 2) // 3
    for index, exit_ in enumerate(report["exits"]):
        for model, accuracy in zip((MODEL, OTHER_MODEL), exit_["accuracy"], strict=True):
            seen = records_of("--exits", "--input-format", "tsv", "--input", path, model=model)
            known = [r for r in seen if "truth" in r]
            right = sum(p.index(max(p)) == r["truth"] for r in known
                        for p in [r["exits"][index]["probabilities"]])  # fmt: skip
            assert close(accuracy, right / len(known))
    assert report["worst"][0]["text2"] in TEXTS
    # Threads change nothing, and neither does it matter that the two models are one.
    assert report == json.loads(compare(MODEL, OTHER_MODEL, *flags, "--json", "--threads", "3").out)
    same = json.loads(compare(MODEL, MODEL, *flags, "--json").out)
    assert all(exit_["agreement"] == 1 and exit_["probability_change"]["max"] == 0
               for exit_ in same["exits"])  # fmt: skip
    text = compare(MODEL, OTHER_MODEL, *flags).out.splitlines()
    assert text[0].startswith(f"{count} samples") and "agreement" in text[2] and "accuracy" in text[2]
    assert len(text) == 3 + LAYERS + 2 + 10 and all(len(line) < 110 for line in text), text


def test_errors(_):
    good = lines(TEXTS[:3])
    compare(MODEL, OTHER_MODEL, stdin="", status=None).expect(1, "no samples")
    compare("/no/such", MODEL, stdin=good, status=None).expect(1, "/no/such")
    compare(MODEL, "/no/such", stdin=good, status=None).expect(1, "/no/such")
    compare(MODEL, OTHER_MODEL, "--input", "/none", status=None).expect(1, "/none")
    compare(MODEL, OTHER_MODEL, "--target", "none", stdin=good, status=None).expect(2, "none")
    run(TOOL, "compare", MODEL, status=None).expect(2, "second")
    default = os.path.join(os.path.dirname(__file__), "..", "..", "models", "default.gguf")
    compare(MODEL, default, stdin=good, status=None).expect(1, MODEL, "default.gguf", "exits")


if __name__ == "__main__":
    main(globals())
