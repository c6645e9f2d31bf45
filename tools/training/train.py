#!/usr/bin/env python3
"""Trains a multi-exit BERT encoder (ElasticBERT's architecture) and writes a
Hugging Face folder that tools/convert_hf.py takes. Needs PyTorch and NumPy
(Debian: python3-torch).

  train.py pretrain   masked-word training on plain text
  train.py finetune   joint training of all exits on labelled rows
  train.py eval       accuracy, confidence and calibration of every exit
  train.py numbers    a multi-exit network on rows of numbers, for tools/convert_numbers.py
  train.py images     a multi-exit convolutional network, for tools/convert_images.py

FILE arguments take a Python slice over the data rows: 'reviews.tsv.xz[:-5000]'.
TSV files begin with a header naming columns among text, text2 (second sentence),
label (0, 1, ...) and, to learn from, teacher (another model's probability of every
class, blanks between them); fields are not quoted; .xz is unpacked on the fly.

Training writes a checkpoint into --work every few minutes; the same command run
again goes on from it. Everything random at a step follows from the seed and the
step's number alone, so with --steps (and as many --cores) a resumed run ends with
the same weights.
"""

import argparse
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../python"))
from interpreter import need  # noqa: E402

need("numpy", "torch")
import numpy as np  # noqa: E402
import torch  # noqa: E402

from train_lib import data, folder, images, metrics, numbers, work_lock  # noqa: E402
from train_lib.bounds import check_numbers  # noqa: E402
from train_lib.data import DataError  # noqa: E402
from train_lib.model import POOLINGS, MultiExitEncoder, Operand, Shape  # noqa: E402
from train_lib.recipes import KINDS, Recipe  # noqa: E402
from train_lib.run import Run, autocast, can_resume, detect_precision, growth_depth, log  # noqa: E402
from train_lib.tokenizer import MASK, SPECIAL_TOKENS, Tokenizer  # noqa: E402


def new_model(args, tokenizer, num_labels):
    shape = Shape(
        vocab_size=len(tokenizer.tokens), num_labels=num_labels, hidden_size=args.hidden,
        num_hidden_layers=args.layers, num_attention_heads=args.heads,
        intermediate_size=args.intermediate or 4 * args.hidden,
        max_position_embeddings=args.max_seq,
        exit_pooling=getattr(args, "pooling", None) or POOLINGS[0])
    if args.hidden % args.heads:
        raise DataError(f"--hidden {args.hidden} is not a multiple of --heads {args.heads}")
    model = MultiExitEncoder(shape, args.dropout)
    if args.vectors and not can_resume(args):
        found = folder.start_embedding(model, tokenizer, args.vectors)
        log(f"{found} of {len(tokenizer.tokens)} embeddings start from {args.vectors}")
    return model


