#!/usr/bin/env python3
"""Golden test: every exit's probabilities of the C++ engine against an independent float64
implementation, on random Hugging Face checkpoints that tools/convert_hf.py converts.

usage: golden.py RUN_MODEL CONVERT_HF [SEED]
Matrices stored as bf16 or i8 are multiplied in that arithmetic, as kernels/kernels.h defines it;
the reference rounds activations in the same places. Where one lies next to the border between two
values, the last bits decide which it becomes, so that the answers may differ by a rounding step of
a few activations: the tolerance is wider there.
The reference follows the papers (Vaswani et al. 2017; Devlin et al. 2019; exits: Liu et al. 2022)
on the checkpoint's own tensors; it shares no code with the engine or the converter.
"""
import json
import math
import os
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("golden.py: no numpy here: skipped")
    sys.exit(77)

TOLERANCES = {"f32": 1e-4, "f16": 1e-4, "bf16": 1e-2, "i8": 5e-2}
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

# family, layers, exits (on the last ones), hidden, heads, ffn, positions, classes, pooling, dtype
MODELS = [
    ("elasticbert", 1, 1, 20, 5, 36, 8, 2, "first", "f32"),
    ("elasticbert", 3, 2, 36, 3, 100, 33, 3, "first", "f32"),
    ("elasticbert", 2, 2, 52, 4, 150, 17, 5, "first", "f32"),
    ("elasticbert", 12, 5, 192, 3, 384, 96, 4, "first", "f32"),
    ("bert", 4, 1, 64, 1, 67, 40, 2, "first", "f32"),
    ("deebert", 4, 4, 40, 2, 80, 24, 3, "first", "f32"),
    ("elasticbert", 6, 6, 256, 4, 256, 64, 2, "first", "f16"),
    ("elasticbert", 3, 3, 36, 2, 52, 20, 3, "first", "bf16"),
    ("elasticbert", 12, 12, 52, 4, 100, 30, 2, "first", "i8"),
    ("elasticbert", 2, 2, 64, 4, 130, 16, 2, "first", "i8"),
    ("elasticbert", 3, 3, 40, 5, 60, 24, 3, "mean", "f32"),
    ("elasticbert", 4, 4, 52, 4, 100, 30, 2, "mean", "i8"),
]

# The same with keys of config.json; "llama": as llama.cpp's converter writes a classifier, with a
# pooler or without.
MODELS += [
    ("elasticbert", 3, 3, 40, 4, 61, 24, 3, "first", "f32", {"hidden_act": "gelu_new"}),
    ("elasticbert", 2, 2, 40, 4, 61, 24, 2, "first", "bf16", {"hidden_act": "gelu_new"}),
    ("elasticbert", 3, 3, 40, 4, 61, 24, 3, "first", "f32", {"hidden_act": "relu"}),
    ("elasticbert", 2, 2, 40, 4, 61, 24, 2, "first", "i8", {"hidden_act": "relu"}),
    ("elasticbert", 3, 3, 40, 4, 61, 24, 3, "first", "f32", {"hidden_act": "silu"}),
    ("bert", 3, 1, 40, 4, 61, 24, 4, "first", "f32", {"problem_type": "multi_label_classification"}),
    ("bert", 3, 1, 40, 4, 61, 24, 1, "first", "f32", {"problem_type": "regression"}),
    ("bert", 3, 1, 40, 4, 61, 24, 3, "first", "f32", {"llama": "pooler"}),
    ("bert", 3, 1, 40, 4, 61, 24, 3, "first", "f32", {"llama": "direct"}),
    ("bert", 3, 1, 40, 4, 61, 24, 1, "first", "f32", {"llama": "direct"}),
]


# --- a random checkpoint folder ---


