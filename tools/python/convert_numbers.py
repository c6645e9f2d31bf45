#!/usr/bin/env python3
"""Converts a network on rows of numbers into the GGUF file that the runtime reads.

The folder holds model.safetensors or pytorch_model.bin, a state dict with
  mean (F), std (F)         the input's numbers are standardised by them
  blocks.N.weight, .bias    block N = 0 .. L-1: (outputs, inputs), (outputs)
  exits.K.weight, .bias     the classifier behind block K = 1 .. L: (classes, outputs of the block),
                            (classes); the last block has one
and network.json beside it:
  {"activation": "relu" or "gelu",
   "residual": [false, true, ...]    per block: its input is added to its output (default: none)
   "labels": ["idle", ...]           names of the classes
   "columns": ["temp", ...]          names of the F numbers in a table's header (optional)
   "temperatures": [1.0, ...]        per exit (optional)
   "alpha": 0.9}                     suggested exit threshold (optional)
The file format is described in runtime/numbers/numbers_format.h.
"""

import os
import re
import sys

from interpreter import need

need("numpy")

import gguf_writer as gguf  # noqa: E402
from convert_hf import TENSOR_KINDS, Weights, check_output, encode, parse_alpha  # noqa: E402
from hf_checkpoint import read_checkpoint  # noqa: E402
from hf_config import check_labels  # noqa: E402
from hf_files import CheckpointError, exit_status, folder_parser, read_json_object  # noqa: E402

PROGRAM = "convert_numbers.py"
DTYPE_HELP = (
    "type of the matrices (default: %(default)s). i8: one scale per row; classifiers are then "
    "f32. Vectors are always f32."
)
KNOWN_KEYS = {"activation", "residual", "labels", "columns", "temperatures", "alpha"}
MOST_BLOCKS = 1024


class Description:
    """network.json, checked as far as it goes without the weights."""

    def __init__(self, path):
        self.path, values = path, read_json_object(path)
        unknown = sorted(set(values) - KNOWN_KEYS)
        if unknown:
            raise CheckpointError(f"{path}: key {unknown[0]} is not known")
        self.activation = values.get("activation")
        if self.activation not in ("relu", "gelu"):
            raise CheckpointError(f'{path}: activation is neither "relu" nor "gelu"')
        self.residual = self._list(values, "residual", bool)
        labels = self._list(values, "labels", str) or []
        if not 2 <= len(labels) <= 4096:
            raise CheckpointError(f"{path}: labels has {len(labels)} entries, not 2 to 4096")
        self.labels = check_labels(labels, path)
        self.columns = self._list(values, "columns", str)
        self.temperatures = self._list(values, "temperatures", (int, float))
        for value in self.temperatures or []:
            if not 1e-6 <= value <= 1e6:
                raise CheckpointError(f"{path}: {value!r} is not a temperature (1e-6 to 1e6)")
        try:
            self.alpha = None if values.get("alpha") is None else parse_alpha(str(values["alpha"]))
        except ValueError:
            raise CheckpointError(f"{path}: alpha {values['alpha']!r} is not in (0, 1]") from None

    def _list(self, values, key, kind):
        found = values.get(key)
        if found is None:
            return None
        if not isinstance(found, list) or not all(isinstance(value, kind) for value in found):
            raise CheckpointError(f"{self.path}: {key} is not a list of the right type")
        return found

    def check_length(self, key, count, of):
        found = getattr(self, key)
        if found is not None and len(found) != count:
            raise CheckpointError(f"{self.path}: {key} has {len(found)} entries for {count} {of}")


def shape_of(weights, name, rank):
    tensor = weights.tensors.get(name)
    if tensor is None:
        raise CheckpointError(f"{weights.path}: {name} is missing")
    if len(tensor.shape) != rank:
        raise CheckpointError(f"{weights.path}: {name}: shape {tensor.shape}, expected {rank} dimensions")
    return tensor.shape


class Converter:
    def __init__(self, weights, dtype):
        self.weights, self.dtype, self.tensors = weights, dtype, []

    def add_vector(self, name, source, size):
        tensor = self.weights.take(source, (size,))
        if tensor is not None:
            self.tensors.append(gguf.Tensor(name, (size,), gguf.TENSOR_F32, tensor.load))
        return tensor

    def add_linear(self, name, source, shape, dtype):
        tensor = self.weights.take(source + ".weight", shape)
        if tensor is not None:
            self.tensors.append(gguf.Tensor(
                name + ".weight", shape, TENSOR_KINDS[dtype],
                lambda: encode(tensor, tensor.load(), dtype, "weight")))  # fmt: skip
            if dtype == "i8":
                self.tensors.append(gguf.Tensor(
                    name + ".weight.scale", shape[:1], gguf.TENSOR_F32,
                    lambda: encode(tensor, tensor.load(), dtype, "scale")))  # fmt: skip
        self.add_vector(name + ".bias", source + ".bias", shape[0])


