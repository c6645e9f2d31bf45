#!/usr/bin/env python3
"""Makes a calibrated multi-exit model from a table of labelled texts: what `splitee fit` runs.

Reads and divides the rows, turns the backbone into a folder, has train.py train all exits (or, with
--keep, heads alone on what the engine computes), converts the result to each number format, chooses
one by what the engine answers in it, has `splitee calibrate` fit temperatures, and reports.
"""

import argparse
import errno
import json
import os
import shutil
import signal
import sys
import time

import numpy as np

from train_lib import backbone, engine, keep, measure, report, splits, stamp, table, work_lock
from train_lib.data import DataError
from train_lib.progress import duration

LOCK = "fit.lock"  # in the work folder, held while a run is at work there
OPTIONS = ("data", "backbone", "keep", "seed", "steps")  # that a run which goes on must share
FEWEST_TO_CALIBRATE = 100  # rows, as `splitee calibrate` wants them
BALANCE, IMBALANCE = 0.5, 2.0  # power of class weights, and the ratio of sizes where they begin
MEASURING_SHARE, MEASURING_SECONDS = 0.2, 240  # of the time, kept for what follows training
SPARE_BYTES = 64 << 20
# How exits are trained: on the mean of a layer's tokens, all together and each following the last
# one in part, heads faster than the layers below, activations rounded in the last part as int8
# arithmetic will round them.
RECIPE = {"pooling": "mean", "distill": 0.5, "head-lr": 5, "first-exit-weight": 1, "ema": 0,
          "label-smoothing": 0, "token-dropout": 0, "warmup": 100, "batch-tokens": 1280}
RATE, RATE_WIDTH, HIGHEST_RATE = 1e-4, 384, 5e-4  # narrow networks take larger steps
ROUND_FROM = 0.6
LEAST_STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 1500, 4, 20
PIECES = 1.3  # a word, roughly
BYTES_PER_WEIGHT = 40  # of a work folder: two checkpoints, start, result, the three formats


def say(message):
    print(f"splitee fit: {message}", file=sys.stderr, flush=True)


class Run:
    """One call: its arguments, when it began, its work folder, and what it warns of."""

    def __init__(self, args):
        self.args, self.began = args, time.monotonic()
        self.work = args.work or args.output + ".fit"
        self.warnings = []
        self.prepared = False  # the work folder is ours
        self.engine = engine.Engine(args.splitee, args.threads)

    def path(self, name):
        return os.path.join(self.work, name)

    def warn(self, message):
        self.warnings.append(message)
        say(f"warning: {message}")

    def spent(self):
        return time.monotonic() - self.began

    def prepare(self, digest, start=""):
        """The work folder: one of the same call goes on, another one's is refused, and so is one
        that another process is at work in."""
        options = {name: getattr(self.args, name) for name in OPTIONS} | \
            {"digest": digest, "content of the backbone": start}
        state = self.path("fit.json")
        self.take()
        if self.args.fresh:
            self.clear()
        if os.path.exists(state):
            old = self.read_state(state)
            changed = [name for name in options if old.get(name) != options[name]]
            if changed:
                raise DataError(f"{self.work} holds an interrupted run with another "
                                f"{', '.join(changed)}; give the same again, or --fresh")
            say(f"going on from {self.work}")
            return
        with open(state, "w", encoding="utf-8") as file:
            json.dump(options, file)

    def take(self):
        """Locks it; a folder of something else is left as it is."""
        if not os.path.exists(self.path("fit.json")) and os.path.exists(self.work) and \
                set(os.listdir(self.work)) - {LOCK}:
            raise DataError(f"{self.work}: not empty, and no interrupted run: name another --work")
        work_lock.hold(self.path(LOCK), "splitee fit")
        self.prepared = True

    def clear(self):
        """What an earlier run has left; the lock stays."""
        for entry in list(os.scandir(self.work)):
            if entry.name == LOCK:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)

    def read_state(self, state):
        try:
            with open(state, encoding="utf-8") as file:
                return dict(json.load(file))
        except (ValueError, TypeError) as error:
            raise DataError(f"{state}: is damaged; --fresh begins anew") from error

    def drop_empty_work(self):
        """After an error: removes the work folder where nothing is trained yet."""
        ours = self.prepared and os.path.exists(self.path("fit.json"))
        if ours and not any(map(os.path.exists, map(self.path, ("finetune.pt", "result")))):
            shutil.rmtree(self.work, ignore_errors=True)


