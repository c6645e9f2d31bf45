"""The measurements of bench/peers/run, which sets everything up and starts this."""

import argparse
import datetime
import fnmatch
import hashlib
import json
import os
import platform
import subprocess
import sys
import tarfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools/python"))
from interpreter import need  # noqa: E402

need("numpy")
import cold  # noqa: E402
import models  # noqa: E402
import table  # noqa: E402

PACKAGE = "onnxruntime-node@1.30.0"
PACKAGE_SHA256 = "6e3390d6b783e7be946fad629292799da28d0b42f84856e50d2c1b0383291e75"
NODE_NAMES = {"x86_64": "x64", "aarch64": "arm64"}


def fetch_library(folder):
    """Path of libonnxruntime.so.1 out of the npm package, whose bytes are known."""
    path = os.path.join(folder, PACKAGE.replace("@", "-") + ".tgz")
    member = f"package/bin/napi-v6/linux/{NODE_NAMES[platform.machine()]}/libonnxruntime.so.1"
    library = os.path.join(folder, os.path.basename(member))
    if os.path.exists(library):
        return library
    if not os.path.exists(path):
        print(f"fetching {PACKAGE} from the npm registry", file=sys.stderr)
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
    with open(path, "rb") as file:
        if hashlib.sha256(file.read()).hexdigest() != PACKAGE_SHA256:
            sys.exit(f"{path}: not the package that is expected (SHA-256)")
    with tarfile.open(path) as archive, open(library + ".part", "wb") as out:
        out.write(archive.extractfile(member).read())
    os.replace(library + ".part", library)
    return library


