#!/usr/bin/env python3
"""`splitee fit` from a table to a model, on a tiny backbone. Exits with 77 without PyTorch.

Arguments: TOOL TRAINING_FOLDER CONVERTER MODEL.gguf (a small random model of 4 layers) [test names].
No test measures time: TIMEOUT_S is there so that a hang ends as a failure."""

import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

try:
    import torch  # noqa: F401
except ImportError:
    print("SKIP: PyTorch is not installed")
    sys.exit(77)
import numpy as np

TOOL, TRAINING, CONVERTER, MODEL = map(os.path.abspath, sys.argv[1:5])
sys.path.insert(0, TRAINING)
from train_lib import backbone, splits, table  # noqa: E402
from train_lib.tensors import write_safetensors  # noqa: E402
import gguf_reader  # noqa: E402
import gguf_writer as gguf  # noqa: E402

TIMEOUT_S = 600
LAYERS = 4
GOOD, BAD = ["ba", "ko", "mi"], ["du", "fe", "gi"]
ENVIRONMENT = os.environ | {"PYTHON": sys.executable, "SPLITEE_TRAINING": TRAINING}


def start(*arguments, environment=ENVIRONMENT):
    return subprocess.Popen([TOOL, *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=environment)


def run(*arguments, status=0, environment=ENVIRONMENT):
    process = start(*arguments, environment=environment)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == status, f"{arguments}: {process.returncode}\n{out}\n{err[-3000:]}"
    return out, err


def fit(data, output, *flags, status=0):
    usual = {"--backbone": MODEL, "--threads": 2, "--steps": 60}
    usual |= dict(zip(flags[::2], flags[1::2]))
    return run("fit", data, "--output", output, *(x for pair in usual.items() for x in pair),
               status=status)


def write(name, rows, header="text\tlabel"):
    with open(name, "w", encoding="utf-8") as file:
        file.write(header + "\n" + "".join("\t".join(map(str, row)) + "\n" for row in rows))
    return name


def sentence(rng, mark, length=9):
    words = [rng.choice("klmnprst") + rng.choice("aeiou") for _ in range(rng.randint(5, length))]
    words.insert(rng.randrange(len(words)), mark)
    return " ".join(words)


def two_classes(count=1300, seed=1):
    rng = random.Random(seed)
    return [(sentence(rng, rng.choice(BAD if i % 2 else GOOD)), "no" if i % 2 else "yes")
            for i in range(count)]


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def trace(model, rows, name="trace.csv"):
    run("trace", "--model", model, "--input", rows, "--input-format", "tsv", "--output", name,
        "--probabilities")
    with open(name, encoding="ascii") as file:
        header = file.readline().strip().split(",")
        cells = [line.strip().split(",") for line in file]
    return header, cells


def test_from_table_to_model():
    data = write("two.tsv", two_classes())
    out, err = fit(data, "two.gguf", "--report", "report", "--dtype", "f32")
    assert "130 to calibrate, 130 held out" in err and "calibration error" in out
    assert not os.path.exists("two.gguf.fit")
    file = gguf_reader.GgufFile("two.gguf")
    keys = file.keys
    assert keys["splitee.labels"] == ["no", "yes"]
    assert keys["splitee.training_sets"] == ["two"] and len(keys["splitee.training_sketch"]) == 1024
    assert len(keys["splitee.exit_temperatures"]) == len(keys["splitee.exit_alphas"]) == LAYERS
    assert len(keys["splitee.prior.labels"]) == 130
    assert len(keys["splitee.prior.predictions"]) == len(keys["splitee.prior.confidences"]) == 4 * 130
    assert 1.0 not in keys["splitee.exit_temperatures"]

    # What the report says is what the file answers on the rows that were held out.
    report = read_json("report/report.json")
    t = table.read_table(data)
    sides = splits.split(t.texts, None, t.labels, 2, 1)
    held_out = np.flatnonzero(sides == splits.HELD_OUT)
    table.write_rows("held.tsv", t, held_out)
    header, cells = trace("two.gguf", "held.tsv")
    assert header == ["label"] + [f"p_{i}_{k}" for i in range(1, 5) for k in (1, 2)]
    values = np.array(cells, np.float64)
    labels, values = values[:, 0].astype(int), values[:, 1:].reshape(130, 4, 2)
    assert np.allclose(values.sum(-1), 1, atol=1e-5)
    for i, entry in enumerate(report["exits"]):
        assert entry["layer"] == i + 1
        assert abs(entry["accuracy"] - (values[:, i].argmax(-1) == labels).mean()) < 1e-9
        assert abs(entry["confidence"] - values[:, i].max(-1).mean()) < 1e-5
        assert abs(entry["temperature"] - keys["splitee.exit_temperatures"][i]) < 1e-6
    priors = collections.Counter(zip(keys["splitee.prior.labels"],
                                     keys["splitee.prior.predictions"][3::4]))
    assert priors == collections.Counter(zip(labels, values[:, 3].argmax(-1)))
    assert report["samples"] == {"train": 1040, "calibration": 130, "held_out": 130, "aside": 0}
    page = open("report/report.html", encoding="utf-8").read()
    assert page.count("<svg") == 2 + 2 * LAYERS

    # The same again gives the same weights, and a backbone that has seen the texts is told.
    out, err = fit(data, "again.gguf", "--dtype", "f32")
    again = gguf_reader.GgufFile("again.gguf")
    assert all((file.values(name) == again.values(name)).all() for name in file.tensors)
    _, err = fit(data, "third.gguf", "--backbone", "two.gguf", "--steps", 2)
    assert "the backbone was trained on about 8" in err or "about 7" in err, err
    _, err = fit(write("other.tsv", two_classes(300, seed=2)), "third.gguf", "--steps", 2)
    assert "was trained on" not in err and "too few to calibrate" in err


def test_learns():
    """With the steps for it, the marks are found, and a format is chosen by measuring."""
    data = write("learn.tsv", two_classes(1500, seed=5))
    fit(data, "learn.gguf", "--report", "learned", "--steps", 700)
    report = read_json("learned/report.json")
    assert report["exits"][-1]["accuracy"] > 0.65, report["exits"]  # half is chance
    assert set(report["formats"]) == {"f32", "bf16", "i8"}
    assert report["formats"]["f32"]["agreement"] == [1.0] * LAYERS
    chosen = report["formats"][report["dtype"]]
    assert min(chosen["agreement"]) >= 0.98
    sizes = [report["formats"][name]["bytes"] for name in ("i8", "bf16", "f32")]
    assert sizes == sorted(sizes)


def test_pairs_rare_classes_and_empty_texts():
    rng = random.Random(3)
    rows = []
    for i in range(420):
        kind = ("same", "other", "far")[0 if i % 10 < 7 else 1 + i % 2]
        rows.append((sentence(rng, GOOD[0]), sentence(rng, BAD[0] if kind == "far" else GOOD[1]), kind))
    rows += [("", sentence(rng, GOOD[2]), "same"), (sentence(rng, "ba"), "", "far"),
             (sentence(rng, "ko"), sentence(rng, "du"), "once")]
    data = write("pairs.tsv", rows, "text\ttext2\tlabel")
    _, err = fit(data, "pairs.gguf", "--report", "pairs", "--steps", 20)
    assert "appear once ('once')" in err and "2 empty texts" in err and "4 classes, pairs" in err
    report = read_json("pairs/report.json")
    assert report["classes"] == ["far", "once", "other", "same"]
    assert report["counts"][1] == 1 and len(report["warnings"]) >= 2
    assert all(0 <= entry["macro_f1"] <= 1 for entry in report["exits"])
    out, _ = run("inspect", "pairs.gguf", "--json")
    assert json.loads(out)["labels"] == report["classes"]


def wait_for(path, process):
    while not os.path.exists(path):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_killed_run_goes_on():
    data = write("cut.tsv", two_classes(400, seed=4))
    flags = ("--backbone", MODEL, "--threads", 1, "--steps", 150, "--minutes", 0.5)
    flags = dict(zip(flags[::2], flags[1::2]))

    def given(**changed):
        changed = flags | {f"--{name}": value for name, value in changed.items()}
        return [x for pair in changed.items() for x in pair]

    run("fit", data, "--output", "whole.gguf", *given())
    process = start("fit", data, "--output", "cut.gguf", *given())
    wait_for("cut.gguf.fit/finetune.pt", process)
    process.kill()
    process.communicate()
    assert not os.path.exists("cut.gguf")
    _, err = run("fit", data, "--output", "cut.gguf", *given(seed=2), status=1)
    assert "another seed" in err and "--fresh" in err
    _, err = run("fit", data, "--output", "cut.gguf", *given())
    assert "going on from cut.gguf.fit" in err and "resumed from" in err
    whole, cut = gguf_reader.GgufFile("whole.gguf"), gguf_reader.GgufFile("cut.gguf")
    assert all((whole.values(name) == cut.values(name)).all() for name in whole.tensors)

    # SIGTERM ends it with a word, and leaves no process behind.
    process = start("fit", data, "--output", "stop.gguf",
                    *given(threads=2, steps=10**6))
    wait_for("stop.gguf.fit/finetune.pt", process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130 and "the same command goes on" in err, err
    assert "Traceback" not in err
    _, err = run("fit", data, "--output", "stop.gguf", *given(steps=5), "--fresh")
    assert "going on" not in err


def bert_folder(path, classes=2):
    """A fine-tuned BERT with one exit, from the random model."""
    model, start_ = gguf_reader.GgufFile(MODEL), backbone.open_backbone(MODEL)
    backbone.write_folder(start_, path, ["no", "yes"])
    tensors = {name.replace("elasticbert.", "bert."): values
               for name, values in start_.tensors.items()}
    for part in ("weight", "bias"):
        tensors[f"bert.pooler.dense.{part}"] = model.values(f"splitee.exit.4.pooler.{part}")
        tensors[f"classifier.{part}"] = model.values(f"splitee.exit.4.classifier.{part}")
    write_safetensors(os.path.join(path, "model.safetensors"), tensors)
    config = read_json(os.path.join(path, "config.json"))
    config["model_type"], _ = "bert", config.pop("num_output_layers")
    with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)


def last_exit(cells):
    return [row[-2:] for row in cells]


def test_keep():
    bert_folder("bert")
    rng = random.Random(6)
    texts = [sentence(rng, rng.choice(GOOD + BAD)) for _ in range(1300)]
    write("texts.tsv", [(text,) for text in texts], "text")
    dtypes = ("f32", "bf16", "i8")
    bases = {}
    for dtype in dtypes:
        subprocess.run([sys.executable, CONVERTER, "bert", "--output", f"base-{dtype}.gguf",
                        "--dtype", dtype], check=True, capture_output=True)
        bases[dtype] = trace(f"base-{dtype}.gguf", "texts.tsv")[1]
    answers = [int(float(row[2]) > 0.5) for row in bases["f32"]]
    data = write("keep.tsv", list(zip(texts, answers)))  # class numbers for the model's names
    for dtype, source in (*((dtype, "bert") for dtype in dtypes), ("i8", "base-i8.gguf")):
        run("fit", data, "--output", "kept.gguf", "--backbone", source, "--keep", "--threads", 2,
            "--report", "kept", *(("--dtype", dtype) if source == "bert" else ()))
        base, kept = gguf_reader.GgufFile(f"base-{dtype}.gguf"), gguf_reader.GgufFile("kept.gguf")
        assert kept.keys["splitee.exit_layers"] == [1, 2, 3, 4]
        assert kept.keys["splitee.labels"] == ["no", "yes"]
        for name, tensor in base.tensors.items():
            assert tensor.kind == kept.tensors[name].kind
            assert (tensor.load() == kept.tensors[name].load()).all(), name
        # At temperature 1 the last exit gives the same numbers, digit for digit.
        assert kept.keys["splitee.exit_temperatures"][3] != 1
        ones = [("splitee.exit_temperatures", gguf.ARRAY, (gguf.F32, [1.0] * 4))]
        gguf.write_gguf("cold.gguf", kept.with_keys(ones),
                        [t.to_write() for t in kept.tensors.values()])
        assert last_exit(trace("cold.gguf", "texts.tsv")[1]) == last_exit(bases[dtype])
    exits = read_json("kept/report.json")["exits"]
    assert exits[-1]["accuracy"] > 0.95 and exits[2]["agreement"] > 0.7, exits
    _, err = run("fit", data, "--output", "x.gguf", "--backbone", "kept.gguf", "--keep", status=1)
    assert "has an exit on every layer already" in err
    _, err = run("fit", data, "--output", "x.gguf", "--backbone", "base-i8.gguf", "--keep",
                 "--dtype", "f32", status=1)
    assert "leaves its weights as they are" in err
    words = write("words.tsv", [(text, "good" if i % 2 else "bad") for i, text in enumerate(texts)])
    _, err = run("fit", words, "--output", "x.gguf", "--backbone", "bert", "--keep", status=1)
    assert "label 'bad' is no class of the model, which has 'no', 'yes'" in err
    assert not os.path.exists("x.gguf")


def test_errors():
    good = write("good.tsv", two_classes(100))
    os.makedirs("full")
    mine = write("full/mine.txt", [])
    cases = [
        (("none.tsv", "--output", "x.gguf"), "none.tsv: no such file"),
        ((write("one.tsv", [("a", 1), ("b", 1)]), "--output", "x.gguf"), "one class only"),
        ((write("c.tsv", [("a,1",)], "text,label"), "--output", "x.gguf"), "separated by commas"),
        ((write("few.tsv", two_classes(6)), "--output", "x.gguf"), "too few rows"),
        ((good, "--output", "nowhere/x.gguf"), "nowhere: no such folder"),
        ((good, "--output", good), "is an input too"),
        ((good, "--output", "x.gguf", "--backbone", "nowhere"), "nowhere: no such file or folder"),
        ((good, "--output", "x.gguf", "--backbone", good), "not a GGUF file"),
        ((good, "--output", "x.gguf", "--work", "full"), "not empty"),
        ((good, "--output", "x.gguf", "--work", "full", "--fresh"), "not empty"),
        ((good, "--output", "x.gguf", "--work", "."), "is in the work folder"),
        ((good, "--output", "x.gguf", "--report", good), "good.tsv: File exists"),
    ]
    for arguments, message in cases:
        _, err = run("fit", *arguments, status=1)
        assert message in err and "Traceback" not in err, err
        assert not os.path.exists("x.gguf.fit") and os.path.exists(mine)
    for flags in (("--threads", 0), ("--dtype", "f64"), ("--minutes", 0), ("--steps", 0), ("--x",)):
        run("fit", good, "--output", "x.gguf", *flags, status=2)
    _, err = run("fit", good, "--output", "x.gguf", status=1,
                 environment=ENVIRONMENT | {"PYTHON": "/bin/false"})
    assert "/bin/false: lacks" in err and "apt-get install python3-torch" in err
    assert not os.path.exists("x.gguf")


def test_full_disk():
    """On a file system of 1 MB, where this user may make one."""
    data = write("disk.tsv", two_classes(400))
    os.makedirs("small", exist_ok=True)
    script = 'mount -t tmpfs -o size=1m none small && exec "$0" "$@"'
    command = ["unshare", "-rm", "sh", "-c", script]
    try:
        possible = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        possible = False
    if not possible:
        print("SKIP: no file system can be mounted here")
        return
    done = subprocess.run([*command, TOOL, "fit", data, "--output", "small/x.gguf", "--backbone",
                           MODEL, "--steps", "5"], capture_output=True, text=True, env=ENVIRONMENT,
                          check=False, timeout=TIMEOUT_S)
    assert done.returncode == 1 and "MB free" in done.stderr and "--work" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def slow_many_rows():
    rng = random.Random(11)
    words = [a + b for a in "klmnprst" for b in "aeiou"]
    rows = [(" ".join(rng.choices(words, k=6) + [GOOD[0] if i % 2 else BAD[0]]), i % 2)
            for i in range(200_000)]
    _, err = fit(write("many.tsv", rows), "many.gguf", "--steps", 30)
    assert "200000 rows, 2 classes" in err and "2500 held out" in err, err
    assert os.path.getsize("many.gguf") > 1000


def main():
    names = sys.argv[5:]
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        tests = {name: value for name, value in globals().items()
                 if name in names or (not names and name.startswith("test_"))}
        for name, test in tests.items():
            test()
            print(f"ok {name}", flush=True)
        os.chdir("/")
    print("0 failed")


if __name__ == "__main__":
    main()
