#!/usr/bin/env python3
"""Makes a small random model file for the end-to-end tests.

Usage: random_model.py CONVERTER SEED OUTPUT.gguf
An ElasticBERT checkpoint with random weights, converted by CONVERTER (tools/convert_hf.py). Its
weights are large enough that confidences spread from one half to almost one.
"""

import json
import os
import random
import struct
import subprocess
import sys
import tempfile
from array import array

LAYERS, HIDDEN, FFN, POSITIONS, CLASSES = 4, 24, 40, 48, 2
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [f"{a}{b}" for a in "bdfgklmnprst" for b in "aeiou"]
VOCAB = SPECIAL + WORDS + ["##" + word for word in WORDS] + list(".,!?'-")


def tensor_shapes():
    shapes = {}

    def linear(name, rows, columns):
        shapes[name + ".weight"] = (rows, columns)
        shapes[name + ".bias"] = (rows,)

    def norm(name):
        shapes[name + ".weight"] = shapes[name + ".bias"] = (HIDDEN,)

    embeddings = "elasticbert.embeddings."
    shapes[embeddings + "word_embeddings.weight"] = (len(VOCAB), HIDDEN)
    shapes[embeddings + "position_embeddings.weight"] = (POSITIONS, HIDDEN)
    shapes[embeddings + "token_type_embeddings.weight"] = (2, HIDDEN)
    norm(embeddings + "LayerNorm")
    for i in range(LAYERS):
        layer = f"elasticbert.encoder.layer.{i}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value"):
            linear(layer + part, HIDDEN, HIDDEN)
        linear(layer + "attention.output.dense", HIDDEN, HIDDEN)
        norm(layer + "attention.output.LayerNorm")
        linear(layer + "intermediate.dense", FFN, HIDDEN)
        linear(layer + "output.dense", HIDDEN, FFN)
        norm(layer + "output.LayerNorm")
        linear(f"elasticbert.encoder.pooler.{i}.dense", HIDDEN, HIDDEN)
        linear(f"classifiers.{i}", CLASSES, HIDDEN)
    return shapes


def values(rng, name, shape):
    count = 1
    for size in shape:
        count *= size
    if name.endswith("LayerNorm.weight"):
        return array("f", (rng.uniform(0.8, 1.2) for _ in range(count)))
    scale = 0.05 if name.endswith("bias") else 0.35 if name.startswith("classifiers") else 0.5
    return array("f", (rng.gauss(0, scale) for _ in range(count)))


def write_checkpoint(folder, seed):
    rng = random.Random(seed)
    header, data = {}, b""
    for name, shape in tensor_shapes().items():
        part = values(rng, name, shape).tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(shape),
            "data_offsets": [len(data), len(data) + len(part)],
        }
        data += part
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as file:
        file.write("".join(token + "\n" for token in VOCAB))
    config = {
        "num_hidden_layers": LAYERS,
        "num_output_layers": LAYERS,
        "hidden_size": HIDDEN,
        "num_attention_heads": 4,
        "intermediate_size": FFN,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "vocab_size": len(VOCAB),
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "num_labels": CLASSES,
        "id2label": {"0": "negative", "1": "positive"},
    }
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        json.dump({"do_lower_case": True}, file)


def main():
    converter, seed, output = sys.argv[1:4]
    with tempfile.TemporaryDirectory(prefix="random_model_") as folder:
        write_checkpoint(folder, int(seed))
        subprocess.run([sys.executable, converter, folder, "--output", output, *sys.argv[4:]], check=True)


if __name__ == "__main__":
    main()
