#!/usr/bin/env python3
"""Rows of numbers through the programs: against numpy, over the link in every form, with states,
traces and the other commands, and inputs and checkpoints that are wrong.

Arguments: EDGE SERVER TOOL MODEL OTHER_MODEL CONVERTER [test names]; the models are those of
random_numbers.py with seeds 1 and 2.
"""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np

CONVERTER = os.path.abspath(sys.argv.pop(6))
TRAINER = os.path.join(os.path.dirname(CONVERTER), "train.py")

from binaries import (  # noqa: E402
    MODEL, OTHER_MODEL, TIMEOUT_S, TOOL, Server, answers, edge, main, read, records_of, run, without_times, write)  # fmt: skip
from random_numbers import (  # noqa: E402
    COLUMNS, EXITS, FEATURES, LABELS, RESIDUAL, WIDTHS, checkpoint, make_rows, table, write_checkpoint)  # fmt: skip

ROWS = make_rows(40)
NUMBERS = ("--input-format", "numbers")


def tool(*flags, **more):
    return run(TOOL, *flags, **more)


def reference(rows, state, activation="relu"):
    """Every exit's probabilities, (rows, exits, classes), in float64."""
    array = lambda name: np.array(state[name][1], np.float64).reshape(state[name][0])  # noqa: E731
    x = (np.array(rows, np.float32).astype(np.float64) - array("mean")) / array("std")
    found = []
    for i in range(len(WIDTHS)):
        y = x @ array(f"blocks.{i}.weight").T + array(f"blocks.{i}.bias")
        y = np.maximum(y, 0) if activation == "relu" else y * 0.5 * (1 + np.vectorize(__import__("math").erf)(y / 2**0.5))
        x = y + x if RESIDUAL[i] else y
        if i + 1 in EXITS:
            logits = x @ array(f"exits.{i + 1}.weight").T + array(f"exits.{i + 1}.bias")
            logits = np.exp(logits - logits.max(axis=1, keepdims=True))
            found.append(logits / logits.sum(axis=1, keepdims=True))
    return np.stack(found, axis=1)


def exits_of(*flags, **more):
    records = records_of("--policy", "final", "--exits", *NUMBERS, *flags, **more)
    return np.array([[exit["probabilities"] for exit in record["exits"]] for record in records])


def test_against_numpy(folder):
    expected = reference(ROWS, checkpoint(1))
    assert np.abs(exits_of(stdin=table(ROWS)) - expected).max() < 1e-5
    assert expected.max(axis=2).std() > 0.05, "the rows are all alike"
    for dtype, tolerance in (("f16", 0.01), ("bf16", 0.05), ("i8", 0.08)):
        source, output = os.path.join(folder, dtype), os.path.join(folder, dtype + ".gguf")
        os.mkdir(source)
        write_checkpoint(source, 1)
        subprocess.run([sys.executable, CONVERTER, source, "--output", output, "--dtype", dtype], check=True,
                       capture_output=True)  # fmt: skip
        assert json.loads(tool("inspect", output, "--json").out)["dtype"] == dtype
        assert np.abs(exits_of(stdin=table(ROWS), model=output) - expected).max() < tolerance, dtype
    source, output = os.path.join(folder, "gelu"), os.path.join(folder, "gelu.gguf")
    os.mkdir(source)
    write_checkpoint(source, 1, activation="gelu", temperatures=[2.0, 1.0, 1.0, 0.5], alpha=0.8)
    subprocess.run([sys.executable, CONVERTER, source, "--output", output], check=True, capture_output=True)
    found = exits_of(stdin=table(ROWS), model=output)
    gelu = reference(ROWS, checkpoint(1), "gelu")
    assert np.abs(found[:, 1:3] - gelu[:, 1:3]).max() < 1e-5
    root = np.sqrt(gelu[:, 0])  # temperature 2
    assert np.abs(found[:, 0] - root / root.sum(axis=1, keepdims=True)).max() < 1e-5


