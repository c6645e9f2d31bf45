#!/usr/bin/env python3
"""splitee calibrate: what it fits, what it writes, and what it leaves alone."""

import json
import math
import os
import random
import sys

from binaries import (LAYERS, MODEL, OTHER_MODEL, TOOL, edge, lines, main, make_texts, read,
                      records_of, run, write)  # fmt: skip

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "tools", "python"))
import gguf_writer  # noqa: E402
from gguf_reader import GgufFile  # noqa: E402

SCALE = 2.5  # labels are drawn from the last exit's probabilities at this temperature


def powered(probabilities, power):
    weights = [p**power for p in probabilities]
    return [w / sum(weights) for w in weights]


def labelled(folder, count=4000):
    """A TSV whose labels make the last exit over-confident by a known temperature."""
    texts = make_texts(count, seed=3)
    rng = random.Random(4)
    rows = []
    for text, record in zip(texts, records_of("--exits", stdin=lines(texts)), strict=True):
        one = powered(record["exits"][-1]["probabilities"], 1 / SCALE)[1]
        rows.append(f"{int(rng.random() < one)}\t{text}\n")
    return write(folder, "labelled.tsv", "label\ttext\n" + "".join(rows))


def calibrate(path, output, *flags, model=MODEL, status=0):
    flags = ("--model", model, "--input", path, "--output", output, *flags)
    return run(TOOL, "calibrate", *flags, status=status)


def inspected(path):
    return json.loads(run(TOOL, "inspect", path, "--json").out)


def test_fits_and_writes(folder):
    path, output = labelled(folder), os.path.join(folder, "out.gguf")
    report = json.loads(calibrate(path, output, "--json", "--max-loss", "0.02").out)
    assert report["fit"] == report["held_back"] == 2000 and report["max_loss"] == 0.02
    assert [exit_["layer"] for exit_ in report["exits"]] == list(range(1, LAYERS + 1))
    last = report["exits"][-1]
    assert abs(math.log(last["temperature"] / SCALE)) < 0.25, last
    assert last["ece"] < 0.05 < last["ece_before"], last
    for exit_ in report["exits"]:
        assert exit_["ece"] < exit_["ece_before"] and exit_["temperature_before"] == 1
        assert exit_["loss_bound"] <= 0.02 and 0.5 <= exit_["alpha"] <= 1

    before, after = inspected(MODEL), inspected(output)
    changed = {"splitee.exit_temperatures", "splitee.exit_alphas", "splitee.alpha",
               "splitee.content_hash", "splitee.block_sums", "splitee.prior.predictions", "splitee.prior.confidences",
               "splitee.prior.labels", "splitee.prior.kinds"}  # fmt: skip
    keep = lambda info: {k: v for k, v in info["metadata"].items() if k not in changed}  # noqa: E731
    assert keep(before) == keep(after) and before["tensors"] == after["tensors"]
    assert before["hash"] != after["hash"] and changed <= set(after["metadata"])
    size = sum(tensor["bytes"] for tensor in before["tensors"])
    assert read(MODEL)[-size:] == read(output)[-size:]
    close = lambda a, b: all(abs(x - y) < 1e-6 for x, y in zip(a, b, strict=True))  # noqa: E731
    assert close(after["temperatures"], [exit_["temperature"] for exit_ in report["exits"]])
    assert close(after["exit_alphas"], [exit_["alpha"] for exit_ in report["exits"]])
    assert close([after["alpha"]], [report["alpha"]])

    # The edge applies the temperatures, and takes the model's alpha where none is given.
    texts = lines(make_texts(60, seed=5))
    pairs = zip(records_of("--exits", stdin=texts),
                records_of("--exits", stdin=texts, model=output), strict=True)  # fmt: skip
    for old, new in pairs:
        for a, b, temperature in zip(old["exits"], new["exits"], after["temperatures"], strict=True):
            expected = powered(a["probabilities"], 1 / temperature)
            assert all(abs(x - y) < 1e-4 for x, y in zip(b["probabilities"], expected, strict=True))
    summary = os.path.join(folder, "summary.json")
    edge("--summary-json", summary, "--policy", "threshold", stdin=texts, model=output)
    assert json.loads(read(summary))["alpha"] == after["alpha"]

    # So does a replay, with the model named.
    trace = os.path.join(folder, "trace.csv")
    flags = ("--model", output, "--input", path, "--input-format", "tsv", "--output", trace)
    run(TOOL, "trace", *flags)
    alphas = ",".join(map(str, after["exit_alphas"]))
    for policy, given in (("splitee", ()), ("factored-alpha", ("--exit-alphas", alphas))):
        base = ("replay", "--trace", trace, "--policy", policy, "--offload-cost", "0.3", "--json")
        chosen = run(TOOL, *base, "--model", output).out
        assert chosen == run(TOOL, *base, "--alpha", after["alpha"], *given).out, policy
        assert chosen != run(TOOL, *base, "--alpha", "0.999").out, policy
    run(TOOL, *base, "--exit-alphas", "0.5,0.6", status=None).expect(2, "alpha per exit")
    run(TOOL, *base, "--model", trace, status=None).expect(1, "trace.csv")

    # Once more: nothing is left to fit, the new keys are replaced.
    again = os.path.join(folder, "again.gguf")
    second = json.loads(calibrate(path, again, "--json", "--max-loss", "0.02", model=output).out)
    for old, new in zip(report["exits"], second["exits"], strict=True):
        assert abs(new["temperature"] / old["temperature"] - 1) < 1e-3
        assert abs(new["ece_before"] - old["ece"]) < 1e-3
    assert inspected(again)["metadata"].keys() == after["metadata"].keys()
    assert os.path.getsize(again) == os.path.getsize(output)


