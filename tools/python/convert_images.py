#!/usr/bin/env python3
"""Converts a multi-exit convolutional network on images into the GGUF file that the runtime reads.

The folder holds model.safetensors, pytorch_model.bin or model.pth, a state dict with torchvision's
names:
  ResNet of basic blocks  conv1, bn1, layerS.J.conv1, .bn1, .conv2, .bn2, .downsample.0, .1, and fc
                          (or linear); the CIFAR kind (conv1 of 3 x 3, three stages) too, with a
                          downsample (or shortcut) or, where there is none, zero padding (option A)
  MobileNetV2             features.N.0, .1; features.N.conv.*; classifier.1
The blocks are numbered 1 .. L as they come. An exit behind block K is
  exits.K.weight, .bias   the classifier: (classes, channels), (classes)
  exits.K.conv.weight, exits.K.bn.*   optional: a 1 x 1 convolution with batch norm before the mean
The last block's exit may have the family's own names instead. Batch norms are folded.
network.json beside it:
  {"input": [32, 32]                 height and width that the network takes
   "mean": [R, G, B], "std": [R, G, B]   of pixels from 0 to 1
   "labels": ["cat", ...]            names of the classes
   "resize": 256                     the shorter side becomes this, the middle is cut out (optional:
                                     the whole picture becomes the input's size)
   "stem_stride": 1, "stem_pool": false   optional: 2 and true for a ResNet's 7 x 7 stem, 2 and false
                                     for MobileNetV2, else 1 and false
   "strides": [1, 1, 2, ...]         per block (optional: as torchvision has them)
   "activation": "relu", "relu6" or "hardswish"   optional: the family's
   "batch_norm_epsilon": 1e-5        optional
   "temperatures": [1.0, ...]        per exit (optional)
   "alpha": 0.9}                     suggested exit threshold (optional)
The file format is described in runtime/conv/conv_format.h.
"""

import os
import re
import sys
import types

from interpreter import need

need("numpy")

import numpy as np  # noqa: E402

import gguf_writer as gguf  # noqa: E402
from convert_hf import TENSOR_KINDS, Weights, check_output, encode, parse_alpha  # noqa: E402
from hf_checkpoint import read_checkpoint, read_pytorch  # noqa: E402
from hf_config import check_labels  # noqa: E402
from hf_files import CheckpointError, exit_status, folder_parser, read_json_object  # noqa: E402

PROGRAM = "convert_images.py"
DTYPE_HELP = (
    "type of the convolutions (default: %(default)s). i8: one scale per channel of the output; "
    "the stem and the classifiers are then f32. Depthwise ones and biases are always f32."
)
KNOWN_KEYS = {"input", "mean", "std", "labels", "resize", "stem_stride", "stem_pool", "strides", "activation",
              "batch_norm_epsilon", "temperatures", "alpha"}  # fmt: skip
MOST_SIDE, MOST_RESIZE, MOST_BLOCKS, MOST_STEM_STRIDE = 512, 1024, 1024, 4
ACTIVATIONS = ("relu", "relu6", "hardswish")
# torchvision's MobileNetV2.
MOBILENET_STRIDES = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
FILES = ("model.safetensors", "pytorch_model.bin", "model.pth")


