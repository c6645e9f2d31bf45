#!/usr/bin/env python3
"""bench/link/baselines in short, on a small random model: settings are within the limit, on the live
edge too where nothing is learned; energy is counted where counters are. Arguments: BASELINES BUILD
MODEL."""

import json
import pathlib
import subprocess
import sys
import tempfile
import threading

BASELINES, BUILD, MODEL = sys.argv[1:4]
SETTING = "100 Mbit/s, 1 ms"
LIMIT = 0.2
RULES = ("threshold", "threshold from exit k", "one look, else the last exit", "one look, else sent")
WORDS = "ba de fi go ku la me ni po ru sa to".split()


def count_up(counter, ended):
    """A counter of a millijoule a millisecond, or so."""
    energy_uj = 0
    while not ended.wait(0.001):
        energy_uj += 1000
        fresh = counter.with_name("fresh")
        fresh.write_text(str(energy_uj))
        fresh.replace(counter)


def main():
    with tempfile.TemporaryDirectory(prefix="splitee-baselines-test-") as name:
        folder, ended = pathlib.Path(name), threading.Event()
        package = folder / "sys/class/powercap/intel-rapl:0"
        package.mkdir(parents=True)
        (package / "max_energy_range_uj").write_text("1000000000\n")
        (package / "energy_uj").write_text("0")
        rows = [f"{' '.join(WORDS[i % 5 : i % 5 + 1 + i % 7])}\t{i % 2}\n" for i in range(40)]
        (folder / "data.tsv").write_text("text\tlabel\n" + "".join(rows))
        counting = threading.Thread(target=count_up, args=(package / "energy_uj", ended))
        counting.start()
        try:
            done = subprocess.run(
                [BASELINES, "--build", BUILD, "--model", MODEL, "--data", folder / "data.tsv", "--slowdown", "1",
                 "--limit", str(LIMIT), "--samples", "60", "--settings", SETTING, "--jobs", "1", "--json",
                 folder / "out.json", "--energy-root", folder],
                capture_output=True, text=True, timeout=280, check=False)
        finally:
            ended.set()
            counting.join()
        assert done.returncode == 0, done.stderr[-4000:]
        found = json.loads((folder / "out.json").read_text())[SETTING]
    results = {result["name"]: result for result in found["results"]}
    names = {"default", "all on the edge", "input at once", "patience", "SplitEE", "SplitEE-S", "adaptive", *RULES}
    assert names == {*results, *found["without"]} and not {*results} & {*found["without"]}, found
    assert {*RULES, "default"} <= {*results}, "confidences of 1 answer as the last exit does"
    for name in ("all on the edge", "input at once"):
        assert results[name]["disagreement"] == 0, results[name]
    for name in RULES:
        assert results[name]["disagreement"] <= LIMIT, results[name]
        assert name == RULES[-1] or results[name]["sent"] == results[name]["bytes"] == 0, results[name]
    exits = {name: result["flags"][-3] for name, result in results.items() if name in RULES[1:]}
    assert all(1 <= int(number) <= 3 for number in exits.values()), exits
    assert results["input at once"]["sent"] + results["input at once"]["fell_back"] == 1, results
    assert all(result["energy_mj"] > 0 and result["latency_ms"] > 0 for result in results.values()), results
    assert found["offload"] > 0 and "No energy" not in done.stdout, done.stdout
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(results), done.stdout


if __name__ == "__main__":
    main()
