#!/usr/bin/env python3
"""Converts a Hugging Face checkpoint folder to a GGUF file: the program is tools/python/convert_hf.py."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "python"))
from convert_hf import main  # noqa: E402

sys.exit(main())