class Description:
    """network.json, checked as far as it goes without the weights."""

    def __init__(self, path):
        self.path, self.values = path, read_json_object(path)
        unknown = sorted(set(self.values) - KNOWN_KEYS)
        if unknown:
            raise CheckpointError(f"{path}: key {unknown[0]} is not known")
        self.height, self.width = self.integers("input", 2, 1, MOST_SIDE)
        self.resize = self.integer("resize", 0, 0, MOST_RESIZE)
        if self.resize and self.resize < max(self.height, self.width):
            raise CheckpointError(f"{path}: resize {self.resize} is below the input's sides")
        self.mean, self.std = self.numbers("mean", 3, -1e6, 1e6), self.numbers("std", 3, 1e-6, 1e6)
        labels = self.values.get("labels")
        if not isinstance(labels, list) or not 2 <= len(labels) <= 4096:
            raise CheckpointError(f"{path}: labels is not a list of 2 to 4096 names")
        self.labels = check_labels(labels, path)
        self.epsilon = self.number("batch_norm_epsilon", self.values.get("batch_norm_epsilon", 1e-5), 1e-12, 1.0)
        self.stem_stride = self.integer("stem_stride", None, 1, MOST_STEM_STRIDE)
        self.stem_pool = self.values.get("stem_pool")
        if self.stem_pool not in (None, True, False):
            raise CheckpointError(f"{path}: stem_pool is neither true nor false")
        self.activation = self.values.get("activation")
        if self.activation not in (None, *ACTIVATIONS):
            raise CheckpointError(f"{path}: activation is none of {', '.join(ACTIVATIONS)}")
        try:
            self.alpha = None if self.values.get("alpha") is None else parse_alpha(str(self.values["alpha"]))
        except ValueError:
            raise CheckpointError(f"{path}: alpha {self.values['alpha']!r} is not in (0, 1]") from None

    def number(self, key, value, least, most):
        if type(value) not in (int, float) or not least <= value <= most:
            raise CheckpointError(f"{self.path}: {key}: {value!r} is not a number from {least:g} to {most:g}")
        return value

    def integer(self, key, default, least, most):
        value = self.values.get(key, default)
        if value is not None and (type(value) is not int or not least <= value <= most):
            raise CheckpointError(f"{self.path}: {key}: {value!r} is not a whole number from {least} to {most}")
        return value

    def entries(self, key, count):
        values = self.values.get(key)
        if not isinstance(values, list) or len(values) != count:
            raise CheckpointError(f"{self.path}: {key} is not a list of {count} entries")
        return values

    def integers(self, key, count, least, most):
        for value in self.entries(key, count):
            if type(value) is not int or not least <= value <= most:
                raise CheckpointError(f"{self.path}: {key}: {value!r} is not a whole number from {least} to {most}")
        return self.values[key]

    def numbers(self, key, count, least, most):
        return [self.number(key, value, least, most) for value in self.entries(key, count)]

    def strides(self, default):
        """Per block; `default` is None where there is none."""
        if "strides" in self.values or default is None:
            return self.integers("strides", len(default) if default else self.blocks, 1, 2)
        return default


class Checkpoint(Weights):
    """A state dict's convolutions and classifiers, batch norms folded."""

    def __init__(self, tensors, path, epsilon):
        super().__init__(tensors, path, None)
        self.epsilon = epsilon

    def shape(self, name, rank):
        tensor = self.tensors.get(name)
        if tensor is None:
            raise CheckpointError(f"{self.path}: {name} is missing")
        if len(tensor.shape) != rank or 0 in tensor.shape:
            raise CheckpointError(f"{self.path}: {name}: shape {tensor.shape}, expected {rank} dimensions")
        return tensor.shape

    def load(self, name, shape):
        self.shape(name, len(shape))
        return self.take(name, shape).load()

    def convolution(self, conv, norm, shape):
        """(weights (out, height, width, in), bias); `norm` may be missing."""
        weights = self.load(conv + ".weight", shape).astype(np.float64)
        out = shape[0]
        bias = self.load(conv + ".bias", (out,)).astype(np.float64) if conv + ".bias" in self.tensors else np.zeros(out)
        if norm + ".weight" in self.tensors:
            gamma, beta, mean, variance = (
                self.load(f"{norm}.{part}", (out,)).astype(np.float64)
                for part in ("weight", "bias", "running_mean", "running_var"))  # fmt: skip
            if (variance < 0).any():
                raise CheckpointError(f"{self.path}: {norm}.running_var has a value below 0")
            scale = gamma / np.sqrt(variance + self.epsilon)
            weights, bias = weights * scale[:, None, None, None], (bias - mean) * scale + beta
        elif conv + ".bias" not in self.tensors:
            raise CheckpointError(f"{self.path}: {norm}.weight is missing")
        return weights.transpose(0, 2, 3, 1), bias


