#!/usr/bin/env python3
"""Runs splitee-server and splitee-edge on loopback over a stream of reviews, once per policy on
the same order, and prints what was saved. Needs the standard library only."""
import argparse
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
POLICIES = [
    ("splitee", "SplitEE"),
    ("splitee-s", "SplitEE-S"),
    ("final", "all layers on the edge"),
    ("offload", "offload everything"),
]


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="tools/demo", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "models/demo_reviews.tsv",
                        help="stream: a TSV with a header naming text, text2, label; or one text a line")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models/default.gguf", help="model file (GGUF)")
    parser.add_argument("--samples", type=int, default=4000,
                        help="a shorter stream is shuffled and repeated up to this many samples")
    parser.add_argument("--seed", type=int, default=1, help="of the order and of the policies")
    parser.add_argument("--offload-cost", type=float, default=0.5, help="cost of an offload; a layer costs 0.1")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="build folder")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)  # the arguments only
    arguments = parser.parse_args()
    if arguments.samples < 1:
        parser.error("--samples must be at least 1")
    for path in (arguments.data, arguments.model):
        if not path.is_file():
            parser.error(f"{path}: no such file")
    return arguments


def check_row(columns, fields, labels):
    """What is wrong with a row of a TSV, or None."""
    if len(fields) != len(columns):
        return f"{len(fields)} fields, but the header names {len(columns)} columns"
    label = fields[columns.index("label")] if "label" in columns else ""
    known = {"", *labels, *map(str, range(len(labels)))}
    return None if label in known else f"label {label[:40]!r} is neither a class number nor one of {', '.join(labels)}"


def read_stream(path, labels):
    """(columns, rows without line ends); columns is empty where a line is a text."""
    try:
        text = path.read_bytes().decode("utf-8-sig", "replace")
    except OSError as error:
        sys.exit(f"error: {path}: {error.strerror}")
    lines = [line.rstrip("\r") for line in text.split("\n")]
    if not lines[-1]:
        lines.pop()
    columns = lines[0].split("\t") if lines else []
    if "text" not in columns:
        return [], lines
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if not line and len(columns) > 1:
            continue
        if problem := check_row(columns, line.split("\t"), labels):
            sys.exit(f"error: {path}: line {number}: {problem}")
        rows.append(line)
    return columns, rows


def make_stream(path, labels, samples, seed, folder):
    """Shuffles and repeats `path` into folder/stream; returns (path, is_tsv, texts)."""
    columns, rows = read_stream(path, labels)
    if not rows:
        sys.exit(f"error: {path}: no samples")
    generator = random.Random(seed)
    order = []
    while len(order) < max(samples, len(rows)):
        part = list(rows)
        generator.shuffle(part)
        order += part
    order = order[: max(samples, len(rows))]
    stream = folder / "stream"
    header = ["\t".join(columns)] if columns else []
    stream.write_text("\n".join(header + order) + "\n", encoding="utf-8")
    texts = [row.split("\t")[columns.index("text")] if columns else row for row in order]
    return stream, bool(columns), texts


class Progress:
    """A bar, and below it the sentence last classified, redrawn in place on a terminal."""

    def __init__(self, title, total):
        self.title, self.total, self.drawn = title, total, 0.0
        self.terminal = sys.stderr.isatty()
        if not self.terminal:
            print(f"{title}: {total} samples ...", file=sys.stderr, flush=True)

    def show(self, done, text, record, last=False):
        now = time.monotonic()
        if not self.terminal or (now - self.drawn < 0.08 and not last):
            return
        self.drawn = now
        width = shutil.get_terminal_size().columns - 1
        filled = 24 * done // self.total
        bar = f"{self.title:<22} [{'#' * filled}{'.' * (24 - filled)}] {done}/{self.total}"
        text = "".join(c if c.isprintable() else " " for c in text[:width])
        answer = f"  layer {record['exit_layer']:>2} {record['route']:<8} {record['label']}: {text}"
        # The answer goes below the bar; then the cursor goes back up, so that both are redrawn.
        below = "\n\x1b[K" if last else f"\n\x1b[K{answer[:width]}\r\x1b[A"
        sys.stderr.write(f"\r\x1b[K{bar[:width]}{below}")
        sys.stderr.flush()


class Ending:
    """SIGTERM and SIGHUP end the demo by an exception, so that its server ends too. While `held` (a
    process is being started, and not yet known here) they wait for release()."""

    def __init__(self):
        self.held, self.pending = False, None
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.receive)

    def receive(self, number, _):
        self.pending = number
        if not self.held:
            sys.exit(128 + number)

    def release(self):
        self.held = False
        if self.pending is not None:
            sys.exit(128 + self.pending)


