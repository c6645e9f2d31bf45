#!/usr/bin/env python3
"""Makes a small random network on rows of numbers for the end-to-end tests.

Usage: random_numbers.py CONVERTER SEED OUTPUT.gguf [converter flags]
A checkpoint folder with random weights, converted by CONVERTER (tools/convert_numbers.py), large
enough that confidences spread from one half to almost one.
"""

import json
import os
import random
import struct
import subprocess
import sys
import tempfile
from array import array

FEATURES, WIDTHS, EXITS, CLASSES = 6, (24, 24, 24, 16), (1, 2, 3, 4), 2
RESIDUAL = (False, True, True, False)
COLUMNS = ["temp", "flow", "x", "y", "z", "load"]
LABELS = ["idle", "busy"]


def checkpoint(seed):
    """name: (shape, values) of a state dict."""
    rng = random.Random(seed)

    def values(count, scale, offset=0.0):
        return array("f", (offset + rng.gauss(0, scale) for _ in range(count)))

    state = {"mean": ((FEATURES,), values(FEATURES, 1.0)), "std": ((FEATURES,), values(FEATURES, 0.1, 1.5))}
    before = FEATURES
    for i, width in enumerate(WIDTHS):
        state[f"blocks.{i}.weight"] = ((width, before), values(width * before, 1.6 / before**0.5))
        state[f"blocks.{i}.bias"] = ((width,), values(width, 0.2))
        before = width
        if i + 1 in EXITS:
            state[f"exits.{i + 1}.weight"] = ((CLASSES, width), values(CLASSES * width, 0.5))
            state[f"exits.{i + 1}.bias"] = ((CLASSES,), values(CLASSES, 0.2))
    return state


def write_checkpoint(folder, seed, **more):
    header, data = {}, b""
    for name, (shape, values) in checkpoint(seed).items():
        part = values.tobytes()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    about = {"activation": "relu", "residual": list(RESIDUAL), "labels": LABELS, "columns": COLUMNS} | more
    with open(os.path.join(folder, "network.json"), "w", encoding="utf-8") as file:
        json.dump({key: value for key, value in about.items() if value is not None}, file)


def make_rows(count, seed=1):
    rng = random.Random(seed)
    return [[round(rng.gauss(0, 2.0), 3) for _ in range(FEATURES)] for _ in range(count)]


def table(rows, delimiter=",", columns=COLUMNS, labels=None):
    names = list(columns) + (["label"] if labels else [])
    lines = [delimiter.join(names)]
    for i, row in enumerate(rows):
        lines.append(delimiter.join([*map(repr, row), *([labels[i]] if labels else [])]))
    return "\n".join(lines) + "\n"


def main():
    converter, seed, output = sys.argv[1:4]
    with tempfile.TemporaryDirectory(prefix="random_numbers_") as folder:
        write_checkpoint(folder, int(seed))
        subprocess.run([sys.executable, converter, folder, "--output", output, *sys.argv[4:]], check=True)


if __name__ == "__main__":
    main()
