#!/usr/bin/env python3
"""Makes small random networks on images, pictures for them, and what they are to answer: an
independent implementation in float64, on the checkpoint's own tensors, batch norms and all.

Usage: random_images.py CONVERTER SEED OUTPUT.gguf [converter flags]
A checkpoint folder with random weights, converted by CONVERTER (tools/convert_images.py).
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib

import numpy as np

LABELS = ["bird", "cat", "ship"]
EPSILON = 1e-5


class State:
    """A state dict with torchvision's names."""

    def __init__(self, seed):
        self.rng, self.tensors = np.random.default_rng(seed), {}

    def conv(self, name, out, channels, size, norm, gain=1.4):
        scale = gain / (channels * size * size) ** 0.5
        self.tensors[name + ".weight"] = self.rng.normal(0, scale, (out, channels, size, size))
        self.tensors[norm + ".weight"] = self.rng.normal(1, 0.2, out)
        self.tensors[norm + ".bias"] = self.rng.normal(0, 0.3, out)
        self.tensors[norm + ".running_mean"] = self.rng.normal(0, 0.2, out)
        self.tensors[norm + ".running_var"] = self.rng.uniform(0.5, 1.5, out)

    def linear(self, name, out, channels):
        self.tensors[name + ".weight"] = self.rng.normal(0, 4.0 / channels**0.5, (out, channels))
        self.tensors[name + ".bias"] = self.rng.normal(0, 0.2, out)

    def float32(self):
        return {name: values.astype(np.float32) for name, values in self.tensors.items()}


def resnet(seed, stages, stem=3, pad=False, exits=(1, 2), conv_exit=None):
    """stages: (channels, blocks). An exit with a convolution behind block `conv_exit`."""
    state = State(seed)
    before = stages[0][0]
    state.conv("conv1", before, 3, stem, "bn1")
    channels_of, number = {}, 0
    for stage, (channels, count) in enumerate(stages, 1):
        for j in range(count):
            name, number = f"layer{stage}.{j}.", number + 1
            state.conv(name + "conv1", channels, before, 3, name + "bn1")
            state.conv(name + "conv2", channels, channels, 3, name + "bn2")
            if not pad and (channels != before or (j == 0 and stage > 1)):
                state.conv(name + "downsample.0", channels, before, 1, name + "downsample.1")
            before = channels_of[number] = channels
    for layer in exits:
        if layer == conv_exit:
            state.conv(f"exits.{layer}.conv", 20, channels_of[layer], 1, f"exits.{layer}.bn")
        state.linear(f"exits.{layer}", len(LABELS), 20 if layer == conv_exit else channels_of[layer])
    if number not in exits:
        state.linear("fc", len(LABELS), before)
    return state.float32()


def mobilenet(seed, blocks, stem=8, exits=(1, 2), last=24):
    """blocks: (channels, expansion)."""
    state = State(seed)
    state.conv("features.0.0", stem, 3, 3, "features.0.1")
    before, channels_of = stem, {}
    for i, (channels, expansion) in enumerate(blocks, 1):
        name, hidden, part = f"features.{i}.conv.", before * expansion, 0
        if expansion != 1:
            state.conv(name + "0.0", hidden, before, 1, name + "0.1")
            part = 1
        state.conv(f"{name}{part}.0", hidden, 1, 3, f"{name}{part}.1")
        state.conv(f"{name}{part + 1}", channels, hidden, 1, f"{name}{part + 2}")
        before = channels_of[i] = channels
    for layer in exits:
        state.linear(f"exits.{layer}", len(LABELS), channels_of[layer])
    state.conv(f"features.{len(blocks) + 1}.0", last, before, 1, f"features.{len(blocks) + 1}.1")
    state.linear("classifier.1", len(LABELS), last)
    return state.float32()


# --- what they are to answer ---

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


def windows(x, size, stride, fill):
    """(height, width, channels, size, size) of x (height, width, channels)."""
    pad = (size - 1) // 2
    padded = np.pad(x, ((pad, pad), (pad, pad), (0, 0)), constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(0, 1))[::stride, ::stride]


