"""The models that bench/peers compares: random checkpoints in ElasticBERT's layout, the same weights
as our model files (tools/convert_hf.py) and as ONNX graphs (torch.onnx.export; int8 in the form of
onnxruntime's quantize_dynamic)."""

import inspect
import json
import math
import os
import struct
import subprocess
import sys

import numpy as np

SEED = 20250101
LAYERS, VOCAB, POSITIONS, CLASSES = 12, 30522, 512, 2
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# name: hidden, feed-forward, heads
SHAPES = {"12x768": (768, 3072, 12), "12x384": (384, 1536, 12), "12x256": (256, 1024, 4)}
EXPORT_OPSET = 14
DTYPES = ("f32", "bf16", "i8")
TOKENS = (16, 32, 64, 128)
F32_TOLERANCE = 1e-4  # of the logarithm of a probability
# With it ONNX Runtime 1.30 runs the int8 graph up to a third faster: the fused normalisation is slow.
INT8_OPTION = "optimization.disable_specified_optimizers=SkipLayerNormFusion"


# --- checkpoint ---


def tensor_shapes(hidden, ffn):
    shapes = {}

    def linear(name, rows, columns):
        shapes[name + ".weight"], shapes[name + ".bias"] = (rows, columns), (rows,)

    def norm(name):
        shapes[name + ".weight"] = shapes[name + ".bias"] = (hidden,)

    embeddings = "elasticbert.embeddings."
    shapes[embeddings + "word_embeddings.weight"] = (VOCAB, hidden)
    shapes[embeddings + "position_embeddings.weight"] = (POSITIONS, hidden)
    shapes[embeddings + "token_type_embeddings.weight"] = (2, hidden)
    norm(embeddings + "LayerNorm")
    for i in range(LAYERS):
        layer = f"elasticbert.encoder.layer.{i}."
        for part in ("query", "key", "value"):
            linear(f"{layer}attention.self.{part}", hidden, hidden)
        linear(layer + "attention.output.dense", hidden, hidden)
        norm(layer + "attention.output.LayerNorm")
        linear(layer + "intermediate.dense", ffn, hidden)
        linear(layer + "output.dense", hidden, ffn)
        norm(layer + "output.LayerNorm")
        linear(f"elasticbert.encoder.pooler.{i}.dense", hidden, hidden)
        linear(f"classifiers.{i}", CLASSES, hidden)
    return shapes


def random_tensors(hidden, ffn):
    """Of the sizes that training leaves, so that no activation is degenerate."""
    rng = np.random.default_rng(SEED)
    tensors = {}
    for name, shape in tensor_shapes(hidden, ffn).items():
        values = rng.standard_normal(shape, dtype=np.float32)
        if name.endswith("LayerNorm.weight"):
            values = 1 + np.float32(0.05) * values
        elif name.endswith("bias"):
            values *= np.float32(0.02)
        else:
            values *= np.float32(1 / math.sqrt(hidden))
        tensors[name] = values
    return tensors


def write_checkpoint(folder, hidden, ffn, heads):
    os.makedirs(folder, exist_ok=True)
    tensors = random_tensors(hidden, ffn)
    header, offset = {}, 0
    for name, values in tensors.items():
        end = offset + values.nbytes
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(values.tobytes())
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as file:
        words = [f"w{i}" for i in range(VOCAB - len(SPECIAL))]
        file.write("".join(token + "\n" for token in SPECIAL + words))
    config = {
        "num_hidden_layers": LAYERS,
        "num_output_layers": LAYERS,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": ffn,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "vocab_size": VOCAB,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "num_labels": CLASSES,
    }
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        json.dump({"do_lower_case": True}, file)


# --- torch.onnx.export ---


