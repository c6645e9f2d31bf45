"""Adds exits to a fine-tuned model whose own weights stay as they are, bit for bit.

Heads alone are trained, on what the engine computes in the number format that the model will have.
Each reads of its layer what the last one reads, follows the labels and what the last exit says (an
exit is used for agreeing with it), and is written beside the old tensors, which are copied as they
lie.
"""

import os

import numpy as np

from . import paths  # noqa: F401
import convert_hf as converter
import gguf_reader
import gguf_writer as gguf

from . import measure
from .data import DataError
from .engine import convert

MOST_ROWS = 20_000
POOLINGS = {1: "mean", 2: "first"}  # bert.pooling_type
EPOCHS, BATCH, RATE, DECAY = 12, 128, 1e-3, 1e-2
FOLLOW = 0.5  # share of the last exit's probabilities in the target
PATIENCE_ROWS = 0.1  # of the rows, to stop by


def base_models(source, work, dtype):
    """The model as it is, without more exits: {format: path}; of a GGUF there is one format."""
    if os.path.isdir(source):
        wanted = measure.FORMATS if dtype == "auto" else (dtype,)
        result = {name: os.path.join(work, f"base-{name}.gguf") for name in wanted}
        for name, path in result.items():
            convert(source, path, name)
        return result
    kinds = {gguf.TENSOR_F32: "f32", gguf.TENSOR_F16: "f16", gguf.TENSOR_BF16: "bf16",
             gguf.TENSOR_I8: "i8"}
    found = kinds[open_model(source).tensors["blk.0.attn_q.weight"].kind]
    if dtype not in ("auto", found):
        raise DataError(f"{source} is {found} and --keep leaves its weights as they are: not "
                        f"--dtype {dtype}")
    return {found: source}


def open_model(path):
    try:
        file = gguf_reader.GgufFile(path)
    except gguf_reader.GgufError as error:
        raise DataError(str(error)) from error
    if "splitee.exit_layers" not in file.keys or "blk.0.attn_q.weight" not in file.tensors:
        raise DataError(f"{path}: not a model with an exit: --keep adds exits to one")
    return file


def check_exits(file):
    layers = file.keys["bert.block_count"]
    if len(file.keys["splitee.exit_layers"]) == layers:
        raise DataError(f"{file.path}: has an exit on every layer already")
    return [layer for layer in range(1, layers + 1)
            if layer not in file.keys["splitee.exit_layers"]]


def with_model_classes(data, names):
    """The rows with the model's classes, which they name by name or by number."""
    numbers = [str(i) for i in range(len(names))]
    if not set(data.names) <= set(names) and set(data.names) <= set(numbers):
        data = data.renamed(numbers)
        data.names = names
        return data
    return data.renamed(names)


def compare_formats(engine, models, work):
    """How each format of the model as it is answers, by its own exits."""
    rows = measure.head(os.path.join(work, "held_out.tsv"), measure.FORMAT_ROWS)
    labels = measure.labels_of(rows)
    result, reference = {}, None
    for name, path in models.items():
        result[name] = {"bytes": os.path.getsize(path)}
        if len(models) > 1:
            probabilities = engine.probabilities(path, rows, work)
            reference = probabilities if reference is None else reference
            result[name] |= measure.against(probabilities, reference, labels)
    return result


