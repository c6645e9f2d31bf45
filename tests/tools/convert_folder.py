"""A checkpoint folder and the converter run on it, for the tests of tools/convert_hf.py (their first
argument). Most runs call its main() in this process. Exit 77 (skipped) where numpy is missing.
"""

import contextlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile

try:
    import numpy  # noqa: F401
except ImportError:
    print("skipped: no numpy")
    sys.exit(77)

CONVERTER = os.path.abspath(sys.argv[1])
sys.path.insert(0, os.path.dirname(CONVERTER))
_spec = importlib.util.spec_from_file_location("convert_hf", CONVERTER)
converter = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(converter)
from convert_data import (
    CLASSES, FFN, HEADS, HIDDEN, LAYERS, POSITIONS, SEED, TYPES, VOCAB, WRITERS, read_gguf,
)  # fmt: skip  # noqa: E402


class Folder:
    """A checkpoint folder in a temporary directory, and the converter run on it."""

    def __init__(self, root, tensors, file="model.safetensors", kind="F32", **config):
        self.path = tempfile.mkdtemp(dir=root)
        self.output = os.path.join(self.path, "out.gguf")
        self.config = {
            "num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "num_attention_heads": HEADS,
            "intermediate_size": FFN, "max_position_embeddings": POSITIONS,
            "type_vocab_size": TYPES, "vocab_size": len(VOCAB), "layer_norm_eps": 1e-12,
            "hidden_act": "gelu", "id2label": {str(i): f"class {i}" for i in range(CLASSES)},
        }  # fmt: skip
        self.config.update(config)
        self.write("config.json", json.dumps(self.config))
        self.write("tokenizer_config.json", '{"do_lower_case": false}')
        self.write("vocab.txt", "".join(token + "\n" for token in VOCAB))
        if tensors is not None:
            self.write(file, WRITERS[file](tensors, kind))

    def write(self, name, content):
        data = content if isinstance(content, bytes) else content.encode("utf-8")
        with open(os.path.join(self.path, name), "wb") as file:
            file.write(data)
        return self

    def remove(self, name):
        os.remove(os.path.join(self.path, name))
        return self

    def run(self, *flags):
        out, err, status = io.StringIO(), io.StringIO(), None
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = converter.main([self.path, "--output", self.output, *flags])
            except SystemExit as error:
                status = error.code
        return subprocess.CompletedProcess(flags, status, out.getvalue(), err.getvalue())

    def start(self, *flags):
        command = [sys.executable, CONVERTER, self.path, "--output", self.output, *flags]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    def convert(self, *flags):
        # What a fit to a sample does is seen by tests/runtime/outliers.py.
        result = self.run("--sample", "none", *flags)
        assert result.returncode == 0, result.stderr
        self.stderr = result.stderr
        return read_gguf(self.output)

    def refused(self, *words, flags=(), status=1):
        """The converter fails, names every one of `words` in one line, and leaves no file."""
        before = sorted(os.listdir(self.path))
        result = self.run(*flags)
        assert result.returncode == status, (words, result.returncode, result.stderr)
        lines = [line for line in result.stderr.splitlines() if ": warning: " not in line]
        assert "Traceback" not in result.stderr, result.stderr
        assert status == 2 or len(lines) == 1, result.stderr
        for word in words:
            assert word in lines[-1], (word, result.stderr)
        assert sorted(os.listdir(self.path)) == before, os.listdir(self.path)


def main(functions):
    """Runs every test_* function with an empty folder of its own."""
    print(f"seed {SEED}")
    wanted = sys.argv[2:]
    # In memory where that is possible: the converter waits for the disk after every file.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    for name, test in list(functions.items()):
        if name.startswith("test_") and (not wanted or name in wanted):
            root = tempfile.mkdtemp(prefix="convert_test_", dir=memory)
            print(name, flush=True)
            try:
                test(root)
            finally:
                shutil.rmtree(root)
