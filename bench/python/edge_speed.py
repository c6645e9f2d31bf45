#!/usr/bin/env python3
"""The Python package against the program splitee-edge on the same texts, interleaved: processor time per sample of each
(not elapsed time, which other programs disturb), the start of each left out; and how much two threads do in the time
that one takes. Arguments: EDGE MODEL TEXTS (a TSV whose first column is the text) [ROUNDS]. Prints medians with the
least and the most."""

import concurrent.futures
import os
import statistics
import subprocess
import sys
import tempfile
import time

import splitee

EDGE, MODEL, TEXTS = sys.argv[1:4]
ROUNDS = int(sys.argv[4]) if len(sys.argv) > 4 else 7
OPTIONS = {"policy": "splitee", "seed": 1}


def program_seconds(texts, folder):
    """User and system time of one run of the program."""
    path = os.path.join(folder, "texts")
    with open(path, "w", encoding="utf-8") as file:
        file.write("".join(text + "\n" for text in texts))
    flags = [word for name, value in OPTIONS.items() for word in (f"--{name}", str(value))]
    process = subprocess.Popen([EDGE, "--model", MODEL, "--input", path, "--output", os.devnull, "--quiet", *flags])
    usage = os.wait4(process.pid, 0)[2]
    return usage.ru_utime + usage.ru_stime


def package_seconds(texts, _folder):
    begin = time.process_time()
    edge = splitee.Edge(splitee.Model(MODEL), **OPTIONS)
    for _ in edge.run(texts):
        pass
    return time.process_time() - begin


def show(name, values):
    print(f"{name:<34} {statistics.median(values):8.3f}  ({min(values):.3f} to {max(values):.3f})")


def main():
    with open(TEXTS, encoding="utf-8") as file:
        texts = [line.split("\t")[0] for line in file.read().splitlines()[1:]]
    few, many = texts[:20], texts
    per_sample = {program_seconds: [], package_seconds: []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            for seconds, found in per_sample.items():
                found.append(1e6 * (seconds(many, folder) - seconds(few, folder)) / (len(many) - len(few)))
    show("splitee-edge, us per sample", per_sample[program_seconds])
    show("Python, us per sample", per_sample[package_seconds])
    show("Python / splitee-edge", [b / a for a, b in zip(*per_sample.values())])

    model, part = splitee.Model(MODEL), texts[:200]
    ratios = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            model.run(part)
            one = time.perf_counter() - begin
            begin = time.perf_counter()
            list(pool.map(model.run, (part, part)))
            ratios.append(2 * one / (time.perf_counter() - begin))
    show("two threads / one", ratios)


main()