def start_server(arguments):
    return subprocess.Popen(
        [arguments.build / "tools/splitee-server", "--model", arguments.model, "--bind", "tcp://127.0.0.1:*"],
        stdout=subprocess.PIPE, text=True,
    )


def endpoint_of(server):
    line = server.stdout.readline().strip()
    if not line.startswith("listening on "):
        sys.exit(f"error: splitee-server did not start (exit status {server.wait()})")
    return line.removeprefix("listening on ")


def run_edge(arguments, policy, title, endpoint, stream, is_tsv, texts):
    command = [
        arguments.build / "tools/splitee-edge", "--model", arguments.model, "--server", endpoint,
        "--input", stream, "--input-format", "tsv" if is_tsv else "text", "--policy", policy,
        "--seed", str(arguments.seed), "--lambda", "0.1", "--offload-cost", str(arguments.offload_cost), "--quiet",
    ]
    progress = Progress(title, len(texts))
    records = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as edge:
        try:
            for line in edge.stdout:
                records.append(json.loads(line))
                progress.show(len(records), texts[len(records) - 1], records[-1], len(records) == len(texts))
        except BaseException:
            edge.kill()
            raise
    if edge.returncode != 0:
        sys.exit(f"error: splitee-edge ended with exit status {edge.returncode}")
    if len(records) != len(texts):
        sys.exit(f"error: {len(texts)} samples, but {len(records)} records")
    return records


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def row_of(title, records, layers):
    count = len(records)
    routes = {route: sum(r["route"] == route for r in records) for route in ("exit", "final", "offload", "fallback")}
    labelled = [r for r in records if "truth" in r]
    accuracy = f"{100 * sum(r['class'] == r['truth'] for r in labelled) / len(labelled):.1f} %" if labelled else "-"
    run = {"exit": "exit_layer", "final": "exit_layer", "offload": "split", "fallback": "exit_layer"}
    latency = [r["edge_us"] + r["link_us"] + r["server_us"] for r in records]
    share = lambda n: f"{100 * n / count:.1f} %"
    return [
        title,
        accuracy,
        share(routes["exit"] + routes["final"]),
        share(routes["offload"]),
        share(routes["fallback"]),
        f"{sum(r[run[r['route']]] for r in records) / count:.2f}",
        f"{sum(r['bytes_sent'] for r in records) / 1e6:.2f} MB",
        f"{percentile(latency, 0.50) / 1000:.2f} ms",
        f"{percentile(latency, 0.99) / 1000:.2f} ms",
        f"{100 * (1 - sum(r['cost'] for r in records) / count / layers):.1f} %",
    ]


def print_table(rows):
    header = ["policy", "accuracy", "exited", "offloaded", "fell back", "layers", "sent", "p50", "p99", "cost saved"]
    table = [header] + rows
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    for number, row in enumerate(table):
        print("  ".join(cell.ljust(widths[i]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row)))
        if number == 0:
            print("  ".join("-" * width for width in widths))


def main():
    arguments = parse_arguments()
    if arguments.check:
        return
    ending = Ending()
    inspected = subprocess.run([arguments.build / "tools/splitee", "inspect", arguments.model, "--json"],
                               stdout=subprocess.PIPE, text=True)
    if inspected.returncode != 0:
        sys.exit(1)
    description = json.loads(inspected.stdout)
    layers = description["layers"]
    with tempfile.TemporaryDirectory(prefix="splitee-demo-") as folder:
        stream, is_tsv, texts = make_stream(
            arguments.data, description["labels"], arguments.samples, arguments.seed, pathlib.Path(folder))
        server = None
        try:
            ending.held = True
            server = start_server(arguments)
            ending.release()
            endpoint = endpoint_of(server)
            print(f"server on {endpoint}; {layers} layers, {len(texts)} samples, seed {arguments.seed}; "
                  f"a layer costs 1 lambda, an offload {arguments.offload_cost / 0.1:g} lambda\n", file=sys.stderr)
            rows = [row_of(title, run_edge(arguments, policy, title, endpoint, stream, is_tsv, texts), layers)
                    for policy, title in POLICIES]
        finally:
            if server is not None:
                server.send_signal(signal.SIGTERM)
                server.wait()
    print()
    print_table(rows)
    print(f"\nlayers: mean run on the edge. cost saved: against running all {layers} layers there for every sample.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"error: {error}")
