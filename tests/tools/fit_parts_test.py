#!/usr/bin/env python3
"""What `splitee fit` does besides training: reading, dividing, models read back, measures, report.
Needs NumPy only. Arguments: TRAINING_FOLDER MODEL.gguf (a small random model)."""

import argparse
import collections
import io
import os
import random
import subprocess
import sys
import tempfile

import numpy as np

TRAINING, MODEL = map(os.path.abspath, sys.argv[1:3])
sys.path.insert(0, TRAINING)
from train_lib import backbone, measure, progress, report, splits, stamp, table  # noqa: E402
from train_lib.data import DataError  # noqa: E402
import fit  # noqa: E402
import gguf_reader  # noqa: E402
import gguf_writer  # noqa: E402

TRAIN, CALIBRATION, HELD_OUT, ASIDE = range(4)


def write(name, content):
    data = content if isinstance(content, bytes) else content.encode()
    with open(name, "wb") as file:
        file.write(data)
    return name


def refused(call, *words):
    try:
        call()
    except DataError as error:
        for word in words:
            assert word in str(error), f"{word!r} expected in {error}"
        return
    raise AssertionError(f"not refused; expected {words}")


def read(content):
    return table.read_table(write("t.tsv", content))


def test_tables():
    t = read("label\tid\ttext\r\nno\t1\tbad\r\nyes\t2\tgood one\r\n\r\nno\t3\t\r\n")
    assert (t.texts, t.names, t.labels.tolist()) == (["bad", "good one", ""], ["no", "yes"], [0, 1, 0])
    assert t.seconds is None and any("1 empty text" in w for w in t.warnings)
    t = read("\ufefftext\ttext2\tlabel\na b\tc\t10\nd\te\t9\nf\tg\t9\n")
    assert (t.seconds, t.names, t.labels.tolist()) == (["c", "e", "g"], ["9", "10"], [1, 0, 0])
    assert any("appear once ('10')" in w for w in t.warnings)
    assert any("differ in case" in w for w in read("text\tlabel\na\tNo\nb\tno\n").warnings)
    assert any("quotation" in w for w in read('text\tlabel\n"a"\t0\n"b"\t1\n').warnings)
    assert t.renamed(["8", "9", "10"]).labels.tolist() == [2, 1, 1]
    refused(lambda: t.renamed(["9"]), "label '10' is no class of the model")
    table.write_rows("w.tsv", t, [2, 0])
    assert open("w.tsv", encoding="utf-8").read() == "text\ttext2\tlabel\nf\tg\t0\na b\tc\t1\n"


def test_table_from_a_pipe():
    """Read once: a table may be a FIFO, and what is remembered of it are its bytes."""
    content = b"text\tlabel\na\t0\nb\t1\n"
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    piped = table.read_table(f"/dev/fd/{reader}")
    os.close(reader)
    assert len(piped) == 2 and piped.digest == read(content).digest != read(content + b"c\t1\n").digest


def arguments(**given):
    usual = {"data": write("d.tsv", "x"), "output": "m.gguf", "backbone": "", "report": "", "work": "",
             "keep": False, "seed": 1, "steps": 0, "fresh": False, "splitee": "", "threads": 1}
    return argparse.Namespace(**(usual | given))


def test_paths():
    def refuse(word, **given):
        args = arguments(**given)
        refused(lambda: fit.check_paths(args, fit.Run(args).work), word)

    fit.check_paths(arguments(report="r"), "m.gguf.fit")
    for inside in ({"work": "."}, {"work": "w", "report": "w"}, {"work": "w", "report": "w/r"},
                   {"work": "m.gguf"}, {"report": "m.gguf.fit/r"}, {"work": "w", "backbone": "w/b"}):
        refuse("is in the work folder", **inside)
    refuse("d.tsv: is in the work folder", output="/tmp/m.gguf", work=".")
    refuse("the report's folder and the model", report="./m.gguf")
    fit.make_report_folder("made/report")
    assert os.path.isdir("made/report")


