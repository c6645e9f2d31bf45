#!/usr/bin/env python3
"""The offline tool: inspect, profile, trace, replay."""

import csv
import io
import json
import os
import sys

import numpy as np

from binaries import (LAYERS, MODEL, OTHER_MODEL, TOOL, edge, lines, main, make_texts, read, records_of, run,
                      write)  # fmt: skip

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "tools", "python"))
from gguf_reader import GgufFile  # noqa: E402

TEXTS = make_texts(60)
HEADER = "label," + ",".join(f"pred_{i},conf_{i}" for i in range(1, LAYERS + 1)) + "\n"


def tool(*flags, stdin="", status=0):
    return run(TOOL, *flags, stdin=stdin, status=status)


def labelled(folder, count=len(TEXTS)):
    rows = (f"{text}\t{i % 2 if i % 5 else ''}\n" for i, text in enumerate(TEXTS[:count]))
    return write(folder, "in.tsv", "text\tlabel\n" + "".join(rows))


def trace(folder, name, *flags, status=0):
    path = os.path.join(folder, name)
    flags = ("--model", MODEL, "--input-format", "tsv", "--output", path, *flags)
    tool("trace", "--input", os.path.join(folder, "in.tsv"), *flags, status=status)
    return path


def replay(path, *flags):
    flags = ("--alpha", "0.8", "--lambda", "0.1", "--offload-cost", "0.2", *flags)
    return json.loads(tool("replay", "--trace", path, "--json", *flags).out)


def test_inspect(folder):
    info = json.loads(tool("inspect", MODEL, "--json").out)
    assert info["layers"] == LAYERS and info["exits"] == [1, 2, 3, 4]
    assert (info["hidden"], info["heads"], info["ffn"], info["max_tokens"]) == (24, 4, 40, 48)
    assert info["labels"] == ["negative", "positive"] and info["classes"] == 2
    assert info["dtype"] == "f32" and info["file_bytes"] == os.path.getsize(MODEL)
    assert info["metadata"]["general.architecture"] == '"bert"'
    assert sum(tensor["bytes"] for tensor in info["tensors"]) == 4 * info["parameters"]
    text = tool("inspect", MODEL).out
    assert info["hash"] in text and "token_embd.weight" in text
    tool("inspect", write(folder, "bad.gguf", b"GGUF"), status=1).expect(1, "bad.gguf")
    tool("inspect", "/no/such", status=1).expect(1, "/no/such")


def test_usage(_):
    for flags, word in (((), "subcommand"), (("what",), "no command 'what'"), (("inspect",), "model"),
                        (("profile",), "--model"), (("inspect", "m", "--what"), "--what"),
                        (("replay",), "--trace"), (("keygen",), "--output"),
                        (("keygen", "--output", ""), "--output")):  # fmt: skip
        tool(*flags, status=None).expect(2, word)
    for prefix in ("", "/tmp/"):
        tool("keygen", "--output", prefix, status=None).expect(2, "name")
    for command in ("inspect", "profile", "trace", "replay", "keygen"):
        assert "Usage" in tool(command, "--help").out
    assert tool("--version").out.startswith("splitee ")


def test_inputs_are_not_overwritten(folder):
    labelled(folder)
    model = write(folder, "model.gguf", read(MODEL))
    path, sentences = trace(folder, "t.csv"), os.path.join(folder, "in.tsv")
    kept = {name: read(name) for name in (model, path, sentences)}
    for output, flags in (
        (model, ("trace", "--model", model, "--input", sentences, "--output", model)),
        (sentences, ("trace", "--model", model, "--input", sentences, "--output", sentences)),
        (model, ("profile", "--model", model, "--repeats", "1", "--output", model)),
        (sentences, ("calibrate", "--model", model, "--input", sentences, "--output", sentences)),
        (path, ("replay", "--trace", path, "--policy", "final", "--decisions", path)),
    ):
        tool(*flags, status=None).expect(1, output, "overwritten")
        assert all(read(name) == content for name, content in kept.items()), flags


