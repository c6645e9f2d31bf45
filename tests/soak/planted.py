"""Faults of the programs that a soak must notice, played to it: the proof that its checks can fail."""

import json
import os
import signal
import subprocess
import sys
import threading

AT_LINE = 300
LEAKS = {
    "memory_kb": "kept += [bytes(range(256)) * 4096]",
    "descriptors": "kept += [open('/dev/null')]",
    "threads": "kept += [threading.Thread(target=time.sleep, args=(3600,), daemon=True)]; kept[-1].start()",
}


class Tamper:
    """Between an edge and who reads it."""

    def __init__(self, change):
        self.change, self.seen, self.done = change, 0, False

    def __call__(self, lines):
        self.seen += len(lines)
        if self.done or self.seen < AT_LINE or len(lines) < 2:
            return lines
        self.done = True
        return self.change(lines)


def swapped(lines):
    """The answers of two samples."""
    one, two = json.loads(lines[0]), json.loads(lines[1])
    for field in ("class", "confidence", "exit_layer"):
        one[field], two[field] = two[field], one[field]
    return [json.dumps(one), json.dumps(two), *lines[2:]]


def altered(lines):
    record = json.loads(lines[0])
    record["confidence"] += 1e-6
    return [json.dumps(record), *lines[1:]]


def tamper(change):
    def apply(soak):
        soak.feeds[1].tamper = Tamper(change)

    return apply


def crash(soak):
    feed = soak.feeds[3]
    threading.Timer(2, lambda: os.kill(feed.process.pid, signal.SIGABRT)).start()


def script(statement):
    """Of a program that does this ten times a second."""
    return ("import threading, time\nprint(flush=True)\nkept = []\n"
            f"while True:\n    {statement}\n    time.sleep(0.1)")  # fmt: skip


def leak(what):
    def apply(soak):
        child = subprocess.Popen([sys.executable, "-c", script(LEAKS[what])], stdout=subprocess.DEVNULL)
        soak.helpers.append(child)
        soak.watch.began("leaking", child.pid)

    return apply


# By the words that the failure must have.
KINDS = {
    "lost": ("instead of", tamper(lambda lines: lines[1:])),
    "doubled": ("instead of", tamper(lambda lines: [lines[0], *lines])),
    "swapped": ("instead of", tamper(swapped)),
    "altered": ("instead of", tamper(altered)),
    "cut": ("no record", tamper(lambda lines: [lines[0][:-9], *lines[1:]])),
    "crash": ("nothing ends by itself", crash),
    **{what: (f"{what} flat", leak(what)) for what in LEAKS},
}


def plant(name, soak):
    if name:
        KINDS[name][1](soak)
