"""Makes the converter's modules importable: beside tools/training in the source tree, or one folder
up where the project is installed."""

import pathlib
import sys

TRAINING = pathlib.Path(__file__).resolve().parent.parent
for _folder in (TRAINING.parent / "python", TRAINING.parent):
    if (_folder / "convert_hf.py").is_file():
        sys.path.insert(0, str(_folder))
        break