def is_within(path, folder):
    path, folder = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath([path, folder]) == folder


def check_paths(args, work):
    folder = os.path.dirname(os.path.abspath(args.output))
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(f"{folder}: cannot be written to")
    if os.path.lexists(args.output) and not os.path.isfile(args.output):
        raise DataError(f"{args.output}: not a regular file")
    for given in (args.data, args.backbone):
        if given and os.path.exists(given) and os.path.exists(args.output) and \
                os.path.samefile(given, args.output):
            raise DataError(f"{args.output}: is an input too; it would be overwritten")
    for given in (args.output, args.report, args.data, args.backbone):
        if given and is_within(given, work):
            raise DataError(f"{given}: is in the work folder, {work}, which is removed at the end")
    if args.report and os.path.realpath(args.report) == os.path.realpath(args.output):
        raise DataError(f"{args.report}: is to be the report's folder and the model")


def make_report_folder(path):
    """Better an error now than when all is done."""
    if not path:
        return
    os.makedirs(path, exist_ok=True)
    if not os.access(path, os.W_OK | os.X_OK):
        raise DataError(f"{path}: cannot be written to")


def check_space(run, weights):
    """Better now than after half an hour."""
    needed = weights * BYTES_PER_WEIGHT + SPARE_BYTES
    free = shutil.disk_usage(run.work).free
    if free < needed:
        raise DataError(f"{run.work}: {free >> 20} MB free, about {needed >> 20} MB are needed "
                        "(--work names another place)")


def default_backbone():
    """The default model, in the source tree or where it is installed."""
    here = os.path.dirname(os.path.abspath(__file__))
    for path in (os.path.join(here, "..", "..", "models", "default.gguf"),
                 os.path.join(here, "..", "default.gguf")):
        if os.path.isfile(path):
            return os.path.normpath(path)
    raise DataError("the default model is not there; --backbone names another one")


def divide(run, data):
    """Writes the three parts; returns the sides of the rows."""
    sides = splits.split(data.texts, data.seconds, data.labels, len(data.names), run.args.seed)
    for name, side in (("train", splits.TRAIN), ("calibration", splits.CALIBRATION),
                       ("held_out", splits.HELD_OUT)):
        table.write_rows(run.path(name + ".tsv"), data, np.flatnonzero(sides == side))
    counts = np.bincount(sides, minlength=4)
    aside = f", {counts[splits.ASIDE]} set aside" if counts[splits.ASIDE] else ""
    say(f"{counts[splits.TRAIN]} rows to train on, {counts[splits.CALIBRATION]} to calibrate, "
        f"{counts[splits.HELD_OUT]} held out{aside}")
    if counts[splits.ASIDE] > 0.2 * len(data):
        run.warn(f"{100 * counts[splits.ASIDE] / len(data):.0f} % of the rows are set aside: their "
                 "texts are phrases of rows on both sides")
    return sides


def texts_of(data, rows):
    return [data.texts[i] for i in rows] + [data.seconds[i] for i in rows if data.seconds]


def check_backbone(run, start, data, sides):
    """Warns of a backbone that has seen the data; what is known of its tokenizer."""
    name = stamp.set_name(run.args.data)
    seen = stamp.overlap(start.sketch, texts_of(data, np.flatnonzero(sides != splits.ASIDE)))
    if seen is not None and seen > 0.01:
        run.warn(f"the backbone was trained on about {100 * seen:.0f} % of these texts: what is "
                 "measured on held-out rows is too good")
    elif name in start.training_sets:
        run.warn(f"the backbone was trained on data of the same name, {name}")
    return check_tokenizer(run, start, data)