def test_layouts(folder):
    plain = answers(records_of("--policy", "final", stdin=table(ROWS)))
    same = lambda data, *flags: answers(records_of("--policy", "final", *flags, stdin=data)) == plain  # noqa: E731
    assert same(table(ROWS, "\t"), *NUMBERS)
    assert same(table(ROWS, ", "), *NUMBERS)
    # Columns are found by their names; others are ignored.
    order = [3, 0, 5, 1, 4, 2]
    moved = [[9.0] + [row[i] for i in order] for row in ROWS]
    assert same(table(moved, columns=["time", *(COLUMNS[i] for i in order)]), *NUMBERS)
    frames = np.array(ROWS, "<f4").tobytes()
    assert same(frames, "--input-format", "float32")
    path = write(folder, "rows.csv", table(ROWS, labels=[LABELS[i % 2] for i in range(len(ROWS))]))
    records = records_of("--policy", "final", "--input", path)
    assert [record["truth"] for record in records] == [i % 2 for i in range(len(ROWS))]


def test_bad_rows(folder):
    rows = table(ROWS[:1]) + "1,2,3\n1,2,3,4,5,nan\n1,2,3,4,,6\n1,2,3,4,x,6\n\n" + table(ROWS[1:2]).split("\n", 1)[1]
    result = edge("--policy", "final", stdin=rows, status=1)
    assert [record["id"] for record in result.records] == [0, 1]
    for words in ("line 3: 3 field(s), but the header names 6 columns", "line 4: column 'load': 'nan'",
                  "line 5: column 'z': ''", "line 6: column 'z': 'x' is not a finite number", "4 row(s)"):  # fmt: skip
        assert words in result.err, f"{words}\n{result}"
    edge(stdin="temp,flow,x,y,z\n", status=1).expect(1, "no column 'load'")
    edge(stdin="", status=1).expect(1, "no header line", "temp")
    edge("--input-format", "text", stdin="a\n", status=None).expect(2, "takes numbers")
    good, odd = np.array(ROWS[0], "<f4").tobytes(), np.array([1, 2, np.inf, 4, 5, 6], "<f4").tobytes()
    frames = ("--policy", "final", "--input-format", "float32")
    result = edge(*frames, stdin=good + odd + good, status=1).expect(1, "frame 2: number 3 is not finite")
    assert len(result.records) == 2
    result = edge(*frames, stdin=good + good[:10], status=1).expect(1, "frame 2: ends after 10 of 24 bytes")
    assert len(result.records) == 1


def test_offload(folder):
    """Every form of payload, and policies that learn, over a real link; the answers are those of the whole network."""
    whole = answers(records_of("--policy", "final", stdin=table(ROWS)))
    with Server() as server:
        link = ("--server", server.endpoint, "--deadline-ms", "60000")
        for activation, tolerance in (("f32", 0), ("f16", 0.01), ("i8", 0.05)):
            flags = ("--policy", "fixed", "--split", "2", "--alpha", "1", "--activation", activation, *link)
            records = records_of(*flags, stdin=table(ROWS))
            assert {record["route"] for record in records} == {"offload"}
            assert {record["payload"] for record in records} == {activation}
            # The exit of block 2 reads the whole of it: what is sent is its output.
            size = {"f32": 4 * WIDTHS[1], "f16": 2 * WIDTHS[1], "i8": 4 + WIDTHS[1]}[activation]
            assert {record["bytes_sent"] for record in records} == {72 + size}
            for record, (_, confidence) in zip(records, whole):
                assert abs(record["confidence"] - confidence) <= tolerance, record
        records = records_of("--policy", "offload", *link, stdin=table(ROWS))
        assert answers(records) == whole
        assert {record["bytes_sent"] for record in records} == {72 + 4 * FEATURES}
        assert {record["payload"] for record in records} == {"input"}
        for policy in ("splitee", "splitee-s", "adaptive", "factored", "threshold", "patience", "discounted"):
            flags = ("--policy", policy, "--alpha", "0.9", "--seed", "3", *link)
            first = without_times(records_of(*flags, stdin=table(ROWS)))
            assert first == without_times(records_of(*flags, stdin=table(ROWS))), policy
        live = records_of("--costs", "live", *link, stdin=table(make_rows(200)))
        assert len(live) == 200


