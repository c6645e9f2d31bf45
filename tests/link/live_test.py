#!/usr/bin/env python3
"""bench/link/live in short: a live edge with a real server decides as the replay of the same stream does,
each sample, with and without a server; where the replay learns earlier than the edge did, the script
sees it. Arguments: LIVE BUILD MODEL."""

import json
import pathlib
import subprocess
import sys
import tempfile

LIVE, BUILD, MODEL = sys.argv[1:4]
DATA = pathlib.Path(LIVE).resolve().parent.parent.parent / "models/demo_reviews.tsv"
SAMPLES = 250
TRIES = 3  # a server that is starved of time answers no heartbeat, and the link fails


def run_live(folder, *flags):
    out = pathlib.Path(folder) / "out.json"
    done = subprocess.run(
        [LIVE, "--build", BUILD, "--model", MODEL, "--data", DATA, "--samples", str(SAMPLES), "--orders", "1",
         "--limits", "0.05", "--json", out, *flags],
        capture_output=True, text=True, timeout=280, check=False)
    assert out.exists(), done.stderr[-4000:]
    return done, json.loads(out.read_text())


def main():
    with tempfile.TemporaryDirectory(prefix="splitee-live-test-") as folder:
        for _ in range(TRIES):
            done, runs = run_live(folder)
            if done.returncode == 0:
                break
        assert done.returncode == 0, (done.stdout, done.stderr)
        assert [(run["offload"], run["samples"]) for run in runs] == [("none", SAMPLES), ("3", SAMPLES)], runs
        for run in runs:
            live, replayed = run["live"], run["replayed"]
            assert run["decided_differently"] == run["answered_differently"] == run["fallbacks"] == 0, run
            # Records have six digits.
            assert all(abs(live[name] - replayed[name]) < 1e-4 for name in live), run
            assert 0 < live["audited"] < 1 and live["delivered"] <= live["would_be"] < live["upper"] < 1, run
        none, three = (run["live"] for run in runs)
        assert none["sent"] == 0 < three["sent"], runs
        assert three["cost"] < none["cost"], "what is sent at 3 lambda is cheaper than the layers left"
        rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
        assert len(rows) == 2 + len(runs), done.stdout
        # What differs is found.
        done, runs = run_live(folder, "--offloads", "none", "--replay-window", "100")
        assert done.returncode == 1 and "decided differently" in done.stderr, done
        assert runs[0]["decided_differently"] > 0 and runs[0]["answered_differently"] == 0, runs


if __name__ == "__main__":
    main()