def check_tokenizer(run, start, data):
    """Warns where it does not fit the texts; what was measured of it."""
    pieces = measure.tokenizer_fit(start, texts_of(data, range(len(data))), run.args.seed)
    if pieces["unknown"] > 0.02:
        run.warn(f"{100 * pieces['unknown']:.1f} % of the tokens are unknown to the backbone's "
                 "tokenizer: is it for this language?")
    elif pieces["pieces_per_word"] > 2.5:
        run.warn(f"the tokenizer cuts words into {pieces['pieces_per_word']:.1f} pieces on average: "
                 "it was made for other text")
    if pieces["too_long"] > 0.05:
        run.warn(f"{100 * pieces['too_long']:.0f} % of the texts are longer than the backbone's "
                 f"{start.sizes['max_position_embeddings']} tokens and will be cut")
    return pieces


def epochs_for(texts, rows):
    """Enough steps for few rows, and no more epochs than many need."""
    tokens = PIECES * sum(len(text.split()) for text in texts) + 2 * rows
    wanted = LEAST_STEPS * RECIPE["batch-tokens"] / tokens
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, wanted))


def recipe(run, data, sizes):
    """train.py's flags: the recipe, for this width, these rows and this format."""
    flags = dict(RECIPE)
    flags["lr"] = min(HIGHEST_RATE, RATE * (RATE_WIDTH / sizes["hidden_size"]) ** 0.5)
    flags["epochs"] = round(epochs_for(data.texts + (data.seconds or []), len(data)), 2)
    if run.args.dtype in ("auto", "i8"):
        flags["round-from"] = ROUND_FROM
    counts = data.counts()
    if counts.max() >= IMBALANCE * counts.min():
        flags["balance"] = BALANCE
    return [x for name, value in flags.items() for x in (f"--{name}", value)]


def train(run, data, sizes):
    """All exits, by train.py; the folder with the result."""
    import train as trainer

    args, result = run.args, run.path("result")
    if os.path.exists(result):
        return result
    kept = min(MEASURING_SHARE * 60 * args.minutes, MEASURING_SECONDS)
    minutes = max(0.05, args.minutes - (run.spent() + kept) / 60)
    with open(run.path("labels.json"), "w", encoding="utf-8") as file:
        json.dump(data.names, file)
    given = ["finetune", "--work", run.work, "--start", run.path("start"), "--train",
             run.path("train.tsv"), "--labels-file", run.path("labels.json"), "--cores",
             args.threads, "--seed", args.seed % 2**63, "--minutes", f"{minutes:.3f}",
             "--checkpoint-minutes", min(1, args.minutes / 30), "--output",
             result + ".new",             *recipe(run, data, sizes)]
    if args.steps:
        given += ["--steps", args.steps]
    trainer.run_command(trainer.parse(list(map(str, given))))
    os.replace(result + ".new", result)
    return result


def calibrate(run, model):
    """`splitee calibrate`, from the calibration rows; its report, or None for too few rows."""
    final = run.path("final.gguf")
    rows = min(measure.count_rows(run.path(name)) for name in ("calibration.tsv", "held_out.tsv"))
    if rows < FEWEST_TO_CALIBRATE:
        run.warn(f"{rows} rows are too few to calibrate with: temperatures stay 1 "
                 f"({FEWEST_TO_CALIBRATE} are needed)")
        os.replace(model, final)
        return final, None
    text = run.engine.run("calibrate", "--model", model, "--input", run.path("calibration.tsv"),
                          "--held-back", run.path("held_out.tsv"), "--output", final, "--json",
                          "--seed", run.args.seed, "--threads", run.args.threads)
    return final, json.loads(text)


def fit(run):
    args = run.args
    check_paths(args, run.work)
    data = table.read_table(args.data)
    source = args.backbone or default_backbone()
    start = backbone.open_backbone(source)
    make_report_folder(args.report)
    run.prepare(data.digest, start.digest())
    say(f"{len(data)} rows, {len(data.names)} classes" + (", pairs" if data.seconds else ""))
    for warning in data.warnings:
        run.warn(warning)
    check_space(run, sum(values.size for values in start.tensors.values()))
    names = list(dict.fromkeys([*start.training_sets, stamp.set_name(args.data)]))
    facts = {"backbone": source, "training_sets": names}
    (fit_kept if args.keep else fit_all)(run, data, start, facts)


