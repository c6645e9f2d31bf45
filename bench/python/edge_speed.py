#!/usr/bin/env python3
"""The Python package against the program splitee-edge. Both classify the same texts with the same policy, in turns of
a few samples each, so that what other programs do meets both alike; then two of them at a time against one: threads of
this process over one model, and processes of the program, whose gain is the most that this machine gives.

Arguments: EDGE MODEL TEXTS (a TSV whose first column is the text) [ROUNDS (of all texts)] [FLAG=VALUE of splitee-edge...].
Prints medians over turns, with the quarters around them. Processor time (threads of the library included) is what to
compare on a machine that others use."""

import concurrent.futures
import os
import statistics
import subprocess
import sys
import time

import splitee

EDGE, MODEL, TEXTS = sys.argv[1:4]
ROUNDS = int(sys.argv[4]) if len(sys.argv) > 4 else 3
OPTIONS = dict(word.split("=", 1) for word in sys.argv[5:]) or {"policy": "splitee", "seed": "1"}
TURN = 20  # samples


class Program:
    """splitee-edge, which is given lines and gives records."""

    def __init__(self):
        flags = [word for name, value in OPTIONS.items() for word in (f"--{name}", value)]
        self.process = subprocess.Popen([EDGE, "--model", MODEL, "--quiet", *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, texts):
        self.process.stdin.write("".join(text + "\n" for text in texts).encode())
        self.process.stdin.flush()
        return [self.process.stdout.readline() for _ in texts]

    def processor_seconds(self):
        """Of all its threads, as the scheduler counts them: to the nanosecond."""
        folder = f"/proc/{self.process.pid}/task"
        total = 0
        for thread in os.listdir(folder):
            with open(os.path.join(folder, thread, "schedstat"), encoding="ascii") as file:
                total += int(file.read().split()[0])
        return 1e-9 * total

    def close(self):
        self.process.stdin.close()
        assert self.process.wait() == 0


class Package:
    def __init__(self, model):
        self.edge = splitee.Edge(model, **OPTIONS)

    def run(self, texts):
        return list(self.edge.run(texts))

    processor_seconds = staticmethod(time.process_time)

    def close(self):
        self.edge.close()


def show(name, values):
    low, middle, high = statistics.quantiles(values, n=4)
    print(f"{name:<46} {middle:9.3f}  ({low:.3f} to {high:.3f})")


def turns(texts):
    return [texts[at : at + TURN] for at in range(0, len(texts) - TURN + 1, TURN)]


def one_at_a_time(texts):
    sides = {"splitee-edge": Program(), "Python": Package(splitee.Model(MODEL))}
    found = {name: ([], []) for name in sides}
    for number in range(ROUNDS + 1):  # the first one reads weights and learns
        for count, turn in enumerate(turns(texts)):
            for name in sorted(sides, reverse=count % 2 == 1):
                processor, elapsed = sides[name].processor_seconds(), time.perf_counter()
                sides[name].run(turn)
                if number > 0:
                    found[name][1].append(1e6 * (time.perf_counter() - elapsed) / TURN)
                    found[name][0].append(1e6 * (sides[name].processor_seconds() - processor) / TURN)
    for side in sides.values():
        side.close()
    for which, of in enumerate(("processor", "elapsed")):
        for name in sides:
            show(f"{name}, us of {of} time per sample", found[name][which])
        show(f"Python / splitee-edge, {of} time", [b / a for a, b in zip(found["splitee-edge"][which], found["Python"][which])])


def two_at_a_time(texts):
    model = splitee.Model(MODEL)
    for name, sides in (("processes of splitee-edge", [Program(), Program()]),
                        ("Python threads", [Package(model), Package(model)])):  # fmt: skip
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda side: side.run(texts), sides))
            gains = []
            for turn in turns(texts):
                begin = time.perf_counter()
                sides[0].run(turn)
                one = time.perf_counter() - begin
                begin = time.perf_counter()
                list(pool.map(lambda side: side.run(turn), sides))  # noqa: B023
                gains.append(2 * one / (time.perf_counter() - begin))
        for side in sides:
            side.close()
        show(f"two {name} / one", gains)


def main():
    with open(TEXTS, encoding="utf-8") as file:
        texts = [line.split("\t")[0] for line in file.read().splitlines()[1:]]
    one_at_a_time(texts)
    two_at_a_time(texts)


main()