def read_tokenizer(path):
    try:
        return Tokenizer.from_folder(path) if os.path.isdir(path) else Tokenizer.from_file(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error


def pretrain(args):
    tokenizer = read_tokenizer(args.vocab)
    model = new_model(args, tokenizer, num_labels=2)
    stream = data.load_stream(args.work, args.text, tokenizer)
    log(f"{len(stream)} tokens of text, {sum(p.numel() for p in model.parameters())} parameters")
    model.depth = growth_depth(args.grow, model, 0.0)
    run = Run(args, model, [stream])

    def loss_at(step, rank, rng):
        ids, labels = map(torch.from_numpy, data.masked_batch(
            stream, step * args.cores + rank, args.batch_tokens // args.cores,
            len(tokenizer.tokens), args.max_seq, args.mask_rate, rng))
        with autocast(args.precision):
            states = model.hidden_states(ids, torch.zeros_like(ids))
            chosen = {len(states) - 1, int(rng.integers(len(states)))}
            losses = [model.masked_word_loss(states[i], labels, data.IGNORED_LABEL)
                      for i in chosen]
        return sum(losses) / len(losses), ids.numel()

    run.train(loss_at)
    with run.averaged():
        folder.save_folder(args.output, model, tokenizer, folder.default_label_names(2))
    log(f"wrote {args.output}")


def drop_tokens(ids, rate, rng):
    """Hides a share of the words behind [MASK]: regularisation of a text classifier."""
    noise = torch.from_numpy(rng.random(tuple(ids.shape), dtype=np.float32))
    return ids.masked_fill((noise < rate) & (ids >= len(SPECIAL_TOKENS)), MASK)


def class_weights(labels, classes, power):
    """Weights of the classes in the loss, 1 on the average row: a rare class counts more."""
    if not power:
        return None
    counts = np.bincount(labels, minlength=classes)
    weights = np.maximum(1, counts) ** -power
    return torch.tensor(weights * counts.sum() / (weights * counts).sum(), dtype=torch.float32)


def start_tokenizer(args):
    if not args.start and not args.vocab:
        raise DataError("finetune needs --start FOLDER or --vocab FILE")
    return read_tokenizer(args.start or args.vocab)


def start_model(args, tokenizer, num_labels):
    if args.start:
        model, _, names = folder.load_folder(args.start, args.dropout, num_labels, args.pooling)
        return model, names
    return new_model(args, tokenizer, num_labels), folder.default_label_names(num_labels)


def read_names(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error


def label_names(args, names):
    if args.labels_file:
        given = read_names(args.labels_file)
    elif args.labels:
        given = args.labels.split(",")
    else:
        return names
    if len(given) != len(names):
        raise DataError(f"--labels names {len(given)} classes, the data has {len(names)}")
    return given


def parse_dev(entries):
    pairs = [entry.split("=", 1) for entry in entries]
    for pair in pairs:
        if len(pair) != 2:
            raise DataError(f"--dev takes NAME=FILE, not '{pair[0]}'")
    return dict(pairs)


def batch_plans(examples, args, max_seq):
    """(rows, length limit) of every step, epoch after epoch."""
    epoch = 0
    while True:
        yield from data.plan_epoch(
            examples, epoch, args.seed, args.batch_tokens, max_seq, args.crop)
        epoch += 1


def finetune(args):
    tokenizer = start_tokenizer(args)
    examples = data.Examples.load_all(args.work, args.train, tokenizer)
    num_labels = int(examples.labels.max()) + 1
    if examples.teacher is not None and examples.teacher.shape[1] != num_labels:
        raise DataError(f"the teacher has {examples.teacher.shape[1]} classes, the labels {num_labels}")
    model, names = start_model(args, tokenizer, num_labels)
    names = label_names(args, names)
    dev = load_dev(args, tokenizer, num_labels)
    log(f"{len(examples)} training rows, {num_labels} labels")
    model.recipe = Recipe(args.recipe, args.reach, args.distill, args.first_exit_weight,
                          args.label_smoothing)
    model.depth = growth_depth(args.grow, model, 0.0)
    words = model.elasticbert["embeddings"].word_embeddings
    words.weight.requires_grad_(not args.freeze_words)
    weights = class_weights(examples.labels, num_labels, args.balance)
    run = Run(args, model, examples.arrays())
    if args.epochs:
        run.most_steps = args.epochs * len(data.plan_epoch(
            examples, 0, args.seed, args.batch_tokens, model.shape.max_position_embeddings,
            args.crop))
    plans = batch_plans(examples, args, model.shape.max_position_embeddings)
    for _ in range(run.step):
        next(plans)

    def loss_at(step, rank, rng):
        rows, limit = next(plans)
        rows = rows[rank :: args.cores] or rows
        ids, types, lengths, labels = metrics.batch_tensors(
            examples, rows, limit, rng if args.crop else None,
            model.shape.max_position_embeddings)
        ids = drop_tokens(ids, args.token_dropout, rng)
        with autocast(args.precision):
            logits = model.exit_logits(ids, types, lengths)
        if rank == 0:
            run.watch.batch((logits.detach().argmax(-1) == labels).float().mean(1).tolist())
        teacher = None if examples.teacher is None else torch.from_numpy(examples.teacher[rows])
        return model.recipe.loss(logits, labels, weights, teacher), int(lengths.sum())

    def evaluate():
        report = measure(args, model, {n: d.head(args.eval_rows) for n, d in dev.items()})
        log("on the first rows of each development set:\n" + metrics.format_table(report))

    run.train(loss_at, evaluate if dev else None)
    Operand.rounded = False
    with run.averaged():
        folder.save_folder(args.output, model, tokenizer, names, word_head=False)
        log(f"wrote {args.output}")
        write_report(args, model, tokenizer, dev)


def load_dev(args, tokenizer, num_labels):
    dev = {name: data.Examples.load(args.work, spec, tokenizer)
           for name, spec in parse_dev(args.dev).items()}
    for name, examples in dev.items():
        if examples.labels.max() >= num_labels:
            raise DataError(f"{name}: label {examples.labels.max()}, the model has {num_labels}")
    return dev


def measure(args, model, dev):
    """Per data set, a list of exit reports."""
    report = {}
    for name, examples in dev.items():
        logits = logits_of(args, model, examples)
        report[name] = [metrics.exit_report(rows, examples.labels) for rows in logits]
    return report


def logits_of(args, model, examples):
    threads = torch.get_num_threads()
    torch.set_num_threads(args.cores)
    with autocast(args.precision):
        logits = metrics.all_logits(model, examples)
    torch.set_num_threads(threads)
    return logits


def write_report(args, model, tokenizer, dev):
    """Measures the development sets in full, and writes report.json where asked for."""
    report = {"dev": measure(args, model, dev)}
    if args.calibrate:
        rows = data.Examples.load_all(args.work, args.calibrate, tokenizer)
        report["calibration"] = metrics.calibrate(logits_of(args, model, rows), rows.labels)
        print(json.dumps(report["calibration"]))
    if dev:
        print(metrics.format_table(report["dev"]))
    if args.output and (dev or args.calibrate):
        folder.write_json(os.path.join(args.output, "report.json"), report)


def evaluate_folder(args):
    model, tokenizer, _ = folder.load_folder(args.model)
    write_report(args, model, tokenizer, load_dev(args, tokenizer, model.shape.num_labels))


def add_common(parser):
    parser.add_argument("--work", required=True, metavar="DIR", help="caches and checkpoints")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), metavar="N",
                        help="processor cores to use (default: all)")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default=detect_precision(),
                        help="bf16 autocast or fp32 (default here: %(default)s)")


