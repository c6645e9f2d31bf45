"""Looks at every process of a soak, again and again: resident memory, descriptors, threads.

The rule. Looks at a process younger than FRESH_S seconds are left out, and lives whose other looks span
less than LEAST_S. Of all others the median of the last tenth of the looks is compared with that of the
first tenth; it may be higher by ALLOWED and no more. Medians, because connections that come and go, and
a state that is being saved, take descriptors or a thread for a moment; a tenth is then longer than a
fault. Processes that are killed every few seconds do not live that long; those that live throughout are
there for this rule.
"""

import os
import statistics
import threading
import time

FRESH_S = 20
LEAST_S = 120
ALLOWED = {"memory_kb": 4096, "descriptors": 4, "threads": 1}
MOST_POINTS = 2000  # kept of a life; beyond it every second one


def look(pid):
    """Of a process that lives, else None."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            fields = dict(line.split(":", 1) for line in file)
        return {"memory_kb": int(fields["VmRSS"].split()[0]), "threads": int(fields["Threads"]),
                "descriptors": len(os.listdir(f"/proc/{pid}/fd"))}  # fmt: skip
    except (OSError, KeyError, ValueError):
        return None  # it is ending


class Life:
    """One process from its start to its end."""

    def __init__(self, name, pid):
        self.name, self.pid, self.begin = name, pid, time.monotonic()
        self.looks, self.every, self.skipped = [], 1, 0

    def look(self, fresh_s):
        age = time.monotonic() - self.begin
        if age < fresh_s:
            return
        self.skipped += 1
        if self.skipped % self.every:
            return
        seen = look(self.pid)
        if seen:
            self.looks.append({"age_s": age, **seen})
        if len(self.looks) > MOST_POINTS:
            self.looks, self.every = self.looks[::2], self.every * 2

    def ends(self, what):
        """Medians of the first and of the last tenth."""
        tenth = max(1, len(self.looks) // 10)
        values = [seen[what] for seen in self.looks]
        return statistics.median(values[:tenth]), statistics.median(values[-tenth:])

    def problem(self, what):
        first, last = self.ends(what)
        if last <= first + ALLOWED[what]:
            return None
        return f"{self.name} (process {self.pid}): {what} from {first} to {last} in {self.looks[-1]['age_s']:.0f} s"


class Watch(threading.Thread):
    def __init__(self, tally, every_s=1.0, fresh_s=FRESH_S, least_s=LEAST_S):
        super().__init__(daemon=True)
        self.tally, self.every_s, self.fresh_s, self.least_s = tally, every_s, fresh_s, least_s
        self.lock = threading.Lock()
        self.living, self.ended = {}, []
        self.chores = []  # called every time, too
        self.closed = threading.Event()

    def began(self, name, pid):
        with self.lock:
            self.living[name] = Life(name, pid)

    def end(self, name):
        """Called once the process has ended; holds its life against the rule."""
        with self.lock:
            life = self.living.pop(name, None)
        if life is None:
            return
        if life.looks and life.looks[-1]["age_s"] - life.looks[0]["age_s"] >= self.least_s:
            self.ended.append(life)
            for what in ALLOWED:
                problem = life.problem(what)
                self.tally.check(f"{what} flat", problem is None, problem)

    def run(self):
        try:
            while not self.closed.wait(self.every_s):
                with self.lock:
                    living = list(self.living.values())
                for life in living:
                    life.look(self.fresh_s)
                for chore in self.chores:
                    chore()
        except Exception as error:  # noqa: BLE001
            self.tally.problem = self.tally.problem or f"the watch: {error!r}"
            self.tally.stopping.set()

    def close(self):
        self.closed.set()
        self.join()
        for name in list(self.living):
            self.end(name)