class Checkpoint:
    """Tensors under Hugging Face's names, large enough to make sharp attention and answers."""

    def __init__(self, rng, family, layers, exits, hidden, heads, ffn, positions, classes,
                 pooling, options):  # fmt: skip
        self.options = options
        self.rng, self.family, self.layers, self.heads = rng, family, layers, heads
        self.hidden, self.ffn, self.positions, self.classes = hidden, ffn, positions, classes
        self.vocab, self.types, self.epsilon, self.pooling = 61, 2, 1e-12, pooling
        self.exit_layers = list(range(layers - exits + 1, layers + 1))
        self.temperatures = [round(float(t), 3) for t in rng.uniform(0.5, 2.0, exits)]
        self.tensors = {}
        root = "elasticbert" if family == "elasticbert" else "bert"
        for name, rows in (("word", self.vocab), ("position", positions), ("token_type", 2)):
            self.add(f"{root}.embeddings.{name}_embeddings.weight", rows, hidden, scale=1.0)
        self.norm(f"{root}.embeddings.LayerNorm")
        for layer in range(layers):
            prefix = f"{root}.encoder.layer.{layer}"
            for part in ("self.query", "self.key", "self.value", "output.dense"):
                self.linear(f"{prefix}.attention.{part}", hidden, hidden)
            self.norm(f"{prefix}.attention.output.LayerNorm")
            self.linear(f"{prefix}.intermediate.dense", ffn, hidden)
            self.linear(f"{prefix}.output.dense", hidden, ffn)
            self.norm(f"{prefix}.output.LayerNorm")
        self.root = root
        for layer in self.exit_layers:
            pooler, classifier = self.head(layer)
            self.linear(pooler, hidden, hidden)
            self.linear(classifier, classes, hidden, scale=2.0)

    def head(self, layer):
        """Names of the pooler and the classifier of the exit at a 1-based layer."""
        if self.family == "elasticbert":
            index = layer - self.exit_layers[0]
            return f"elasticbert.encoder.pooler.{layer - 1}.dense", f"classifiers.{index}"
        if layer == self.layers:
            return "bert.pooler.dense", "classifier"
        highway = f"bert.encoder.highway.{layer - 1}"
        return f"{highway}.pooler.dense", f"{highway}.classifier"

    def add(self, name, *shape, scale, offset=0.0):
        self.tensors[name] = (offset + scale * self.rng.standard_normal(shape)).astype(np.float32)

    def linear(self, name, rows, cols, scale=1.3):
        self.add(f"{name}.weight", rows, cols, scale=scale / math.sqrt(cols))
        self.add(f"{name}.bias", rows, scale=0.3)

    def norm(self, name):
        self.add(f"{name}.weight", self.hidden, scale=0.2, offset=1.0)
        self.add(f"{name}.bias", self.hidden, scale=0.2)

    def write(self, folder):
        config = {
            "num_hidden_layers": self.layers,
            "num_output_layers": len(self.exit_layers),
            "hidden_size": self.hidden,
            "num_attention_heads": self.heads,
            "intermediate_size": self.ffn,
            "max_position_embeddings": self.positions,
            "type_vocab_size": self.types,
            "vocab_size": self.vocab,
            "num_labels": self.classes,
            "layer_norm_eps": self.epsilon,
            "hidden_act": "gelu",
            **self.options,
            "exit_pooling": self.pooling,
        }
        tokens = SPECIALS + [f"word{i}" for i in range(40)]
        tokens += [f"##piece{i}" for i in range(self.vocab - len(tokens))]
        write_text(folder, "config.json", json.dumps(config))
        write_text(folder, "vocab.txt", "".join(token + "\n" for token in tokens))
        write_text(folder, "tokenizer_config.json", json.dumps({"do_lower_case": True}))
        write_text(folder, "temperatures.json", json.dumps(self.temperatures))
        write_safetensors(os.path.join(folder, "model.safetensors"), self.tensors)


def write_text(folder, name, text):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, values in tensors.items():
        end = offset + values.nbytes
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(values.tobytes())


# --- a classifier as llama.cpp's converter writes it, of the same tensors ---

LLAMA_NAMES = (
    ("bert.embeddings.word_embeddings", "token_embd"),
    ("bert.embeddings.position_embeddings", "position_embd"),
    ("bert.embeddings.token_type_embeddings", "token_types"),
    ("bert.embeddings.LayerNorm", "token_embd_norm"), ("bert.encoder.layer.", "blk."),
    ("attention.self.query", "attn_q"), ("attention.self.key", "attn_k"),
    ("attention.self.value", "attn_v"), ("attention.output.dense", "attn_output"),
    ("attention.output.LayerNorm", "attn_output_norm"), ("intermediate.dense", "ffn_up"),
    ("output.dense", "ffn_down"), ("output.LayerNorm", "layer_output_norm"),
    ("bert.pooler.dense", "cls"), ("classifier", "cls.output"),
)  # fmt: skip