def test_profile_and_costs(folder):
    path = os.path.join(folder, "costs.json")
    flags = ("profile", "--model", MODEL, "--repeats", "3")
    profile = json.loads(tool(*flags, "--seq", "9", "--json", "--output", path).out)
    assert profile == json.loads(read(path))
    assert profile["seq"] == 9 and profile["threads"] == 1 and profile["dtype"] == "f32"
    assert len(profile["layers_us"]) == len(profile["exits_us"]) == LAYERS
    times = [profile["embedding_us"], profile["total_us"], *profile["layers_us"], *profile["exits_us"]]
    assert all(time > 0 for time in times)
    assert "48 tokens" in tool(*flags).out  # the model's maximum is below the default
    tool(*flags, "--seq", "49", status=None).expect(2, "48")
    tool(*flags, "--output", folder, status=None).expect(1, folder)

    # Known times: a layer takes 3 parts of lambda, an exit 1.
    costs = profile | {"layers_us": [20, 40, 30, 30], "exits_us": [10, 10, 15, 5]}
    known = write(folder, "known.json", json.dumps(costs))
    flags = ("--policy", "final", "--costs", known, "--lambda", "0.2")
    (record,) = records_of(*flags, stdin="ba\n")
    cost = 0.75 * LAYERS + 0.25
    assert abs(record["cost"] - cost) < 1e-6
    assert abs(record["reward"] - (record["confidence"] - 0.2 * cost)) < 1e-6
    edge("--costs", path, stdin="ba\n")
    edge("--costs", known, "--lambda1", "0.1", status=None).expect(2, "--lambda1")
    for name, change in (("zero", {"layers_us": [0], "exits_us": [0]}), ("less", {"layers_us": [-1]}),
                         ("huge", {"layers_us": [1e308, 1e308]}), ("tiny", {"layers_us": [5e-324], "exits_us": [0]}),
                         ("empty", {"exits_us": []}), ("word", {"exits_us": ["a"]}),
                         ("other", {"format": "x"}), ("newer", {"version": 2})):  # fmt: skip
        bad = write(folder, name, json.dumps(costs | change))
        edge("--costs", bad, status=None).expect(1, name, "not a cost file")
    # Another model's, where they name it.
    labelled(folder, 4)
    traced = trace(folder, "t.csv")
    for flags, status, words in ((("--model", MODEL), 0, ()), ((), 0, ()),
                                 (("--model", OTHER_MODEL), 1, (known, "another model", OTHER_MODEL))):
        tool("replay", "--trace", traced, "--runs", 1, "--costs", known, *flags, status=None).expect(status, *words)
    shallow = write(folder, "shallow.csv", "label,pred_1,conf_1\n1,1,0.9\n0,1,0.8\n")
    tool("replay", "--trace", shallow, "--costs", known, status=None).expect(1, known, "exits_us has 4", "the trace has 1")
    edge("--costs", known, stdin="ba\n", status=None, model=OTHER_MODEL).expect(1, known, "another model")
    nameless = {key: value for key, value in costs.items() if key != "model_hash"} | {"exits_us": [1]}
    edge("--costs", write(folder, "any", json.dumps(nameless)), stdin="ba\n", model=OTHER_MODEL)
    for change, words in (({"exits_us": [1]}, ("exits_us has 1 times", "has 4")),
                          ({"model_hash": 7}, ("model_hash", "not a cost file")),
                          ({"model_hash": "me"}, ("model_hash", "not a cost file"))):  # fmt: skip
        edge("--costs", write(folder, "odd", json.dumps(costs | change)), status=None).expect(1, *words)
    edge("--costs", write(folder, "no_json", "{"), status=None).expect(1, "no_json")
    edge("--costs", os.path.join(folder, "none"), status=None).expect(1, "none")


