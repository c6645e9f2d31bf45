#!/usr/bin/env python3
"""Runs splitee-server and splitee-edge on loopback over a stream of reviews, or over a folder of pictures, once
per policy on the same order, and prints what each saved beside the best fixed threshold. What the others than the
default policy did is kept in the build folder, for the next time. Needs the standard library only."""
import argparse
import bisect
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

import demo_images
import demo_kept

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
REFERENCE = "all layers here"
TITLES = {"splitee": "SplitEE", "splitee-s": "SplitEE-S", "offload": "offload everything"}
LAMBDA = 0.1  # reward that a layer costs


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="tools/demo", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    stream = parser.add_mutually_exclusive_group()
    stream.add_argument("--data", type=pathlib.Path, default=ROOT / "models/demo_reviews.tsv",
                        help="stream: a TSV with a header naming text, text2, label; or one text a line")
    stream.add_argument("--images", type=pathlib.Path, nargs="?", const=False, metavar="FOLDER", default=argparse.SUPPRESS,
                        help="pictures of this folder in place of texts, and a contact sheet of what answered them; "
                        "without FOLDER: what it needs")
    parser.add_argument("--model", type=pathlib.Path, default=argparse.SUPPRESS,
                        help="model file, GGUF (default: models/default.gguf, or models/images.gguf with --images)")
    parser.add_argument("--samples", type=int, default=4000,
                        help="a shorter stream is shuffled and repeated up to this many samples; of more pictures as "
                        "many are taken")
    parser.add_argument("--seed", type=int, default=1, help="of the order and of the policies")
    parser.add_argument("--offload-cost", type=float, default=5 * LAMBDA,
                        help=f"cost of an offload; a layer costs {LAMBDA}")
    parser.add_argument("--max-disagreement", type=float, default=0.01, metavar="E",
                        help="share of answers that may differ from the whole network's: what the best "
                        "threshold is chosen for")
    parser.add_argument("--sheet", type=pathlib.Path, default=argparse.SUPPRESS,
                        help="contact sheet of --images (default: images.html in the build folder)")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="build folder")
    parser.add_argument("--fresh", action="store_true",
                        help="runs every policy again, in place of what an earlier demo with the same programs, model, "
                        "stream and flags kept of it in the build folder")
    parser.add_argument("--serve", action="store_true", help="go on with an edge over HTTP, and its live page")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)  # the arguments only
    arguments = parser.parse_args()
    arguments.images = getattr(arguments, "images", None)
    arguments.sheet = getattr(arguments, "sheet", arguments.build / "images.html")
    model = "models/default.gguf" if arguments.images is None else "models/images.gguf"
    arguments.model = getattr(arguments, "model", ROOT / model)
    if arguments.images is False:  # without FOLDER
        parser.exit(2, demo_images.WANTED + "\n")
    if arguments.samples < 1:
        parser.error("--samples must be at least 1")
    if arguments.images is not None and not arguments.images.is_dir():
        parser.error(f"{arguments.images}: no such folder")
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
    """Shuffles and repeats `path` into folder/stream; returns (path, --input-format, texts)."""
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
    return stream, "tsv" if columns else "text", texts


class Progress:
    """A bar, and below it the sentence last classified, redrawn in place on a terminal; elsewhere the first answer."""

    def __init__(self, title, total):
        self.title, self.total, self.drawn, self.began = title, total, 0.0, time.monotonic()
        self.terminal = sys.stderr.isatty()
        if not self.terminal:
            print(f"{title}: {total} samples; ", end="", file=sys.stderr, flush=True)

    def end(self, seconds):
        if not self.terminal:
            print(f"{seconds:.1f} s", file=sys.stderr)

    def show(self, done, text, record, last=False):
        if not self.terminal:
            if done == 1:
                print(f"the first: layer {record['exit_layer']}, {record['route']}, {record['label']} ... ", end="",
                      file=sys.stderr, flush=True)  # fmt: skip
            return
        now = time.monotonic()
        if now - self.drawn < 0.08 and not last:
            return
        self.drawn = now
        width = shutil.get_terminal_size().columns - 1
        filled, left = 24 * done // self.total, (now - self.began) / done * (self.total - done)
        bar = f"{self.title:<22} [{'#' * filled}{'.' * (24 - filled)}] {done}/{self.total}, {left:.0f} s left"
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


def run_edge(arguments, title, flags, stream, form, texts):
    """Records of one pass over the stream, and the summary of the edge."""
    summary = stream.with_name("summary.json")
    command = [
        arguments.build / "tools/splitee-edge", "--model", arguments.model, "--input", stream,
        "--input-format", form, "--seed", str(arguments.seed), "--lambda", str(LAMBDA),
        "--offload-cost", str(arguments.offload_cost), "--quiet", "--summary-json", summary, *flags,
    ]  # fmt: skip
    progress = Progress(title, len(texts))
    records, started = [], time.monotonic()
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
    progress.end(time.monotonic() - started)
    return records, json.loads(summary.read_text(encoding="utf-8"))


