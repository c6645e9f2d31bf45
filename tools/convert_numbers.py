#!/usr/bin/env python3
"""Converts a network on rows of numbers to a GGUF file: the program is tools/python/convert_numbers.py."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "python"))
from convert_numbers import main  # noqa: E402

sys.exit(main())