def add_evaluation(parser):
    parser.add_argument("--dev", action="append", default=[], metavar="NAME=FILE[a:b]",
                        help="labelled TSV to report on; repeatable")
    parser.add_argument("--calibrate", action="append", default=[], metavar="FILE[a:b]",
                        help="labelled TSV for temperatures and alpha in report.json; repeatable")


def add_run(parser, lr, warmup, ema):
    """What a training of any network is told."""
    number, real = {"type": int, "metavar": "N"}, {"type": float, "metavar": "X"}
    parser.add_argument("--output", required=True, metavar="FOLDER", help="the model folder")
    parser.add_argument("--minutes", default=60.0, **real,
                        help="training time, minutes (default %(default)s)")
    parser.add_argument("--steps", help="training steps, instead of --minutes", **number)
    parser.add_argument("--seed", default=1, **number, help="default %(default)s")
    parser.add_argument("--no-resume", dest="resume", action="store_false",
                        help="start anew though --work has a checkpoint")
    parser.add_argument("--checkpoint-minutes", default=3.0, **real, help="default %(default)s")
    parser.add_argument("--lr", default=lr, **real, help="peak (default %(default)s)")
    parser.add_argument("--warmup", default=warmup, help="steps (default %(default)s)", **number)
    parser.add_argument("--weight-decay", default=0.01, help="default %(default)s", **real)
    parser.add_argument("--clip", default=1.0, help="gradient norm (default %(default)s)", **real)
    parser.add_argument("--ema", default=ema, **real,
                        help="decay of the weight average, 0 for none (default %(default)s)")


def add_training(parser, lr, batch_tokens, warmup, ema):
    number = {"type": int, "metavar": "N"}
    add_run(parser, lr, warmup, ema)
    parser.add_argument("--vocab", metavar="FILE", help="vocab.txt, as tools/training/vocab.py makes it")
    parser.add_argument("--vectors", metavar="FILE",
                        help="word vectors that start the embedding: GloVe text or wink JSON")
    sizes = [("layers", 12), ("hidden", 192), ("heads", 3), ("max-seq", 256)]
    for name, default in sizes:
        parser.add_argument(f"--{name}", default=default, help="default %(default)s", **number)
    parser.add_argument("--intermediate", help="default 4 x hidden", **number)
    parser.add_argument("--batch-tokens", default=batch_tokens, **number,
                        help="tokens a step (default %(default)s)")
    parser.add_argument("--grow", type=float, nargs="*", default=[], metavar="X",
                        help="start shallow; the layers double at these shares of the time")


def add_pretrain(commands):
    parser = commands.add_parser("pretrain", help="masked-word training on plain text")
    add_common(parser)
    add_training(parser, lr=1e-3, batch_tokens=4096, warmup=300, ema=0.0)
    parser.add_argument("--text", action="append", required=True, metavar="FILE[a:b]",
                        help=".tsv[.xz] with a text column, or one text a line; repeatable")
    parser.add_argument("--mask-rate", type=float, default=0.2, metavar="X",
                        help="share of masked tokens (default %(default)s)")
    parser.add_argument("--dropout", type=float, default=0.0, metavar="X", help="default 0")
    parser.set_defaults(action=pretrain)