class Reference:
    def __init__(self, state, about):
        self.state = {name: values.astype(np.float64) for name, values in state.items()}
        self.act = ACTIVATIONS[about.get("activation") or ("relu" if "conv1.weight" in state else "relu6")]
        self.about = about

    def conv(self, x, name, norm, stride=1):
        weights = self.state[name + ".weight"]
        view = windows(x, weights.shape[-1], stride, 0)
        if weights.shape[1] == 1 and x.shape[2] == len(weights) != 1:  # depthwise
            y = np.einsum("hwcij,cij->hwc", view, weights[:, 0])
        else:
            y = np.einsum("hwcij,ocij->hwo", view, weights, optimize=True)
        norm = {part: self.state[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
        scaled = (y - norm["running_mean"]) / np.sqrt(norm["running_var"] + EPSILON)
        return scaled * norm["weight"] + norm["bias"]

    def exit(self, x, layer, name):
        conv = f"exits.{layer}.conv"
        if conv + ".weight" in self.state:
            x = self.act(self.conv(x, conv, f"exits.{layer}.bn"))
        logits = self.state[name + ".weight"] @ x.mean(axis=(0, 1)) + self.state[name + ".bias"]
        powers = np.exp(logits - logits.max())
        return powers / powers.sum()

    def basic(self, x, name, stride):
        y = self.act(self.conv(x, name + "conv1", name + "bn1", stride))
        y = self.conv(y, name + "conv2", name + "bn2")
        if name + "downsample.0.weight" in self.state:
            x = self.conv(x, name + "downsample.0", name + "downsample.1", stride)
        elif y.shape != x.shape:
            more = y.shape[2] - x.shape[2]
            x = np.pad(x[::stride, ::stride], ((0, 0), (0, 0), (more // 2, more - more // 2)))
        return self.act(y + x)

    def inverted(self, x, name, stride):
        part = 1 if name + "3.weight" in self.state else 0
        y = self.act(self.conv(x, name + "0.0", name + "0.1")) if part else x
        y = self.act(self.conv(y, f"{name}{part}.0", f"{name}{part}.1", stride))
        y = self.conv(y, f"{name}{part + 1}", f"{name}{part + 2}")
        return y + x if stride == 1 and x.shape == y.shape else y

    def run(self, pixels):
        """Every exit's probabilities for a picture (height, width, 3) of the input's size, 0 to 255."""
        about = self.about
        x = (pixels / 255 - np.array(about["mean"])) / np.array(about["std"])
        if "conv1.weight" in self.state:
            big = self.state["conv1.weight"].shape[-1] == 7
            x = self.act(self.conv(x, "conv1", "bn1", about.get("stem_stride", 2 if big else 1)))
            if about.get("stem_pool", big):
                x = windows(x, 3, 2, -np.inf).max(axis=(3, 4))
            names = sorted({name[: name.index("conv1")] for name in self.state if name.startswith("layer") and ".conv1." in name})
            block, last = self.basic, ("fc", None)
        else:
            x = self.act(self.conv(x, "features.0.0", "features.0.1", about.get("stem_stride", 2)))
            names = sorted({".".join(name.split(".")[:2]) + ".conv." for name in self.state if ".conv." in name and "features" in name},
                           key=lambda name: int(name.split(".")[1]))  # fmt: skip
            block, last = self.inverted, ("classifier.1", f"features.{len(names) + 1}")
        found = []
        for layer, (name, stride) in enumerate(zip(names, about["strides"], strict=True), 1):
            x = block(x, name, stride)
            if f"exits.{layer}.weight" in self.state:
                found.append(self.exit(x, layer, f"exits.{layer}"))
            elif layer == len(names):
                if last[1]:
                    x = self.act(self.conv(x, last[1] + ".0", last[1] + ".1"))
                found.append(self.exit(x, layer, last[0]))
        return np.array(found)


# --- files ---


def write_checkpoint(folder, state, about):
    header, data = {}, b""
    for name, values in state.items():
        part = np.ascontiguousarray(values, "<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    with open(os.path.join(folder, "network.json"), "w", encoding="utf-8") as file:
        json.dump(about, file)


def about_of(height, width, strides, **more):
    return {"input": [height, width], "mean": [0.5, 0.4, 0.45], "std": [0.2, 0.25, 0.3], "labels": LABELS,
            "strides": strides} | more  # fmt: skip


HEIGHT, WIDTH = 14, 11
STRIDES = [1, 1, 2, 2]


def small(seed):
    """(state, about) of the network that most tests run."""
    state = resnet(seed, ((8, 2), (12, 1), (16, 1)), exits=(1, 2, 3))
    return state, about_of(HEIGHT, WIDTH, STRIDES)


def picture(number, height=HEIGHT, width=WIDTH):
    """Smooth blobs: (height, width, 3) uint8."""
    rng = np.random.default_rng(number + 1000)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(rng.uniform(0.1, 0.9) * x + rng.uniform(0.1, 0.9) * y + rng.uniform(0, 6)) for _ in range(3)]
    colour = rng.uniform(30, 225, 3)
    return np.clip(colour + rng.uniform(20, 120) * np.stack(waves, axis=-1), 0, 255).astype(np.uint8)


def ppm(pixels, comment=""):
    height, width = pixels.shape[:2]
    return f"P6\n{comment}{width} {height}\n255\n".encode() + pixels.tobytes()


def png(pixels):
    """A PNG of 8 bits a value: grey, RGB or RGBA by the number of channels."""
    height, width, channels = pixels.shape
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    kind = {1: 0, 3: 2, 4: 6}[channels]
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))  # fmt: skip


def main():
    converter, seed, output = sys.argv[1:4]
    with tempfile.TemporaryDirectory(prefix="random_images_") as folder:
        write_checkpoint(folder, *small(int(seed)))
        subprocess.run([sys.executable, converter, folder, "--output", output, *sys.argv[4:]], check=True)


if __name__ == "__main__":
    main()
