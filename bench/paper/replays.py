"""Runs `splitee replay` on the committed traces, several processes at a time."""

import concurrent.futures
import glob
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from intervals import half_width  # noqa: E402

LAMBDA1, LAMBDA2 = 0.08, 0.02  # the paper's 0.8 : 0.2; a layer with its exit costs 0.1
LAMBDA = LAMBDA1 + LAMBDA2
OFFLOADS = (1, 2, 3, 4, 5)  # o in lambda
PAPER_POLICIES = ("splitee", "splitee-s", "threshold", "threshold-published")


@dataclass(frozen=True)
class Job:
    """One call of `splitee replay`; offload in lambda, split 0 where there is none."""

    trace: str
    policy: str
    alpha: float
    offload: float
    semantics: str = "deployable"
    split: int = 0
    changes: tuple = ()
    exploration: float = 1.0
    more: tuple = ()  # words of the command

    @property
    def name(self):
        return f"{self.policy} {self.split}" if self.split else self.policy


class Replayer:
    def __init__(self, splitee, runs, seed, jobs):
        self.splitee, self.runs, self.seed, self.jobs = splitee, runs, seed, jobs

    def command(self, job):
        words = [self.splitee, "replay", "--trace", job.trace, "--policy", job.policy,
                 "--alpha", f"{job.alpha:g}", "--lambda1", str(LAMBDA1), "--lambda2", str(LAMBDA2),
                 "--offload-cost", f"{job.offload * LAMBDA:.6g}", "--semantics", job.semantics,
                 "--runs", str(self.runs), "--seed", str(self.seed),
                 "--exploration", str(job.exploration), "--json"]
        if job.split:
            words += ["--split", str(job.split)]
        words += job.more
        for t, offload in job.changes:
            words += ["--change", str(t), f"{offload * LAMBDA:.6g}"]
        return words

    def one(self, job):
        done = subprocess.run(self.command(job), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(self.command(job))}\n{done.stderr.strip()}")
        result = json.loads(done.stdout)
        result["mean_got"] = mean_reward(result)
        return result

    def all(self, jobs):
        """Results by job."""
        jobs = list(dict.fromkeys(jobs))
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            return dict(zip(jobs, pool.map(self.one, jobs)))


def over_networks(results):
    """The results of the same replay on traces of several networks, as one: means; `ci95` over orders alone,
    `networks` over networks."""
    count = len(results)

    def mean(value):
        return sum(map(value, results)) / count

    def with_intervals(values):
        return {"mean": sum(v["mean"] for v in values) / count,
                "ci95": math.sqrt(sum(v["ci95"] ** 2 for v in values)) / count,
                "networks": half_width([v["mean"] for v in values])}  # fmt: skip

    merged = dict(results[0])
    for key in ("accuracy", "cost"):
        merged[key] = with_intervals([r[key] for r in results])
    merged["regret"] = [with_intervals(points) | {"t": points[0]["t"]} for points in zip(*(r["regret"] for r in results))]
    for key in ("final_accuracy", "offload_rate", "mean_got", "cost_reduction"):
        merged[key] = mean(lambda r, key=key: r[key])
    merged["exit_share"] = [sum(shares) / count for shares in zip(*(r["exit_share"] for r in results))]
    merged["best_arms"] = sorted({r["best_arm"] for r in results})
    return merged


def merged(entry, results):
    """The replays on an entry's traces, by the job on the first of them."""
    found = {}
    for job in results:
        for first, paths in ((entry["path"], entry["paths"]), (entry.get("calibrated_path"), entry.get("calibrated_paths"))):
            if first is not None and job.trace == first:
                found[job] = over_networks([results[replace(job, trace=path)] for path in paths])
    return found


def mean_reward(result):
    """Reward per sample: the best arm's, less the regret."""
    best = result["mean_reward"][result["best_arm"] - 1]
    last = result["regret"][-1]
    return best - last["mean"] / last["t"]


def regret_at(result, t):
    for point in result["regret"]:
        if point["t"] == t:
            return point
    return None


def known_policies(splitee):
    """Names that this build's `splitee replay` lists, the ones it adds to the edge's included."""
    text = subprocess.run([splitee, "replay", "--help"], capture_output=True, text=True,
                          check=True).stdout
    block = text.split("Policies:\n", 1)[1].split("\n\n", 1)[0]
    return [line.split()[0] for line in block.splitlines() if line.startswith("  ")]


def read_data_sets(folder):
    """Entries of datasets.json whose trace is there: `path`, that of the first network, and `paths`, of all."""
    with open(os.path.join(HERE, "datasets.json"), encoding="utf-8") as file:
        entries = json.load(file)
    seeds = [path for path in sorted(glob.glob(os.path.join(folder, "seed*"))) if re.search(r"seed\d+$", path)]
    for entry in entries:
        paths = [os.path.join(place, entry["name"] + ".csv.zst") for place in (folder, *seeds)]
        entry["path"], entry["paths"] = paths[0], [path for path in paths if os.path.exists(path)]
    return [entry for entry in entries if os.path.exists(entry["path"])]