class Bench:
    """Where things are, and the results so far."""

    def __init__(self, build, folder, seconds):
        self.folder, self.seconds, self.build = folder, seconds, build
        self.models = os.path.join(folder, "models")
        os.makedirs(self.models, exist_ok=True)
        self.program = os.path.join(build, "bench", "peers", "peers_bench")
        self.edge = os.path.join(build, "tools", "splitee-edge")
        self.library = fetch_library(folder)
        self.path = os.path.join(folder, "results.json")
        self.results = {"cells": {}, "cold": {}, "operators": {}}
        if os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as file:
                self.results = json.load(file)

    def save(self):
        with open(self.path + ".part", "w", encoding="utf-8") as file:
            json.dump(self.results, file, indent=1, sort_keys=True)
            file.write("\n")
        os.replace(self.path + ".part", self.path)

    def model(self, name, kind):
        return os.path.join(self.models, name + kind)

    def peer_flags(self, name, dtype):
        """Of the peer's best form for this number format; it has no bf16 on a CPU: fp32 then."""
        kind = "-i8.onnx" if dtype == "i8" else ".onnx"
        flags = ["--library", self.library, "--onnx", self.model(name, kind)]
        return flags + (["--session-option", models.INT8_OPTION] if dtype == "i8" else [])

    def run(self, *arguments):
        command = [self.program, *map(str, arguments)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def measure_machine(self):
        self.results["machine"] = machine()
        self.results["build"] = build_flags(self.build)
        self.results["peaks"] = json.loads(self.run("peaks"))

    def count_operators(self, name, dtype):
        """Of the graph after the peer's optimiser; int8 products must have become the fused kind."""
        path = os.path.join(self.folder, "optimized.onnx")
        self.run("optimize", *self.peer_flags(name, dtype), "--output", path)
        counts = models.operators(path)
        os.remove(path)
        # Query, key and value share one quantised input: products of it are fused with less.
        fused = counts.get("DynamicQuantizeMatMul", 0) + counts.get("MatMulIntegerToFloat", 0)
        if dtype == "i8" and (counts.get("MatMulInteger", 0) or fused != 8 * models.LAYERS):
            sys.exit(f"{name}: onnxruntime did not fuse the quantised products: {counts}")
        self.results["operators"][f"{name}/{dtype}"] = counts

    def compare(self, name, dtype, threads):
        reference = ["--reference", self.model(name, ".onnx")] if dtype == "i8" else []
        text = self.run(
            "compare", *self.peer_flags(name, dtype), *reference,
            "--gguf", self.model(name, f"-{dtype}.gguf"), "--dtype", dtype,
            "--threads", threads, "--seconds", self.seconds, "--tokens", *models.TOKENS,
        )  # fmt: skip
        cell = json.loads(text) | stamp(self.results)
        self.results["cells"][f"{name}/{dtype}/{threads}"] = cell
        for length in cell["lengths"]:
            difference = length["check"]["ours"]["log_probability"]
            if dtype == "f32" and difference > models.F32_TOLERANCE:
                sys.exit(f"{name}, {length['tokens']} tokens: the answers differ by {difference}")

    def cold(self, name, dtype):
        gguf = self.model(name, f"-{dtype}.gguf")
        result = cold.measure(
            {
                "onnxruntime": [self.program, "once", *self.peer_flags(name, dtype)],
                "ours": [self.program, "once", "--gguf", gguf],
                "splitee-edge": [self.edge, "--model", gguf, "--policy", "final", "--quiet"],
                # An answer from the first exit, as an edge gives to easy samples.
                "first exit": [self.edge, "--model", gguf, "--policy", "fixed", "--split", "1",
                               "--alpha", "0.01", "--quiet"],
            }
        )
        result["weight_bytes"] = table.weight_bytes(name, dtype)
        self.results["cold"][f"{name}/{dtype}"] = result | stamp(self.results)


def stamp(results):
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return {"measured_at": now, "commit": results["peaks"]["commit"]}


def machine():
    def field(command, name):
        text = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout
        for line in text.splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
        return "unknown"

    release = platform.freedesktop_os_release()
    result = {"system": release.get("PRETTY_NAME", "unknown"), "kernel": platform.release()}
    for name in ("Model name", "CPU family", "Model", "CPU(s)", "L1d cache", "L2 cache",
                 "L3 cache", "Hypervisor vendor"):  # fmt: skip
        result[name] = field(["lscpu"], name)
    return result


def build_flags(build):
    """Compiler arguments of the kernels, per target."""
    text = subprocess.run(["meson", "introspect", "--targets", build], check=True,
                          stdout=subprocess.PIPE, text=True).stdout  # fmt: skip
    flags = {}
    for target in json.loads(text):
        if target["name"].startswith("kernels_") or target["name"] == "runtime":
            parameters = target["target_sources"][0]["parameters"]
            flags[target["name"]] = [p for p in parameters if p.startswith(("-O", "-m", "-f", "-std"))]
    return flags


def cells(only):
    """(kind, model, dtype, threads) of everything that `only` selects."""
    for name in models.SHAPES:
        for dtype in models.DTYPES:
            for last in ("1", "2", "cold"):
                cell = f"{name}/{dtype}/{last}"
                if any(fnmatch.fnmatchcase(cell, pattern) for pattern in only):
                    yield name, dtype, last


def main():
    parser = argparse.ArgumentParser(
        prog="bench/peers/run",
        description="Compares with ONNX Runtime; prints Markdown, keeps FOLDER/results.json.",
    )
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help="for what is fetched, made and measured: 3 GB "
                        "(default: build/peers)")  # fmt: skip
    parser.add_argument(
        "--only", nargs="+", default=["*"], metavar="CELL",
        help="MODEL/DTYPE/THREADS or MODEL/DTYPE/cold, e.g. 12x768/f32/1, '12x256/*/cold'; the "
        "other results stay as they are in results.json (default: everything)",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=20, metavar="S",
                        help="of timing per cell (default: %(default)s)")  # fmt: skip
    parser.add_argument("--prepare", action="store_true", help="fetch and make everything, then stop")
    parser.add_argument("--table", action="store_true", help="print the results kept; measure nothing")
    arguments = parser.parse_args()
    folder = os.path.abspath(arguments.folder or os.path.join(arguments.build, "peers"))
    os.makedirs(folder, exist_ok=True)
    bench = Bench(arguments.build, folder, arguments.seconds)
    if arguments.table:
        return print(table.markdown(bench.results))
    for name in models.SHAPES:
        models.prepare(bench.models, name, ROOT)
        for dtype in ("f32", "i8"):
            if f"{name}/{dtype}" not in bench.results["operators"]:
                bench.count_operators(name, dtype)
    bench.measure_machine()
    bench.save()
    if arguments.prepare:
        return None
    for name, dtype, last in cells(arguments.only):
        print(f"measuring {name} {dtype} {last}", file=sys.stderr)
        if last == "cold":
            bench.cold(name, dtype)
        else:
            bench.compare(name, dtype, int(last))
        bench.save()
    return print(table.markdown(bench.results))


if __name__ == "__main__":
    main()