def add_finetune(commands):
    parser = commands.add_parser("finetune", help="joint training of all exits")
    add_common(parser)
    add_training(parser, lr=3e-4, batch_tokens=2048, warmup=200, ema=0.999)
    add_evaluation(parser)
    parser.add_argument("--train", action="append", required=True, metavar="FILE[a:b]",
                        help="labelled TSV; repeatable, a file given twice counts twice")
    parser.add_argument("--start", metavar="FOLDER", help="model folder to start from")
    parser.add_argument("--epochs", type=float, metavar="X",
                        help="end after so many, though --minutes are not over (default: never)")
    parser.add_argument("--freeze-words", action="store_true",
                        help="leave the word embedding as it starts")
    parser.add_argument("--labels", metavar="A,B,...", help="names of the classes")
    parser.add_argument("--labels-file", metavar="FILE", help="the same as a JSON list")
    parser.add_argument("--pooling", choices=POOLINGS,
                        help="what exits read of their layer: the first token, so that the others "
                             "need not be computed for it, or the mean of all, which lets shallow "
                             "exits learn more (default: as --start has it, or first)")
    parser.add_argument("--recipe", choices=KINDS, default=KINDS[0],
                        help="whose gradient reaches which layer (train_lib/recipes.py; default "
                             "%(default)s)")
    parser.add_argument("--eval-rows", type=int, default=1000, metavar="N",
                        help="rows of each set looked at while training (default %(default)s)")
    options = [
        ("dropout", 0.1, "default %(default)s"),
        ("token-dropout", 0.1, "share of words replaced by [MASK] (default %(default)s)"),
        ("label-smoothing", 0.05, "default %(default)s"),
        ("balance", 0.0, "weight of a class: its rows to the power of -X (default: all the same)"),
        ("reach", 0.0, "with --recipe limited: what a deeper exit's gradient counts one layer "
                       "further down (default %(default)s)"),
        ("round-from", 1.0, "share of the time after which activations are rounded as int8 "
                            "arithmetic will round them (default %(default)s: never)"),
        ("head-lr", 1.0, "learning rate of the exits' own weights, times --lr (default "
                         "%(default)s)"),
        ("layer-lr", 1.0, "learning rate of a layer, times that of the layer above it (default %(default)s)"),
        ("first-exit-weight", 0.5, "loss weight of exit 1; the last has 1 (default %(default)s)"),
        ("distill", 0.3, "share of the last exit's probabilities in earlier exits' targets, or of the "
                         "teacher's in all exits' (default %(default)s)"),
        ("eval-minutes", 10.0, "time between looks at --dev (default %(default)s)"),
    ]
    for name, default, text in options:
        parser.add_argument(f"--{name}", type=float, default=default, metavar="X", help=text)
    parser.add_argument("--crop", type=int, default=0, metavar="N",
                        help="train on random windows of N to --max-seq tokens of longer texts; "
                             "0 keeps their beginnings")
    parser.set_defaults(action=finetune)


def add_eval(commands):
    parser = commands.add_parser("eval", help="measure a model folder")
    add_common(parser)
    add_evaluation(parser)
    parser.add_argument("--model", required=True, metavar="FOLDER")
    parser.add_argument("--output", metavar="FOLDER", help="writes FOLDER/report.json")
    parser.set_defaults(action=evaluate_folder)


def add_numbers(commands):
    parser = commands.add_parser("numbers", help="a network on rows of numbers")
    add_common(parser)
    add_run(parser, lr=2e-3, warmup=50, ema=0.99)
    numbers.add_options(parser)
    parser.set_defaults(action=numbers.train, grow=[])


def add_images(commands):
    parser = commands.add_parser("images", help="a convolutional network on images")
    add_common(parser)
    add_run(parser, lr=3e-3, warmup=200, ema=0.999)
    images.add_options(parser)
    parser.set_defaults(action=images.train, grow=[], weight_decay=0.05)


def parse(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (add_pretrain, add_finetune, add_eval, add_numbers, add_images):
        add(commands)
    return parser.parse_args(argv)


def run_command(args):
    check_numbers(args)
    for name in ("work", "output"):
        if getattr(args, name, None) == "":
            raise DataError(f"--{name}: an empty name")
    action = args.__dict__.pop("action")
    torch.manual_seed(getattr(args, "seed", 0))
    for path in filter(None, (args.work, args.output)):
        os.makedirs(path, exist_ok=True)
    if args.command != "eval":
        work_lock.hold(os.path.join(args.work, f"{args.command}.lock"), f"train.py {args.command}")
    action(args)


def main():
    args = parse()
    try:
        run_command(args)
    except (DataError, OSError) as error:
        sys.exit(f"train.py: error: {error}")
    except KeyboardInterrupt:
        print("train.py: interrupted; the same command goes on from the last checkpoint, if there is one",
              file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
