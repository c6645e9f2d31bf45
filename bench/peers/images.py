"""The measurements of bench/peers/images, which sets everything up and starts this."""

import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools/python"))
from interpreter import need  # noqa: E402

need("numpy")
import numpy as np  # noqa: E402

import image_models as models  # noqa: E402
import sides  # noqa: E402
from cold import ROUNDS, WARM_UP_ROUNDS, start_once  # noqa: E402

PEERS = ("onnxruntime", "openvino")
DTYPES = ("f32", "i8")
CALIBRATION = 32
TOLERANCE = 1e-3  # of fp32 probabilities


class Bench:
    def __init__(self, arguments):
        self.folder, self.seconds, self.busy = arguments.folder, arguments.seconds, arguments.busy
        self.program = arguments.program
        self.results = sides.Results(self.folder)
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
        values[:sides.SAMPLES].tofile(self.path(name, ".nchw"))
        np.ascontiguousarray(values[:sides.SAMPLES].transpose(0, 2, 3, 1)).tofile(self.path(name, ".nhwc"))
        for dtype in DTYPES:
            make(self.path(name, f"-{dtype}.gguf"), folder, lambda to, d=dtype: subprocess.run(
                [sys.executable, os.path.join(ROOT, "tools/convert_images.py"), folder, "--output", to,
                 "--dtype", d], check=True, stdout=subprocess.DEVNULL))  # fmt: skip
        for exits in ("all", "last"):
            plain = self.path(name, f"-{exits}-f32.onnx")
            make(plain, folder, lambda to, e=exits: models.write_onnx(folder, to, e == "last"))
            make(self.path(name, f"-{exits}-i8.onnx"), folder,
                 lambda to, p=plain: models.quantise(p, to, values))  # fmt: skip

    def peer(self, name, peer, dtype, exits, threads, *more):
        return sides.peer_command(peer, self.path(name, f"-{exits}-{dtype}.onnx"), threads, self.path(name, ".nchw"), *more)

    def sides(self, name, dtype, exits, threads):
        ours = [self.program, "passes", "--gguf", self.path(name, f"-{dtype}.gguf"), "--inputs",
                self.path(name, ".nhwc"), "--threads", str(threads)]  # fmt: skip
        yield sides.Side("ours", ours + ["--last-alone"] * (exits == "last"))
        for peer in PEERS:
            yield sides.Side(peer, self.peer(name, peer, dtype, exits, threads), quiet=True)

    def cell(self, name, dtype, exits, threads):
        everyone = list(self.sides(name, dtype, exits, threads))
        reference = everyone[1].answers
        if dtype == "i8":
            exact = sides.Side("onnxruntime", self.peer(name, "onnxruntime", "f32", exits, threads), quiet=True)
            reference = exact.answers
            exact.close()
        differences = {side.name: float(np.abs(side.answers - reference).max()) for side in everyone}
        if dtype == "f32" and max(differences.values()) > TOLERANCE:
            sys.exit(f"{name}, {exits} exits: the answers differ: {differences}")
        rounds = sides.take_turns(everyone, self.seconds, threads > 1, self.busy)
        return sides.summary(rounds, self.busy, PEERS) | {
            "differences": differences, "operations": models.operations(self.path(name, f"-{exits}-f32.onnx"))}

    def cold(self, name, dtype):
        """(milliseconds, kB) to the first answer, one thread: of splitee-edge from the start of the process, of
        the peers from the import of their library on, all exits evaluated."""
        side = models.read_folder(self.networks[name])[1]["input"][0]
        edge = [os.path.join(os.path.dirname(self.program), "../../tools/splitee-edge"), "--model",
                self.path(name, f"-{dtype}.gguf"), "--policy", "final", "--frame", f"{side}x{side}", "--threads", "1"]
        peers = {peer: self.peer(name, peer, dtype, "all", 1, "--once") for peer in PEERS}
        frame = np.random.default_rng(models.SEED).integers(256, size=3 * side * side, dtype=np.uint8).tobytes()
        runs = {"ours": [], **{peer: [] for peer in peers}}
        for _ in range(WARM_UP_ROUNDS + ROUNDS):
            runs["ours"].append(start_once(edge, frame))
            for peer, command in peers.items():
                words = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
                runs[peer].append(tuple(map(float, words.split())))
        return {side: [statistics.median(run[i] for run in own[WARM_UP_ROUNDS:]) for i in range(2)] for side, own in runs.items()}


def make(path, folder, maker):
    """`path`, unless it is there and newer than the network."""
    source = os.path.join(folder, "model.safetensors")
    if os.path.exists(path) and os.path.getmtime(path) >= os.path.getmtime(source):
        return
    print(f"making {path}", file=sys.stderr)
    maker(path + ".part")
    os.replace(path + ".part", path)


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


def main():
    parser = sides.parser(
        "images", "Compares networks on images with ONNX Runtime and OpenVINO; prints Markdown, keeps "
        "FOLDER/results.json.", "NETWORK/DTYPE/EXITS/THREADS or NETWORK/DTYPE/cold, e.g. 'resnet32-32/f32/all/1', "
        "'*-224/*/last/*'")  # fmt: skip
    parser.add_argument("--network", action="append", default=[], metavar="FOLDER",
                        help="measure this one, as convert_images.py takes it, too")
    arguments = sides.parse(parser, "images")
    bench = Bench(arguments)
    results = bench.results.values
    if not arguments.table:
        results["peaks"] = sides.best_peaks(bench.program, DTYPES)
        for name in bench.networks:
            cells = [(dtype, exits, threads) for dtype in DTYPES for exits in ("all", "last") for threads in (1, 2)
                     if sides.selected(f"{name}/{dtype}/{exits}/{threads}", arguments.only)]  # fmt: skip
            if cells:
                bench.prepare(name)
            for dtype, exits, threads in cells:
                print(f"measuring {name} {dtype} {exits} {threads}", file=sys.stderr)
                results["cells"][f"{name}/{dtype}/{exits}/{threads}"] = bench.cell(name, dtype, exits, threads)
                bench.results.save()
            for dtype in DTYPES:
                if sides.selected(f"{name}/{dtype}/cold", arguments.only):
                    bench.prepare(name)
                    print(f"measuring {name} {dtype} cold", file=sys.stderr)
                    results.setdefault("cold", {})[f"{name}/{dtype}"] = bench.cold(name, dtype)
                    bench.results.save()
    print(table(results))


if __name__ == "__main__":
    main()