def test_trace(folder):
    labelled(folder)
    path = trace(folder, "whole.csv")
    rows = list(csv.DictReader(io.StringIO(read(path).decode())))
    assert read(path).decode().startswith(HEADER) and len(rows) == len(TEXTS)
    exits = [record["exits"] for record in records_of("--exits", stdin=lines(TEXTS))]
    for i, (row, seen) in enumerate(zip(rows, exits, strict=True)):
        assert row["label"] == (str(i % 2) if i % 5 else "")
        for exit_ in seen:
            top = max(exit_["probabilities"])
            assert float(row[f"conf_{exit_['layer']}"]) == top
            assert int(row[f"pred_{exit_['layer']}"]) == exit_["probabilities"].index(top)
    # Threads and shards make no difference.
    assert read(trace(folder, "threads.csv", "--threads", "3")) == read(path)
    for count in (1, 7):
        parts = [read(trace(folder, f"{i}.csv", "--shard", f"{i}/{count}")).decode()
                 for i in range(1, count + 1)]  # fmt: skip
        assert all(part.startswith(HEADER) for part in parts)
        assert HEADER + "".join(part[len(HEADER) :] for part in parts) == read(path).decode()
        sizes = [part.count("\n") - 1 for part in parts]
        assert max(sizes) - min(sizes) <= 1
    # Shards put together, compressed or not, replay as the whole; and zst as csv.
    cat = write(folder, "cat.csv", "".join(parts))
    packed = [trace(folder, f"{i}.csv.zst", "--shard", f"{i}/2") for i in (1, 2)]
    cat_zst = write(folder, "cat.csv.zst", b"".join(read(part) for part in packed))
    whole_zst = trace(folder, "whole.csv.zst")
    assert read(whole_zst)[:4] == b"\x28\xb5\x2f\xfd"
    results = [replay(p, "--policy", "splitee") for p in (path, cat, cat_zst, whole_zst)]
    assert all(result == results[0] for result in results)


def test_trace_of_probabilities(folder):
    labelled(folder)
    full = list(csv.DictReader(io.StringIO(read(trace(folder, "p.csv", "--probabilities")).decode())))
    short = list(csv.DictReader(io.StringIO(read(trace(folder, "c.csv")).decode())))
    assert list(full[0]) == ["label"] + [f"p_{i}_{k}" for i in range(1, LAYERS + 1) for k in (1, 2)]
    for a, b in zip(full, short, strict=True):
        assert a["label"] == b["label"]
        for i in range(1, LAYERS + 1):
            values = [a[f"p_{i}_1"], a[f"p_{i}_2"]]
            assert abs(sum(map(float, values)) - 1) < 1e-6
            assert values[int(b[f"pred_{i}"])] == b[f"conf_{i}"] == max(values, key=float)
    both = [replay(os.path.join(folder, name), "--policy", "splitee-s", "--runs", "2") for name in ("p.csv", "c.csv")]
    assert both[0] == both[1], both
    packed = trace(folder, "p.csv.zst", "--probabilities", "--threads", "2")
    assert 0 < os.path.getsize(packed) < os.path.getsize(os.path.join(folder, "p.csv"))


def features(folder, name, *flags):
    path = os.path.join(folder, name)
    tool("features", "--model", MODEL, "--input", os.path.join(folder, "in.tsv"), "--input-format",
         "tsv", "--output", path, *flags)  # fmt: skip
    return np.load(path)


def test_features(folder):
    """The pooler and classifier of every exit, applied to what is written, give its answers."""
    labelled(folder)
    first, mean = features(folder, "f.npy"), features(folder, "m.npy", "--rows", "mean")
    assert first.shape == mean.shape == (len(TEXTS), LAYERS, 24) and first.dtype == np.float32
    assert not np.allclose(first, mean, atol=0.1)
    path = trace(folder, "p.csv", "--probabilities")
    expected = np.loadtxt(path, delimiter=",", skiprows=1, usecols=range(1, 2 * LAYERS + 1))
    model = GgufFile(MODEL)
    for i in range(LAYERS):
        name = f"splitee.exit.{i + 1}."
        part = {n: model.values(name + n) for n in ("pooler.weight", "pooler.bias",
                                                    "classifier.weight", "classifier.bias")}  # fmt: skip
        pooled = np.tanh(first[:, i] @ part["pooler.weight"].T + part["pooler.bias"])
        logits = pooled @ part["classifier.weight"].T + part["classifier.bias"]
        powers = np.exp(logits - logits.max(1, keepdims=True))
        found = powers / powers.sum(1, keepdims=True)
        assert np.allclose(found, expected[:, 2 * i : 2 * i + 2], atol=1e-4)
    assert (features(folder, "t.npy", "--threads", "3") == first).all()
    tool("features", "--model", MODEL, "--output", "/no/such/f", stdin="ba\n", status=None).expect(
        1, "/no/such")  # fmt: skip


