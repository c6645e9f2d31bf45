"""The measurements of bench/peers/texts, which sets everything up and starts this."""

import functools
import importlib.metadata
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools/python"))
from interpreter import DEBIANS, has_modules, need  # noqa: E402

need("numpy")
import numpy as np  # noqa: E402

import models  # noqa: E402
import sides  # noqa: E402
import table  # noqa: E402
import text_models  # noqa: E402

THREADS = (1, 2)
LIBRARIES = ("onnxruntime", "openvino", "ctranslate2", "fasttextembed")
ALONE = "ours, one thread"
# A peer that is slower than the fastest one by this factor runs no rounds: its passes would only stretch them.
HOPELESS, TRIED_PASSES = 3.0, 5


@functools.cache
def bf16_or_f32(library):
    """What a library computes in where it may round: it says itself what this processor has."""
    if library == "openvino":
        import openvino

        found = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    else:
        import ctranslate2

        found = "bfloat16" in ctranslate2.get_supported_compute_types("cpu")
    return "bf16" if found else "f32"


def peer_forms(name, dtype):
    """(library, number format, ending of its model, options) of every peer in a cell: its strongest form. Where
    ours is bf16 that is the best floating-point form."""
    def precision(library):
        return bf16_or_f32(library) if dtype == "bf16" else dtype

    if dtype == "i8":
        yield "onnxruntime", "i8", "-i8.onnx", ["--session-option", models.INT8_OPTION]
        yield "openvino", "i8", "-i8-weights.onnx", ["--precision", "i8"]
    else:
        yield "onnxruntime", "f32", ".onnx", []
        form = precision("openvino")
        yield "openvino", form, ".onnx", ["--precision", form]
    form = precision("ctranslate2")
    yield "ctranslate2", form, "-ctranslate2", ["--precision", form]
    if dtype == "bf16" and models.SHAPES[name] == text_models.FTE_SHAPE:
        yield "fasttextembed", "f16", "-fasttextembed", []


def versions():
    """Of the libraries that are there."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            print(f"{library}: left out, not installed in {sys.prefix}", file=sys.stderr)
    return found


def exporter():
    """An interpreter that has PyTorch and onnx: PYTHON's, or Debian's."""
    python = os.environ.get("PYTHON", DEBIANS)
    if not has_modules(python, ("torch", "onnx")):
        sys.exit(f"bench/peers/texts: {python} has no torch or no onnx: apt-get install python3-torch python3-onnx, "
                 "or PYTHON=ANOTHER bench/peers/texts")  # fmt: skip
    return python


def differences(answers, reference):
    """The largest of a logarithm of a probability; of the last exit where there is no other."""
    answers, reference = (values.reshape(sides.SAMPLES, -1) for values in (answers, reference))
    return float(np.abs(np.log(answers) - np.log(reference[:, -answers.shape[1]:])).max())


class Bench:
    def __init__(self, arguments):
        self.folder, self.seconds, self.busy = arguments.folder, arguments.seconds, arguments.busy
        self.program, self.models = arguments.program, os.path.join(arguments.folder, "models")
        self.results = sides.Results(self.folder)

    def model(self, name, ending):
        return os.path.join(self.models, name + ending)

    def ids(self, tokens):
        return os.path.join(self.folder, f"ids-{tokens}.i32")

    def prepare(self, name):
        """Everything of a model that is not there yet."""
        models.prepare(self.models, name, ROOT, exporter)
        models.make_once(self.model(name, "-i8-weights.onnx"), lambda to: models.in_process(
            "quantize_weights", self.model(name, ".onnx"), to))  # fmt: skip
        shape, installed = models.SHAPES[name], self.results.values["versions"]
        if "ctranslate2" in installed:
            models.make_once(self.model(name, "-ctranslate2"), lambda to: text_models.write_ctranslate2(to, *shape))
        if "fasttextembed" in installed and shape == text_models.FTE_SHAPE:
            models.make_once(self.model(name, "-fasttextembed"), text_models.write_fasttextembed)

    def write_ids(self, tokens):
        """Samples of random words between [CLS] and [SEP]."""
        first = len(models.SPECIAL)
        ids = np.random.default_rng(tokens).integers(first, models.VOCAB, (sides.SAMPLES, tokens), np.int32)
        ids[:, 0], ids[:, -1] = models.SPECIAL.index("[CLS]"), models.SPECIAL.index("[SEP]")
        ids.tofile(self.ids(tokens))

    def ours(self, label, name, dtype, threads, tokens):
        return sides.Side(label, [self.program, "passes", "--gguf", self.model(name, f"-{dtype}.gguf"), "--ids",
                                  self.ids(tokens), "--tokens", str(tokens), "--threads", str(threads)])  # fmt: skip

    def peer(self, name, form, threads, tokens):
        library, number, ending, options = form
        return sides.Side(f"{library} {number}", sides.peer_command(
            library, self.model(name, ending), threads, self.ids(tokens), "--tokens", str(tokens), *options), quiet=True)

    def exact_answers(self, name, threads, tokens):
        """Of all exits, in fp32."""
        exact = self.peer(name, next(peer_forms(name, "f32")), threads, tokens)
        exact.close()
        return exact.answers

    def cell(self, name, dtype, threads, tokens):
        self.write_ids(tokens)
        peers = [self.peer(name, form, threads, tokens) for form in peer_forms(name, dtype)
                 if form[0] in self.results.values["versions"]]  # fmt: skip
        everyone = [self.ours("ours", name, dtype, threads, tokens), *peers]
        reference = self.exact_answers(name, threads, tokens) if dtype == "i8" else peers[0].answers
        apart = {side.name: differences(side.answers, reference) for side in everyone}
        check_f32(dtype, f"{name}, {tokens} tokens", apart)
        hopeless = leave_out(peers)
        everyone = [side for side in everyone if side.name not in hopeless]
        if threads > 1:
            everyone.append(self.ours(ALONE, name, dtype, 1, tokens))
        rounds = sides.take_turns(everyone, self.seconds, threads > 1, self.busy)
        raced = [side.name for side in everyone if side.name not in ("ours", ALONE)]
        result = sides.summary(rounds, self.busy, raced) | {
            "peers": raced, "left_out": hopeless, "differences": apart, "commit": self.results.values["peaks"]["commit"]}
        if threads > 1:
            result["scaling"] = sides.spread([turns[ALONE][0] / turns["ours"][0]
                                              for turns in sides.counted(rounds, self.busy)])  # fmt: skip
        return result


def check_f32(dtype, what, apart):
    if dtype == "f32" and max(apart.values()) > models.F32_TOLERANCE:
        sys.exit(f"{what}: the answers differ: {apart}")


def leave_out(peers):
    """Ends the peers that are hopelessly slow; their milliseconds by name."""
    fastest = {peer.name: peer.turn(TRIED_PASSES, rest=True, busy=True)[0] for peer in peers}
    limit = HOPELESS * min(fastest.values())
    for peer in peers:
        if fastest[peer.name] > limit:
            print(f"{peer.name}: {fastest[peer.name]:.1f} ms, more than {HOPELESS:g} times the fastest peer's: no rounds",
                  file=sys.stderr)  # fmt: skip
            peer.close()
    return {name: milliseconds for name, milliseconds in fastest.items() if milliseconds > limit}


# --- tables ---


def grid(results, text, threads, columns=models.TOKENS):
    """Lines of a table with a column per number of tokens, or of texts; `text` of a cell's key and values."""
    cells = results["cells"]
    lines = ["| model, weights, threads | " + " | ".join(map(str, columns)) + " |",
             "|---" * (1 + len(columns)) + "|"]  # fmt: skip
    for name in models.SHAPES:
        for dtype in models.DTYPES:
            for count in threads:
                keys = [f"{name}/{dtype}/{count}/{column}" for column in columns]
                texts = [text(key, cells[key]) if key in cells else "" for key in keys]
                if any(texts):
                    lines.append(f"| {name}, {dtype}, {count} | {' | '.join(texts)} |")
    return lines if len(lines) > 2 else []


