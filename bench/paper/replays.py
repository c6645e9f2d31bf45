"""Runs `splitee replay` on the committed traces, several processes at a time."""

import concurrent.futures
import json
import os
import subprocess
from dataclasses import dataclass

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
    """Entries of datasets.json whose trace is there."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "datasets.json"),
              encoding="utf-8") as file:
        entries = json.load(file)
    for entry in entries:
        entry["path"] = os.path.join(folder, entry["name"] + ".csv.zst")
    return [entry for entry in entries if os.path.exists(entry["path"])]
