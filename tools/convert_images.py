#!/usr/bin/env python3
"""Converts a convolutional network on images to a GGUF file: the program is tools/python/convert_images.py."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "python"))
from convert_images import main  # noqa: E402

sys.exit(main())
