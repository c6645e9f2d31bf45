"""The measurements of bench/peers/images, which sets everything up and starts this."""

import argparse
import fnmatch
import glob
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tools/python"))
from interpreter import need  # noqa: E402

need("numpy")
import numpy as np  # noqa: E402

import image_models as models  # noqa: E402
from cold import ROUNDS, WARM_UP_ROUNDS, start_once  # noqa: E402

PEERS = ("onnxruntime", "openvino")
DTYPES = ("f32", "i8")
SAMPLES, CALIBRATION = 4, 32
TURN_MS, FEWEST_PASSES = 40.0, 2
FEWEST_ROUNDS, CALM = 5, 0.01  # share of a turn that a thread waited for a core
TOLERANCE = 1e-3  # of fp32 probabilities


class Side:
    """A process that runs passes when asked (peers_bench passes, image_peer.py)."""

    def __init__(self, name, command):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL if name in PEERS else None, text=True)  # fmt: skip
        self.answers = np.array(self.line())

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{' '.join(self.process.args)}: status {self.process.wait()}")
        return [float(word) for word in line.split()]

    def run(self, passes):
        """Milliseconds of each pass."""
        self.process.stdin.write(f"{passes}\n")
        self.process.stdin.flush()
        return self.line()

    def waited_seconds(self):
        """That its threads were ready to run and had no core."""
        waited = 0.0
        for path in glob.glob(f"/proc/{self.process.pid}/task/*/schedstat"):
            with open(path, encoding="ascii") as file:
                waited += 1e-9 * int(file.read().split()[1])
        return waited

    def turn(self, passes, rest, busy=False):
        """(median milliseconds, of a busy machine the fastest tenth's; share of the time waited); the first pass
        brings the data back."""
        if rest:
            time.sleep(0.01)
        self.run(1)
        waited, start = self.waited_seconds(), time.monotonic()
        milliseconds = self.run(passes)
        share = (self.waited_seconds() - waited) / (time.monotonic() - start)
        return sorted(milliseconds)[len(milliseconds) // 10] if busy else statistics.median(milliseconds), share

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Bench:
    def __init__(self, arguments):
        self.folder, self.seconds, self.busy = arguments.folder, arguments.seconds, arguments.busy
        self.program = os.path.join(arguments.build, "bench", "peers", "peers_bench")
        self.results_path = os.path.join(self.folder, "results.json")
        self.results = {"cells": {}}
        if os.path.exists(self.results_path):
            with open(self.results_path, encoding="utf-8") as file:
                self.results = json.load(file)
        self.networks = {name: os.path.join(self.folder, name) for name in models.NETWORKS}
        for folder in arguments.network:
            self.networks[os.path.basename(os.path.abspath(folder))] = os.path.abspath(folder)

    def path(self, name, suffix):
        return os.path.join(self.folder, name + suffix)

    def prepare(self, name):
        """Everything of a network that is not there yet."""
        folder = self.networks[name]
        if not os.path.exists(os.path.join(folder, "network.json")):
            models.write_folder(folder, name)
        side = models.read_folder(folder)[1]["input"][0]
        values = np.random.default_rng(models.SEED).standard_normal((CALIBRATION, 3, side, side), np.float32)
        values[:SAMPLES].tofile(self.path(name, ".nchw"))
        np.ascontiguousarray(values[:SAMPLES].transpose(0, 2, 3, 1)).tofile(self.path(name, ".nhwc"))
        for dtype in DTYPES:
            make(self.path(name, f"-{dtype}.gguf"), folder, lambda to, d=dtype: subprocess.run(
                [sys.executable, os.path.join(ROOT, "tools/convert_images.py"), folder, "--output", to,
                 "--dtype", d], check=True, stdout=subprocess.DEVNULL))  # fmt: skip
        for exits in ("all", "last"):
            plain = self.path(name, f"-{exits}-f32.onnx")
            make(plain, folder, lambda to, e=exits: models.write_onnx(folder, to, e == "last"))
            make(self.path(name, f"-{exits}-i8.onnx"), folder,
                 lambda to, p=plain: models.quantise(p, to, values))  # fmt: skip

    def sides(self, name, dtype, exits, threads):
        ours = [self.program, "passes", "--gguf", self.path(name, f"-{dtype}.gguf"), "--inputs",
                self.path(name, ".nhwc"), "--threads", str(threads)]  # fmt: skip
        yield Side("ours", ours + ["--last-alone"] * (exits == "last"))
        for peer in PEERS:
            yield Side(peer, [sys.executable, os.path.join(HERE, "image_peer.py"), peer,
                              self.path(name, f"-{exits}-{dtype}.onnx"), str(threads), self.path(name, ".nchw")])

    def cell(self, name, dtype, exits, threads):
        sides = list(self.sides(name, dtype, exits, threads))
        reference = sides[1].answers
        if dtype == "i8":
            exact = Side("onnxruntime", [
                sys.executable, os.path.join(HERE, "image_peer.py"), "onnxruntime",
                self.path(name, f"-{exits}-f32.onnx"), str(threads), self.path(name, ".nchw")])  # fmt: skip
            reference = exact.answers
            exact.close()
        differences = {side.name: float(np.abs(side.answers - reference).max()) for side in sides}
        if dtype == "f32" and max(differences.values()) > TOLERANCE:
            sys.exit(f"{name}, {exits} exits: the answers differ: {differences}")
        slowest = max(side.turn(1, False)[0] for side in sides)
        passes = max(FEWEST_PASSES, int(TURN_MS / slowest))
        rounds, start = [], time.monotonic()
        while len(rounds) < FEWEST_ROUNDS or time.monotonic() - start < self.seconds:
            order = sides[len(rounds) % len(sides):] + sides[:len(rounds) % len(sides)]
            rounds.append({side.name: side.turn(passes, threads > 1, self.busy) for side in order})
        for side in sides:
            side.close()
        return summary(rounds, self.busy) | {"differences": differences,
                                  "operations": models.operations(self.path(name, f"-{exits}-f32.onnx"))}  # fmt: skip

    def cold(self, name, dtype):
        """(milliseconds, kB) to the first answer, one thread: of splitee-edge from the start of the process, of
        the peers from the import of their library on, all exits evaluated."""
        side = models.read_folder(self.networks[name])[1]["input"][0]
        edge = [os.path.join(os.path.dirname(self.program), "../../tools/splitee-edge"), "--model",
                self.path(name, f"-{dtype}.gguf"), "--policy", "final", "--frame", f"{side}x{side}", "--threads", "1"]
        peers = {peer: [sys.executable, os.path.join(HERE, "image_peer.py"), peer,
                        self.path(name, f"-all-{dtype}.onnx"), "1", self.path(name, ".nchw"), "--once"] for peer in PEERS}
        frame = np.random.default_rng(models.SEED).integers(256, size=3 * side * side, dtype=np.uint8).tobytes()
        runs = {"ours": [], **{peer: [] for peer in peers}}
        for _ in range(WARM_UP_ROUNDS + ROUNDS):
            runs["ours"].append(start_once(edge, frame))
            for peer, command in peers.items():
                words = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
                runs[peer].append(tuple(map(float, words.split())))
        return {side: [statistics.median(run[i] for run in own[WARM_UP_ROUNDS:]) for i in range(2)] for side, own in runs.items()}

    def save(self):
        with open(self.results_path + ".part", "w", encoding="utf-8") as file:
            json.dump(self.results, file, indent=1, sort_keys=True)
        os.replace(self.results_path + ".part", self.results_path)


def make(path, folder, maker):
    """`path`, unless it is there and newer than the network."""
    source = os.path.join(folder, "model.safetensors")
    if os.path.exists(path) and os.path.getmtime(path) >= os.path.getmtime(source):
        return
    print(f"making {path}", file=sys.stderr)
    maker(path + ".part")
    os.replace(path + ".part", path)


def summary(rounds, busy):
    """Medians over the rounds in which nobody else took much, or over the calmest few; of a busy machine over all."""
    waited = lambda r: max(share for _, share in r.values())  # noqa: E731
    ordered = sorted(rounds, key=waited)
    calm = sum(waited(r) <= CALM for r in ordered)
    counted = ordered if busy else ordered[:max(calm, FEWEST_ROUNDS)]
    result = {"rounds": len(rounds), "counted": len(counted), "waited_share": waited(counted[-1])}
    for name in counted[0]:
        result[name] = statistics.median(r[name][0] for r in counted)
    ratios = [min(r[peer][0] for peer in PEERS) / r["ours"][0] for r in counted]
    tenths = statistics.quantiles(ratios, n=10, method="inclusive")
    return result | {"ratio": statistics.median(ratios), "p10": tenths[0], "p90": tenths[-1]}


def table(results):
    """Markdown: a row per network, number format, exits; a column per number of threads."""
    cells = results["cells"]
    threads = sorted({key.split("/")[3] for key in cells})
    head = " | ".join(f"{t} thread{'s' * (t != '1')}: ONNX Runtime, OpenVINO / splitee | ratio | of peak" for t in threads)
    lines = [f"| network | weights | exits | {head} |", "|---" * (3 + 3 * len(threads)) + "|"]
    for row in sorted({key.rsplit("/", 1)[0] for key in cells}):
        texts = row.split("/")
        for t in threads:
            cell = cells.get(f"{row}/{t}")
            if cell is None:
                texts += ["", "", ""]
                continue
            peak = results["peaks"].get(texts[1])
            share = f"{cell['operations'] / (1e-3 * cell['ours'] * peak * int(t)):.0%}" if peak else ""
            busy = " busy" if cell["waited_share"] > 0.02 else ""
            texts += [f"{cell['onnxruntime']:.2f}, {cell['openvino']:.2f} / {cell['ours']:.2f}",
                      f"**{cell['ratio']:.2f}** ({cell['p10']:.2f}-{cell['p90']:.2f}){busy}", share]  # fmt: skip
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines + cold_table(results.get("cold", {})))