def test_trace_errors(folder):
    labelled(folder)
    for shard in ("0/2", "3/2", "1", "1/0", "a/b", "1/2x", "-1/2"):
        flags = ("trace", "--model", MODEL, "--input", os.path.join(folder, "in.tsv"))
        tool(*flags, "--output", "/dev/null", f"--shard={shard}", status=None).expect(2, "--shard")
    flags = ("trace", "--model", MODEL, "--output", os.path.join(folder, "out.csv"))
    tool(*flags, "--input", "/no/such", status=None).expect(1, "/no/such")
    tool(*flags, "--input-format", "tsv", stdin="a\nb\n", status=None).expect(1, "'text'")
    assert not os.path.exists(os.path.join(folder, "out.csv"))
    tool("trace", "--model", MODEL, "--output", "/no/such/f", stdin="ba\n", status=None).expect(1, "/no/such")


def test_no_input_is_overwritten(folder):
    source = labelled(folder)
    model = write(folder, "own.gguf", read(MODEL))
    texts = read(source)
    for command, files in (("trace", (source, model)), ("calibrate", (source,)), ("profile", (model,))):
        flags = ("--model", model) if command == "profile" else ("--model", model, "--input", source)
        for path in files:
            tool(command, *flags, "--output", path, status=None).expect(1, path, "is an input")
    assert read(source) == texts and read(model) == read(MODEL)


def test_outputs_are_checked_before_the_work(folder):
    """The samples are a pipe that never ends: whoever reads it first is still waiting for it."""
    source = labelled(folder)
    path = trace(folder, "t.csv")
    forever = os.path.join(folder, "forever")
    os.mkfifo(forever)
    writer = os.open(forever, os.O_RDWR)
    for output, code, word in (("/no/such/f", 1, "/no/such/f: cannot create: No such file"),
                               (folder, 1, "not a regular file"), ("-", 2, "not to standard output")):  # fmt: skip
        for command in ("trace", "calibrate"):
            tool(command, "--model", MODEL, "--input", forever, "--output", output, status=None).expect(code, word)
        tool("profile", "--model", MODEL, "--repeats", "1000000", "--output", output, status=None).expect(code, word)
        tool("replay", "--trace", path, "--runs", "1000000", "--plot", output, status=None).expect(code, word)
    os.close(writer)
    tool("replay", "--trace", path, "--decisions", "/no/such/f", status=None).expect(1, "No such file")
    for flags in (("--decisions", f"{folder}/new", "--plot", f"{folder}/./new"), ("--decisions", source, "--plot", source)):
        tool("replay", "--trace", path, *flags, status=None).expect(1, "written twice")
    assert not os.path.exists(os.path.join(folder, "new"))


