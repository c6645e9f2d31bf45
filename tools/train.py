#!/usr/bin/env python3
"""Trains a multi-exit encoder with PyTorch: the program is tools/training/train.py."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "training"))
from train import main  # noqa: E402

sys.exit(main())
