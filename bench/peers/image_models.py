"""The networks on images that bench/peers/images compares: random ones as folders in the layout that
tools/convert_images.py reads, and any such folder as an ONNX graph, in fp32 or statically quantised."""

import json
import math
import os
import sys

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools/training/train_lib"))
from tensors import read_safetensors, write_safetensors  # noqa: E402

SEED = 20250101
OPSET = 17
EXIT_CHANNELS = 128  # of the 1 x 1 convolution before the means of the random networks' earlier exits
# channels, expansion, blocks, stride on 224 x 224, stride on 32 x 32 (Sandler et al. 2018)
MOBILENET = ((16, 1, 1, 1, 1), (24, 6, 2, 2, 1), (32, 6, 3, 2, 2), (64, 6, 4, 2, 2), (96, 6, 3, 1, 1),
             (160, 6, 3, 2, 2), (320, 6, 1, 1, 1))  # fmt: skip


class Maker:
    """Random tensors of the sizes that training leaves, so that no activation is degenerate."""

    def __init__(self):
        self.rng, self.tensors = np.random.default_rng(SEED), {}

    def normal(self, shape, deviation, mean=0.0):
        return (mean + deviation * self.rng.standard_normal(shape)).astype(np.float32)

    def linear(self, name, out, channels):
        self.tensors[name + ".weight"] = self.normal((out, channels), 1 / math.sqrt(channels))
        self.tensors[name + ".bias"] = self.normal((out,), 0.02)

    def convolution(self, conv, norm, out, channels, size, gain=1.0):
        fan = channels * size * size
        self.tensors[conv + ".weight"] = self.normal((out, channels, size, size), math.sqrt(2 / fan))
        self.tensors[norm + ".weight"] = self.normal((out,), 0.05 * gain, gain)
        self.tensors[norm + ".bias"] = self.normal((out,), 0.1)
        self.tensors[norm + ".running_mean"] = self.normal((out,), 0.1)
        self.tensors[norm + ".running_var"] = 1 + self.normal((out,), 0.1) ** 2

    def exits(self, layers, channels_of, classes):
        """The last one has its family's own form and is made elsewhere."""
        for layer in layers:
            name = f"exits.{layer}"
            self.convolution(name + ".conv", name + ".bn", EXIT_CHANNELS, channels_of[layer - 1], 1)
            self.linear(name, classes, EXIT_CHANNELS)


def resnet(stages, stem_kernel, exits, classes):
    """stages: (blocks, channels) each."""
    maker, channels_of = Maker(), []
    before = stages[0][1]
    maker.convolution("conv1", "bn1", before, 3, stem_kernel)
    for stage, (blocks, channels) in enumerate(stages, 1):
        for j in range(blocks):
            name = f"layer{stage}.{j}."
            maker.convolution(name + "conv1", name + "bn1", channels, before, 3)
            maker.convolution(name + "conv2", name + "bn2", channels, channels, 3, 0.3)
            if before != channels:
                maker.convolution(name + "downsample.0", name + "downsample.1", channels, before, 1)
            before = channels
            channels_of.append(channels)
    maker.exits(exits[:-1], channels_of, classes)
    maker.linear("fc", classes, before)
    return maker.tensors


def rounded(channels):
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


def mobilenet(width, exits, classes):
    maker, channels_of, number = Maker(), [], 0
    before = rounded(32 * width)
    maker.convolution("features.0.0", "features.0.1", before, 3, 3)
    for channels, expansion, blocks, *_ in MOBILENET:
        for _ in range(blocks):
            number += 1
            name, hidden, part = f"features.{number}.conv.", before * expansion, 0
            if expansion != 1:
                maker.convolution(name + "0.0", name + "0.1", hidden, before, 1)
                part = 1
            maker.convolution(f"{name}{part}.0", f"{name}{part}.1", hidden, 1, 3)
            before = rounded(channels * width)
            maker.convolution(f"{name}{part + 1}", f"{name}{part + 2}", before, hidden, 1, 0.3)
            channels_of.append(before)
    last = rounded(1280 * max(1.0, width))
    maker.convolution(f"features.{number + 1}.0", f"features.{number + 1}.1", last, before, 1)
    maker.exits(exits[:-1], channels_of, classes)
    maker.linear("classifier.1", classes, last)
    return maker.tensors


