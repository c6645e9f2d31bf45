"""A multi-exit network on rows of numbers: its table, its model, its training, and the folder that
tools/convert_numbers.py takes (model.safetensors and network.json).

The table is CSV or TSV in UTF-8 with a header: a column `label` (names or numbers of classes), every
other column a number; .xz is unpacked on the fly. Part of the rows is held back: temperatures and
the suggested threshold come from there, and so does what is printed.
"""

import math
import os

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from . import metrics
from .data import DataError
from .folder import write_json
from .recipes import KINDS, Recipe
from .run import Run, autocast, log
from .table import class_names, decode, read_bytes, shorten
from .tensors import write_safetensors

ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu}
LEAST_STD = 1e-6  # of a column that is always the same
LABEL = "label"


class Rows:
    """values (rows, columns) float32, labels (rows) int64."""

    def __init__(self, values, labels, columns, names):
        self.values, self.labels, self.columns, self.names = values, labels, columns, names

    def __len__(self):
        return len(self.labels)

    def part(self, rows):
        return Rows(self.values[rows], self.labels[rows], self.columns, self.names)


def read_number(cell, place):
    try:
        value = float(cell)
    except ValueError:
        raise DataError(f"{place}: {shorten(cell)} is no number") from None
    if not math.isfinite(value) or abs(value) > np.finfo(np.float32).max:
        raise DataError(f"{place}: {shorten(cell)} is not finite in single precision")
    return value


def read_header(line, path):
    """(separator, names of the columns)."""
    mark = "\t" if "\t" in line else ","
    header = [name.strip() for name in line.split(mark)]
    if header.count(LABEL) != 1:
        found = ", ".join(map(shorten, header[:10]))
        raise DataError(f"{path}:1: the first line must name the columns, one of them '{LABEL}', separated "
                        f"by tabs or commas; it has {found}")  # fmt: skip
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}:1: column {shorten(twice)} comes twice")
    if len(header) == 1:
        raise DataError(f"{path}:1: no column but '{LABEL}'")
    return mark, header


def read_rows(path):
    """The Rows of a file. Raises DataError with the path and the line."""
    lines = decode(read_bytes(path), path).split("\n")
    mark, header = read_header(lines[0].rstrip("\r"), path)
    at = header.index(LABEL)
    values, labels = [], []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.rstrip("\r").split(mark)]
        if len(cells) != len(header):
            raise DataError(f"{path}:{number}: {len(cells)} fields, the header has {len(header)}")
        labels.append(cells.pop(at))
        if not labels[-1]:
            raise DataError(f"{path}:{number}: no label")
        values.append([read_number(cell, f"{path}:{number}") for cell in cells])
    if not values:
        raise DataError(f"{path}: no rows")
    names = class_names(labels, path)
    place = {name: i for i, name in enumerate(names)}
    columns = [name for name in header if name != LABEL]
    return Rows(np.array(values, np.float32), np.array([place[label] for label in labels], np.int64),
                columns, names)  # fmt: skip


class MultiExitBlocks(nn.Module):
    """Blocks of a dense layer, an activation and, where sizes allow and it is asked for, a residual
    sum; an exit (a linear classifier) behind some of them. Inputs are standardised first."""

    def __init__(self, mean, std, widths, exits, classes, activation, residual):
        super().__init__()
        sizes = [len(mean), *widths]
        self.register_buffer("mean", torch.as_tensor(mean))
        self.register_buffer("std", torch.as_tensor(std))
        self.blocks = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.exits = nn.ModuleDict({str(layer): nn.Linear(sizes[layer], classes) for layer in exits})
        self.activation = activation
        self.residual = [residual and a == b for a, b in zip(sizes, sizes[1:])]
        self.recipe = Recipe()
        self.depth = self.layer_count = len(widths)

    def grow(self, depth, optimizer):
        """All layers are there from the beginning."""

    def exit_logits(self, values):
        """[exits, rows, classes] from [rows, columns]."""
        state, logits = (values - self.mean) / self.std, []
        for layer, block in enumerate(self.blocks, 1):
            new = ACTIVATIONS[self.activation](block(state))
            state = new + state if self.residual[layer - 1] else new
            if str(layer) not in self.exits:
                continue
            asked, state = self.recipe.branch(state, sum(int(e) > layer for e in self.exits))
            logits.append(self.exits[str(layer)](asked))
        return torch.stack(logits)


def whole_numbers(text, flag, least=1):
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or min(values) < least:
        raise DataError(f"{flag} takes whole numbers from {least} on, separated by commas, not {text!r}")
    return values