def run_or_kept(arguments, title, flags, server, stream, form, texts, kept):
    """(Records of one pass over the stream, None, or when an earlier demo made them)."""
    found = kept.read([*flags, bool(server)], len(texts))
    if found is not None:
        print(f"{title}: kept from {found[1]:%Y-%m-%d %H:%M}", file=sys.stderr, flush=True)
        return found
    records, _ = run_edge(arguments, title, [*flags, *server], stream, form, texts)
    kept.write([*flags, bool(server)], records)
    return records, None


def best_threshold(reference, limit):
    """The confidence at which answering from the first exit that reaches it costs the fewest layers
    while at most `limit` of the answers differ from the last exit's. Chosen with every exit of the
    very samples at hand, which no device sees: the best that this rule can do."""
    least = 1 / len(reference[0]["exits"][0]["probabilities"])
    alphas = [least + (1 - least) * step / 500 for step in range(501)]
    # What each threshold adds to what the one below it costs.
    layers, differ = [0] * 502, [0] * 502
    for record in reference:
        last, reached = index_of_largest(record["exits"][-1]["probabilities"]), 0
        for exit in record["exits"]:
            # Those from `reached` up to `end` stop here; the last exit stops all that are left.
            probabilities = exit["probabilities"]
            end = 501 if exit is record["exits"][-1] else bisect.bisect_right(alphas, max(probabilities))
            if end > reached:
                differs = index_of_largest(probabilities) != last
                layers[reached] += exit["layer"]
                layers[end] -= exit["layer"]
                differ[reached] += differs
                differ[end] -= differs
                reached = end
    costs = zip(itertools.accumulate(layers), itertools.accumulate(differ), alphas)
    allowed = [(cost, alpha) for cost, differing, alpha in costs if differing <= limit * len(reference)]
    return min(allowed)[1] if allowed else 1.0


def index_of_largest(values):
    return max(range(len(values)), key=values.__getitem__)


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


COLUMNS = (("policy", ""), ("same", "%"), ("acc.", "%"), ("exit", "%"), ("sent", "%"), ("fell", "%"), ("layers", "run"),
           ("sent", "kB"), ("p50", "ms"), ("p99", "ms"), ("saved", "%"))  # fmt: skip
WIDTHS = (18, 6, 6, 6, 6, 6, 7, 7, 6, 6, 6)  # 80


def row_of(title, records, reference, layers):
    count = len(records)
    routes = {route: sum(r["route"] == route for r in records) for route in {r["route"] for r in records}}
    labelled = [r for r in records if "truth" in r]
    latency = [(r["edge_us"] + r["link_us"] + r["server_us"]) / 1000 for r in records]
    percent = lambda n, total=count: f"{100 * n / total:.1f}" if total else "-"  # noqa: E731
    sent, fell = routes.get("offload", 0), routes.get("fallback", 0)
    return [
        title,
        percent(sum(r["class"] == whole["class"] for r, whole in zip(records, reference))),
        percent(sum(r["class"] == r["truth"] for r in labelled), len(labelled)),
        percent(count - sent - fell),
        percent(sent),
        percent(fell),
        f"{sum(layers_run(r) for r in records) / count:.2f}",
        f"{sum(r['bytes_sent'] for r in records) / 1000:.0f}",
        milliseconds(percentile(latency, 0.50)),
        milliseconds(percentile(latency, 0.99)),
        f"{100 * (1 - sum(r['cost'] for r in records) / count / layers):.1f}",
    ]


def milliseconds(value):
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def layers_run(record):
    return record["split"] if record["route"] == "offload" else record["exit_layer"]


def print_table(rows):
    for cells in (*zip(*COLUMNS), ["-" * (width - 1) for width in WIDTHS], *rows):
        print("".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in
                      enumerate(zip(cells, WIDTHS))).rstrip())  # fmt: skip


def print_exits(title, records):
    """Where samples were answered, as a picture."""
    counts = {}
    for record in records:
        place = (1, 0) if record["route"] == "offload" else (0, record["exit_layer"])
        counts[place] = counts.get(place, 0) + 1
    print(f"\nwhere the samples were answered ({title}):")
    for (sent, layer), count in sorted(counts.items()):
        place = "server" if sent else f"layer {layer:>2}"
        share = count / len(records)
        print(f"  {place:<9} {'#' * max(1, round(50 * share)):<50} {100 * share:5.1f} %")