def test_replay(folder):
    labelled(folder)
    path = trace(folder, "t.csv")
    rows = list(csv.DictReader(io.StringIO(read(path).decode())))
    final = replay(path, "--policy", "final", "--order", "file")
    known = [row for row in rows if row["label"]]
    accuracy = sum(row["label"] == row["pred_4"] for row in known) / len(known)
    assert abs(final["accuracy"]["mean"] - accuracy) < 1e-9
    assert final["cost"] == {"mean": LAYERS, "ci95": 0} and final["cost_reduction"] == 0
    assert final["samples"] == len(rows) and final["runs"] == 1

    # Fixed split 2, worked out from the trace: exit where sure, else two layers and an offload.
    decisions = os.path.join(folder, "decisions.csv")
    flags = ("--policy", "fixed", "--split", "2", "--order", "file", "--decisions", decisions)
    fixed = replay(path, *flags)
    text = read(decisions).decode()
    assert text.startswith("run,t,arm,route,reward,cost\n")
    made = list(csv.DictReader(io.StringIO(text)))
    for t, (row, decision) in enumerate(zip(rows, made, strict=True)):
        sure = float(row["conf_2"]) >= 0.8
        cost = 2 if sure else 4
        confidence = float(row["conf_2"] if sure else row["conf_4"])
        assert decision["run"] == "0" and decision["t"] == str(t) and decision["arm"] == "2"
        assert decision["route"] == ("exit" if sure else "offload")
        assert abs(float(decision["cost"]) - cost) < 1e-6
        assert abs(float(decision["reward"]) - (confidence - 0.1 * cost)) < 1e-6
    mean = sum(float(decision["cost"]) for decision in made) / len(made)
    assert abs(fixed["cost"]["mean"] - mean) < 1e-9
    offloads = sum(decision["route"] == "offload" for decision in made)
    assert abs(fixed["offload_rate"] - offloads / len(made)) < 1e-9

    for policy in ("splitee", "splitee-s", "random", "threshold"):
        flags = ("--policy", policy, "--runs", "3", "--seed", "4")
        result = replay(path, *flags)
        assert result == replay(path, *flags)
        if policy != "threshold":
            assert result["regret"] != replay(path, *flags[:-1], "5")["regret"], policy
        assert result["policy"] == policy and result["runs"] == 3
        assert 1 <= result["best_arm"] <= LAYERS
        assert result["regret"][-1]["t"] == len(rows)
        assert set(result["regret"][0]) == {"t", "mean", "ci95"}
    paper = replay(path, "--policy", "splitee", "--semantics", "paper", "--order", "file")
    assert paper["samples"] == len(rows)
    assert "cost reduction" in tool("replay", "--trace", path, "--policy", "splitee").out


def test_smallest_costs(folder):
    """Numbers too small for a normal double are numbers."""
    labelled(folder, 4)
    path = trace(folder, "small.csv")
    for flags in (("--offload-cost", "1e-320"), ("--mu", "1e-320"), ("--change", "2", "1e-320")):
        tool("replay", "--trace", path, "--runs", 1, *flags)


def test_replay_errors(folder):
    good = HEADER + "1" + ",0,0.9" * LAYERS + "\n"
    path = write(folder, "t.csv", good)
    flags = ("replay", "--policy", "final", "--trace")
    tool(*flags, path)
    for name, content in (("a.csv", ""), ("b.csv", "x,y\n"), ("c.csv", good + "1,0\n"),
                          ("d.csv", HEADER), ("e.csv.zst", good), ("f.csv", good + "1" + ",0,1.5" * 4)):  # fmt: skip
        tool(*flags, write(folder, name, content), status=None).expect(1, name)
    tool(*flags, "/no/such", status=None).expect(1, "/no/such")
    tool(*flags, folder, status=None).expect(1, folder)
    labelled(folder)
    whole = read(trace(folder, "w.csv.zst"))
    cut = write(folder, "cut.csv.zst", whole[: len(whole) // 2])
    tool(*flags, cut, status=None).expect(1, "cut.csv.zst")
    for more, word in ((("--policy", "best"), "best"), (("--alpha", "2"), "2"), (("--runs", "0"), "0"),
                       (("--order", "up"), "up"), (("--semantics", "mine"), "mine"),
                       (("--policy", "fixed"), "--split"), (("--lambda", "nan"), "nan"),
                       (("--lambda", "1e-320"), "1e-320"), (("--offload-cost", "1e308"), "1e308"),
                       (("--change", "1", "1e308"), "1e308"), (("--seed", "-1"), "-1"),
                       (("--policy", "threshold-published"), "--semantics paper"),
                       (("--layers", "1,2"), "4 exits")):  # fmt: skip
        policy = () if "--policy" in more else ("--policy", "final")
        tool("replay", "--trace", path, *policy, *more, status=None).expect(2, word)


if __name__ == "__main__":
    main(globals())
