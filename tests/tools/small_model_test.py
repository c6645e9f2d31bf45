#!/usr/bin/env python3
"""Tests models/thin, models/make_small and models/make end to end on a tiny random model: small_model_test.py SPLITEE MODEL.gguf
Exits with 77 without PyTorch."""

import importlib.machinery
import importlib.util
import json
import os
import random
import subprocess
import sys

try:
    import numpy as np
    import torch  # noqa: F401
except ImportError:
    print("SKIP: PyTorch is not installed")
    sys.exit(77)

MODELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "models")
sys.path[:0] = [MODELS, os.path.join(MODELS, "..", "tools", "training")]
import making  # noqa: E402
import teaching  # noqa: E402
from run_tests import run_tests  # noqa: E402
from train_lib import backbone, data, folder, metrics  # noqa: E402

SPLITEE, MODEL = map(os.path.abspath, sys.argv[1:3])
SYLLABLES = [f"{a}{b}" for a in "bdfgklmnprst" for b in "aeiou"]
THIN = ["--layers", "2", "--ffn", "24", "--vocab", "90", "--positions", "32", "--rows", "40"]


def load(name):
    loader = importlib.machinery.SourceFileLoader(name, os.path.join(MODELS, name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


make, make_small = load("make"), load("make_small")


def words(rng, count):
    return " ".join("".join(rng.choices(SYLLABLES, k=rng.choice((1, 1, 2)))) for _ in range(count))


def write_data(place):
    rng = random.Random(5)
    for name, rows, length in (("sst2_train", 120, 20), ("sst2_dev", 4, 9), ("sst2_test", 4, 9), ("imdb_train_200w", 200, 30),
                               ("yelp_sent_dev", 200, 8), ("subj_all", 220, 12)):  # fmt: skip
        making.write(os.path.join(place, name + ".tsv"), [(words(rng, length), i % 2) for i in range(rows)])
    reviews = [". ".join(words(rng, rng.randrange(3, 9)) for _ in range(6)) + "." for _ in range(30)]
    with open(os.path.join(place, "imdb_unsup_full.tsv"), "w", encoding="ascii") as file:
        file.write("text\tlabel\n" + "".join(review + "\t-1\n" for review in reviews))


def test_passages(_):
    reviews = ["One two three. Four five six! Seven eight nine? Ten.", "no end of a sentence here", "a b"]
    found = teaching.passages(reviews, 30, 3)
    assert found == teaching.passages(reviews, 30, 3) != teaching.passages(reviews, 30, 4)
    assert "no end of a sentence here" in found and "a b" not in found
    for text in found:
        assert any(text in review for review in reviews), text
        assert text[0] in "OFSn" and text[-1] in ".!?e", text


def test_thinned_model(folder_of_test):
    """What is kept is what the whole network computes; the shape and the vocabulary are as asked for."""
    os.chdir(folder_of_test)
    rng = random.Random(2)
    making.write("texts.tsv", [(words(rng, 12) + " .", i % 2) for i in range(60)])
    start = backbone.open_backbone(MODEL)
    backbone.write_folder(start, "whole", ["a", "b"])
    thin = [sys.executable, os.path.join(MODELS, "thin"), MODEL]
    whole_size = str(start.sizes["intermediate_size"])
    for name, flags in (("same", ["--layers", "2", "--ffn", whole_size, "--vocab", "999", "--positions", "48"]),
                        ("thin", THIN)):  # fmt: skip
        subprocess.run([*thin, name, "texts.tsv", *flags], check=True, stderr=subprocess.DEVNULL)
    whole, tokenizer, _ = folder.load_folder("whole")
    examples = data.Examples.load(".", "texts.tsv", tokenizer)
    whole.eval()
    batch = metrics.batch_tensors(examples, list(range(8)), 40)[:3]
    with torch.no_grad():
        wanted = whole.hidden_states(*batch)
        same, kept, _ = folder.load_folder("same")
        assert kept.tokens == tokenizer.tokens
        for state, own in zip(wanted, same.eval().hidden_states(*batch)):
            assert float((state - own).abs().max()) < 1e-2 * float(state.abs().max())
    small, kept, _ = folder.load_folder("thin")
    shape = small.shape
    assert (shape.num_hidden_layers, shape.intermediate_size, shape.max_position_embeddings) == (2, 24, 32), shape
    assert len(kept.tokens) == 90 and set(kept.tokens) < set(tokenizer.tokens)
    used = np.bincount([piece for text, _, _ in data.read_tsv("texts.tsv", True) for piece in tokenizer.encode(text)],
                       minlength=len(tokenizer.tokens))  # fmt: skip
    assert {tokenizer.tokens[i] for i in np.argsort(-used)[:40]} < set(kept.tokens)


def make_smaller():
    """Few rows of everything."""
    making.KEPT_IMDB = making.KEPT_YELP = 170
    making.KEPT_SST2, making.CALIBRATE_IMDB, making.CALIBRATE_YELP = 40, 60, 60
    making.PRIOR_ROWS, making.CONTRASTS, making.SENTENCE_WORDS = 100, 40, 10
    for module in (make, make_small):
        module.PASSAGES, module.REVIEWS = 40, 10
    for options in (make.FIRST_OPTIONS, make.OPTIONS, make_small.OPTIONS):
        options |= {"batch-tokens": 256, "warmup": 2}


def layers_and_exits(path):
    shown = json.loads(subprocess.run([SPLITEE, "inspect", path, "--json"], capture_output=True, check=True).stdout)
    return shown["layers"], shown["exits"]


def test_default_model_end_to_end(folder_of_test):
    os.chdir(folder_of_test)
    make_smaller()
    write_data(".")
    sys.argv = ["make", ".", MODEL, "work", "--output", "default.gguf", "--steps", "3",
                "--build", os.path.dirname(os.path.dirname(SPLITEE))]  # fmt: skip
    make.main()
    first = os.stat("work/first.gguf")
    make.main()  # goes on from what is there
    assert os.stat("work/first.gguf").st_mtime_ns == first.st_mtime_ns
    assert layers_and_exits("default.gguf") == layers_and_exits("work/first.gguf")
    taught = data.read_taught_tsv("work/second/taught_passages.tsv", True)
    assert all(abs(sum(row[3]) - 1) < 1e-3 for row in taught)


def test_small_model_end_to_end(folder_of_test):
    os.chdir(folder_of_test)
    make_smaller()
    write_data(".")
    command = ["make_small", ".", MODEL, "work", "--output", "small.gguf", "--steps", "3", "--thin", " ".join(THIN),
               "--build", os.path.dirname(os.path.dirname(SPLITEE))]  # fmt: skip
    for _ in range(2):  # the second call goes on from what is there
        sys.argv = command
        make_small.main()
    taught = data.Examples.load("work", "work/taught_passages.tsv", folder.load_folder("work/start")[1])
    assert taught.teacher.shape[1] == 2 and np.abs(taught.teacher.sum(1) - 1).max() < 1e-3
    assert (taught.teacher.argmax(1) == taught.labels).all()
    sst2 = [(row[2], row[3]) for row in data.read_taught_tsv("work/taught_sst2.tsv", True)]
    assert {label for label, _ in sst2} == {0, 1}
    trace = subprocess.run([SPLITEE, "trace", "--model", MODEL, "--input", "work/train_sst2.tsv", "--input-format", "tsv",
                            "--probabilities", "--output", "t.csv"], capture_output=True, check=False)  # fmt: skip
    assert trace.returncode == 0, trace.stderr
    with open("t.csv", encoding="ascii") as file:
        rows = [line.rstrip("\n").split(",") for line in file][1:]
    assert len(rows) == len(sst2)
    for row, (_, teacher) in zip(rows, sst2):
        assert abs(float(row[-1]) - teacher[1]) < 1e-4
    shown = json.loads(subprocess.run([SPLITEE, "inspect", "small.gguf", "--json"], capture_output=True, check=True).stdout)
    assert json.dumps(shown).count("i8") and os.path.getsize("small.gguf") < os.path.getsize(MODEL) * 4


if __name__ == "__main__":
    run_tests(globals())