def test_states(folder):
    whole, part = os.path.join(folder, "whole"), os.path.join(folder, "part")
    flags = ("--policy", "splitee-s", "--alpha", "0.9", "--window", "1", "--seed", "4")
    expected = without_times(records_of(*flags, "--state", whole, stdin=table(ROWS)))
    found = records_of(*flags, "--state", part, stdin=table(ROWS[:15]))
    found += records_of(*flags, "--state", part, stdin=table(ROWS[15:]))
    for record, wanted in zip(without_times(found), expected):
        assert record | {"id": 0} == wanted | {"id": 0}
    assert read(whole) == read(part)


def test_other_model_refused(folder):
    with Server(model=OTHER_MODEL) as server:
        result = edge("--server", server.endpoint, "--policy", "offload", stdin=table(ROWS[:3]))
        assert {record["route"] for record in result.records} == {"fallback"}
        assert "wrong model" in result.err or "another model" in result.err or "model" in result.err, result


def test_commands(folder):
    info = json.loads(tool("inspect", MODEL, "--json").out)
    assert (info["layers"], info["exits"], info["classes"]) == (len(WIDTHS), list(EXITS), 2)
    assert info["features"] == FEATURES and info["metadata"]["general.architecture"] == '"splitee-numbers"'
    costs = os.path.join(folder, "costs.json")
    profile = json.loads(tool("profile", "--model", MODEL, "--repeats", "5", "--json", "--output", costs).out)
    assert len(profile["layers_us"]) == len(WIDTHS) and profile["seq"] == 1
    assert records_of("--costs", costs, stdin=table(ROWS[:3]))
    rows = make_rows(240, seed=5)
    truth = reference(rows, checkpoint(1))[:, -1].argmax(axis=1)
    data = write(folder, "rows.csv", table(rows, labels=[LABELS[k] for k in truth]))
    trace = os.path.join(folder, "trace.csv")
    tool("trace", "--model", MODEL, "--input", data, "--output", trace)
    replay = json.loads(tool("replay", "--trace", trace, "--policy", "splitee", "--alpha", "0.9", "--runs", "2",
                             "--json").out)  # fmt: skip
    assert replay["samples"] == len(rows) and replay["final_accuracy"] > 0.99
    calibrated = os.path.join(folder, "calibrated.gguf")
    report = json.loads(tool("calibrate", "--model", MODEL, "--input", data, "--output", calibrated, "--max-loss", "0.2",
                             "--json").out)  # fmt: skip
    assert len(report["exits"]) == len(EXITS)
    assert json.loads(tool("inspect", calibrated, "--json").out)["alpha"] > 0
    compared = json.loads(tool("compare", MODEL, calibrated, "--input", data, "--json").out)
    assert len(compared["exits"]) == len(EXITS)
    with Server() as server:
        for layer in ("0", "2"):
            load = json.loads(tool("load", "--model", MODEL, "--server", server.endpoint, "--rate", "50", "--seconds",
                                   "0.5", "--warm-up", "0", "--layer", layer, "--deadline-ms", "60000", "--json").out)  # fmt: skip
            assert load[0]["good"] > 0


def labelled_table(count, seed, mark=","):
    """Three classes of three numbers in columns of different scales; and the classes."""
    rng = np.random.default_rng(seed)
    x, y, z = rng.normal(0, 2, (3, count))
    names = [["low", "mid", "high"][int(a * b > 0) + int(a * a + b * b + c * c > 9)] for a, b, c in zip(x, y, z)]
    rows = [mark.join((f"{a:.4f}", f"{100 * b + 7:.3f}", name, f"{c:.4f}")) for a, b, name, c in zip(x, y, names, z)]
    return "\n".join([mark.join(("x", "y", "label", "z")), *rows, ""]), names


def train(*flags, status=0):
    done = subprocess.run([sys.executable, TRAINER, "numbers", *map(str, flags)], capture_output=True, text=True,
                          timeout=TIMEOUT_S, check=False)  # fmt: skip
    assert done.returncode == status and "Traceback" not in done.stderr, done.stderr
    return done.stderr