def mobilenet_strides(column):
    return [row[column] if j == 0 else 1 for row in MOBILENET for j in range(row[2])]


# name: (side, classes, tensors, further keys of network.json)
NETWORKS = {
    "resnet32-32": (32, 10, lambda: resnet([(5, 16), (5, 32), (5, 64)], 3, (2, 4, 6, 9, 12, 15), 10), {}),
    "mobilenetv2-0.5-32": (32, 10, lambda: mobilenet(0.5, (3, 6, 9, 11, 14, 17), 10),
                           {"stem_stride": 1, "strides": mobilenet_strides(4)}),
    "mobilenetv2-1.0-32": (32, 10, lambda: mobilenet(1.0, (3, 6, 9, 11, 14, 17), 10),
                           {"stem_stride": 1, "strides": mobilenet_strides(4)}),
    "mobilenetv2-1.0-224": (224, 1000, lambda: mobilenet(1.0, (3, 6, 9, 11, 14, 17), 1000),
                            {"strides": mobilenet_strides(3)}),
    "resnet18-224": (224, 1000, lambda: resnet([(2, 64), (2, 128), (2, 256), (2, 512)], 7, (2, 4, 6, 8), 1000), {}),
}  # fmt: skip


def write_folder(folder, name):
    side, classes, tensors, keys = NETWORKS[name]
    os.makedirs(folder, exist_ok=True)
    write_safetensors(os.path.join(folder, "model.safetensors"), tensors())
    about = {"input": [side, side], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
             "labels": [f"class {i}" for i in range(classes)], **keys}  # fmt: skip
    with open(os.path.join(folder, "network.json"), "w", encoding="utf-8") as file:
        json.dump(about, file)


# --- as an ONNX graph ---