def test_held_back_rows_are_kept(folder):
    """All of --input fits temperatures; the file's prior rows are answers to --held-back."""
    path = labelled(folder, 400)
    rows = read(path).decode().splitlines(keepends=True)
    first, second = (write(folder, name, rows[0] + "".join(part)) for name, part in
                     (("first.tsv", rows[1:251]), ("second.tsv", rows[251:])))  # fmt: skip
    output = os.path.join(folder, "out.gguf")
    report = json.loads(calibrate(first, output, "--held-back", second, "--json").out)
    assert (report["fit"], report["held_back"]) == (250, 150)
    trace = os.path.join(folder, "trace.csv")
    run(TOOL, "trace", "--model", output, "--input", second, "--input-format", "tsv", "--output", trace)
    traced = [line.split(",") for line in read(trace).decode().splitlines()[1:]]
    keys = GgufFile(output).keys
    predictions, confidences = (keys[f"splitee.prior.{name}"] for name in
                                ("predictions", "confidences"))  # fmt: skip
    found = [(label, *predictions[n * LAYERS : (n + 1) * LAYERS])
             for n, label in enumerate(keys["splitee.prior.labels"])]  # fmt: skip
    expected = [(int(row[0]), *map(int, row[1::2])) for row in traced]
    assert sorted(found) == sorted(expected) and found != expected, "in random order"
    for one, other in zip(sorted(confidences), sorted(float(c) for row in traced for c in row[2::2]),
                          strict=True):  # fmt: skip
        assert abs(one - other) < 1e-5
    accuracy = sum(row[0] == row[-2] for row in traced) / 150
    assert abs(report["exits"][-1]["accuracy"] - accuracy) < 1e-9
    whole = json.loads(calibrate(path, output, "--json").out)
    assert whole["held_back"] == 200 and len(GgufFile(output).keys["splitee.prior.labels"]) == 200
    few = write(folder, "few.tsv", "".join(rows[:80]))
    calibrate(first, output, "--held-back", few, status=None).expect(1, "few.tsv", "79 labelled")


def test_rows_alone_of_several_kinds(folder):
    """Labels are not needed, every kind has an equal part, and all else stays as it was."""
    whole = labelled(folder, 400)
    calibrated, output = (os.path.join(folder, name) for name in ("calibrated.gguf", "rows.gguf"))
    calibrate(whole, calibrated)
    texts = make_texts(2500, seed=9)
    first = write(folder, "first.tsv", "text\n" + lines(texts[:2300]))
    second = write(folder, "second.tsv", "text\tlabel\n" + "".join(f"{text}\t1\n" for text in texts[2300:]))
    done = calibrate(first, output, "--rows-only", "--input", second, model=calibrated)
    assert done.out == "1200 rows of 2 kinds of samples\n", done.out
    before, after = GgufFile(calibrated).keys, GgufFile(output).keys
    assert before["splitee.prior.kinds"] == 1 and after["splitee.prior.kinds"] == 2
    labels = list(after["splitee.prior.labels"])
    assert sorted(labels) == [1] * 200 + [65535] * 1000 and 1 in labels[:100] and 65535 in labels[:100]
    kept = [key for key in before if not key.startswith("splitee.prior.") and key not in gguf_writer.OWN_KEYS]
    assert kept == [key for key in after if key in kept] and all(str(before[key]) == str(after[key]) for key in kept)
    report = json.loads(calibrate(second, output, "--rows-only", "--json", model=output).out)
    assert report == {"rows": 200, "kinds": 1} and GgufFile(output).keys["splitee.prior.kinds"] == 1
    few = write(folder, "few.tsv", "text\n" + lines(texts[:99]))
    calibrate(few, output, "--rows-only", status=None).expect(1, "few.tsv", "99 samples")
    calibrate(first, output, "--input", second, status=None).expect(2, "--rows-only")
    many = [word for _ in range(20) for word in ("--input", second)]
    calibrate(first, output, "--rows-only", *many, status=None).expect(2, "21", "at most 20")
    calibrate(first, second, "--rows-only", "--input", second, status=None).expect(1, "second.tsv")


