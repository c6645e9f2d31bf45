#!/usr/bin/env python3
"""What int8 changes in the answers of MobileNetV2: bench/image_accuracy.py --width 0.5 --seed 1 --pictures FOLDER
--peers-bench PROGRAM [PROGRAM ...]. The network has random weights (bench/peers/image_models.py) and batch norms of
the first 256 pictures below FOLDER (JPEG, 32 x 32); 500 others are asked about. Prints for every program (the
peers_bench of some builds) and exit the mean change of a probability and how often the class is that of fp32.
Needs PyTorch and Pillow, as training does."""

import argparse
import glob
import json
import os
import random
import subprocess
import sys
import tempfile

import numpy as np
import torch
from PIL import Image

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(ROOT, "bench/peers"), os.path.join(ROOT, "tools/training/train_lib")]
import image_models  # noqa: E402
from tensors import read_safetensors, write_safetensors  # noqa: E402

CALIBRATION, ASKED, CLASSES = 256, 500, 10
SPREAD = 2.0  # standard deviation of the logits


class Network:
    """Runs the pictures through; sets batch norms and classifiers as it comes to them."""

    def __init__(self, tensors, strides, seed):
        self.tensors, self.strides, self.rng = tensors, strides, np.random.default_rng(seed)

    def convolution(self, x, conv, norm, stride=1, groups=1, clamp=True):
        weight = torch.tensor(self.tensors[conv + ".weight"])
        y = torch.nn.functional.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2, groups=groups)
        count = weight.shape[0]
        found = {".running_mean": y.mean((0, 2, 3)).numpy(), ".running_var": y.var((0, 2, 3)).numpy(),
                 ".weight": self.rng.uniform(0.5, 1.5, count), ".bias": self.rng.normal(0.3 * clamp, 0.5, count)}  # fmt: skip
        for suffix, values in found.items():
            self.tensors[norm + suffix] = np.asarray(values, np.float32)
        y = torch.nn.functional.batch_norm(y, *(torch.tensor(self.tensors[norm + suffix]) for suffix in found))
        return y.clamp(0, 6) if clamp else y

    def classifier(self, x, name):
        mean, weight = x.mean((2, 3)), self.tensors[name + ".weight"]
        weight = weight * np.float32(SPREAD / (mean @ torch.tensor(weight).T).std().item())
        self.tensors[name + ".weight"] = weight
        self.tensors[name + ".bias"] = -(mean @ torch.tensor(weight).T).mean(0).numpy()

    def block(self, x, number):
        name, stride, y, part = f"features.{number}.conv.", self.strides[number - 1], x, 0
        if name + "1.0.weight" in self.tensors:
            y, part = self.convolution(y, name + "0.0", name + "0.1"), 1
        y = self.convolution(y, f"{name}{part}.0", f"{name}{part}.1", stride, groups=y.shape[1])
        y = self.convolution(y, f"{name}{part + 1}", f"{name}{part + 2}", clamp=False)
        return y + x if stride == 1 and y.shape == x.shape else y

    def run(self, x):
        x = self.convolution(x, "features.0.0", "features.0.1")
        for number in range(1, len(self.strides) + 1):
            x = self.block(x, number)
            exit_name = f"exits.{number}"
            if exit_name + ".weight" in self.tensors:
                self.classifier(self.convolution(x, exit_name + ".conv", exit_name + ".bn"), exit_name)
        last = f"features.{len(self.strides) + 1}"
        self.classifier(self.convolution(x, last + ".0", last + ".1"), "classifier.1")


def pictures(folder):
    """(pictures, height, width, 3), normalised as the networks say."""
    paths = sorted(glob.glob(os.path.join(folder, "**", "*.jpg"), recursive=True))
    random.Random(1).shuffle(paths)
    values = np.stack([np.asarray(Image.open(p).convert("RGB"), np.float32) for p in paths[:CALIBRATION + ASKED]])
    return (values / 255 - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])


def probabilities(program, model, inputs):
    command = [program, "passes", "--gguf", model, "--inputs", inputs]
    words = subprocess.run(command, input="", check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return np.array(words, float).reshape(ASKED, -1, CLASSES)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", default="0.5", choices=("0.5", "1.0"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--peers-bench", required=True, nargs="+")
    arguments = parser.parse_args()
    values = pictures(arguments.pictures)
    with tempfile.TemporaryDirectory() as folder:
        image_models.write_folder(folder, f"mobilenetv2-{arguments.width}-32")
        path, inputs = os.path.join(folder, "model.safetensors"), os.path.join(folder, "inputs")
        with open(os.path.join(folder, "network.json"), encoding="utf-8") as file:
            network = Network(read_safetensors(path), json.load(file)["strides"], arguments.seed)
        network.run(torch.tensor(np.ascontiguousarray(values[:CALIBRATION].transpose(0, 3, 1, 2))))
        write_safetensors(path, network.tensors)
        values[CALIBRATION:].astype(np.float32).tofile(inputs)
        models = {dtype: os.path.join(folder, dtype + ".gguf") for dtype in ("f32", "i8")}
        for dtype, model in models.items():
            subprocess.run([sys.executable, os.path.join(ROOT, "tools/convert_images.py"), folder, "--output", model,
                            "--dtype", dtype], check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        exact = probabilities(arguments.peers_bench[0], models["f32"], inputs)
        for program in arguments.peers_bench:
            found = probabilities(program, models["i8"], inputs)
            change, same = np.abs(found - exact), found.argmax(2) == exact.argmax(2)
            print(program, f"change {change.mean():.5f} ({' '.join(f'{v:.4f}' for v in change.mean((0, 2)))})",
                  f"same class {same.mean():.1%} ({' '.join(f'{v:.1%}' for v in same.mean(0))})")  # fmt: skip


if __name__ == "__main__":
    main()
