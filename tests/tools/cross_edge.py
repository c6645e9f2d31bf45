#!/usr/bin/env python3
"""An edge built for another architecture (under an emulator), a native edge and one native server:
both edges must give the same answers, splits and routes over the link."""
import argparse
import json
import shlex
import signal
import subprocess
import sys

# int8 arithmetic rounds activations: sums in another order, and attention in bfloat16 where the
# processor has it, move confidences a little; 0.004 at most was seen here, with AVX512-BF16.
TOLERANCE = 0.01


def records(edge, endpoint, arguments, policy):
    command = edge + [
        "--model", arguments.model, "--server", endpoint, "--input", "-", "--input-format", "tsv",
        "--policy", policy, "--seed", "7", "--deadline-ms", "20000", "--quiet",
    ]
    with open(arguments.input, encoding="utf-8") as stream:
        text = "".join(next(stream) for _ in range(arguments.samples + 1))
    done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8", check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("edge", "native-edge", "server"):
        parser.add_argument(f"--{flag}", type=shlex.split, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", required=True)
    parser.add_argument("--samples", type=int, default=60)
    arguments = parser.parse_args()

    server = subprocess.Popen(arguments.server + ["--model", arguments.model, "--bind", "tcp://127.0.0.1:*"],
                              stdout=subprocess.PIPE, text=True)
    try:
        endpoint = server.stdout.readline().strip().removeprefix("listening on ")
        offloads = 0
        for policy in ("splitee", "splitee-s", "offload", "final"):
            foreign = records(arguments.edge, endpoint, arguments, policy)
            native = records(arguments.native_edge, endpoint, arguments, policy)
            assert len(foreign) == len(native) == arguments.samples, (policy, len(foreign), len(native))
            for ours, theirs in zip(foreign, native):
                same = [k for k in ("id", "class", "split", "exit_layer", "route", "truth") if ours.get(k) != theirs.get(k)]
                assert not same, (policy, same, ours, theirs)
                assert abs(ours["confidence"] - theirs["confidence"]) < TOLERANCE, (policy, ours, theirs)
            offloads += sum(r["route"] == "offload" for r in foreign)
        assert offloads > arguments.samples, offloads
        print(f"same answers on both architectures; {offloads} samples went over the link")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