class Network:
    """Tensors and keys of the file, as they are found."""

    def __init__(self, weights, about, dtype):
        self.weights, self.about, self.dtype, self.tensors = weights, about, dtype, []
        self.blocks = []  # (channels, stride, channels within)

    def add_vector(self, name, values):
        values = np.ascontiguousarray(values, np.float32).reshape(-1)
        if not np.isfinite(values).all():
            raise CheckpointError(f"{self.weights.path}: {name}: a value is not finite once batch norms are folded")
        self.tensors.append(gguf.Tensor(name, values.shape, gguf.TENSOR_F32, lambda: values))

    def add_matrix(self, name, values, bias, dtype):
        values = np.ascontiguousarray(values, np.float32).reshape(len(values), -1)
        if not np.isfinite(values).all():
            raise CheckpointError(f"{self.weights.path}: {name}: a value is not finite once batch norms are folded")
        place = types.SimpleNamespace(path=self.weights.path, name=name)
        self.tensors.append(gguf.Tensor(name + ".weight", values.shape, TENSOR_KINDS[dtype],
                                        lambda: encode(place, values, dtype, "weight")))  # fmt: skip
        if dtype == "i8":
            self.tensors.append(gguf.Tensor(name + ".weight.scale", values.shape[:1], gguf.TENSOR_F32,
                                            lambda: encode(place, values, dtype, "scale")))  # fmt: skip
        self.add_vector(name + ".bias", bias)

    def add_convolution(self, name, conv, norm, shape, dtype=None):
        self.add_matrix(name, *self.weights.convolution(conv, norm, shape), dtype or self.dtype)

    def fine(self):
        """The type of what has few weights and decides much."""
        return "f32" if self.dtype == "i8" else self.dtype

    def add_stem(self, conv, norm):
        shape = self.weights.shape(conv + ".weight", 4)
        channels, colours, height, width = shape
        if colours != 3 or height != width or height not in (1, 3, 5, 7):
            raise CheckpointError(f"{self.weights.path}: {conv}.weight: shape {shape}, expected (channels, 3, k, k)")
        self.add_convolution("stem", conv, norm, shape, self.fine())
        self.stem = channels, height
        return channels

    def add_exits(self, last, last_conv):
        """The classifier of the last block may be called `last`, with a convolution `last_conv` before it."""
        found = (re.fullmatch(r"exits\.(\d+)\.weight", name) for name in self.weights.tensors)
        self.exits = sorted(int(match.group(1)) for match in found if match)
        layers, names = len(self.blocks), {}
        own = next((name for name in last if name + ".weight" in self.weights.tensors), None)
        if own is not None and layers not in self.exits:
            self.exits.append(layers)
            names[layers] = own, *last_conv
        if not self.exits or self.exits[0] < 1 or self.exits[-1] != layers:
            raise CheckpointError(f"{self.weights.path}: exits.K.weight: the last one must be behind block {layers}")
        self.exit_channels = []
        for layer in self.exits:
            classifier, conv, norm = names.get(layer, (f"exits.{layer}", f"exits.{layer}.conv", f"exits.{layer}.bn"))
            self.exit_channels.append(self.add_exit(layer, classifier, conv, norm))

    def add_exit(self, layer, classifier, conv, norm):
        channels, own = self.blocks[layer - 1][0], 0
        prefix = f"splitee.exit.{layer}."
        if conv and conv + ".weight" in self.weights.tensors:
            own = self.weights.shape(conv + ".weight", 4)[0]
            self.add_convolution(prefix + "conv", conv, norm, (own, channels, 1, 1))
        shape = (len(self.about.labels), own or channels)
        self.add_matrix(prefix + "classifier", self.weights.load(classifier + ".weight", shape),
                        self.weights.load(classifier + ".bias", shape[:1]), self.fine())  # fmt: skip
        return own

    def pairs(self, family):
        about, (stem, kernel) = self.about, self.stem
        integers = lambda values: (gguf.U32, list(map(int, values)))  # noqa: E731
        channels, strides, hidden = zip(*self.blocks)
        pairs = [
            ("general.architecture", gguf.STRING, "splitee-conv"),
            ("general.alignment", gguf.U32, gguf.ALIGNMENT),
            ("conv.input_height", gguf.U32, about.height),
            ("conv.input_width", gguf.U32, about.width),
            ("conv.mean", gguf.ARRAY, (gguf.F32, about.mean)),
            ("conv.std", gguf.ARRAY, (gguf.F32, about.std)),
            ("conv.resize", gguf.U32, about.resize),
            ("conv.stem_kernel", gguf.U32, kernel),
            ("conv.stem_stride", gguf.U32, about.stem_stride or family.stem_stride(kernel)),
            ("conv.stem_channels", gguf.U32, stem),
            ("conv.stem_pool", gguf.U32,
             int(family.stem_pool(kernel) if about.stem_pool is None else about.stem_pool)),
            ("conv.activation", gguf.STRING, about.activation or family.activation),
            ("conv.block", gguf.STRING, family.block),
            ("conv.block_count", gguf.U32, len(self.blocks)),
            ("conv.channels", gguf.ARRAY, integers(channels)),
            ("conv.strides", gguf.ARRAY, integers(strides)),
            ("conv.exit_channels", gguf.ARRAY, integers(self.exit_channels)),
            ("splitee.exit_layers", gguf.ARRAY, integers(self.exits)),
            ("splitee.labels", gguf.ARRAY, (gguf.STRING, about.labels)),
        ]  # fmt: skip
        if family.block == "inverted":
            pairs.append(("conv.hidden", gguf.ARRAY, integers(hidden)))
        else:
            pairs.append(("conv.shortcut", gguf.STRING, family.shortcut))
        if about.values.get("temperatures") is not None:
            pairs.append(("splitee.exit_temperatures", gguf.ARRAY,
                          (gguf.F32, about.numbers("temperatures", len(self.exits), 1e-3, 1e3))))  # fmt: skip
        if about.alpha is not None:
            pairs.append(("splitee.alpha", gguf.F32, about.alpha))
        return pairs