def export(path, hidden, ffn, heads):
    """The plain export of the network as PyTorch code is usually written; run in a process of its
    own, since torch and the export take gigabytes."""
    import torch
    from torch import nn

    tensors = {k: torch.from_numpy(v) for k, v in random_tensors(hidden, ffn).items()}

    def linear(name):
        weight = tensors[name + ".weight"]
        module = nn.Linear(weight.shape[1], weight.shape[0])
        module.weight.data, module.bias.data = weight, tensors[name + ".bias"]
        return module

    def norm(name):
        module = nn.LayerNorm(hidden, eps=1e-12)
        module.weight.data = tensors[name + ".weight"]
        module.bias.data = tensors[name + ".bias"]
        return module

    class Layer(nn.Module):
        def __init__(self, i):
            super().__init__()
            name = f"elasticbert.encoder.layer.{i}."
            self.query = linear(name + "attention.self.query")
            self.key = linear(name + "attention.self.key")
            self.value = linear(name + "attention.self.value")
            self.output = linear(name + "attention.output.dense")
            self.output_norm = norm(name + "attention.output.LayerNorm")
            self.up = linear(name + "intermediate.dense")
            self.down = linear(name + "output.dense")
            self.down_norm = norm(name + "output.LayerNorm")
            self.pooler = linear(f"elasticbert.encoder.pooler.{i}.dense")
            self.classifier = linear(f"classifiers.{i}")

        def split_heads(self, x):
            return x.view(x.size()[:-1] + (heads, hidden // heads)).permute(0, 2, 1, 3)

        def forward(self, x, mask):
            query = self.split_heads(self.query(x))
            key = self.split_heads(self.key(x))
            value = self.split_heads(self.value(x))
            scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(hidden // heads)
            shares = torch.softmax(scores + mask, dim=-1)
            context = torch.matmul(shares, value).permute(0, 2, 1, 3).contiguous()
            context = context.view(context.size()[:-2] + (hidden,))
            x = self.output_norm(self.output(context) + x)
            return self.down_norm(self.down(nn.functional.gelu(self.up(x))) + x)

        def answer(self, x):
            return self.classifier(torch.tanh(self.pooler(x[:, 0])))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            name = "elasticbert.embeddings."
            self.words, self.places, self.kinds = (
                nn.Embedding.from_pretrained(tensors[f"{name}{part}_embeddings.weight"])
                for part in ("word", "position", "token_type")
            )
            self.norm = norm(name + "LayerNorm")
            self.layers = nn.ModuleList(Layer(i) for i in range(LAYERS))
            self.register_buffer("positions", torch.arange(POSITIONS)[None])

        def forward(self, ids, mask):
            penalty = (1.0 - mask[:, None, None, :].to(torch.float32)) * -10000.0
            x = self.words(ids) + self.kinds(torch.zeros_like(ids))
            x = self.norm(x + self.places(self.positions[:, : ids.size(1)]))
            logits = []
            for layer in self.layers:
                x = layer(x, penalty)
                logits.append(layer.answer(x))
            return tuple(logits)

    axes = {"ids": {0: "batch", 1: "tokens"}, "mask": {0: "batch", 1: "tokens"}}
    ids = torch.arange(32, dtype=torch.int64)[None]
    # The exporter that every version has: the newer one needs a package more.
    newer = "dynamo" in inspect.signature(torch.onnx.export).parameters
    torch.onnx.export(
        Encoder().eval(), (ids, torch.ones_like(ids)), path, input_names=["ids", "mask"],
        output_names=[f"logits{i}" for i in range(LAYERS)], dynamic_axes=axes,
        opset_version=EXPORT_OPSET, do_constant_folding=True, **({"dynamo": False} if newer else {}),
    )  # fmt: skip


# --- graphs with int8 weights ---


def rounded(values, axis):
    """(int8 values, their scales along the axis of a matrix)."""
    scales = (np.abs(values).max(axis=1 - axis) / 127).astype(np.float32)
    return np.clip(np.rint(values / np.expand_dims(scales, 1 - axis)), -127, 127).astype(np.int8), scales


def quantize_weights(source, target):
    """The weights alone: each constant matrix of a product is an int8 one, a scale per output channel, through
    DequantizeLinear. OpenVINO multiplies such weights with activations that it quantises itself."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(source)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in constants:
            axis = 0 if node.op_type == "Gemm" else 1  # of the output channels: Gemm's matrix is transposed
            name = node.input[1]
            parts = [name + "_quantized", name + "_scale"]
            values = rounded(numpy_helper.to_array(constants.pop(name)), axis)
            for part, part_values in zip(parts, values):
                constants[part] = numpy_helper.from_array(part_values, part)
            nodes.append(helper.make_node("DequantizeLinear", parts, [name], name=name + "_node", axis=axis))
        nodes.append(node)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants.values())
    onnx.save(model, target)


def quantize(source, target):
    """What onnxruntime.quantization.quantize_dynamic(weight_type=QInt8, per_channel=True) writes:
    each product with a constant matrix becomes DynamicQuantizeLinear (once per input), MatMulInteger,
    Cast and Mul; Gemm becomes such a product and an Add. The runtime's optimiser fuses the chain into
    DynamicQuantizeMatMul."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(source)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    added, replaced, nodes, quantized_inputs = {}, set(), [], {}

    def constant(name, values):
        added[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def weight_parts(name, transposed):
        """Names of the int8 matrix (in, out), its scales (out) and its zero points (out)."""
        base = name + ("_T" if transposed else "") + "_quantized"
        if base not in added:
            values = numpy_helper.to_array(constants[name])
            quantized, scales = rounded(values.T if transposed else values, 1)
            constant(base, quantized)
            constant(base + "_scale", scales)
            constant(base + "_zero", np.zeros(len(scales), np.int8))
        replaced.add(name)
        return base, base + "_scale", base + "_zero"

    def quantized_input(name):
        if name not in quantized_inputs:
            parts = [f"{name}_{part}" for part in ("quantized", "scale", "zero")]
            nodes.append(helper.make_node("DynamicQuantizeLinear", [name], parts, name=parts[0]))
            quantized_inputs[name] = parts
        return quantized_inputs[name]

    def product(node, weight, transposed, output):
        values, scale, zero = quantized_input(node.input[0])
        matrix, matrix_scale, matrix_zero = weight_parts(weight, transposed)
        base = f"{output}_quantized_product"
        for kind, inputs, result in (
            ("MatMulInteger", [values, matrix, zero, matrix_zero], base),
            ("Cast", [base], base + "_float"),
            ("Mul", [scale, matrix_scale], base + "_scale"),
            ("Mul", [base + "_float", base + "_scale"], output),
        ):
            more = {"to": onnx.TensorProto.FLOAT} if kind == "Cast" else {}
            nodes.append(helper.make_node(kind, inputs, [result], name=result + "_node", **more))

    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            product(node, node.input[1], False, node.output[0])
        elif node.op_type == "Gemm":
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            assert attributes.get("transB", 0) == 1 and not attributes.get("transA", 0)
            assert attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0
            output = node.output[0] + "_product"
            product(node, node.input[1], True, output)
            nodes.append(helper.make_node("Add", [output, node.input[2]], [node.output[0]],
                                          name=node.output[0] + "_add"))  # fmt: skip
        else:
            nodes.append(node)
    still_used = {name for node in nodes for name in node.input}
    kept = [t for name, t in constants.items() if name not in replaced or name in still_used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept + list(added.values()))
    onnx.save(model, target)


def operators(path):
    """Counts of the operators of a graph."""
    import onnx

    counts = {}
    for node in onnx.load(path).graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts


# --- everything, once ---


def last_exit(source, target):
    """The graph without the exits before the last one."""
    from onnx import utils

    utils.extract_model(source, target, ["ids", "mask"], [f"logits{LAYERS - 1}"])


def make_once(path, make):
    """Calls make(temporary path), unless `path` exists; a broken-off run leaves nothing behind."""
    if os.path.exists(path):
        return
    print(f"making {path}", file=sys.stderr)
    temporary = path + ".part"
    make(temporary)
    os.replace(temporary, path)


def in_process(function, *arguments, python=sys.executable):
    """Calls this module's `function` in a process of its own, to give its memory back."""
    command = [python, os.path.abspath(__file__), function, *map(str, arguments)]
    subprocess.run(command, check=True)


def prepare(folder, name, root, exporter=lambda: sys.executable):
    """Makes the files of model `name` in `folder`: NAME.onnx, NAME-i8.onnx, NAME-DTYPE.gguf. `exporter` finds
    an interpreter that has PyTorch; it is asked only where the export is missing."""
    shape = SHAPES[name]
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    checkpoint = path + "-checkpoint"
    make_once(checkpoint, lambda to: write_checkpoint(to, *shape))
    for dtype in DTYPES:
        converter = [sys.executable, os.path.join(root, "tools", "convert_hf.py"), checkpoint]
        make_once(
            f"{path}-{dtype}.gguf",
            lambda to, d=dtype: subprocess.run(
                [*converter, "--dtype", d, "--output", to], check=True
            ),
        )
    make_once(path + ".onnx", lambda to: in_process("export", to, *shape, python=exporter()))
    make_once(path + "-i8.onnx", lambda to: in_process("quantize", path + ".onnx", to))


if __name__ == "__main__":
    if sys.argv[1] == "export":
        export(sys.argv[2], *map(int, sys.argv[3:]))
    else:
        {"last_exit": last_exit, "quantize": quantize, "quantize_weights": quantize_weights}[sys.argv[1]](*sys.argv[2:])
