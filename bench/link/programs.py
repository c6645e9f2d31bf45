"""What the experiments of this folder share: streams, traces, links, servers and edges, all of them the
real programs. `arguments`: those of add_common(), and with a link of add_link() and --seed."""

import contextlib
import json
import pathlib
import random
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/faults"))
from proxy import Proxy  # noqa: E402


def link(mbit, rtt_ms):
    return f"mbit={mbit} delay_ms={rtt_ms / 2}"


# Name: what the link is from a share of the stream on.
SETTINGS = {
    "100 Mbit/s, 1 ms": [(0, link(100, 1))],
    "20 Mbit/s, 10 ms": [(0, link(20, 10))],
    "5 Mbit/s, 40 ms": [(0, link(5, 40))],
    "0.5 Mbit/s, 200 ms": [(0, link(0.5, 200))],
    "20 Mbit/s, 10 ms; from 1/2 to 3/4 0.5 Mbit/s, 200 ms": [
        (0, link(20, 10)), (0.5, link(0.5, 200)), (0.75, link(20, 10))],
}


def add_common(parser):
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="build folder (default: build)")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models/default.gguf",
                        help="default: models/default.gguf")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "models/demo_reviews.tsv",
                        help="TSV with columns text and label (default: the demo's stream)")


def add_link(parser):
    parser.add_argument("--slowdown", type=float, default=50, help="of the edge's layers (default 50)")
    parser.add_argument("--window", type=int, default=1,
                        help="of splitee-edge (default 1: nothing queues behind itself)")
    parser.add_argument("--jobs", type=int, default=4, help="runs at a time; they wait most of the time (default 4)")


def add_settings(parser, chosen):
    parser.add_argument("--settings", nargs="*", choices=list(SETTINGS), default=chosen, metavar="NAME",
                        help="links to run, of " + "; ".join(SETTINGS) + f" (default: the first {len(chosen)})")


def make_stream(data, samples, seed, path):
    """Writes `samples` rows of the table, shuffled and, where there are not so many, repeated."""
    lines = data.read_text(encoding="utf-8").splitlines()
    rows, generator = [], random.Random(seed)
    while len(rows) < samples:
        part = lines[1:]
        generator.shuffle(part)
        rows += part
    path.write_text("\n".join([lines[0]] + rows[:samples]) + "\n", encoding="utf-8")


def tool(arguments, *words):
    return subprocess.check_output([arguments.build / "tools/splitee", *map(str, words)], text=True)


def layers_of(arguments):
    return json.loads(tool(arguments, "inspect", arguments.model, "--json"))["layers"]


def make_trace(arguments, stream, path):
    """Every exit's answer to every sample: a header, then a list of cells a sample."""
    tool(arguments, "trace", "--model", arguments.model, "--input", stream, "--input-format", "tsv", "--output", path)
    return [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]


def class_at(row, layer):
    """What the exit of a layer answered, in a row of a trace; every layer has an exit."""
    return int(row[2 * layer - 1])


@contextlib.contextmanager
def running_server(arguments, flags=()):
    """HOST:PORT"""
    server = subprocess.Popen(
        [arguments.build / "tools/splitee-server", "--model", arguments.model, "--bind", "tcp://127.0.0.1:*", *flags],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        first = server.stdout.readline()
        if not first.startswith("listening on tcp://"):
            sys.exit(f"error: splitee-server did not start: {first!r}")
        yield first.split()[-1].removeprefix("tcp://")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def edge_command(arguments, stream, *flags):
    return [arguments.build / "tools/splitee-edge", "--model", arguments.model, "--input", stream,
            "--input-format", "tsv", "--quiet", *map(str, flags)]


def check_records(records, samples):
    if [record["id"] for record in records] != list(range(samples)):
        sys.exit(f"error: {len(records)} records of {samples} samples, or not in order")


def run_edge_over(arguments, stream, samples, policy, setting, sends=True):
    """The records of one run; the link changes when the records have come that far. `sends`: the edge
    has a server."""
    changes = [(int(share * samples), words) for share, words in SETTINGS[setting]]
    with running_server(arguments) as address, \
            Proxy(arguments.build / "tests/faults/fault_proxy", address, *changes[0][1].split()) as proxy:
        server = ["--server", proxy.endpoint, "--deadline-ms", 3000, "--connect-ms", 10000] if sends else []
        edge = subprocess.Popen(
            edge_command(arguments, stream, *server, "--costs", "live", "--slowdown", arguments.slowdown,
                         "--window", arguments.window, "--seed", arguments.seed, *policy),
            stdout=subprocess.PIPE, text=True)
        records = []
        for line in edge.stdout:
            records.append(json.loads(line))
            for at, words in changes[1:]:
                if len(records) == at:
                    proxy.tell(words)
        if edge.wait() != 0:
            sys.exit(f"error: splitee-edge ended with exit status {edge.returncode}")
    check_records(records, samples)
    return records


def print_row(cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def print_header(cells):
    print_row(cells)
    print("|" + "---|" * len(cells), flush=True)
