#!/usr/bin/env python3
"""The programs built for another architecture (under an emulator) against the native ones: on texts and on images,
plain and with CURVE, edges and servers of both must give the same answers, splits and routes, whichever machine is at
which end of the link."""
import argparse
import contextlib
import json
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile

import random_images

# int8 arithmetic rounds activations: sums in another order move some of them to the next step, and attention in
# bfloat16, where the processor has it, moves more. Of 12 int8 layers confidences differ by up to 0.025 between AVX512-BF16
# and SSE4.2 on one machine, by 0.009 between SSE4.2 and AVX2; ARM lies within that.
TOLERANCE = 0.03
SAME = ("id", "class", "split", "exit_layer", "route", "truth")
POLICIES = ("splitee", "splitee-s", "offload", "final")
SIDE = 32  # of a picture


class Machine:
    """Where the programs of one architecture are, and what runs them."""

    def __init__(self, name, tools, runner=()):
        self.name, self.tools, self.runner = name, tools, list(runner)

    def program(self, name):
        return [*self.runner, str(self.tools / name)]


class Link:
    """The flags of both ends."""

    def __init__(self, name, server=(), edge=()):
        self.name, self.server, self.edge = name, list(server), list(edge)


def curve_link(tool, folder):
    for who in ("server", "edge"):
        subprocess.run([*tool, "keygen", "--output", str(folder / who)], check=True, capture_output=True)
    return Link(
        "CURVE",
        ["--secret-key", str(folder / "server.secret"), "--authorized-keys", str(folder / "edge.public")],
        ["--secret-key", str(folder / "edge.secret"), "--server-key", str(folder / "server.public")],
    )


@contextlib.contextmanager
def serving(machine, model, link):
    server = subprocess.Popen(
        [*machine.program("splitee-server"), "--model", str(model), "--bind", "tcp://127.0.0.1:*", *link.server],
        stdout=subprocess.PIPE, text=True)
    try:
        yield server.stdout.readline().strip().removeprefix("listening on ")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def records(machine, endpoint, model, table, link, policy):
    # Of texts and their labels; a model of images takes a table as it is.
    form = ["--input-format", "tsv"] if "text" in table.stem else []
    done = subprocess.run(
        [*machine.program("splitee-edge"), "--model", str(model), "--server", endpoint, *link.edge, "--input", str(table),
         *form, "--policy", policy, "--seed", "7", "--deadline-ms", "60000", "--quiet"],
        capture_output=True, text=True, encoding="utf-8", check=False)  # fmt: skip
    assert done.returncode == 0, (machine.name, policy, done.returncode, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_same(found, expected, what):
    """How many of them went over the link."""
    assert len(found) == len(expected), (what, len(found), len(expected))
    for ours, theirs in zip(found, expected):
        differing = [k for k in SAME if ours.get(k) != theirs.get(k)]
        assert not differing, (what, differing, ours, theirs)
        assert abs(ours["confidence"] - theirs["confidence"]) < TOLERANCE, (what, ours, theirs)
    return sum(r["route"] == "offload" for r in found)


def check(model, table, samples, native, foreign, links):
    """All edges and servers, over every link, against a native edge of a native server."""
    expected, offloads = {}, 0
    for link in links:
        for server in (native, foreign):
            with serving(server, model, link) as endpoint:
                for policy in POLICIES:
                    for edge in (native, foreign):
                        what = f"{model.name}, {link.name}, {policy}: {edge.name} edge, {server.name} server"
                        found = records(edge, endpoint, model, table, link, policy)
                        assert len(found) == samples, (what, len(found))
                        offloads += check_same(found, expected.setdefault(policy, found), what)
    assert offloads > samples, offloads
    print(f"{model.name}: same answers on both architectures; {offloads} samples went over the link", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emulator", type=shlex.split, required=True, help="what runs the foreign programs")
    for flag in ("foreign", "native", "models"):
        parser.add_argument(f"--{flag}", type=pathlib.Path, required=True, help="a folder")
    parser.add_argument("--samples", type=int, default=30, help="texts; twice as many pictures")
    arguments = parser.parse_args()
    native = Machine("native", arguments.native)
    foreign = Machine("foreign", arguments.foreign, arguments.emulator)

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        links = [Link("plain"), curve_link(native.program("splitee"), folder)]
        texts, pictures = folder / "texts.tsv", folder / "pictures.tsv"
        with open(arguments.models / "demo_reviews.tsv", encoding="utf-8") as stream:
            texts.write_text("".join(next(stream) for _ in range(arguments.samples + 1)), encoding="utf-8")
        check(arguments.models / "default.gguf", texts, arguments.samples, native, foreign, links)
        paths = [folder / f"{number}.png" for number in range(2 * arguments.samples)]
        for number, path in enumerate(paths):
            path.write_bytes(random_images.png(random_images.picture(number, SIDE, SIDE)))
        pictures.write_text("path\n" + "".join(f"{path}\n" for path in paths), encoding="utf-8")
        check(arguments.models / "images.gguf", pictures, len(paths), native, foreign, links)


if __name__ == "__main__":
    sys.exit(main())
