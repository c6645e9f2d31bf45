"""What a soak counts: checks, faults, seconds until edges were served again. The first check that does not
hold ends the run."""

import collections
import re
import threading
import time

PATIENCE_S = 120  # so that a hang ends as a failure
CRASH = re.compile(r"Sanitizer|runtime error:|terminate called|Assertion|[Aa]borted|\.cc:\d+")


class Failed(Exception):
    """A check did not hold; the tally says which."""


class Tally:
    def __init__(self):
        self.lock = threading.Lock()
        self.checks, self.faults = collections.Counter(), collections.Counter()
        self.recovered_s = collections.defaultdict(list)
        self.begin = time.monotonic()
        self.fault_times = []  # seconds since the beginning, name
        self.problem = None
        self.stopping = threading.Event()

    def check(self, name, held, text=""):
        with self.lock:
            self.checks[name] += 1
        if not held:
            self.fail(f"{name}: {text}")

    def fail(self, text):
        with self.lock:
            self.problem = self.problem or text
        self.stopping.set()
        raise Failed(text)

    def wait(self, name, condition, text=lambda: ""):
        """Until condition() is true; that it comes is one check."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if self.problem:
                raise Failed(self.problem)
            self.check_time(name, end, text)
            time.sleep(0.005)
        self.check(name, True)

    def check_time(self, name, end, text):
        if time.monotonic() > end:
            self.check(name, False, f"waited {PATIENCE_S} s in vain; {text()}")

    def fault(self, name):
        with self.lock:
            self.faults[name] += 1
            self.fault_times.append((time.monotonic() - self.begin, name))

    def recovered(self, name, seconds):
        with self.lock:
            self.recovered_s[name].append(seconds)


class Logged:
    """A program with `name`, `tally`, and messages in `log_path`, but for where it is `mute`."""

    def messages(self):
        if self.mute:
            return ""
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def check_log(self):
        found = CRASH.search(self.messages())
        self.tally.check("no crash in the messages", not found, f"{self.name}: {found and found[0]}")