def tables(results):
    def ratio(key, cell):
        name, dtype, threads, tokens = key.split("/")
        best = min(cell["peers"], key=cell.get)
        peak = results["peaks"].get(dtype)
        share = ""
        if peak:
            share = f", {table.operations(name, int(tokens)) / (1e-3 * cell['ours'] * peak * int(threads)):.0%}"
        busy = " busy" if cell["waited_share"] > 0.02 else ""
        return (f"{best} {cell[best]:.2f} / {cell['ours']:.2f} = **{cell['ratio']:.2f}** "
                f"({cell['p10']:.2f}-{cell['p90']:.2f}){share}{busy}")  # fmt: skip

    def everyone(_, cell):
        times = {name: cell[name] for name in cell["peers"]} | cell["left_out"]
        return ", ".join(f"{name} {times[name]:.2f}" for name in sorted(times, key=times.get))

    def scaling(_, cell):
        return f"{cell['scaling']['ratio']:.2f} ({cell['scaling']['p10']:.2f}-{cell['scaling']['p90']:.2f})"

    def apart(_, cell):
        return ", ".join(f"{name} {difference:.0e}" for name, difference in sorted(cell["differences"].items()))

    yield ("Fastest peer / splitee, milliseconds = ratio (p10-p90 of the rounds), share of the machine's peak, by tokens",
           grid(results, ratio, THREADS))  # fmt: skip
    yield "Milliseconds of the peers", grid(results, everyone, THREADS)
    yield "splitee's time with one thread / with two", grid(results, scaling, THREADS[1:])
    yield "Largest difference of a log probability from ONNX Runtime's fp32", grid(results, apart, THREADS[:1])


def measure(program, description, column, columns, bench, tables_of):
    """The command line of bench/peers/PROGRAM: a cell for each model, number format, number of threads and column."""
    parser = sides.parser(program, description, f"MODEL/DTYPE/THREADS/{column}, e.g. '12x384/f32/1/16', '*/i8/2/*'")
    arguments = sides.parse(parser, program)
    bench = bench(arguments)
    results = bench.results.values
    if not arguments.table:
        results["versions"], results["peaks"] = versions(), sides.best_peaks(bench.program, models.DTYPES)
        for name in models.SHAPES:
            cells = [(dtype, threads, value) for dtype in models.DTYPES for threads in THREADS for value in columns
                     if sides.selected(f"{name}/{dtype}/{threads}/{value}", arguments.only)]  # fmt: skip
            if cells:
                bench.prepare(name)
            for dtype, threads, value in cells:
                key = f"{name}/{dtype}/{threads}/{value}"
                print(f"measuring {key}", file=sys.stderr)
                results["cells"][key] = bench.cell(name, dtype, threads, value)
                bench.results.save()
    print(f"Commit {results['peaks']['commit']}; {', '.join(map(' '.join, results['versions'].items()))}.")
    for title, lines in tables_of(results):
        if lines:
            print("\n".join(["", f"### {title}", "", *lines]))


def main():
    measure("texts", "Compares text encoders with ONNX Runtime, OpenVINO, CTranslate2 and fasttextembed; prints Markdown, "
            "keeps FOLDER/results.json. PYTHON: an interpreter with PyTorch and onnx, for the export (default: Debian's).",
            "TOKENS", models.TOKENS, Bench, tables)  # fmt: skip


if __name__ == "__main__":
    main()