def check_projection(weights, shortcut, name, changes):
    """A projection is there where it is needed, and only there."""
    if shortcut == "projection" and changes != (name + ".weight" in weights.tensors):
        raise CheckpointError(f"{weights.path}: {name}.weight is {'missing' if changes else 'not expected'}")


class ResNet:
    block, activation = "basic", "relu"

    @staticmethod
    def fits(weights):
        return weights.has(r"layer1\.0\.conv1\.weight")

    @staticmethod
    def stem_stride(kernel):
        return 2 if kernel == 7 else 1

    @staticmethod
    def stem_pool(kernel):
        return kernel == 7

    def read(self, network):
        weights, tensors = network.weights, network.weights.tensors
        found = [re.fullmatch(r"layer(\d+)\.(\d+)\.conv1\.weight", name) for name in tensors]
        places = sorted((int(m.group(1)), int(m.group(2))) for m in found if m)
        if len(places) > MOST_BLOCKS:
            raise CheckpointError(f"{weights.path}: {len(places)} blocks; up to {MOST_BLOCKS} are possible")
        if weights.has(r"layer1\.0\.conv3\."):
            raise CheckpointError(f"{weights.path}: layer1.0.conv3: bottleneck blocks are not supported, basic ones are")
        projected = [name for name in tensors if re.fullmatch(r"layer.*\.(downsample|shortcut)\.0\.weight", name)]
        self.shortcut = "projection" if projected else "pad"
        network.about.blocks = len(places)
        strides = network.about.strides([2 if j == 0 and stage > 1 else 1 for stage, j in places])
        before = network.add_stem("conv1", "bn1")
        for i, ((stage, j), stride) in enumerate(zip(places, strides)):
            source = f"layer{stage}.{j}."
            channels = weights.shape(source + "conv1.weight", 4)[0]
            network.add_convolution(f"blk.{i}.conv1", source + "conv1", source + "bn1", (channels, before, 3, 3))
            network.add_convolution(f"blk.{i}.conv2", source + "conv2", source + "bn2", (channels, channels, 3, 3))
            other = source + ("shortcut" if source + "shortcut.0.weight" in tensors else "downsample")
            check_projection(weights, self.shortcut, other + ".0", stride != 1 or channels != before)
            if other + ".0.weight" in tensors:
                network.add_convolution(f"blk.{i}.shortcut", other + ".0", other + ".1", (channels, before, 1, 1))
            elif channels < before:
                raise CheckpointError(f"{weights.path}: {source}conv1.weight: fewer channels than its input, and no "
                                      "downsample")  # fmt: skip
            network.blocks.append((channels, stride, 0))
            before = channels
        network.add_exits(("fc", "linear"), (None, None))