def print_examples(records, reference, texts):
    """An early answer, one from the middle and one that took all there is."""
    by_depth = sorted(range(len(records)), key=lambda i: (records[i]["route"] == "offload", layers_run(records[i])))
    print("\nthree of them:")
    for index in (by_depth[0], by_depth[len(by_depth) // 2], by_depth[-1]):
        record, text = records[index], "".join(c if c.isprintable() else " " for c in texts[index])
        where = "the server" if record["route"] == "offload" else f"layer {record['exit_layer']}"
        print(f'  "{text[:70]}{"..." if len(text) > 70 else ""}"')
        seen = ", ".join(f"{exit['layer']}: {max(exit['probabilities']):.2f}"
                         for exit in reference[index]["exits"][: min(6, layers_run(record) or 1)])  # fmt: skip
        print(textwrap.fill(f"{record['label']} from {where}; confidence at exits {seen}", 80,
                            initial_indent="    ", subsequent_indent="      "))  # fmt: skip


def print_kept(kept):
    """Which rows are of an earlier demo."""
    if kept:
        text = (f"Kept from an earlier demo with the same programs, model and stream ({min(kept.values()):%Y-%m-%d %H:%M}): "
                f"{', '.join(kept)}. --fresh runs them again.")  # fmt: skip
        print(textwrap.fill(text, 80))


def main_table(arguments, endpoint, stream, form, texts, layers):
    """Prints it; (name of the default policy, its records)."""
    link = ["--server", endpoint]
    records, summary = run_edge(arguments, "default", [*link, "--max-disagreement", str(arguments.max_disagreement)],
                                stream, form, texts)  # fmt: skip
    default = f"default ({summary['policy']})"
    pictures = demo_kept.words_of_pictures(r["path"] for r in records) if arguments.images else []
    programs = [arguments.build / "tools" / name for name in ("splitee-edge", "splitee-server")]
    kept = demo_kept.Kept(arguments.build / "demo", [*programs, arguments.model, stream],
                          [arguments.seed, LAMBDA, arguments.offload_cost, pictures], arguments.fresh)  # fmt: skip
    runs, earlier = [(default, records)], {}

    def add(title, name, flags, server):
        found, when = run_or_kept(arguments, name, flags, server, stream, form, texts, kept)
        runs.append((title, found))
        if when is not None:
            earlier[title] = when
        return found

    reference = add(REFERENCE, REFERENCE, ["--policy", "final", "--exits"], [])
    alpha = best_threshold(reference, arguments.max_disagreement)
    add(f"threshold {alpha:.3f}", "best threshold", ["--policy", "threshold", "--alpha", str(alpha)], [])
    for policy, title in TITLES.items():
        add(title, title, ["--policy", policy], link)
    runs.insert(4, runs.pop(1))
    print()
    print_table([row_of(title, found, reference, layers) for title, found in runs])
    print(f"""
same: answers equal to the whole network's. saved: of the cost of running all
{layers} layers for every sample. threshold: the best fixed confidence without a
server at {100 * arguments.max_disagreement:g} % disagreement, chosen in hindsight; the others learn as they go.""")
    print_kept(earlier)
    print_exits(default, records)
    print_examples(records, reference, texts)
    return default, records


def print_next_steps(model, images):
    if images:
        print(f"""
next:
  tools/demo --images {images} --serve     # then drop pictures into a page in the browser
  build/tools/splitee inspect {model}
  build/tools/splitee-edge --model {model} --input {images}""")
        return
    print(f"""
next:
  tools/demo --serve         # then type texts of your own into a page in the browser
  tools/demo --data FILE     # your texts: one a line, or a TSV (text, label)
  echo 'A fine film.' | build/tools/splitee-edge --model {model}""")


def serve(arguments, endpoint):
    """The live page, until somebody ends it."""
    command = [arguments.build / "tools/splitee-edge", "--model", arguments.model, "--server", endpoint,
               "--lambda", str(LAMBDA), "--offload-cost", str(arguments.offload_cost), "--quiet",
               "--http", "127.0.0.1:0"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as edge:
        try:
            line = edge.stdout.readline().strip()
            if not line.startswith("listening on "):
                sys.exit(f"error: splitee-edge does not serve (exit status {edge.wait()})")
            print(f"\nlive page: {line.removeprefix('listening on ')}/  (Ctrl + C ends it)", flush=True)
            sys.exit(edge.wait())
        except KeyboardInterrupt:
            pass
        finally:
            edge.terminate()


def stream_of(arguments, labels, folder):
    if not arguments.images:
        return make_stream(arguments.data, labels, arguments.samples, arguments.seed, folder)
    stream, names = demo_images.make_stream(arguments.images, labels, arguments.samples, arguments.seed, folder)
    return stream, "images", names


def write_sheet(arguments, title, records, labels):
    page = demo_images.contact_sheet(title, records, arguments.images.resolve(), labels)
    arguments.sheet.write_text(page, encoding="utf-8", errors="replace")
    print(f"\ncontact sheet of the pictures, by what answered them (open it in a browser):\n  {arguments.sheet}")


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
        stream, form, texts = stream_of(arguments, description["labels"], pathlib.Path(folder))
        server = None
        try:
            ending.held = True
            server = start_server(arguments)
            ending.release()
            endpoint = endpoint_of(server)
            print(f"server on {endpoint}; {layers} layers, {len(texts)} samples, seed {arguments.seed}; "
                  f"a layer costs 1 lambda, an offload {arguments.offload_cost / LAMBDA:g} lambda\n", file=sys.stderr)
            title, records = main_table(arguments, endpoint, stream, form, texts, layers)
            if arguments.images:
                write_sheet(arguments, title, records, description["labels"])
            print_next_steps(os.path.relpath(arguments.model), arguments.images)
            if arguments.serve:
                serve(arguments, endpoint)
        finally:
            if server is not None:
                server.send_signal(signal.SIGTERM)
                server.wait()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"error: {error}")
