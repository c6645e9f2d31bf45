#!/usr/bin/env python3
"""bench/link/run in short, on a small random model: every run has a record per sample (the script
checks that itself), the fixed choices do what they are called, and the table has a row per link.
Arguments: RUN BUILD MODEL."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

RUN, BUILD, MODEL = sys.argv[1:4]
SAMPLES, SKIP = 60, 20
SETTINGS = ["100 Mbit/s, 1 ms", "20 Mbit/s, 10 ms; from 1/2 to 3/4 0.5 Mbit/s, 200 ms"]
WORDS = "ba de fi go ku la me ni po ru sa to".split()


def main():
    with tempfile.TemporaryDirectory(prefix="splitee-link-test-") as folder:
        data, out = pathlib.Path(folder) / "data.tsv", pathlib.Path(folder) / "out.json"
        rows = [f"{' '.join(WORDS[i % 5 : i % 5 + 1 + i % 7])}\t{i % 2}\n" for i in range(40)]
        data.write_text("text\tlabel\n" + "".join(rows))
        done = subprocess.run(
            [RUN, "--build", BUILD, "--model", MODEL, "--data", data, "--samples", str(SAMPLES),
             "--skip", str(SKIP), "--slowdown", "1", "--window", "4", "--splits", "2", "--jobs", "2",
             "--json", out, "--settings", *SETTINGS],
            capture_output=True, text=True, timeout=280, env=os.environ, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        table = [line for line in done.stdout.splitlines() if line.startswith("|")]
        assert len(table) == 2 + len(SETTINGS), done.stdout
        results = json.loads(out.read_text())
    assert list(results) == SETTINGS
    for setting in SETTINGS:
        default, final, at_once, split = results[setting]
        counted = SAMPLES - SKIP
        for run in (default, final, at_once, split):
            assert sum(run["splits"].values()) == counted, run
            assert run["latency_ms"] > 0 and 0 <= run["accuracy"] <= 1, run
        assert final["splits"] == {"4": counted} and final["bytes"] == 0, final
        assert at_once["splits"] == {"0": counted}, at_once
        assert at_once["offloaded"] + at_once["fell_back"] == 1, at_once
        assert split["splits"] == {"2": counted}, split
        assert final["accuracy"] == at_once["accuracy"], "the same network answers"


if __name__ == "__main__":
    main()