def trained_texts(data, sides):
    return texts_of(data, np.flatnonzero(sides == splits.TRAIN))


def fit_all(run, data, start, facts):
    """Everything is trained."""
    sides = divide(run, data)
    facts["tokenizer"] = check_backbone(run, start, data, sides)
    sketch = stamp.sketch_of(trained_texts(data, sides), start.sketch)
    backbone.write_folder(start, run.path("start"), data.names)
    folder = train(run, data, start.sizes)
    say(f"trained after {duration(run.spent())}; measuring")
    formats = measure.formats(run.engine, folder, run.work, run.args.dtype)
    facts["dtype"], facts["formats"] = choose_format(run, formats), formats
    model = run.path(facts["dtype"] + ".gguf")
    finish(run, data, sides, model, sketch, facts)


def fit_kept(run, data, start, facts):
    """Heads alone are trained."""
    models = keep.base_models(facts["backbone"], run.work, run.args.dtype)
    file = keep.open_model(next(iter(models.values())))
    keep.check_exits(file)
    data = keep.with_model_classes(data, file.keys["splitee.labels"])
    sides = divide(run, data)
    facts["tokenizer"] = check_tokenizer(run, start, data)
    formats = keep.compare_formats(run.engine, models, run.work)
    dtype = choose_format(run, formats) if len(models) > 1 else next(iter(models))
    facts["dtype"], facts["formats"] = dtype, formats
    say(f"{dtype}; running the model on the rows to train on")
    model = keep.add_exits(run.engine, models[dtype], dtype, run.work, len(data.names),
                           run.args.seed % 2**63, run.args.threads)
    finish(run, data, sides, model, stamp.sketch_of(trained_texts(data, sides), start.sketch), facts)


def choose_format(run, formats):
    if run.args.dtype != "auto":
        return run.args.dtype
    chosen = measure.choose(formats)
    if chosen != "i8":
        run.warn(f"i8 answers otherwise than f32 too often: the model is {chosen}")
    return chosen


def finish(run, data, sides, model, sketch, facts):
    """Calibration, report and model, the model last: it is there when all is done."""
    stamp.stamp(model, facts["training_sets"], sketch)
    final, facts["calibration"] = calibrate(run, model)
    result = report.make(run.engine, run.work, final, data, sides, facts, run.warnings)
    for warning in report.doubts(result):
        run.warn(warning)
    result["seconds"] = round(run.spent(), 1)
    if run.args.report:
        report.write(run.args.report, result)
        say(f"report: {os.path.join(run.args.report, 'report.html')}")
    shutil.copyfile(final, run.args.output + ".tmp")
    os.replace(run.args.output + ".tmp", run.args.output)
    shutil.rmtree(run.work)
    print(report.summary(result), end="")
    say(f"{run.args.output}: {facts['dtype']}, {os.path.getsize(run.args.output) / 1e6:.1f} MB, "
        f"after {duration(run.spent())}")


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                     epilog="`splitee fit --help` explains all of them.")
    parser.add_argument("data")
    parser.add_argument("--output", required=True)
    parser.add_argument("--backbone", default="")
    parser.add_argument("--report", default="")
    parser.add_argument("--work", default="")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--dtype", choices=("auto", "i8", "bf16", "f32"), default="auto")
    parser.add_argument("--splitee", required=True, help="the program of that name")
    return parser.parse_args(argv)


def stop(_number, _frame):
    raise KeyboardInterrupt


def main():
    args = parse_arguments()
    signal.signal(signal.SIGTERM, stop)
    run = Run(args)
    try:
        fit(run)
    except KeyboardInterrupt:
        say(f"interrupted; the same command goes on from {run.work}")
        return 130
    except DataError as error:
        say(str(error))
        run.drop_empty_work()
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else f"{run.work}: "
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        say(place + (error.strerror or str(error)) +
            ("; --work names another place, and the same command goes on" if full else ""))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