def cold_table(cold):
    """A row per network and number format."""
    if not cold:
        return []
    lines = ["", "| network | weights | first answer, ms: ONNX Runtime, OpenVINO / splitee | ratio | peak memory, MB | ratio |",
             "|---" * 6 + "|"]
    for key, cell in sorted(cold.items()):
        texts = key.split("/")
        for i, scale in ((0, 1.0), (1, 1 / 1024)):
            ort, vino, ours = (cell[side][i] * scale for side in (*PEERS, "ours"))
            texts += [f"{ort:.1f}, {vino:.1f} / {ours:.1f}", f"**{min(ort, vino) / ours:.1f}**"]
        lines.append("| " + " | ".join(texts) + " |")
    return lines


def best_peaks(program):
    """Operations a second of one core, per number format: the fastest instructions that there are."""
    found = json.loads(subprocess.run([program, "peaks"], check=True, stdout=subprocess.PIPE, text=True).stdout)
    rates = found["operations_per_second"]
    starts = {dtype: dtype + " " for dtype in DTYPES}
    return {dtype: max((rate for name, rate in rates.items() if name.startswith(start)), default=None)
            for dtype, start in starts.items()} | {"all": rates, "commit": found["commit"]}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(
        prog="bench/peers/images",
        description="Compares networks on images with ONNX Runtime and OpenVINO; prints Markdown, keeps "
        "FOLDER/results.json.")  # fmt: skip
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help="for what is made and measured (default: build/peers/images)")
    parser.add_argument("--network", action="append", default=[], metavar="FOLDER",
                        help="measure this one, as convert_images.py takes it, too")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="CELL",
                        help="NETWORK/DTYPE/EXITS/THREADS or NETWORK/DTYPE/cold, e.g. 'resnet32-32/f32/all/1', "
                        "'*-224/*/last/*'; the other results stay (default: everything)")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=5, metavar="S", help="of timing per cell (default: %(default)s)")
    parser.add_argument("--busy", action="store_true",
                        help="others use the cores: a turn counts by the fastest tenth of its passes, and every turn counts")
    parser.add_argument("--table", action="store_true", help="print the results kept; measure nothing")
    arguments = parser.parse_args()
    arguments.folder = os.path.abspath(arguments.folder or os.path.join(arguments.build, "peers", "images"))
    os.makedirs(arguments.folder, exist_ok=True)
    bench = Bench(arguments)
    if not arguments.table:
        bench.results["peaks"] = best_peaks(bench.program)
        for name in bench.networks:
            cells = [(dtype, exits, threads) for dtype in DTYPES for exits in ("all", "last") for threads in (1, 2)
                     if any(fnmatch.fnmatchcase(f"{name}/{dtype}/{exits}/{threads}", p) for p in arguments.only)]  # fmt: skip
            if cells:
                bench.prepare(name)
            for dtype, exits, threads in cells:
                print(f"measuring {name} {dtype} {exits} {threads}", file=sys.stderr)
                bench.results["cells"][f"{name}/{dtype}/{exits}/{threads}"] = bench.cell(name, dtype, exits, threads)
                bench.save()
            for dtype in DTYPES:
                if any(fnmatch.fnmatchcase(f"{name}/{dtype}/cold", p) for p in arguments.only):
                    bench.prepare(name)
                    print(f"measuring {name} {dtype} cold", file=sys.stderr)
                    bench.results.setdefault("cold", {})[f"{name}/{dtype}"] = bench.cold(name, dtype)
                    bench.save()
    print(table(bench.results))


if __name__ == "__main__":
    main()