def train_heads(features, target, labels, classes, layers, seed, threads):
    """{layer: (pooler weight, bias, classifier weight, bias)} from features (rows, layers, hidden);
    `target`: the last exit's probabilities (rows, classes)."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    order = np.random.default_rng(seed).permutation(len(labels))
    own = torch.nn.functional.one_hot(torch.from_numpy(labels), classes).float()
    wanted = FOLLOW * torch.from_numpy(target) + (1 - FOLLOW) * own
    apart = max(1, int(PATIENCE_ROWS * len(order)))
    parts = torch.from_numpy(order[apart:]), torch.from_numpy(order[:apart])
    return {layer: train_head(torch.from_numpy(np.array(features[:, layer - 1])), wanted, parts)
            for layer in layers}


def train_head(x, wanted, parts):
    """Of one layer; the epoch that is best on the rows kept apart."""
    import torch
    from torch.nn import functional as F

    rows, apart = parts
    hidden, classes = x.shape[1], wanted.shape[1]
    scale = x[rows].std(0) + 1e-3
    centre = x[rows].mean(0)
    pooler, classifier = torch.nn.Linear(hidden, hidden), torch.nn.Linear(hidden, classes)
    torch.nn.init.normal_(pooler.weight, std=hidden**-0.5)
    torch.nn.init.zeros_(classifier.weight)
    parameters = [*pooler.parameters(), *classifier.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
    steps = EPOCHS * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    x = (x - centre) / scale

    def loss_of(chosen):
        scores = classifier(torch.tanh(pooler(x[chosen])))
        return -(wanted[chosen] * F.log_softmax(scores, -1)).sum(-1).mean()

    best, kept = float("inf"), None
    for _ in range(EPOCHS):
        for batch in rows[torch.randperm(len(rows))].split(BATCH):
            optimizer.zero_grad()
            loss_of(batch).backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            loss = float(loss_of(apart))
        if loss < best:
            best, kept = loss, [p.detach().clone() for p in parameters]
    weight, bias, scores, offset = kept
    weight = weight / scale
    return tuple(value.numpy() for value in (weight, bias - weight @ centre, scores, offset))


def head_tensors(layer, head, dtype):
    """A head as the converter would write it."""
    small = "f32" if dtype == "i8" else dtype
    weight, bias, scores, offset = head
    name = f"splitee.exit.{layer}"
    result = []
    for part, values, kind in ((".pooler.weight", weight, dtype), (".pooler.bias", bias, "f32"),
                               (".classifier.weight", scores, small),
                               (".classifier.bias", offset, "f32")):
        values = np.ascontiguousarray(values, np.float32)
        source = _Source(name + part)
        result.append(gguf.Tensor(source.name, values.shape, converter.TENSOR_KINDS[kind],
                                  lambda s=source, v=values, k=kind: converter.encode(s, v, k, None)))
        if kind == "i8":
            result.append(gguf.Tensor(source.name + ".scale", values.shape[:1], gguf.TENSOR_F32,
                                      lambda s=source, v=values:
                                      converter.encode(s, v, "i8", "scale")))
    return result


class _Source:
    """What the converter's messages name."""

    path = "a new exit"

    def __init__(self, name):
        self.name = name


def write_model(file, heads, dtype, path):
    """The model with more exits: its own tensors as they lie, no temperatures yet."""
    old = file.keys["splitee.exit_layers"]
    layers = sorted([*old, *heads])
    temperatures = dict(zip(old, file.keys.get("splitee.exit_temperatures", [1.0] * len(old))))
    pairs = file.with_keys([
        ("splitee.exit_layers", gguf.ARRAY, (gguf.U32, layers)),
        ("splitee.exit_temperatures", gguf.ARRAY,
         (gguf.F32, [temperatures.get(layer, 1.0) for layer in layers]))])
    stale = ("splitee.exit_alphas", "splitee.prior.predictions", "splitee.prior.confidences",
             "splitee.prior.labels", "splitee.prior.kinds", "splitee.prior.network")
    tensors = [tensor.to_write() for tensor in file.tensors.values()]
    for layer, head in heads.items():
        tensors += head_tensors(layer, head, dtype)
    gguf.write_gguf(path, [pair for pair in pairs if pair[0] not in stale], tensors)


def add_exits(engine, model, dtype, work, classes, seed, threads):
    """Trains and writes exits for all layers of a model without one; the path of the result."""
    file = open_model(model)
    layers = check_exits(file)
    rows = measure.head(os.path.join(work, "train.tsv"), MOST_ROWS)
    labels = measure.labels_of(rows)
    pooling = POOLINGS.get(file.keys.get("bert.pooling_type"), "first")
    features = engine.features(model, rows, pooling, os.path.join(work, "features.npy"))
    last = engine.probabilities(model, rows, work)[-1]
    heads = train_heads(features, last, labels, classes, layers, seed, threads)
    path = os.path.join(work, "kept.gguf")
    write_model(file, heads, dtype, path)
    return path