def gguf_string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def write_llama_gguf(path, model):
    """GGUF v3 by hand: keys and tensors as llama.cpp documents them for BERT with pooling "rank"."""
    u32 = lambda value: struct.pack("<II", 4, value)  # noqa: E731
    words = SPECIALS + [f"\u2581word{i}" for i in range(model.vocab - len(SPECIALS) - 1)] + ["[PAD60]"]
    kinds = [3] * len(SPECIALS) + [1] * (model.vocab - len(SPECIALS) - 1) + [5]
    array = lambda kind, parts: struct.pack("<IIQ", 9, kind, len(parts)) + b"".join(parts)  # noqa: E731
    text = lambda value: struct.pack("<I", 8) + gguf_string(value)  # noqa: E731
    labels = [f"rank {i}" for i in range(model.classes)]
    keys = {
        "general.architecture": text("bert"), "bert.block_count": u32(model.layers),
        "bert.context_length": u32(model.positions), "bert.embedding_length": u32(model.hidden),
        "bert.feed_forward_length": u32(model.ffn), "bert.attention.head_count": u32(model.heads),
        "bert.attention.layer_norm_epsilon": struct.pack("<If", 6, model.epsilon),
        "bert.attention.causal": struct.pack("<IB", 7, 0), "bert.pooling_type": u32(4),
        "bert.classifier.output_labels": array(8, [gguf_string(label) for label in labels]),
        "tokenizer.ggml.model": text("bert"), "tokenizer.ggml.token_type_count": u32(model.types),
        "tokenizer.ggml.tokens": array(8, [gguf_string(word) for word in words]),
        "tokenizer.ggml.token_type": array(5, [struct.pack("<i", kind) for kind in kinds]),
    }  # fmt: skip
    tensors = {}
    for name, values in model.tensors.items():
        if model.options["llama"] == "direct" and "pooler" in name:
            continue
        for old, new in LLAMA_NAMES:
            name = name.replace(old, new)
        tensors[name] = values[0] if name == "cls.output.weight" and len(values) == 1 else values
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    header += b"".join(gguf_string(key) + value for key, value in keys.items())
    data = b""
    for name, values in tensors.items():
        dims = values.shape[::-1]
        header += gguf_string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, 0, len(data))
        data += values.tobytes() + bytes(-values.nbytes % 32)
    with open(path, "wb") as file:
        file.write(header + bytes(-len(header) % 32) + data)


# --- the reference ---


def matrix_dtype(name, values, dtype):
    """The type that a tensor is stored as, as convert_hf.py --help says."""
    if values.ndim == 1:
        return "f32"
    if dtype == "i8" and ("position_" in name or "token_type_" in name):
        return "f16"
    if dtype == "i8" and "classifier" in name:
        return "f32"
    return dtype


def to_bf16(values):
    """Rounded to 8 significant bits, ties to even."""
    mantissa, exponent = np.frexp(values.astype(np.float64))
    return np.ldexp(np.rint(mantissa * 256) / 256, exponent)


def to_i8(values):
    """Each row to a whole number of steps of its largest magnitude / 127."""
    largest = np.abs(values).max(axis=-1, keepdims=True)
    scales = np.where(largest > 0, largest, 1) / 127
    return np.rint(values / scales) * scales


def stored(name, values, dtype):
    """What a tensor is worth after it was stored."""
    kind = matrix_dtype(name, values, dtype)
    if kind == "f16":
        return values.astype(np.float16).astype(np.float64)
    if kind == "bf16":
        return to_bf16(values)
    if kind == "i8":
        scales = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
        return np.rint(values / scales).astype(np.float64) * scales
    return values.astype(np.float64)


def erf(values):
    return np.frompyfunc(math.erf, 1, 1)(values).astype(np.float64)


def softmax(values):
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


ACTIVATIONS = {
    "gelu": lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),
    "gelu_new": lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