def make_model(args, rows):
    widths = whole_numbers(args.widths, "--widths")
    exits = whole_numbers(args.exits, "--exits") if args.exits else list(range(1, len(widths) + 1))
    if exits != sorted(set(exits)) or exits[-1] != len(widths):
        raise DataError(f"--exits must rise to the last block, {len(widths)}")
    mean, std = rows.values.mean(0), rows.values.std(0)
    return MultiExitBlocks(mean, np.where(std < LEAST_STD, 1, std).astype(np.float32), widths, exits,
                           len(rows.names), args.activation, args.residual)  # fmt: skip


def split(rows, args):
    """(to train on, held back), the same for the same seed; equal rows stay on one side."""
    _, group = np.unique(rows.values, axis=0, return_inverse=True)
    groups = np.random.default_rng(args.seed).permutation(group.max() + 1)
    held = np.isin(group, groups[: max(1, round(args.hold_back * len(groups)))])
    if held.all() or len(set(rows.labels[~held])) < 2:
        raise DataError(f"{args.train}: too few different rows to hold some back")
    return rows.part(~held), rows.part(held)


def logits_of(model, rows):
    model.eval()
    with torch.no_grad():
        logits = model.exit_logits(torch.from_numpy(rows.values)).numpy()
    model.train()
    return logits


def save(folder, model, rows, calibration):
    state = {name: values.numpy() for name, values in model.state_dict().items()}
    os.makedirs(folder, exist_ok=True)
    write_safetensors(os.path.join(folder, "model.safetensors"), state)
    write_json(os.path.join(folder, "network.json"), {
        "activation": model.activation, "residual": model.residual, "labels": rows.names,
        "columns": rows.columns, "temperatures": calibration["temperatures"],
        "alpha": calibration["alpha_calibrated"]["alpha"],
    })  # fmt: skip


def train(args):
    """The command `train.py numbers`."""
    if not 0 < args.hold_back < 1:
        raise DataError("--hold-back is a share between 0 and 1")
    rows, held = split(read_rows(args.train), args)
    model = make_model(args, rows)
    model.recipe = Recipe(args.recipe, distill=args.distill, first_exit_weight=args.first_exit_weight)
    log(f"{len(rows)} rows to train on, {len(held)} held back, {len(rows.columns)} numbers, "
        f"{len(rows.names)} classes, {sum(p.numel() for p in model.parameters())} weights")  # fmt: skip
    run = Run(args, model, [rows.values, rows.labels])
    values, labels = torch.from_numpy(rows.values), torch.from_numpy(rows.labels)

    def loss_at(step, rank, rng):
        chosen = torch.from_numpy(rng.integers(len(rows), size=max(1, args.batch_rows // args.cores)))
        with autocast(args.precision):
            logits = model.exit_logits(values[chosen])
        if rank == 0:
            run.watch.batch((logits.detach().argmax(-1) == labels[chosen]).float().mean(1).tolist())
        return model.recipe.loss(logits, labels[chosen]), len(chosen)

    run.train(loss_at)
    with run.averaged():
        logits = logits_of(model, held)
        save(args.output, model, rows, metrics.calibrate(logits, held.labels))
    log(f"wrote {args.output}")
    print(metrics.format_table({"held back": [metrics.exit_report(exit_, held.labels) for exit_ in logits]}))


def add_options(parser):
    parser.add_argument("--train", required=True, metavar="FILE", help="table with a header and a column label")
    parser.add_argument("--widths", default="64,64,64,64", metavar="N,N,...",
                        help="outputs of each block (default %(default)s)")  # fmt: skip
    parser.add_argument("--exits", metavar="K,K,...", help="blocks with an exit (default: all)")
    parser.add_argument("--activation", choices=list(ACTIVATIONS), default="relu", help="default %(default)s")
    parser.add_argument("--no-residual", dest="residual", action="store_false",
                        help="blocks of equal size do not add their input to their output")  # fmt: skip
    parser.add_argument("--hold-back", type=float, default=0.1, metavar="X",
                        help="share of the rows for temperatures and the report (default %(default)s)")  # fmt: skip
    parser.add_argument("--batch-rows", type=int, default=256, metavar="N", help="rows a step (default %(default)s)")
    parser.add_argument("--recipe", choices=KINDS, default=KINDS[0], help="train_lib/recipes.py (default %(default)s)")
    parser.add_argument("--distill", type=float, default=0.3, metavar="X",
                        help="share of the last exit's probabilities in earlier exits' targets (default %(default)s)")  # fmt: skip
    parser.add_argument("--first-exit-weight", type=float, default=1.0, metavar="X",
                        help="loss weight of exit 1; the last has 1 (default %(default)s)")  # fmt: skip