class Graph:
    """Nodes of one network, NCHW; every method returns the name of its result."""

    def __init__(self, tensors, about):
        from onnx import helper, numpy_helper

        self.helper, self.constant = helper, numpy_helper.from_array
        self.tensors, self.about = tensors, about
        self.nodes, self.constants, self.outputs = [], {}, []

    def node(self, kind, inputs, output=None, **attributes):
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def weight(self, name):
        self.constants[name] = self.constant(self.tensors[name], name)
        return name

    def convolution(self, x, conv, norm, stride=1):
        weight = self.tensors[conv + ".weight"]
        size = weight.shape[2]
        groups = weight.shape[0] if weight.shape[1] == 1 else 1
        x = self.node("Conv", [x, self.weight(conv + ".weight")], kernel_shape=[size, size], group=groups,
                      strides=[stride, stride], pads=[(size - 1) // 2] * 4)  # fmt: skip
        parts = [self.weight(f"{norm}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        return self.node("BatchNormalization", [x, *parts], epsilon=self.about.get("batch_norm_epsilon", 1e-5))

    def relu(self, x):
        return self.node("Relu", [x])

    def relu6(self, x):
        for name, value in (("zero", 0.0), ("six", 6.0)):
            self.constants[name] = self.constant(np.array(value, np.float32), name)
        return self.node("Clip", [x, "zero", "six"])

    def exit(self, x, classifier, conv, norm, activation):
        if conv + ".weight" in self.tensors:
            x = activation(self.convolution(x, conv, norm))
        x = self.node("Flatten", [self.node("GlobalAveragePool", [x])])
        parts = [self.weight(classifier + ".weight"), self.weight(classifier + ".bias")]
        self.outputs.append(self.node("Gemm", [x, *parts], f"logits{len(self.outputs)}", transB=1))

    def exits(self, layer, layers, x, wanted, own, activation):
        if f"exits.{layer}.weight" in self.tensors:
            if layer in wanted:
                self.exit(x, f"exits.{layer}", f"exits.{layer}.conv", f"exits.{layer}.bn", activation)
        elif layer == layers:
            self.exit(x, *own, activation)

    def basic(self, x, name, stride):
        y = self.relu(self.convolution(x, name + "conv1", name + "bn1", stride))
        y = self.convolution(y, name + "conv2", name + "bn2")
        if name + "downsample.0.weight" in self.tensors:
            x = self.convolution(x, name + "downsample.0", name + "downsample.1", stride)
        return self.relu(self.node("Add", [y, x]))

    def inverted(self, x, name, stride):
        y, part = x, 0
        if name + "1.0.weight" in self.tensors:
            y = self.relu6(self.convolution(y, name + "0.0", name + "0.1"))
            part = 1
        y = self.relu6(self.convolution(y, f"{name}{part}.0", f"{name}{part}.1", stride))
        y = self.convolution(y, f"{name}{part + 1}", f"{name}{part + 2}")
        inside, out = self.tensors[name + "0.0.weight"].shape[1], self.tensors[f"{name}{part + 1}.weight"].shape[0]
        return self.node("Add", [x, y]) if part and stride == 1 and inside == out else y

    def model(self, side):
        values, classes = self.helper.make_tensor_value_info, len(self.about["labels"])
        graph = self.helper.make_graph(
            self.nodes, "network", [values("x", 1, [1, 3, side, side])],
            [values(name, 1, [1, classes]) for name in self.outputs], list(self.constants.values()))  # fmt: skip
        return self.helper.make_model(graph, opset_imports=[self.helper.make_opsetid("", OPSET)], ir_version=8)


def read_folder(folder):
    with open(os.path.join(folder, "network.json"), encoding="utf-8") as file:
        return read_safetensors(os.path.join(folder, "model.safetensors")), json.load(file)


def has_exits(tensors):
    """1-based blocks of the exits that the folder names itself."""
    return sorted(int(name.split(".")[1]) for name in tensors if name.startswith("exits.") and name.count(".") == 2
                  and name.endswith(".weight"))  # fmt: skip


def build(folder, last_alone):
    """The folder's network, with all exits or the last one."""
    tensors, about = read_folder(folder)
    for layer, temperature in zip(has_exits(tensors), about.get("temperatures") or ()):  # divides the logits
        for part in ("weight", "bias"):
            tensors[f"exits.{layer}.{part}"] = tensors[f"exits.{layer}.{part}"] / np.float32(temperature)
    graph = Graph(tensors, about)
    if "conv1.weight" in tensors:
        places = sorted({tuple(map(int, name[5:].split(".")[:2])) for name in tensors if name.startswith("layer")})
        names = [f"layer{stage}.{j}." for stage, j in places]
        strides = about.get("strides") or [2 if j == 0 and stage > 1 else 1 for stage, j in places]
        large = tensors["conv1.weight"].shape[2] == 7
        x = graph.relu(graph.convolution("x", "conv1", "bn1", about.get("stem_stride") or 1 + large))
        if about.get("stem_pool", large):
            x = graph.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        block, own, activation = graph.basic, ("fc", "", ""), graph.relu
    else:
        count = len({name.split(".")[1] for name in tensors if ".conv." in name and name.startswith("features.")})
        names, strides = [f"features.{i}.conv." for i in range(1, count + 1)], about["strides"]
        x = graph.relu6(graph.convolution("x", "features.0.0", "features.0.1", about.get("stem_stride", 2)))
        last = f"features.{count + 1}."
        block, own, activation = graph.inverted, ("classifier.1", last + "0", last + "1"), graph.relu6
    wanted = [len(names)] if last_alone else has_exits(tensors)
    for layer, (name, stride) in enumerate(zip(names, strides), 1):
        x = block(x, name, stride)
        graph.exits(layer, len(names), x, wanted, own, activation)
    return graph.model(about["input"][0])


def write_onnx(folder, path, last_alone):
    import onnx

    model = build(folder, last_alone)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


class Samples:
    """What the quantiser measures activations on."""

    def __init__(self, values):
        self.values = iter(values)

    def get_next(self):
        value = next(self.values, None)
        return None if value is None else {"x": value[None]}


def quantise(source, path, values):
    """values (samples, 3, side, side)."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    CalibrationDataReader.register(Samples)
    quant_pre_process(source, path + ".prepared", skip_symbolic_shape=True)
    quantize_static(path + ".prepared", path, Samples(values), per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)  # fmt: skip
    os.remove(path + ".prepared")


def operations(path):
    """Multiplications and additions of a graph's convolutions and classifiers."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True).graph
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
              for value in [*graph.value_info, *graph.output]}  # fmt: skip
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    return sum(2 * math.prod(shapes[node.output[0]]) * math.prod(weights[node.input[1]][1:])
               for node in graph.node if node.op_type in ("Conv", "Gemm"))  # fmt: skip