class Reference:
    def __init__(self, checkpoint, dtype, target):
        self.model = checkpoint
        self.tensors = {n: stored(n, v, dtype) for n, v in checkpoint.tensors.items()}
        kinds = {n: matrix_dtype(n, v, dtype) for n, v in checkpoint.tensors.items()}
        rounding = {"bf16": to_bf16, "i8": to_i8}
        self.rounding = {n: rounding[k] for n, k in kinds.items() if k in rounding}
        # Attention is rounded as the weights are, where the target can multiply bfloat16.
        rounded = self.rounding and target.endswith("bf16")
        self.attention_rounding = to_bf16 if rounded else lambda values: values

    def linear(self, name, x):
        x = self.rounding.get(f"{name}.weight", lambda values: values)(x)
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def norm(self, name, x):
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self.model.epsilon)
        return centred / deviation * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def attention(self, prefix, x):
        size, rounding = self.model.hidden // self.model.heads, self.attention_rounding
        q, k, v = (
            rounding(self.linear(f"{prefix}.self.{part}", x)) for part in ("query", "key", "value")
        )
        heads = []
        for head in range(self.model.heads):
            cols = slice(head * size, (head + 1) * size)
            scores = q[:, cols] @ k[:, cols].T / math.sqrt(size)
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            heads.append(rounding(weights) @ v[:, cols] / weights.sum(axis=-1, keepdims=True))
        return self.linear(f"{prefix}.output.dense", np.concatenate(heads, axis=1))

    def layer(self, index, x):
        prefix = f"{self.model.root}.encoder.layer.{index}"
        attended = self.attention(f"{prefix}.attention", x)
        x = self.norm(f"{prefix}.attention.output.LayerNorm", x + attended)
        inner = self.linear(f"{prefix}.intermediate.dense", x)
        inner = ACTIVATIONS[self.model.options.get("hidden_act", "gelu")](inner)
        return self.norm(
            f"{prefix}.output.LayerNorm", x + self.linear(f"{prefix}.output.dense", inner)
        )

    def answer(self, logits):
        if self.model.options.get("problem_type") == "multi_label_classification":
            return 1 / (1 + np.exp(-logits))
        return logits if self.model.classes == 1 else softmax(logits)

    def exits(self, ids, types):
        tables = f"{self.model.root}.embeddings"
        x = self.tensors[f"{tables}.word_embeddings.weight"][ids]
        x = x + self.tensors[f"{tables}.position_embeddings.weight"][: len(ids)]
        x = x + self.tensors[f"{tables}.token_type_embeddings.weight"][types]
        x = self.norm(f"{tables}.LayerNorm", x)
        answers = []
        for layer in range(1, self.model.layers + 1):
            x = self.layer(layer - 1, x)
            if layer in self.model.exit_layers:
                pooler, classifier = self.model.head(layer)
                read = x.mean(axis=0) if self.model.pooling == "mean" else x[0]
                if self.model.options.get("llama") != "direct":
                    read = np.tanh(self.linear(pooler, read))
                logits = self.linear(classifier, read) / self.model.temperatures[len(answers)]
                answers.append(self.answer(logits))
        return np.array(answers)


# --- the comparison ---


def samples(rng, model):
    """(ids, types): single texts of several lengths up to the longest, and pairs."""
    lengths = [1, 2, 3, model.positions // 2 + 1, model.positions - 1, model.positions]
    for length in lengths:
        ids = rng.integers(0, model.vocab, length)
        yield ids, np.zeros(length, int)
    for length in (7, model.positions):
        ids = rng.integers(0, model.vocab, length)
        yield ids, (np.arange(length) > length // 3).astype(int)


def run(command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"golden.py: {' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def engine_answers(run_model, path, target, inputs):
    lines = ["{}|{}\n".format(" ".join(map(str, i)), " ".join(map(str, t))) for i, t in inputs]
    output = run([run_model, path, target, "1"], "".join(lines))
    return [np.array(json.loads(line)) for line in output.splitlines()]


def check_model(run_model, convert_hf, targets, seed, number):
    row = MODELS[number]
    *shape, dtype, options = row if isinstance(row[-1], dict) else (*row, {})
    rng = np.random.default_rng([seed, number])
    checkpoint = Checkpoint(rng, *shape, options)
    if "llama" in options:
        checkpoint.temperatures = [1.0]
    inputs = list(samples(rng, checkpoint))
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.gguf")
        temperatures = os.path.join(folder, "temperatures.json")
        if "llama" in options:
            write_llama_gguf(path, checkpoint)
        else:
            checkpoint.write(folder)
            run([sys.executable, convert_hf, folder, "--output", path, "--dtype", dtype,
                 "--sample", "none", "--temperatures", temperatures])  # fmt: skip
        for target in targets:
            reference = Reference(checkpoint, dtype, target)
            expected = [reference.exits(ids, types) for ids, types in inputs]
            found = engine_answers(run_model, path, target, inputs)
            same_shape = [f.shape for f in found] == [e.shape for e in expected]
            errors = sorted(np.abs(f - e).max() for f, e in zip(found, expected))
            error = errors[-1] if same_shape else 9
            failures += not error <= TOLERANCES[dtype]
            # Not every sample has an activation next to a border.
            failures += not errors[len(errors) // 4] <= TOLERANCES["f32"]
            print(f"{target:8} {MODELS[number]}: largest difference {error:.2e}")
    spread = np.ptp(np.concatenate([e.ravel() for e in expected]))
    if spread < 0.5:
        print(f"{MODELS[number]}: the answers hardly differ ({spread:.2f}): nothing is tested")
        failures += 1
    return failures


def main():
    run_model, convert_hf = sys.argv[1:3]
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 20230909
    print(f"seed {seed}")
    targets = run([run_model, "--targets"]).split()
    failures = sum(
        check_model(run_model, convert_hf, targets, seed, number) for number in range(len(MODELS))
    )
    sys.exit(f"{failures} comparisons failed" if failures else 0)


if __name__ == "__main__":
    main()
