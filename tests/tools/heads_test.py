#!/usr/bin/env python3
"""Networks whose answers are no classes (a value, labels that do not exclude each other), networks
without a second token type, and --max-tokens."""

import json
import math
import os
import subprocess
import sys

from binaries import TOOL, edge, main, run, write

try:
    import numpy as np
except ImportError:
    print("skipped: no numpy")
    sys.exit(77)
from convert_data import FFN, HEADS, HIDDEN, LAYERS, POSITIONS, VOCAB, random_tensors, safetensors_bytes

CONVERTER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "convert_hf.py")
TEXTS = ["good", "bad good", "good bad bad é", "", "gooding bad"]


def model(root, classes, types=2, **config):
    """A converted random BERT with one exit."""
    folder = os.path.join(root, f"folder{len(os.listdir(root))}")
    os.mkdir(folder)
    tensors = random_tensors("bert")
    rng = np.random.default_rng(classes)
    tensors["classifier.weight"] = rng.normal(0, 2, (classes, HIDDEN)).astype(np.float32)
    tensors["classifier.bias"] = rng.normal(0, 1, classes).astype(np.float32)
    name = "bert.embeddings.token_type_embeddings.weight"
    tensors[name] = tensors[name][:types]
    sizes = {"num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "num_attention_heads": HEADS,
             "intermediate_size": FFN, "max_position_embeddings": POSITIONS, "type_vocab_size": types,
             "vocab_size": len(VOCAB)}  # fmt: skip
    write(folder, "config.json", json.dumps(sizes | config))
    write(folder, "vocab.txt", "".join(token + "\n" for token in VOCAB))
    write(folder, "tokenizer_config.json", '{"do_lower_case": false}')
    write(folder, "model.safetensors", safetensors_bytes(tensors))
    path = os.path.join(folder, "m.gguf")
    subprocess.run([sys.executable, CONVERTER, folder, "--output", path], check=True, capture_output=True)
    return path


def records(path, *flags, stdin="".join(text + "\n" for text in TEXTS)):
    return edge("--quiet", *flags, stdin=stdin, model=path).records


def expect_no_confidence(folder, path, what):
    """Policies and tools that need a confidence refuse the model."""
    for policy in ("adaptive", "splitee", "threshold", "random", "fixed"):
        flags = ("--policy", policy) + (("--split", "3") if policy == "fixed" else ())
        edge(*flags, model=path, status=None).expect(1, path, what, "confidence", policy)
    out = os.path.join(folder, "out")
    run(TOOL, "trace", "--model", path, "--output", out, stdin="good\n", status=None).expect(1, path, what)
    rows = "text\tlabel\n" + "good\t0\n" * 200
    run(TOOL, "calibrate", "--model", path, "--output", out, stdin=rows, status=None).expect(1, path, what)
    assert not os.path.exists(out)
    same = json.loads(run(TOOL, "compare", path, path, "--json", stdin="good\nbad\n").out)
    assert same["exits"][0]["probability_change"]["max"] == 0


def test_a_value(folder):
    path = model(folder, 1)
    rows = records(path, "--exits")
    assert len(rows) == len(TEXTS) and len({row["value"] for row in rows}) > 2
    for row in rows:
        assert row["value"] == row["exits"][0]["probabilities"][0]
        assert (row["exit_layer"], row["route"]) == (LAYERS, "final")
        assert not {"class", "label", "labels", "confidence", "reward"} & set(row)
    assert any(not 0 <= row["value"] <= 1 for row in rows)
    assert [row["value"] for row in records(path, "--policy", "final")] == [row["value"] for row in rows]
    # What is measured is no class.
    given = "text\tlabel\n" + "".join(f"{text}\t{number - 0.5}\n" for number, text in enumerate(TEXTS))
    labelled = records(path, "--input-format", "tsv", stdin=given)
    assert [row["value"] for row in labelled] == [row["value"] for row in rows]
    assert "truth" not in labelled[0]
    expect_no_confidence(folder, path, "a value")


def test_labels(folder):
    names = ["toxic", 'a "b"', "é"]
    path = model(folder, 3, problem_type="multi_label_classification", id2label=dict(enumerate(names)))
    plain = model(folder, 3, id2label=dict(enumerate(names)))
    for row, softmax in zip(records(path, "--exits"), records(plain, "--exits"), strict=True):
        assert list(row["labels"]) == names and not {"class", "label", "value", "confidence"} & set(row)
        assert list(row["labels"].values()) == row["exits"][0]["probabilities"]
        # Of the same results one is the softmax, the other each one's sigmoid.
        odds = [math.exp(math.log(p / (1 - p))) for p in row["labels"].values()]
        expected = [odd / sum(odds) for odd in odds]
        assert all(abs(a - b) < 1e-4 for a, b in zip(expected, softmax["exits"][0]["probabilities"], strict=True))
    assert abs(sum(row["labels"].values()) - 1) > 1e-3
    expect_no_confidence(folder, path, "several labels")


def test_one_token_type(folder):
    path = model(folder, 2, types=1)
    pairs = write(folder, "pairs.tsv", "text\ttext2\tlabel\n" + "good\tbad\t1\n" * 200)
    out = os.path.join(folder, "out")
    flags = ("--input-format", "tsv", "--input", pairs)
    words = ("pairs.tsv", "line 1", "text2", "no second text")
    result = edge(*flags, model=path, status=None).expect(1, *words)
    assert result.out == ""
    run(TOOL, "trace", "--model", path, *flags, "--output", out, status=None).expect(1, *words)
    run(TOOL, "calibrate", "--model", path, *flags, "--output", out, status=None).expect(1, *words)
    run(TOOL, "compare", path, path, *flags, status=None).expect(1, *words)
    run(TOOL, "tokenize", "--model", path, *flags, status=None).expect(1, *words)
    assert len(records(path)) == len(TEXTS)
    assert len(records(model(folder, 2), *flags, stdin="")) == 200


def test_max_tokens(folder):
    path = model(folder, 2)
    long = "good bad bad good bad\n"
    answer = lambda text, *flags: records(path, "--exits", *flags, stdin=text)[0]["exits"]  # noqa: E731
    assert answer(long, "--max-tokens", 4) == answer("good bad\n") != answer(long)
    assert answer(long, "--max-tokens", 3) == answer("good\n")
    assert answer(long, "--max-tokens", 10**6) == answer(long)
    for bad in ("2", "x", "-1"):
        edge("--max-tokens", bad, model=path, status=None).expect(2, "--max-tokens")


if __name__ == "__main__":
    main(globals())
