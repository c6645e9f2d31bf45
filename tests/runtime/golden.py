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

# family, layers, exits (on the last ones), hidden, heads, ffn, positions, classes, dtype
MODELS = [
    ("elasticbert", 1, 1, 20, 5, 36, 8, 2, "f32"),
    ("elasticbert", 3, 2, 36, 3, 100, 33, 3, "f32"),
    ("elasticbert", 2, 2, 52, 4, 150, 17, 5, "f32"),
    ("elasticbert", 12, 5, 192, 3, 384, 96, 4, "f32"),
    ("bert", 4, 1, 64, 1, 67, 40, 2, "f32"),
    ("deebert", 4, 4, 40, 2, 80, 24, 3, "f32"),
    ("elasticbert", 6, 6, 256, 4, 256, 64, 2, "f16"),
    ("elasticbert", 3, 3, 36, 2, 52, 20, 3, "bf16"),
    ("elasticbert", 12, 12, 52, 4, 100, 30, 2, "i8"),
    ("elasticbert", 2, 2, 64, 4, 130, 16, 2, "i8"),
]


# --- a random checkpoint folder ---


class Checkpoint:
    """Tensors under Hugging Face's names, large enough to make sharp attention and answers."""

    def __init__(self, rng, family, layers, exits, hidden, heads, ffn, positions, classes):
        self.rng, self.family, self.layers, self.heads = rng, family, layers, heads
        self.hidden, self.ffn, self.positions, self.classes = hidden, ffn, positions, classes
        self.vocab, self.types, self.epsilon = 61, 2, 1e-12
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
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        return self.norm(
            f"{prefix}.output.LayerNorm", x + self.linear(f"{prefix}.output.dense", inner)
        )

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
                logits = self.linear(classifier, np.tanh(self.linear(pooler, x[0])))
                answers.append(softmax(logits / self.model.temperatures[len(answers)]))
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
    *shape, dtype = MODELS[number]
    rng = np.random.default_rng([seed, number])
    checkpoint = Checkpoint(rng, *shape)
    inputs = list(samples(rng, checkpoint))
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.write(folder)
        path = os.path.join(folder, "model.gguf")
        temperatures = os.path.join(folder, "temperatures.json")
        run([sys.executable, convert_hf, folder, "--output", path, "--dtype", dtype,
             "--temperatures", temperatures])  # fmt: skip
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
