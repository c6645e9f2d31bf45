#!/usr/bin/env python3
"""Kills (-9) and restarts splitee-server in the middle of a long stream, as often as asked: every
sample must still get exactly one record, in order, with the answer of a whole local run, and
offloading must resume each time. Run by hand on a long stream:

  tests/tools/survival.py --build build --model models/default.gguf --input FILE.tsv --kills 2
"""
import argparse
import collections
import json
import pathlib
import subprocess
import sys
import time

WAIT_S = 300


def start_server(arguments, endpoint):
    process = subprocess.Popen([arguments.build / "tools/splitee-server", "--model", arguments.model, "--bind", endpoint],
                               stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert line.startswith("listening on "), "the server did not start"
    return process, line.split()[-1]


def edge_command(arguments, *flags):
    return [arguments.build / "tools/splitee-edge", "--model", arguments.model, "--input", arguments.input,
            "--input-format", "tsv", "--quiet", *flags]


def run_with_kills(arguments, samples):
    server, endpoint = start_server(arguments, "tcp://127.0.0.1:*")
    policy = ["--policy", arguments.policy, "--alpha", str(arguments.alpha), "--seed", "3", "--deadline-ms", "500"]
    edge = subprocess.Popen(edge_command(arguments, "--server", endpoint, *policy), stdout=subprocess.PIPE, text=True)
    kill_at = [samples * (2 * k + 1) // (2 * arguments.kills + 1) for k in range(arguments.kills)]
    restart_at = [samples * (2 * k + 2) // (2 * arguments.kills + 1) for k in range(arguments.kills)]
    records = []
    for line in edge.stdout:
        records.append(json.loads(line))
        if len(records) in kill_at:
            server.kill()
            server.wait()
        if len(records) in restart_at:
            server, _ = start_server(arguments, endpoint)
    assert edge.wait(WAIT_S) == 0, "the edge failed"
    server.terminate()
    assert server.wait(WAIT_S) == 0, "the server did not drain"
    return records, kill_at, restart_at


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", required=True, help="TSV with a header and a text column")
    parser.add_argument("--policy", default="splitee")
    parser.add_argument("--alpha", type=float, default=0.95)
    parser.add_argument("--kills", type=int, default=2)
    arguments = parser.parse_args()

    with open(arguments.input, encoding="utf-8") as stream:
        samples = sum(1 for _ in stream) - 1
    begin = time.monotonic()
    records, kill_at, restart_at = run_with_kills(arguments, samples)
    seconds = time.monotonic() - begin

    assert [r["id"] for r in records] == list(range(samples)), f"{len(records)} records for {samples} samples"
    final = subprocess.run(edge_command(arguments, "--policy", "final"), stdout=subprocess.PIPE, text=True, check=True)
    reference = [json.loads(line) for line in final.stdout.splitlines()]
    for ours, theirs in zip(records, reference, strict=True):
        if ours["route"] != "exit":
            assert (ours["class"], ours["confidence"]) == (theirs["class"], theirs["confidence"]), (ours, theirs)
    starts = [0] + restart_at
    ends = kill_at + [samples]
    for begin_up, end_up in zip(starts, ends, strict=True):
        routes = collections.Counter(r["route"] for r in records[begin_up:end_up])
        print(f"server up,   samples {begin_up} .. {end_up - 1}: {dict(routes)}")
        assert routes["offload"], "nothing was offloaded while the server was up"
    for down, up in zip(kill_at, restart_at, strict=True):
        print(f"server down, samples {down} .. {up - 1}: {dict(collections.Counter(r['route'] for r in records[down:up]))}")
    accuracy = [r["class"] == r["truth"] for r in records if "truth" in r]
    print(f"{samples} samples, {samples} records, {arguments.kills} kills, {seconds:.0f} s"
          + (f", accuracy {100 * sum(accuracy) / len(accuracy):.1f} %" if accuracy else ""))


if __name__ == "__main__":
    sys.exit(main())