def test_rows_only_leaves_the_state_of_a_policy(folder):
    """The file is another one, its answers are not: what was learned of it goes on."""
    path = labelled(folder, 400)
    rowed, again, calibrated = (os.path.join(folder, name) for name in ("rowed", "again", "calibrated"))
    calibrate(path, rowed, "--rows-only")
    calibrate(path, again, "--rows-only", "--seed", "1", model=rowed)
    calibrate(path, calibrated, model=again)
    hashes = [inspected(model)["hash"] for model in (MODEL, rowed, again, calibrated)]
    assert len(set(hashes)) == 4
    network = lambda model: GgufFile(model).keys.get("splitee.prior.network")  # noqa: E731
    assert network(rowed) == network(again) == int(hashes[0], 16) and network(calibrated) is None
    for key in ("exit_temperatures", "alpha", "exit_alphas"):
        assert GgufFile(rowed).keys.get("splitee." + key) == GgufFile(MODEL).keys.get("splitee." + key)
    state = os.path.join(folder, "state")
    audited = 0  # in all runs so far: every one of the first samples is
    for model in (MODEL, rowed, again, MODEL):
        summary = os.path.join(folder, "summary.json")
        edge("--alpha", "0.8", "--state", state, "--summary-json", summary, stdin=lines(make_texts(30)), model=model)
        audited += 30
        assert json.loads(read(summary))["disagreement"]["audited"] == audited, model
    edge("--alpha", "0.8", "--state", state, stdin="ba\n", model=calibrated, status=None).expect(
        1, state, "another model", hashes[0], hashes[3])  # fmt: skip
    odd = os.path.join(folder, "odd.gguf")
    file = GgufFile(rowed)
    gguf_writer.write_gguf(odd, file.with_keys([("splitee.prior.network", gguf_writer.STRING, "me")]),
                           [tensor.to_write() for tensor in file.tensors.values()])  # fmt: skip
    edge(stdin="ba\n", model=odd, status=None).expect(1, odd, "splitee.prior.network")
    costs = os.path.join(folder, "costs.json")
    run(TOOL, "profile", "--model", MODEL, "--repeats", "1", "--output", costs)
    edge("--costs", costs, stdin="ba\n", model=rowed)
    edge("--costs", costs, stdin="ba\n", model=calibrated, status=None).expect(1, costs, "another model")


def test_is_repeatable(folder):
    path = labelled(folder, 400)
    outputs = [os.path.join(folder, name) for name in ("a", "b", "c")]
    texts = [calibrate(path, output, "--threads", threads).out
             for output, threads in zip(outputs, ("1", "3", "1"), strict=True)]  # fmt: skip
    assert texts[0] == texts[1] == texts[2] and "ECE" in texts[0]
    assert read(outputs[0]) == read(outputs[1]) == read(outputs[2])
    other = calibrate(path, outputs[1], "--seed", "1")
    assert read(outputs[0]) != read(outputs[1]) and other.out != texts[0]
    # In place, and what a strict limit means is said.
    calibrate(path, outputs[0], "--max-loss", "0.0001", model=outputs[0]).expect(0, "alpha 1")
    assert inspected(outputs[0])["alpha"] == 1


def test_errors(folder):
    path = labelled(folder, 150)
    rows = read(path).decode().splitlines(keepends=True)
    output = os.path.join(folder, "none.gguf")
    few = write(folder, "few.tsv", "".join(rows[:51]))
    calibrate(few, output, status=None).expect(1, "few.tsv", "50 labelled")
    bare = write(folder, "bare.tsv", "text\n" + "a\n" * 200)
    calibrate(bare, output, status=None).expect(1, "bare.tsv", "0 labelled")
    wrong = write(folder, "wrong.tsv", "".join(rows[:3]) + "7\tba\n")
    calibrate(wrong, output, status=None).expect(1, "wrong.tsv", "line 4", "label")
    calibrate(path, "/no/such/folder/m", status=None).expect(1, "/no/such/folder")
    calibrate("/no/such", output, status=None).expect(1, "/no/such")
    calibrate(path, output, model=path, status=None).expect(1, "labelled.tsv")
    calibrate(path, output, "--max-loss", "2", status=None).expect(2, "--max-loss")
    calibrate(path, output, "--input-format", "text", status=None).expect(2, "--input-format")
    assert not os.path.exists(output)
    assert inspected(OTHER_MODEL)["exit_alphas"] is None


if __name__ == "__main__":
    main(globals())
