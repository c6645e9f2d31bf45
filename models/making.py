"""What models/make and models/make_small share: which texts are trained on and which are kept out, and how
a trained folder becomes a calibrated model."""

import os
import pathlib
import random
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TRAINING = ROOT / "tools" / "training"
sys.path[:0] = [str(ROOT / "models"), str(TRAINING)]

import contrasts  # noqa: E402
from train_lib import data  # noqa: E402

SHARED_WORDS = 6  # a run this long in two texts: they share text
KEPT_IMDB, KEPT_YELP, KEPT_SST2 = 7000, 6000, 400  # the last rows; sentences drawn from the rest
CALIBRATE_IMDB, CALIBRATE_YELP = 500, 500  # the first of those kept
PRIOR_ROWS = 700  # of each kind: the next ones, and snippets of reviews
SUBJECTIVE = 0  # subj_all's label of snippets; the others tell plots
PRIORS = ("imdb", "yelp", "snippets")
SENTENCE_WORDS = 16
CONTRASTS, CONTRAST_SEED = 8000, 20261
WORD = re.compile(r"[a-z0-9]+")


def words_of(text):
    return tuple(WORD.findall(text.lower()))


def runs(words, length):
    return (words[i : i + length] for i in range(len(words) - length + 1))


class HeldOut:
    """Texts that no training row may share text with: a row may not lie within one of them, nor have
    SHARED_WORDS words in a row with one."""

    def __init__(self, texts):
        self.within, self.long = set(), set()
        for words in map(words_of, texts):
            for length in range(1, len(words) + 1):
                self.within.update(runs(words, length))
            self.long.update(runs(words, SHARED_WORDS))

    def shares(self, text):
        words = words_of(text)
        return not words or words in self.within or any(
            run in self.long for run in runs(words, SHARED_WORDS))


def read(folder, name, labelled=True):
    for ending in (".tsv", ".tsv.xz"):
        path = os.path.join(folder, name + ending)
        if os.path.exists(path):
            return [(text, label) for text, _, label in data.read_tsv(path, labelled=labelled)]
    sys.exit(f"{folder} has no {name}.tsv or {name}.tsv.xz")


def write(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        file.write("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))


def natural(rows):
    """SST-2 and Yelp write "do n't"; what the demo and the world write is "don't"."""
    return [(text.replace(" n't", "n't"), label) for text, label in rows]


def sst2_sentences(rows, taken):
    """KEPT_SST2 rows that are as long as sentences, spread evenly."""
    long = [row for row in rows if len(words_of(row[0])) >= SENTENCE_WORDS and
            not taken.shares(row[0])]
    return long[:: max(1, len(long) // KEPT_SST2)][:KEPT_SST2]


def snippets(folder, known):
    """Snippets of film reviews that share no text with rows that are known."""
    known = HeldOut(text for text, _ in known)
    rows = [row for row in read(folder, "subj_all") if row[1] == SUBJECTIVE and not known.shares(row[0])]
    random.Random(1).shuffle(rows)
    return rows


def prepare(folder, work):
    """Writes the training parts and calibrate.tsv; returns the training files."""
    sst2, imdb, yelp = (read(folder, name) for name in
                        ("sst2_train", "imdb_train_200w", "yelp_sent_dev"))
    official = read(folder, "sst2_dev") + read(folder, "sst2_test")
    demo = [(text, label) for text, _, label in
            data.read_tsv(str(ROOT / "models" / "demo_reviews.tsv"), labelled=True)]
    sentences = sst2_sentences(sst2, HeldOut(text for text, _ in official))
    short = HeldOut(text for text, _ in official + demo + sentences)
    exact = {words_of(text) for text, _ in imdb[-KEPT_IMDB:] + yelp[-KEPT_YELP:] + demo + official}
    parts = {
        "sst2": [row for row in sst2 if not short.shares(row[0])],
        "imdb": [row for row in imdb[:-KEPT_IMDB] if words_of(row[0]) not in exact],
        "yelp": [row for row in yelp[:-KEPT_YELP] if words_of(row[0]) not in exact],
        "contrasts": [row for row in dict.fromkeys(contrasts.sentences(CONTRASTS, CONTRAST_SEED))
                      if not short.shares(row[0])],
    }
    parts["sst2_natural"] = natural(parts["sst2"])
    parts["yelp"][::2] = natural(parts["yelp"][::2])
    for name, rows in parts.items():
        write(os.path.join(work, f"train_{name}.tsv"), rows)
        print(f"{name}: {len(rows)} rows to train on", file=sys.stderr)
    calibrate = imdb[-KEPT_IMDB:][:CALIBRATE_IMDB] + yelp[-KEPT_YELP:][:CALIBRATE_YELP] + sentences
    write(os.path.join(work, "calibrate.tsv"), calibrate)
    for name, rows in zip(PRIORS, (imdb[-KEPT_IMDB:][CALIBRATE_IMDB:], yelp[-KEPT_YELP:][CALIBRATE_YELP:],
                                   snippets(folder, sst2 + official + demo)), strict=True):  # fmt: skip
        with open(os.path.join(work, f"prior_{name}.tsv"), "w", encoding="utf-8") as file:
            file.write("text\n" + "".join(f"{text}\n" for text, _ in rows[:PRIOR_ROWS]))
    return [os.path.join(work, f"train_{name}.tsv") for name in parts]


def call(*command):
    print("+", *command, file=sys.stderr)
    done = subprocess.run([str(word) for word in command], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def convert(splitee, folder, work, output):
    """A trained folder as int8, with temperatures and what policies start from."""
    rough = os.path.join(work, "uncalibrated.gguf")
    call(sys.executable, ROOT / "tools/python/convert_hf.py", folder, "--output", rough, "--dtype", "i8")
    call(splitee, "calibrate", "--model", rough, "--input", os.path.join(work, "calibrate.tsv"), "--output", output)
    inputs = (word for name in PRIORS for word in ("--input", os.path.join(work, f"prior_{name}.tsv")))
    call(splitee, "calibrate", "--model", output, *inputs, "--output", output, "--rows-only")
