#!/usr/bin/env python3
"""Decisions a second of SplitEE's replay against a numpy script that does the same.

usage: policy_vs_numpy.py POLICY_BENCH

The numpy script keeps the arms' sums and counts as arrays, computes all indices of a sample in one
expression and takes their argmax: UCB1 over 12 arms on a shuffled confidence matrix, the published
semantics. Both run on one core, one after the other, three times; CPU times; medians.
"""
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools/python"))
from interpreter import need  # noqa: E402

need("numpy")
import numpy as np  # noqa: E402

ARMS, ALPHA, LAYER, OFFLOAD = 12, 0.7, 0.1, 0.5


def numpy_decisions_per_second(samples=30_000):
    random = np.random.default_rng(1)
    confidence = np.clip(random.normal(np.linspace(0.65, 0.95, ARMS), 0.1, (samples, ARMS)), 0, 1)
    cost = LAYER * np.arange(1, ARMS + 1)
    start = time.process_time()
    last = confidence[:, -1:]
    exits = confidence >= ALPHA
    exits[:, -1] = True
    reward = np.where(exits, confidence, last - OFFLOAD) - cost
    order = random.permutation(samples)
    total = reward[order[:ARMS], np.arange(ARMS)].copy()
    count = np.ones(ARMS)
    for t, sample in enumerate(order):
        arm = np.argmax(total / count + np.sqrt(np.log(t + 1) / count))
        total[arm] += reward[sample, arm]
        count[arm] += 1
    return samples / (time.process_time() - start)


def bench_decisions_per_second(bench, row):
    command = [bench, f"--benchmark_filter=^{row}$", "--benchmark_format=json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output)["benchmarks"][0]["items_per_second"]


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        asked = len(sys.argv) == 2
        print(__doc__.strip(), file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else 2)
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    rows = ["replay/splitee", "replay_paper/splitee"]
    results = {row: [] for row in rows}
    results["numpy"] = []
    for _ in range(3):
        results["numpy"].append(numpy_decisions_per_second())
        for row in rows:
            results[row].append(bench_decisions_per_second(sys.argv[1], row))
    base = statistics.median(results["numpy"])
    print(f"{'':22} decisions/s   against numpy")
    for name, values in results.items():
        median = statistics.median(values)
        print(f"{name:22} {median:11.3e} {median / base:10.0f} x")


if __name__ == "__main__":
    main()
