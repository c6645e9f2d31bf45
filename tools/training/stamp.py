#!/usr/bin/env python3
"""Writes into a model file what it was trained on: names, and a sketch of the texts (see
train_lib/stamp.py), by which `splitee fit` knows later that a backbone has seen its data. `splitee
fit` does this itself; this is for models made by train.py and convert_hf.py. Needs NumPy only."""

import argparse
import sys

from train_lib import stamp
from train_lib.data import DataError, parse_spec, read_texts
import gguf_reader


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", metavar="M.gguf", help="rewritten in place; its hash changes")
    parser.add_argument("--data", action="append", required=True, metavar="FILE[a:b]",
                        help="what it was trained on, as train.py takes it; repeatable")
    args = parser.parse_args()
    try:
        names = list(dict.fromkeys(stamp.set_name(parse_spec(spec)[0]) for spec in args.data))
        sketch = []
        for spec in args.data:
            sketch = stamp.sketch_of(read_texts(spec), sketch)
        print(f"{args.model}: {', '.join(names)}, hash {stamp.stamp(args.model, names, sketch):016x}")
    except (DataError, gguf_reader.GgufError, OSError) as error:
        sys.exit(f"stamp.py: {error}")


if __name__ == "__main__":
    main()