def convert(arguments):
    folder = arguments.checkpoint
    description = os.path.join(folder, "network.json")
    names = ("model.safetensors", "pytorch_model.bin")
    check_output(arguments.output, [description, *(os.path.join(folder, name) for name in names)])
    about = Description(description)
    weights = Weights(*read_checkpoint(folder), None)
    blocks = [int(m.group(1)) for name in weights.tensors if (m := re.fullmatch(r"blocks\.(\d+)\.weight", name))]
    exits = sorted(int(m.group(1)) for name in weights.tensors if (m := re.fullmatch(r"exits\.(\d+)\.weight", name)))
    if sorted(blocks) != list(range(len(blocks))) or not 1 <= len(blocks) <= MOST_BLOCKS:
        raise CheckpointError(f"{weights.path}: blocks.N.weight are not N = 0 .. L-1")
    if not exits or exits[0] < 1 or exits[-1] != len(blocks):
        raise CheckpointError(f"{weights.path}: exits.K.weight: the last one must be behind block {len(blocks)}")
    (features,) = shape_of(weights, "mean", 1)
    widths = [shape_of(weights, f"blocks.{i}.weight", 2)[0] for i in range(len(blocks))]
    classes = len(about.labels)
    about.check_length("residual", len(blocks), "blocks")
    about.check_length("columns", features, "numbers")
    about.check_length("temperatures", len(exits), "exits")
    residual = about.residual or [False] * len(blocks)
    sizes = [features, *widths]
    for i, wanted in enumerate(residual):
        if wanted and sizes[i] != sizes[i + 1]:
            raise CheckpointError(f"{description}: residual: block {i + 1} has another size than its input")
    converter = Converter(weights, arguments.dtype)
    converter.add_vector("input.mean", "mean", features)
    std = converter.add_vector("input.std", "std", features)
    if std is not None and not (std.load() > 0).all():
        raise CheckpointError(f"{weights.path}: std holds a value that is not above 0")
    for i in range(len(blocks)):
        converter.add_linear(f"blk.{i}.dense", f"blocks.{i}", (sizes[i + 1], sizes[i]), arguments.dtype)
    for layer in exits:
        kind = "f32" if arguments.dtype == "i8" else arguments.dtype
        converter.add_linear(f"splitee.exit.{layer}.classifier", f"exits.{layer}", (classes, sizes[layer]), kind)
    weights.check_complete(("blocks.", "exits."), re.compile("(?!)"))
    pairs = [
        ("general.architecture", gguf.STRING, "splitee-numbers"),
        ("general.alignment", gguf.U32, gguf.ALIGNMENT),
        ("numbers.block_count", gguf.U32, len(blocks)),
        ("numbers.feature_count", gguf.U32, features),
        ("numbers.widths", gguf.ARRAY, (gguf.U32, widths)),
        ("numbers.residual", gguf.ARRAY, (gguf.U32, [int(wanted) for wanted in residual])),
        ("numbers.activation", gguf.STRING, about.activation),
        ("splitee.exit_layers", gguf.ARRAY, (gguf.U32, exits)),
        ("splitee.labels", gguf.ARRAY, (gguf.STRING, about.labels)),
    ]
    if about.columns is not None:
        pairs.append(("numbers.columns", gguf.ARRAY, (gguf.STRING, about.columns)))
    if about.temperatures is not None:
        pairs.append(("splitee.exit_temperatures", gguf.ARRAY, (gguf.F32, about.temperatures)))
    if about.alpha is not None:
        pairs.append(("splitee.alpha", gguf.F32, about.alpha))
    value = gguf.write_gguf(arguments.output, pairs, converter.tensors)
    print(
        f"{arguments.output}: {len(blocks)} blocks on {features} numbers, exits on "
        f"{', '.join(map(str, exits))}, {arguments.dtype}, {os.path.getsize(arguments.output)} bytes, "
        f"hash {value:016x}"
    )


def parse_arguments(argv):
    return folder_parser(__doc__, list(TENSOR_KINDS), DTYPE_HELP).parse_args(argv)


def main(argv=None):
    return exit_status(PROGRAM, convert, parse_arguments(argv))


if __name__ == "__main__":
    sys.exit(main())
