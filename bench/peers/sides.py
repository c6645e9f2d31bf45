"""What bench/peers/images and texts share: sides in processes of their own, which take turns; what their rounds come
to; the results that are kept; the options."""

import argparse
import fnmatch
import glob
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

SAMPLES = 4  # that are answered; the first is timed
TURN_MS, FEWEST_PASSES = 40.0, 2
FEWEST_ROUNDS, CALM = 5, 0.01  # share of a turn that a thread waited for a core


class Side:
    """A process that runs passes when asked (peers_bench passes, peer.py)."""

    def __init__(self, name, command, quiet=False):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL if quiet else None, text=True)  # fmt: skip
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


def peer_command(name, model, threads, samples, *more):
    return [sys.executable, os.path.join(HERE, "peer.py"), name, model, str(threads), samples, *more]


def take_turns(sides, seconds, rest, busy):
    """Rounds of one turn of every side, for so long; then the processes end."""
    slowest = max(side.turn(1, False)[0] for side in sides)
    passes = max(FEWEST_PASSES, int(TURN_MS / slowest))
    rounds, start = [], time.monotonic()
    while len(rounds) < FEWEST_ROUNDS or time.monotonic() - start < seconds:
        order = sides[len(rounds) % len(sides):] + sides[:len(rounds) % len(sides)]
        rounds.append({side.name: side.turn(passes, rest, busy) for side in order})
    for side in sides:
        side.close()
    return rounds


def spread(ratios):
    tenths = statistics.quantiles(ratios, n=10, method="inclusive")
    return {"ratio": statistics.median(ratios), "p10": tenths[0], "p90": tenths[-1]}


def counted(rounds, busy):
    """The rounds in which nobody else took much, or the calmest few, from the calmest on; of a busy machine all."""
    ordered = sorted(rounds, key=waited)
    calm = sum(waited(turns) <= CALM for turns in ordered)
    return ordered if busy else ordered[:max(calm, FEWEST_ROUNDS)]


def waited(turns):
    return max(share for _, share in turns.values())


def summary(rounds, busy, peers):
    """Medians over the rounds that count; the ratio is that of the round's fastest peer to ours."""
    chosen = counted(rounds, busy)
    result = {"rounds": len(rounds), "counted": len(chosen), "waited_share": waited(chosen[-1])}
    for name in chosen[0]:
        result[name] = statistics.median(turns[name][0] for turns in chosen)
    return result | spread([min(turns[peer][0] for peer in peers) / turns["ours"][0] for turns in chosen])


def best_peaks(program, dtypes):
    """Operations a second of one core, per number format: the fastest instructions that there are."""
    found = json.loads(subprocess.run([program, "peaks"], check=True, stdout=subprocess.PIPE, text=True).stdout)
    rates = found["operations_per_second"]
    starts = {dtype: dtype + " " for dtype in dtypes}
    return {dtype: max((rate for name, rate in rates.items() if name.startswith(start)), default=None)
            for dtype, start in starts.items()} | {"all": rates, "commit": found["commit"]}  # fmt: skip


class Results:
    """FOLDER/results.json, read where it is there."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "results.json")
        self.values = {"cells": {}}
        if os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as file:
                self.values = json.load(file)

    def save(self):
        with open(self.path + ".part", "w", encoding="utf-8") as file:
            json.dump(self.values, file, indent=1, sort_keys=True)
        os.replace(self.path + ".part", self.path)


def parser(name, description, cells):
    """With the options that both programs have; `cells`: help of --only."""
    result = argparse.ArgumentParser(prog=f"bench/peers/{name}", description=description)
    result.add_argument("--build", default=os.path.join(ROOT, "build"), help=argparse.SUPPRESS)
    result.add_argument("--folder", help=f"for what is made and measured (default: build/peers/{name})")
    result.add_argument("--only", nargs="+", default=["*"], metavar="CELL",
                        help=f"{cells}; the other results stay (default: everything)")  # fmt: skip
    result.add_argument("--seconds", type=float, default=5, metavar="S", help="of timing per cell (default: %(default)s)")
    result.add_argument("--busy", action="store_true",
                        help="others use the cores: a turn counts by the fastest tenth of its passes, and every turn counts")
    result.add_argument("--table", action="store_true", help="print the results kept; measure nothing")
    return result


def parse(options, name):
    arguments = options.parse_args()
    arguments.folder = os.path.abspath(arguments.folder or os.path.join(arguments.build, "peers", name))
    os.makedirs(arguments.folder, exist_ok=True)
    arguments.program = os.path.join(arguments.build, "bench", "peers", "peers_bench")
    return arguments


def selected(cell, patterns):
    return any(fnmatch.fnmatchcase(cell, pattern) for pattern in patterns)
