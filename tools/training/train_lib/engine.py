"""Runs the project's own programs: what a model file answers is what the engine says."""

import contextlib
import io
import os
import subprocess

import numpy as np

from . import paths  # noqa: F401
import convert_hf as converter

from .data import DataError

MOST_VALUES = 30_000_000  # probabilities held at a time


class Engine:
    """`splitee`, on some cores."""

    def __init__(self, program, threads):
        self.program, self.threads = program, str(threads)

    def run(self, *arguments):
        """Standard output of a command; its message as a DataError where it fails."""
        try:
            done = subprocess.run([self.program, *map(str, arguments)], capture_output=True,
                                  check=False)
        except OSError as error:
            raise DataError(f"{self.program}: {error.strerror}") from error
        if done.returncode < 0:
            raise DataError(f"{self.program} {arguments[0]}: ended by signal {-done.returncode}")
        if done.returncode:
            message = done.stderr.decode("utf-8", "replace").strip()
            raise DataError(message or f"{self.program} {arguments[0]}: failed")
        return done.stdout.decode()

    def probabilities(self, model, rows, work):
        """Of all exits on the rows of a TSV: (exits, rows, classes)."""
        path = os.path.join(work, "trace.csv")
        self.run("trace", "--model", model, "--input", rows, "--input-format", "tsv", "--output",
                 path, "--probabilities", "--threads", self.threads)
        with open(path, encoding="ascii") as file:
            exits, classes = map(int, file.readline().rsplit("p_", 1)[1].split("_"))
            lines = [np.fromstring(line[line.index(",") + 1:], np.float32, sep=",")
                     for line in file]
        os.unlink(path)
        values = np.stack(lines).reshape(len(lines), exits, classes).transpose(1, 0, 2)
        if not np.isfinite(values).all():
            raise DataError(f"{model}: an exit's probabilities are not numbers")
        return np.ascontiguousarray(values)

    def features(self, model, rows, pooling, path):
        """What an exit reads of every layer, memory-mapped: (rows, layers, hidden)."""
        self.run("features", "--model", model, "--input", rows, "--input-format", "tsv",
                 "--output", path, "--rows", pooling, "--threads", self.threads)
        return np.load(path, mmap_mode="r")


def convert(folder, output, dtype):
    """convert_hf.py on a folder; its message as a DataError where it fails."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            converter.convert(converter.parse_arguments(
                [folder, "--output", output, "--dtype", dtype]))
    except converter.CheckpointError as error:
        raise DataError(str(error)) from error
