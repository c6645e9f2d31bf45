"""Process start to the first answer, with the files in the page cache, and the peak of memory."""

import random
import re
import statistics
import subprocess
import time

ROUNDS = 15
WARM_UP_ROUNDS = 1
# 30 words of the random vocabulary: 32 tokens with [CLS] and [SEP].
TEXT = (" ".join(f"w{97 * i}" for i in range(30)) + "\n").encode()


def peak_memory_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmHWM:\s+(\d+)", file.read()).group(1))


def start_once(command, sample=TEXT):
    """(milliseconds to the first line of output, kB). A program that reads standard input is still
    waiting for its second sample then, and is asked for its memory through /proc; the others print
    theirs."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(sample)
        process.stdin.flush()
        line = process.stdout.readline()
        milliseconds = 1e3 * (time.perf_counter() - start)
        words = line.split()
        memory = int(words[1]) if command[1] == "once" else peak_memory_kb(process.pid)
        process.stdin.close()
        process.stdout.read()
    if not line or process.returncode:
        raise RuntimeError(f"{' '.join(command)}: status {process.returncode}, printed {line!r}")
    return milliseconds, memory


def measure(commands):
    """Interleaved rounds, each in an order of its own: who comes after a large process gets memory that
    the hypervisor may have taken back. Medians and quantiles per command."""
    runs = {name: [] for name in commands}
    order = list(commands)
    generator = random.Random(1)
    for turn in range(WARM_UP_ROUNDS + ROUNDS):
        generator.shuffle(order)
        for name in order:
            run = start_once(commands[name])
            if turn >= WARM_UP_ROUNDS:
                runs[name].append(run)
    result = {}
    for name, values in runs.items():
        milliseconds = [run[0] for run in values]
        tenths = statistics.quantiles(milliseconds, n=10, method="inclusive")
        result[name] = {
            "milliseconds": {"median": statistics.median(milliseconds), "p10": tenths[0],
                             "p90": tenths[-1], "count": len(values)},
            "peak_memory_kb": statistics.median(run[1] for run in values),
        }  # fmt: skip
    return result
