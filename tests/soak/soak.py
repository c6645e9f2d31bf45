#!/usr/bin/env python3
"""A day of faults in two hours: real servers and edges on a tiny network, with a fault every few seconds
drawn from a seed, while every record is checked as it comes.

  tests/soak/soak.py [--minutes M] [--requests N] [--seed N] [--edges N] [--every S] [--output DIR]

The programs are those of build/, or those given before the flags: EDGE SERVER TOOL MODEL OTHER_MODEL PROXY.
Texts come at N requests in M minutes (10 million in 120), whatever fails; where the machine does not keep up
the run ends in time with fewer, and says so.

Three servers, each behind a fault proxy; the third has keys. It and its edges live from the beginning to the
end (stopped, cut off and reloaded, never killed), so that their memory can be looked at (watch.py has the
rule). The other servers and edges are killed, drained and started again (lanes.py has the faults, feed.py
the user who starts an edge where its records end).

What must hold, each counted, and the first that does not ends the run with status 1:
  one record a text, in order, with the answer that a local run of the same model gives at that exit;
  after each fault of a server or link its edges are answered by it again, after each of an edge it answers;
  while a server has another model nobody is answered by it;
  exit statuses are those of the manual, no message tells of a crash or a sanitizer, nothing ends by itself;
  memory, descriptors and threads stay flat;
  at the end every text that was given has its record.

At the end, and where it failed: report.json and report.html in --output, with the messages of all programs.
A run that failed prints the command that repeats its faults. For disks that are full the edges' files lie on
small tmpfs mounts in a mount namespace of its own; where that is not allowed (and with --no-mounts) a limit on
the size of files takes their place for records, and states on a full disk are left out, which is said.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
for name in ("../tools", "../faults"):
    sys.path.insert(0, os.path.join(HERE, name))
PROGRAMS = ("tools/splitee-edge", "tools/splitee-server", "tools/splitee", "tests/tools/random_1.gguf",
            "tests/tools/random_2.gguf", "tests/faults/fault_proxy")  # fmt: skip
GIVEN = sys.argv[1:7] if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else []
OPTIONS = sys.argv[1 + len(GIVEN):]
# Where binaries.py looks for them.
sys.argv[1:] = (GIVEN or [os.path.join(HERE, "../../build", path) for path in PROGRAMS]) + OPTIONS

import planted  # noqa: E402
import report  # noqa: E402
from feed import KINDS, STUCK_FSYNC, Feed  # noqa: E402
from hosts import Disk, Host, Keys, Models, has_mounts  # noqa: E402
from lanes import EdgeLane, ServerLane  # noqa: E402
from stream import TEXTS, Reference  # noqa: E402
from tally import Failed, Tally  # noqa: E402
from watch import Watch  # noqa: E402

PROGRESS_S = 60


def parse(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--hours", type=float, help="in place of --minutes")
    parser.add_argument("--requests", type=int, default=10_000_000, help="texts in that time, of all edges")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--edges", type=int, default=len(KINDS), help=f"{len(KINDS)} or more")
    parser.add_argument("--every", type=float, default=2, help="mean seconds between two faults of a lane")
    parser.add_argument("--look", type=float, default=1, help="seconds between two looks at the processes")
    parser.add_argument("--output", help="a new folder (default: one under /tmp)")
    parser.add_argument("--no-mounts", action="store_true")
    parser.add_argument("--plant", choices=sorted(planted.KINDS), help="a fault of the test itself: must be noticed")
    options = parser.parse_args(words)
    if options.hours is not None:
        options.minutes = options.hours * 60
    if options.edges < len(KINDS):
        parser.error(f"--edges: {len(KINDS)} or more")
    return options


def with_mounts(options):
    """Goes on in a mount namespace of its own, where that is allowed."""
    if options.no_mounts or "SPLITEE_SOAK_MOUNTS" in os.environ:
        return
    for flags in ("-m", "-rm"):
        able = subprocess.run(["unshare", flags, "mount", "-t", "tmpfs", "soak", "/mnt"], capture_output=True, check=False)
        if able.returncode == 0:
            words = ["unshare", flags, sys.executable, os.path.abspath(__file__), *GIVEN, *OPTIONS]
            os.execvpe("unshare", words, os.environ | {"SPLITEE_SOAK_MOUNTS": "1"})


def repeats(options):
    """The command that gives the same rows of faults."""
    words = [os.path.relpath(__file__), *GIVEN, "--minutes", options.minutes, "--requests", options.requests, "--seed", options.seed,
             "--edges", options.edges, "--every", options.every, "--look", options.look]  # fmt: skip
    words += ["--no-mounts"] if options.no_mounts else []
    words += ["--plant", options.plant] if options.plant else []
    return shlex.join(map(str, words))


class Soak:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.tally = Tally()
        self.watch = Watch(self.tally, options.look)
        self.mounted = has_mounts() and not options.no_mounts
        self.hosts, self.feeds = [], []
        self.helpers = []  # of planted faults
        self.series = []  # seconds since the beginning, records
        self.end_s = options.minutes * 60
        self.rate = options.requests / self.end_s / options.edges

    def pace(self):
        """Texts that an edge should have been given by now."""
        return int(self.rate * (time.monotonic() - self.tally.begin))

    def start(self):
        for layer in Reference.get().values():
            assert len(set(layer)) == len(TEXTS), "two texts have one answer, so that a swap would not show"
        keys = Keys(self.folder)
        for number in range(3):
            last = number == 2
            self.hosts.append(Host(self.tally, self.watch, number, self.folder, sys.argv[6],
                                   self.options.seed + number, keys if last else None, lives=last))  # fmt: skip
        os.mkdir(os.path.join(self.folder, "disks"))
        self.tally.begin = time.monotonic()
        for number in range(self.options.edges):
            disk = Disk(os.path.join(self.folder, "disks", f"edge{number}"), self.mounted)
            self.feeds.append(Feed(self.tally, self.watch, number, self.hosts, disk, self.folder, self.pace))
        planted.plant(self.options.plant, self)
        for feed in self.feeds:
            feed.start()
        self.watch.chores += [self.note_series, self.nothing_ends, *[feed.rotate for feed in self.feeds]]
        self.watch.start()

    def records(self):
        return sum(feed.count for feed in self.feeds)

    def note_series(self):
        self.series.append((time.monotonic() - self.tally.begin, self.records()))

    def nothing_ends(self):
        for program in self.hosts + [feed for feed in self.feeds if feed.process]:
            # A lane that is at it knows what ends.
            if program in self.hosts:
                self.tally.check("nothing ends by itself", program.alive(), f"{program.name}\n{program.messages()[-2000:]}")
            elif program.busy.acquire(blocking=False):
                alive = program.alive()
                program.busy.release()
                self.tally.check("nothing ends by itself", alive, f"{program.name}\n{program.messages()[-2000:]}")

    def run(self):
        seed, every = self.options.seed, self.options.every
        lanes = [ServerLane(self.tally, f"{seed} servers", every, self.hosts, self.feeds, Models()),
                 EdgeLane(self.tally, f"{seed} edges", every, self.feeds)]  # fmt: skip
        for lane in lanes:
            lane.start()
        told = 0
        while not self.tally.stopping.wait(0.2) and (spent := time.monotonic() - self.tally.begin) < self.end_s:
            if spent >= told + PROGRESS_S:
                told += PROGRESS_S
                self.progress(spent)
        self.tally.stopping.set()
        for lane in lanes:
            lane.join()
        self.finish()

    def progress(self, spent):
        records, wrong = self.records(), sum(feed.lost + feed.doubled + feed.wrong for feed in self.feeds)
        print(f"{spent / 60:6.1f} min: {records} records ({records / spent:.0f}/s), {sum(self.tally.faults.values())} "
              f"faults, {sum(self.tally.checks.values())} checks, {wrong} lost, doubled or wrong", flush=True)  # fmt: skip

    def finish(self):
        if self.tally.problem:
            raise Failed(self.tally.problem)
        for feed in self.feeds:
            feed.finish()
        self.watch.close()
        for host in self.hosts:
            host.end(15, 0)
        if self.tally.problem:
            raise Failed(self.tally.problem)

    def close(self):
        """Whatever became of it, nothing is left running."""
        self.tally.stopping.set()
        for feed in self.feeds:
            feed.closing = True
            if process := feed.process:
                process.kill()
                process.wait()
        for host in self.hosts:
            host.close()
        for helper in self.helpers:
            helper.kill()
            helper.wait()
        if self.watch.is_alive():
            self.watch.closed.set()
            self.watch.join()


def main():
    options = parse(OPTIONS)
    for path in (*sys.argv[1:7], STUCK_FSYNC):
        if not os.path.exists(path):
            sys.exit(f"soak.py: {path} is missing (build everything first)")
    # Under nohup edges would ignore what tells them to open their records anew.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with_mounts(options)
    folder = options.output or tempfile.mkdtemp(prefix="splitee_soak_")
    os.makedirs(folder, exist_ok=True)
    print(f"seed {options.seed}; messages and report: {folder}", flush=True)
    soak = Soak(options, folder)
    if not soak.mounted:
        print("no mounts: states on a full disk are left out", flush=True)
    try:
        soak.start()
        soak.run()
    except Failed:
        pass
    finally:
        soak.close()
        problem = soak.tally.problem
        report.write(soak, folder, repeats(options))
    if problem:
        print(f"FAILED: {problem}\nThe same faults again: {repeats(options)}", flush=True)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
