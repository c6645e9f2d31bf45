"""An edge fed with samples without end, whose every record is checked as it comes: in order, one per
sample, with the answer that a local run gives at the same exit."""

import collections
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))

from binaries import EDGE, LAYERS, MODEL, TIMEOUT_S, answers, lines, make_texts, records_of  # noqa: E402

TEXTS = make_texts(60)
# Confidences stay below 1, so that every sample is meant for the server.
OFFLOAD = ("--policy", "fixed", "--split", "2", "--alpha", "1")


class Reference:
    """What a local run answers to TEXTS at each exit."""

    _answers = None

    @classmethod
    def get(cls):
        if cls._answers is None:
            cls._answers = {layer: answers(records_of("--policy", "fixed", "--split", layer, "--alpha", "0",
                                                      stdin=lines(TEXTS)))
                            for layer in range(1, LAYERS + 1)}  # fmt: skip
        return cls._answers


class Ledger:
    """Takes the records of an edge, or of one edge started again and again, each time with the first text
    that has no record yet: every text has one record, in order, with its own answer."""

    def __init__(self):
        self.reference = Reference.get()
        self.base = 0  # texts that had their records before this start
        self.count = self.lost = self.doubled = self.swapped = self.wrong = 0
        self.routes = collections.Counter()
        self.problem = None
        self.slowest_us = 0

    def started_again(self):
        self.base = self.count

    def _note(self, problem):
        self.problem = self.problem or problem

    def take(self, line):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            return self._note(f"no record: {line[:200]}")
        number = self.base + record["id"]
        if number != self.count:
            self._note(f"record {record['id']} instead of {self.count - self.base}")
        if number < self.count:
            self.doubled += 1
            return None
        self.lost += number - self.count
        self.count = number + 1
        self._compare(record, number % len(TEXTS))
        self.routes[record["route"]] += 1
        self.slowest_us = max(self.slowest_us, record["edge_us"] + record["link_us"])
        return None

    def _compare(self, record, text):
        expected = self.reference[record["exit_layer"]]
        given = (record["class"], record["confidence"])
        if given != expected[text]:
            self.wrong += 1
            self.swapped += given in expected  # another text's
            self._note(f"{record} instead of {expected[text]}")


class Stream(Ledger):
    def __init__(self, endpoint, *flags, policy=OFFLOAD, deadline_ms=1000, connect_ms=60000, most=None, pause_s=0):
        super().__init__()
        self.log = tempfile.TemporaryFile()
        command = [EDGE, "--model", MODEL, "--server", endpoint, "--deadline-ms", str(deadline_ms),
                   "--connect-ms", str(connect_ms), *policy, *map(str, flags)]  # fmt: skip
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        self.changed = threading.Condition()
        self.sent = 0
        self.begin = time.monotonic()
        self.stopping = False
        self.most, self.pause_s = most, pause_s
        self.writer = threading.Thread(target=self._write, daemon=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.writer.start()
        self.reader.start()

    def _write(self):
        block = lines(TEXTS).encode()
        try:
            while not self.stopping and (self.most is None or self.sent < self.most):
                self.process.stdin.write(block)
                self.process.stdin.flush()
                self.sent += len(TEXTS)
                time.sleep(self.pause_s)
            self.process.stdin.close()
        except (BrokenPipeError, ValueError):
            pass

    def _read(self):
        for line in self.process.stdout:
            if not line.endswith(b"\n") and self.process.wait(TIMEOUT_S) < 0:
                break  # the last line of an edge that was killed
            with self.changed:
                self.take(line)
                self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def messages(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-4000:]

    def check(self):
        assert self.problem is None, f"{self.problem}\n{self.messages()}"

    def wait_for(self, route, more=1):
        """Until so many more records of this route have come (None: of any)."""
        count = (lambda: self.count) if route is None else (lambda: self.routes[route])
        with self.changed:
            wanted = count() + more
            came = self.changed.wait_for(
                lambda: count() >= wanted or self.problem or self.process.poll() is not None, TIMEOUT_S)  # fmt: skip
            self.check()
            assert came and count() >= wanted, f"no record with route {route}: {self.routes}\n{self.messages()}"

    def finish(self):
        """Ends the input; every sample that was sent must have its record, and no other."""
        self.stopping = True
        self.reader.join(TIMEOUT_S)
        self.writer.join(TIMEOUT_S)
        status = self.process.wait(TIMEOUT_S)
        self.check()
        assert status == 0, f"status {status}\n{self.messages()}"
        assert self.count == self.sent, f"{self.count} records for {self.sent} samples"
        self.seconds = time.monotonic() - self.begin
        return self

    def kill(self):
        self.process.kill()
        self.process.wait(TIMEOUT_S)
        self.reader.join(TIMEOUT_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(TIMEOUT_S)
        self.reader.join(TIMEOUT_S)
        self.log.close()