class MobileNetV2:
    block, activation, shortcut = "inverted", "relu6", None

    @staticmethod
    def fits(weights):
        return weights.has(r"features\.1\.conv\.")

    @staticmethod
    def stem_stride(kernel):
        return 2

    @staticmethod
    def stem_pool(kernel):
        return False

    @staticmethod
    def read(network):
        weights, tensors = network.weights, network.weights.tensors
        found = {int(m.group(1)) for name in tensors if (m := re.fullmatch(r"features\.(\d+)\.conv\..*", name))}
        if found != set(range(1, len(found) + 1)) or len(found) > MOST_BLOCKS:
            raise CheckpointError(f"{weights.path}: features.N.conv are not N = 1 .. L, at most {MOST_BLOCKS}")
        network.about.blocks = len(found)
        strides = network.about.strides(MOBILENET_STRIDES if len(found) == len(MOBILENET_STRIDES) else None)
        before = network.add_stem("features.0.0", "features.0.1")
        for i, stride in enumerate(strides):
            source, hidden, part = f"features.{i + 1}.conv.", before, 0
            if source + "3.running_mean" in tensors or source + "2.weight" in tensors and len(
                    tensors[source + "2.weight"].shape) == 4:  # fmt: skip
                hidden = weights.shape(source + "0.0.weight", 4)[0]
                network.add_convolution(f"blk.{i}.expand", source + "0.0", source + "0.1", (hidden, before, 1, 1))
                part = 1
                if hidden == before:
                    raise CheckpointError(f"{weights.path}: {source}0.0.weight: expands to as many channels as there are")
            kernel, bias = weights.convolution(f"{source}{part}.0", f"{source}{part}.1", (hidden, 1, 3, 3))
            network.add_vector(f"blk.{i}.depthwise.weight", kernel.transpose(1, 2, 3, 0))
            network.add_vector(f"blk.{i}.depthwise.bias", bias)
            project = f"{source}{part + 1}"
            channels = weights.shape(project + ".weight", 4)[0]
            network.add_convolution(f"blk.{i}.project", project, f"{source}{part + 2}", (channels, hidden, 1, 1))
            network.blocks.append((channels, stride, hidden))
            before = channels
        last = f"features.{len(found) + 1}"
        network.add_exits(("classifier.1", "classifier"), (last + ".0", last + ".1"))


def read_folder(folder):
    pth = os.path.join(folder, FILES[2])
    if os.path.lexists(pth) and not any(os.path.lexists(os.path.join(folder, name)) for name in FILES[:2]):
        return read_pytorch(pth), pth
    return read_checkpoint(folder)


def convert(arguments):
    folder = arguments.checkpoint
    description = os.path.join(folder, "network.json")
    check_output(arguments.output, [description, *(os.path.join(folder, name) for name in FILES)])
    about = Description(description)
    weights = Checkpoint(*read_folder(folder), about.epsilon)
    family = next((kind() for kind in (ResNet, MobileNetV2) if kind.fits(weights)), None)
    if family is None:
        raise CheckpointError(f"{weights.path}: neither layer1.0.conv1 (ResNet) nor features.1.conv (MobileNetV2) is there")
    network = Network(weights, about, arguments.dtype)
    family.read(network)
    weights.check_complete(("layer", "features.", "exits."), re.compile("(?!)"))
    value = gguf.write_gguf(arguments.output, network.pairs(family), network.tensors)
    print(
        f"{arguments.output}: {len(network.blocks)} blocks on {about.height} x {about.width} pixels, exits on "
        f"{', '.join(map(str, network.exits))}, {arguments.dtype}, {os.path.getsize(arguments.output)} bytes, "
        f"hash {value:016x}"
    )


def parse_arguments(argv):
    return folder_parser(__doc__, list(TENSOR_KINDS), DTYPE_HELP).parse_args(argv)


def main(argv=None):
    return exit_status(PROGRAM, convert, parse_arguments(argv))


if __name__ == "__main__":
    sys.exit(main())