def test_trained(folder):
    """From a table to answers, with the trainer, the converter and the edge; deeper exits know more."""
    if importlib.util.find_spec("torch") is None:
        return print("  skipped: PyTorch is not installed")
    data, made, model = (os.path.join(folder, name) for name in ("train.csv", "made", "made.gguf"))
    write(folder, "train.csv", labelled_table(4000, 1)[0])
    flags = ("--train", data, "--work", os.path.join(folder, "work"), "--output", made, "--cores", 1,
             "--widths", "32,32,32,24", "--exits", "1,2,4", "--precision", "fp32")  # fmt: skip
    train(*flags, "--steps", 1200)
    subprocess.run([sys.executable, CONVERTER, made, "--output", model], check=True, capture_output=True)
    stream, names = labelled_table(800, 2, "\t")
    records = records_of("--policy", "final", "--exits", *NUMBERS, stdin=stream, model=model)
    known = json.loads(tool("inspect", model, "--json").out)["labels"]
    right = [np.mean([known[int(np.argmax(record["exits"][exit]["probabilities"]))] == name
                      for record, name in zip(records, names)]) for exit in range(3)]  # fmt: skip
    assert right[2] > 0.9 and right[0] + 0.05 < right[2] and right[0] < right[1] + 0.02, right
    # Done is done: the same command has nothing left to do, and other options are refused.
    assert "resumed from" in train(*flags, "--steps", 1200)
    assert "other --lr" in train(*flags, "--steps", 1200, "--lr", 1, status=1)


def test_tables_that_cannot_be_trained_on(folder):
    if importlib.util.find_spec("torch") is None:
        return print("  skipped: PyTorch is not installed")
    for number, (text, *words) in enumerate((
        ("a,b\n1,2\n", ":1:", "label"), ("a,label,a\n1,x,2\n", "'a' comes twice"), ("label\nx\n", "no column but"),
        ("a,label\n1,x\n2\n", ":3:", "1 fields"), ("a,label\none,x\n", ":2:", "'one' is no number"),
        ("a,label\nnan,x\n", ":2:", "not finite"), ("a,label\n1e39,x\n", "not finite"), ("a,label\n1,\n", "no label"),
        ("a,label\n", "no rows"), ("a,label\n1,x\n2,x\n", "one class only"), ("a,label\n1,x\n1,y\n", "too few different rows"),
    )):  # fmt: skip
        path = write(folder, f"t{number}.csv", text)
        error = train("--train", path, "--work", folder, "--output", os.path.join(folder, "o"), "--steps", 1, status=1)
        assert all(word in error for word in (path, *words)), (error, words)
    path = write(folder, "good.csv", labelled_table(50, 1)[0])
    for flags, word in ((("--widths", "8,x"), "--widths"), (("--exits", "1,2"), "--exits"), (("--hold-back", 0), "--hold-back")):
        error = train("--train", path, "--work", folder, "--output", os.path.join(folder, "o"), "--steps", 1, *flags, status=1)
        assert word in error, error


def test_converter_refuses(folder):
    def problem(change=None, **more):
        write_checkpoint(folder, 1, **more)
        if change:
            change()
        done = subprocess.run([sys.executable, CONVERTER, folder, "--output", os.path.join(folder, "m.gguf")],
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 1 and not os.path.exists(os.path.join(folder, "m.gguf")), done
        return done.stderr

    assert "activation" in problem(activation="tanh")
    assert "labels has 1 entries" in problem(labels=["one"])
    assert "residual has 2 entries for 4 blocks" in problem(residual=[True, False])
    assert "block 1 has another size" in problem(residual=[True, False, False, False])
    assert "columns has 1 entries for 6 numbers" in problem(columns=["a"])
    assert "key colour is not known" in problem(colour="red")
    assert "not a temperature" in problem(temperatures=[0, 1, 1, 1])
    assert "expected (3, 24)" in problem(labels=["a", "b", "c"])
    assert "network.json" in problem(lambda: os.unlink(os.path.join(folder, "network.json")))


if __name__ == "__main__":
    main(globals())
