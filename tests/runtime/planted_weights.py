#!/usr/bin/env python3
"""On a trained network every kernel target computes every layer as the scalar one does, within bounds
that a single wrong row, wrong scale or dropped column of one matrix exceeds.

usage: planted_weights.py LAYER_CHECK RUN_MODEL MODEL.gguf PYTHON_FOLDER [-v]
MODEL is an int8 network of texts; PYTHON_FOLDER is tools/python. With -v the differences are printed.
"""

import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("skipped: no numpy")
    sys.exit(77)

LAYER_CHECK, RUN_MODEL, MODEL, PYTHON = sys.argv[1:5]
VERBOSE = sys.argv[5:]
sys.path.insert(0, PYTHON)
import gguf_reader  # noqa: E402
import gguf_writer as gguf  # noqa: E402
import quantise  # noqa: E402

TEXTS = (
    "the battery died after two weeks and the shop would not take it back .",
    "a warm , funny and well acted film that knows exactly when to stop",
    "it works .",
)
LAYERS = (0, 5)
MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down")


def token_lines(file):
    vocab = [token[1:] if token.startswith("\u2581") else token if token.startswith("[") else "##" + token
             for token in file.keys["tokenizer.ggml.tokens"]]  # fmt: skip
    ids = quantise.tokenize(TEXTS, vocab, True, 128)
    return "".join(" ".join(map(str, line)) + "\n" for line in ids)


def check(other, target, lines):
    done = subprocess.run([LAYER_CHECK, MODEL, other, target, *VERBOSE], input=lines, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    if VERBOSE:
        print(done.stdout, end="")
    return done.returncode


def wrong_scale(weights, scales):
    scales[len(scales) // 3] *= 1.5


def wrong_row(weights, scales):
    weights[len(weights) // 3] = weights[len(weights) // 3 + 1]


def dropped_column(weights, scales):
    weights[:, weights.shape[1] // 3] = 0


def plant(file, path, name, fault):
    weights, scales = (file.tensors[name + part].load().copy() for part in (".weight", ".weight.scale"))
    fault(weights, scales)
    tensors = [tensor.to_write() for tensor in file.tensors.values()]
    for tensor in tensors:
        if tensor.name == name + ".weight":
            tensor.produce = lambda: weights
        elif tensor.name == name + ".weight.scale":
            tensor.produce = lambda: scales
    gguf.write_gguf(path, file.with_keys([]), tensors)


def main():
    file = gguf_reader.GgufFile(MODEL)
    lines = token_lines(file)
    targets = subprocess.run([RUN_MODEL, "--targets"], capture_output=True, text=True, check=True).stdout.split()
    for target in targets:
        assert check(MODEL, target, lines) == 0, f"{target} differs from scalar"
    print("as the scalar target:", ", ".join(targets))
    plain = targets[-2]  # in single precision but for the products
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "planted.gguf")
        for number, matrix in enumerate(MATRICES):
            name = f"blk.{LAYERS[number % len(LAYERS)]}.{matrix}"
            for fault in (wrong_scale, wrong_row, dropped_column):
                plant(file, path, name, fault)
                found = check(path, plain, lines) == 1
                print(f"{name} {fault.__name__}: {'found' if found else 'MISSED'}", flush=True)
                missed += [] if found else [(name, fault.__name__)]
    assert not missed and np, missed


if __name__ == "__main__":
    main()