def test_fresh_removes_only_what_is_its_own():
    os.makedirs("mine")
    write("mine/thesis.txt", "years")
    run = fit.Run(arguments(work="mine", fresh=True))
    refused(lambda: run.prepare("1"), "mine: not empty, and no interrupted run")
    assert os.listdir("mine") == ["thesis.txt"]
    fit.Run(arguments(work="ours")).prepare("1")
    refused(lambda: fit.Run(arguments(work="ours")).prepare("2"), "another digest")
    write("ours/fit.json", '{"dat')
    refused(lambda: fit.Run(arguments(work="ours")).prepare("1"), "ours/fit.json: is damaged")
    fit.Run(arguments(work="ours", fresh=True)).prepare("2")


HOLDER = """
import sys
sys.path.insert(0, sys.argv[1])
import fit
run = fit.Run(fit.parse_arguments(["d.tsv", "--output", "o.gguf", "--work", sys.argv[2], "--splitee", ""]))
run.prepare("1")
import os
os.write(1, b"held\\n")
sys.stdin.read()
"""


def test_one_run_at_a_time_in_a_work_folder():
    for fresh in (False, True):
        holder = subprocess.Popen([sys.executable, "-c", HOLDER, TRAINING, "shared"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)  # fmt: skip
        assert holder.stdout.readline() == b"held\n"
        run = fit.Run(arguments(data="d.tsv", output="o.gguf", work="shared", fresh=fresh))
        refused(lambda: run.prepare("1"), "shared/fit.lock: another splitee fit is at work in this folder")
        run.drop_empty_work()  # as after any error
        assert sorted(os.listdir("shared")) == ["fit.json", "fit.lock"]
        holder.kill()
        holder.communicate()
        run.prepare("1")  # killed, it holds nothing any more
        run.drop_empty_work()
        assert not os.path.exists("shared")


def test_helpers_do_not_keep_the_lock():
    """Forked ones may live on for seconds after a kill."""
    script = HOLDER.replace("os.write(", "os.fork()\nos.write(")
    holder = subprocess.Popen([sys.executable, "-c", script, TRAINING, "kept"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)  # fmt: skip
    held = [holder.stdout.readline() for _ in range(2)]
    assert held == [b"held\n"] * 2, held
    holder.kill()
    holder.wait()
    fit.Run(arguments(data="d.tsv", output="o.gguf", work="kept")).prepare("1")
    holder.communicate()  # ends the helper, which reads the same pipe


def test_another_backbone_under_the_same_name():
    first = backbone.open_backbone(MODEL)
    fit.Run(arguments(work="started")).prepare("1", first.digest())
    name = min(first.tensors)
    first.tensors[name] = first.tensors[name] + 1
    refused(lambda: fit.Run(arguments(work="started")).prepare("1", first.digest()),
            "another content of the backbone")
    fit.Run(arguments(work="started")).prepare("1", backbone.open_backbone(MODEL).digest())


def test_bad_tables():
    cases = [
        ("text\tclass\na\t1\n", ("t.tsv:1", "no column 'label'", "'class'")),
        ("a fine film\t1\n", ("t.tsv:1", "no column 'text'")),
        ("text,label\na,1\n", ("t.tsv:1", "separated by commas")),
        ('"text";"label"\na;1\n', ("separated by semicolons",)),
        ("text\tlabel\tlabel\na\t1\t1\n", ("'label' comes twice",)),
        ("text\tlabel\na\t1\nb\n", ("t.tsv:3: 1 fields, the header has 2",)),
        ("text\tlabel\na\t1\nb\t \n", ("t.tsv:3: no label",)),
        ("text\tlabel\n", ("t.tsv: no rows",)),
        ("", ("t.tsv:1", "no column 'text'")),
        ("text\tlabel\na\t1\nb\t1\n", ("one class only", "'1'")),
        ("text\tlabel\n\t1\n \t2\n", ("column 'text' is empty",)),
        ("text\tlabel\n3.5\t1\n-7\t2\n1e3\t1\n", ("t.tsv:2", "holds numbers", "'3.5'")),
        ("text\ttext2\tlabel\na\t1\tx\nb\t2\ty\n", ("column 'text2' holds numbers",)),
        ("text\tlabel\n" + "".join(f"a\t{i}\n" for i in range(4097)), ("4097 different", "4096")),
        ("text\tlabel\n" + "".join(f"a\t{i}.5\n" for i in range(4097)), ("measurements",)),
        ("text\tlabel\na\tx\x07\nb\ty\n", ("control character",)),
        (b"text\tlabel\nna\xefve\t1\n", ("t.tsv:2: not UTF-8: byte 0xef",)),
        ("text\tlabel\na\t1\n".encode("utf-16"), ("UTF-16",)),
        (b"text\tlabel\na\0b\t1\n", ("t.tsv:2: a NUL",)),
    ]
    for content, words in cases:
        refused(lambda content=content: read(content), *words)
    assert len(read("text\tlabel\n" + "".join(f"a\t{i}\n" for i in range(4096))).names) == 4096
    refused(lambda: table.read_table("none.tsv"), "none.tsv: no such file")
    refused(lambda: table.read_table(write("x.xz", b"no archive")), "x.xz: cannot read")


def phrases(rng, sentences, words):
    """Rows as SST-2 has them: sentences and phrases of them, some of them in many sentences."""
    rows = []
    for _ in range(sentences):
        sentence = [rng.choice(words) for _ in range(rng.randint(4, 20))]
        rows.append(sentence)
        for _ in range(rng.randint(0, 8)):
            start = rng.randrange(len(sentence))
            rows.append(sentence[start : start + rng.randint(1, len(sentence))])
    rng.shuffle(rows)
    return rows


def runs(words):
    return {tuple(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}


def check_apart(texts, sides):
    """No text lies within one of another side."""
    places = collections.defaultdict(set)
    for text, side in zip(texts, sides):
        if side != ASIDE:
            for run in runs(splits.words_of(text)):
                places[run].add(int(side))
    for text, side in zip(texts, sides):
        words = tuple(splits.words_of(text))
        assert side == ASIDE or not words or places[words] == {int(side)}, (text, places[words])


def test_phrases_stay_together():
    rng = random.Random(5)
    words = [f"w{i}" for i in range(60)] + ["it"] * 20
    rows = phrases(rng, 400, words)
    texts = [" ".join(row) for row in rows]
    texts[::9] = [text.upper() + " !" for text in texts[::9]]  # the same words
    labels = np.array([hash_of(row) for row in rows])
    sides = splits.split(texts, None, labels, 2, 1)
    check_apart(texts, sides)
    counts = np.bincount(sides, minlength=4)
    assert counts[CALIBRATION] > 0.07 * len(rows) < counts[HELD_OUT] and counts[ASIDE] < 0.3 * len(rows)
    assert counts[TRAIN] > 0.4 * len(rows), counts
    for side in (CALIBRATION, HELD_OUT):
        assert abs(labels[sides == side].mean() - labels.mean()) < 0.05
    again = splits.split(texts, None, labels, 2, 1)
    assert (again == sides).all() and (splits.split(texts, None, labels, 2, 2) != sides).any()


def hash_of(row):
    return int(sum(map(ord, "".join(row))) % 5 < 2)


def test_contained_equals_brute_force():
    rng = random.Random(7)
    words = ["a", "b", "c"]
    texts = [" ".join(rng.choice(words) for _ in range(rng.randint(0, 14))) for _ in range(150)]
    texts += [texts[3] + " a b", "c " + texts[4], ":-)", "", "..."]
    documents = splits.Documents(texts)
    rows = [tuple(splits.words_of(text)) for text in texts]
    of_document = {documents.of_text[i]: row for i, row in enumerate(rows)}
    expected = {(i, j) for i, a in of_document.items() for j, b in of_document.items()
                if a and i != j and a in runs(b)}
    found = set(map(tuple, splits.contained(documents).tolist()))
    assert found == expected, (len(found), len(expected))
    assert any(len(of_document[i]) > splits.ANCHOR for i, _ in found), "no long one was tried"


def test_pairs_and_rare_classes():
    rng = random.Random(9)
    premises = [" ".join(rng.choice("abcdefghijklmnop") + str(rng.randrange(90)) for _ in range(9))
                for _ in range(300)]
    rows = [(p, " ".join(rng.sample(p.split(), 4)) + f" x{k}", k) for p in premises for k in (0, 1, 2)]
    rows += [(f"rare one{i}", f"rare two{i}", 3) for i in range(3)]
    rows += [("once seen", "never again", 4)]
    rng.shuffle(rows)
    texts, seconds, labels = map(list, zip(*rows))
    labels = np.array(labels)
    sides = splits.split(texts, seconds, labels, 5, 3)
    where = collections.defaultdict(set)
    for a, b, side in zip(texts, seconds, sides):
        if side != ASIDE:
            where[a].add(int(side))
            where[b].add(int(side))
    assert all(len(found) == 1 for found in where.values())
    assert set(sides[labels >= 3]) == {TRAIN}, "classes of fewer than four rows are trained on"
    assert np.bincount(sides, minlength=4)[HELD_OUT] >= 60


def test_one_text_for_all():
    """A template that holds every other text is no reason to hold nothing out."""
    rng = random.Random(2)
    texts = [" ".join(["please", "find"] + [f"w{rng.randrange(400)}" for _ in range(6)])
             for _ in range(500)] + ["please find"] * 20 + ["please"] * 20
    labels = np.array([i % 2 for i in range(len(texts))])
    sides = splits.split(texts, None, labels, 2, 1)
    check_apart(texts, sides)
    assert (sides == HELD_OUT).sum() >= 40 and (sides[500:] == ASIDE).all()
    refused(lambda: splits.split(["same words"] * 50, None, np.arange(50) % 2, 2, 1), "too few rows")
    refused(lambda: splits.split(["a b", "c d"], None, np.array([0, 1]), 2, 1), "too few rows")


def test_many_rows():
    rng = random.Random(8)
    words = [f"w{i}" for i in range(20000)]
    lines = [f"{' '.join(rng.choices(words, k=rng.randint(1, 6)))}\t{i % 3}" for i in range(200_000)]
    t = read("text\tlabel\n" + "\n".join(lines))
    sides = splits.split(t.texts, None, t.labels, 3, 1)
    counts = np.bincount(sides, minlength=4)
    assert len(t) == 200_000 and counts[TRAIN] > 150_000
    assert 2300 < counts[CALIBRATION] < 2700 and 2300 < counts[HELD_OUT] < 2700, counts
    some = np.concatenate([np.flatnonzero(sides == side)[:2500] for side in range(4)])
    check_apart([t.texts[i] for i in some], sides[some])


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress():
    watched, pipe = Terminal(), io.StringIO()
    for stream in (watched, pipe):
        show = progress.Progress(stream)
        show.shown = -float("inf")
        show.batch([0.5, 0.75])
        show.step(30, 0.25, 60.0, 0.6)
        show.step(31, 0.26, 61.0, 0.5)
        show.close()
    assert watched.getvalue().startswith("\r[######..................]  25 % step 30")
    assert "3:00 left" in watched.getvalue() and watched.getvalue().endswith("\r\x1b[K")
    assert pipe.getvalue().count("\n") == 1 and "\r" not in pipe.getvalue()
    assert "25 %  step 30  loss 0.600  exits 50 75 %  3:00 left" in pipe.getvalue()


def test_model_read_back():
    file = gguf_reader.GgufFile(MODEL)
    pairs = file.with_keys(stamp.training_keys(["one", "two"], [1, 2**63 + 5]))
    value = gguf_writer.write_gguf("copy.gguf", pairs, [t.to_write() for t in file.tensors.values()])
    copy = gguf_reader.GgufFile("copy.gguf")
    assert copy.keys["splitee.content_hash"] == value != file.keys["splitee.content_hash"]
    assert copy.keys["splitee.training_sketch"] == [1, 2**63 + 5]
    assert list(copy.tensors) == list(file.tensors)
    for name in file.tensors:
        assert (copy.values(name) == file.values(name)).all()
    same = gguf_writer.write_gguf("same.gguf", file.with_keys([]),
                                  [t.to_write() for t in file.tensors.values()],
                                  with_sums=gguf_writer.BLOCK_SUMS_KEY in file.keys)
    assert same == file.keys["splitee.content_hash"]
    assert open("same.gguf", "rb").read() == open(MODEL, "rb").read()
    data = open(MODEL, "rb").read()
    for cut in (3, 20, 200, len(data) // 2):
        write("cut.gguf", data[:cut])
        refused(lambda: backbone.open_backbone("cut.gguf"), "cut.gguf")


def test_backbone_of_a_model():
    start = backbone.open_backbone(MODEL)
    assert start.vocab[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert start.sizes["num_hidden_layers"] == 4 and start.lower_case is True
    backbone.write_folder(start, "start", ["a", "b"])
    again = backbone.open_backbone("start")
    assert again.sizes == start.sizes and again.vocab == start.vocab
    assert all((again.tensors[name] == values).all() for name, values in start.tensors.items())
    # Special tokens are moved to the front, with their embeddings, and a missing [MASK] is made.
    name = "elasticbert.embeddings.word_embeddings.weight"
    words = again.tensors[name].copy()
    again.vocab = again.vocab[5:] + again.vocab[:4]
    again.tensors[name] = np.concatenate([words[5:], words[:4]])
    backbone.reorder(again)
    assert again.vocab == start.vocab and (again.tensors[name][:4] == words[:4]).all()
    assert (again.tensors[name][5:] == words[5:]).all()
    os.unlink("start/model.safetensors")
    refused(lambda: backbone.open_backbone("start"), "start")
    refused(lambda: backbone.open_backbone("nowhere"), "nowhere: no such file or folder")
    refused(lambda: backbone.open_backbone(write("no.gguf", b"GGUF")), "no.gguf")


def test_sketch_tells_overlap():
    texts = [f"text number {i} of the first set" for i in range(5000)]
    others = [f"text number {i} of the second set" for i in range(5000)]
    sketch = stamp.sketch_of(texts)
    assert len(sketch) == stamp.SKETCH and sketch == sorted(sketch)
    assert stamp.overlap(sketch, others) == 0 and stamp.overlap(sketch, texts) == 1
    half = stamp.overlap(sketch, texts[:2500] + others[:2500])
    assert 0.4 < half < 0.6, half
    assert stamp.overlap([], texts) is None and stamp.overlap(sketch, texts[:5]) is None
    assert stamp.overlap(stamp.sketch_of(others, sketch), texts) > 0.9
    assert stamp.set_name("/a/b/sst2_train.tsv.xz") == "sst2_train"


def answers_of(rng, rows, exits, classes, labels):
    logits = rng.normal(size=(exits, rows, classes)).astype(np.float32)
    logits[:, np.arange(rows), labels] += np.linspace(0.5, 4, exits)[:, None]
    powers = np.exp(logits)
    return powers / powers.sum(-1, keepdims=True)


def test_measures():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 4000)
    probabilities = answers_of(rng, 4000, 4, 3, labels)
    reports = measure.exit_reports(probabilities, labels, [1, 2, 3, 6])
    assert [r["layer"] for r in reports] == [1, 2, 3, 6] and reports[-1]["agreement"] == 1
    accuracy = [r["accuracy"] for r in reports]
    assert accuracy == sorted(accuracy) and accuracy[-1] > 0.9
    assert all(abs(r["macro_f1"] - r["accuracy"]) < 0.02 for r in reports)
    assert measure.calibration_error([(10, 0.9, 0.7), (30, 0.5, 0.5)]) - 0.05 < 1e-9
    assert measure.macro_f1(np.array([0, 0, 0]), np.array([0, 0, 1]), 3) == 0.4
    curve = measure.threshold_curve(probabilities, labels, [1, 2, 3, 6])
    assert curve[-1][1:3] == (6.0, 0.0), "an unreachable threshold runs all layers"
    for rule in measure.rules(probabilities, labels, [1, 2, 3, 6]):
        assert rule["disagreement"] <= rule["limit"] and 1 <= rule["layers"] <= 6
    deep = measure.only_deep(probabilities, labels, 5)
    right = probabilities.argmax(-1) == labels
    for row, first in deep:
        assert not right[:2, row].any() and right[first - 1 :, row].all()
        assert first == 3 or not right[first - 2, row]
    found = {"f32": {"rows": 1000, "agreement": [1, 1], "accuracy": [0.8, 0.9]},
             "bf16": {"agreement": [0.992, 1], "accuracy": [0.8, 0.9]},
             "i8": {"agreement": [0.9, 1], "accuracy": [0.8, 0.9]}}
    assert measure.choose(found) == "bf16"
    found["i8"] = {"agreement": [0.99, 1], "accuracy": [0.796, 0.9]}
    assert measure.choose(found) == "i8"
    found["i8"]["accuracy"] = [0.78, 0.9]
    assert measure.choose(found) == "bf16"


def test_report_page():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 500)
    probabilities = answers_of(rng, 500, 3, 3, labels)
    data = table.Table("d<i>.tsv", [f"<b>text {i}</b>" for i in range(500)], None, labels,
                       ["one", "<two>", "three"], [])
    exits = measure.exit_reports(probabilities, labels, [2, 4, 6])
    for entry in exits:
        entry["temperature"] = 1.5
    result = {
        "data": data.path, "rows": 500, "classes": data.names, "counts": data.counts().tolist(),
        "samples": {"train": 0, "calibration": 0, "held_out": 500, "aside": 3}, "backbone": "x.gguf",
        "dtype": "i8", "formats": {"i8": {"bytes": 10}}, "seconds": 3.0, "warnings": ["a <warning>"],
        "policies": measure.rules(probabilities, labels, [2, 4, 6]),
        "plots": {"bins": [entry.pop("bins") for entry in exits],
                  "histograms": report.histograms(probabilities, labels),
                  "curve": measure.threshold_curve(probabilities, labels, [2, 4, 6]),
                  "deep": report.deep_rows(probabilities, labels, data, np.arange(500), [2, 4, 6]),
                  "classes": report.class_table(probabilities, labels, 3)},
        "exits": exits}
    assert report.doubts(result) == []
    dull = result | {"exits": [entry | {"accuracy": 0.34} for entry in exits]}
    assert "learned next to nothing" in report.doubts(dull)[0]
    odd = result | {"exits": [entry | {"accuracy": a} for entry, a in zip(exits, (0.9, 0.7, 0.8))]}
    assert "exit at layer 2 is right more often" in report.doubts(odd)[0]
    report.write("report", result)
    page = open("report/report.html", encoding="utf-8").read()
    assert page.count("<svg") == page.count("</svg>") == 2 + 3 + 3
    assert "&lt;two&gt;" in page and "&lt;b&gt;text" in page and "a &lt;warning&gt;" in page
    assert "<b>text" not in page and "http" not in page and "<script" not in page
    assert all(len(line) <= 80 for line in report.summary(result).splitlines())


def main():
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        tests = [value for name, value in globals().items() if name.startswith("test_")]
        for test in tests:
            test()
            print(f"ok {test.__name__}", flush=True)
        os.chdir("/")
    print(f"{len(tests)} passed, 0 failed")


if __name__ == "__main__":
    main()
