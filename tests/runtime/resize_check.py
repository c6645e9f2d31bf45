#!/usr/bin/env python3
"""Resizing against PyTorch's antialiased bilinear interpolation, which torchvision's resize of tensors
is, and decoding of JPEG against Pillow. Skipped (77) where one of them is not installed.

Usage: resize_check.py RESIZE_PICTURE PPM_TO_JPEG
"""

import io
import subprocess
import sys

try:
    import numpy as np
    import torch
    from PIL import Image
except ImportError as error:
    print(f"resize_check.py: {error.name} is not installed: skipped")
    sys.exit(77)

RESIZE, TO_JPEG = sys.argv[1:3]
MOST = 0.255  # a thousandth of a pixel's range


def resized(file, height, width, shorter):
    done = subprocess.run([RESIZE, str(height), str(width), str(shorter)], input=file, capture_output=True, check=True)
    return np.frombuffer(done.stdout, "<f4").reshape(height, width, 3)


def expected(pixels, height, width, shorter):
    """torchvision's Resize and, with a shorter side, CenterCrop."""
    size = height, width
    if shorter:
        scale = min(pixels.shape[:2])
        size = tuple(int(shorter * side / scale) for side in pixels.shape[:2])
    values = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
    values = torch.nn.functional.interpolate(values, size=size, mode="bilinear", align_corners=False, antialias=True)
    top, left = round((size[0] - height) / 2), round((size[1] - width) / 2)
    return values[0].permute(1, 2, 0).numpy()[top:top + height, left:left + width]


def main():
    rng, worst = np.random.default_rng(1), 0.0
    for _ in range(40):
        size = rng.integers(5, 300, 2)
        height, width = map(int, rng.integers(4, 80, 2))
        shorter = int(rng.choice([0, max(height, width), max(height, width) + 17]))
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        file = b"P6 %d %d 255\n" % (size[1], size[0]) + pixels.tobytes()
        difference = np.abs(resized(file, height, width, shorter) - expected(pixels, height, width, shorter)).max()
        assert difference < MOST, (size, height, width, shorter, difference)
        worst = max(worst, difference)
        jpeg = subprocess.run([TO_JPEG, "85"], input=file, capture_output=True, check=True).stdout
        decoded = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
        found = resized(jpeg, *map(int, size), 0)
        assert np.array_equal(found, decoded), "a JPEG's pixels are not Pillow's"
    print(f"40 pictures: at most {worst:.2g} of 255 off, JPEG as Pillow decodes it")


if __name__ == "__main__":
    main()
