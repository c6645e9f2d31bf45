"""What the end-to-end tests share: the programs under test, servers and edges to start.

Arguments of every script: EDGE SERVER TOOL MODEL OTHER_MODEL [test names]. No test measures time:
TIMEOUT_S is there so that a hang ends as a failure.
"""

import json
import os
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

from run_tests import run_tests

EDGE, SERVER, TOOL, MODEL, OTHER_MODEL = (os.path.abspath(path) for path in sys.argv[1:6])
TIMEOUT_S = 120
LAYERS = 4
TIMES = ("edge_us", "link_us", "server_us")
FIELDS = ["id", "class", "label", "confidence", "split", "arm", "exit_layer", "route", "cost", "reward",
          "edge_us", "link_us", "server_us", "bytes_sent", "payload", "audited"]  # fmt: skip
LABELS = ["negative", "positive"]
ANY_PORT = "tcp://127.0.0.1:*"


def make_texts(count, seed=1):
    rng = random.Random(seed)
    parts = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    word = lambda: "".join(rng.choices(parts, k=rng.randint(1, 3)))  # noqa: E731
    return [" ".join(word() for _ in range(rng.randint(1, 12))) for _ in range(count)]


def lines(texts):
    return "".join(text + "\n" for text in texts)


def without_times(records):
    return [{k: v for k, v in record.items() if k not in TIMES} for record in records]


def answers(records):
    return [(record["class"], record["confidence"]) for record in records]


class Finished:
    """A program that has ended."""

    def __init__(self, command, status, out, err):
        self.command, self.status, self.out, self.err = command, status, out, err

    def __str__(self):
        return f"{' '.join(self.command)}\nstatus {self.status}\n{self.out[-2000:]}\n{self.err[-4000:]}"

    @property
    def records(self):
        return [json.loads(line) for line in self.out.splitlines()]

    def expect(self, status, *words):
        assert self.status == status, f"status {status} expected\n{self}"
        for word in words:
            assert word in self.err, f"{word!r} expected in the message\n{self}"
        return self


def run(program, *flags, stdin="", status=0, env=None, cwd=None):
    command = [program, *map(str, flags)]
    data = stdin if isinstance(stdin, bytes) else stdin.encode()
    done = subprocess.run(command, input=data, capture_output=True, timeout=TIMEOUT_S, check=False, cwd=cwd,
                          env=None if env is None else os.environ | env)  # fmt: skip
    result = Finished(command, done.returncode, done.stdout.decode(errors="replace"),
                      done.stderr.decode(errors="replace"))  # fmt: skip
    return result if status is None else result.expect(status)


def edge(*flags, stdin="", status=0, model=MODEL, env=None):
    return run(EDGE, "--model", model, *flags, stdin=stdin, status=status, env=env)


def records_of(*flags, stdin="", model=MODEL):
    """Records of a run that must go well; their ids and fields are checked."""
    records = edge("--quiet", *flags, stdin=stdin, model=model).records
    check_ids(records)
    return records


def check_ids(records):
    assert [record["id"] for record in records] == list(range(len(records))), "ids out of order"


class Server:
    """A splitee-server in the background, which has said that it listens. `log`: a file for its messages."""

    def __init__(self, *flags, bind=ANY_PORT, model=MODEL, log=None):
        command = [SERVER, "--model", model, "--bind", bind, *map(str, flags)]
        self.log = log or tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log)
        first = self.process.stdout.readline().decode()
        assert first.startswith("listening on "), f"{first!r}\n{self.messages()}"
        self.endpoint = first.split()[-1]

    def messages(self):
        self.log.seek(0)
        return self.log.read().decode()

    def send(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.send(signal.SIGKILL)
        self.process.wait(TIMEOUT_S)

    def wait(self):
        """Its status, and what else it said on standard output."""
        rest = self.process.communicate(timeout=TIMEOUT_S)[0]
        return self.process.returncode, rest.decode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=TIMEOUT_S)
        self.log.close()


class LiveEdge:
    """A splitee-edge that is fed line by line."""

    command = [EDGE]

    def __init__(self, *flags):
        command = [*self.command, "--model", MODEL, *map(str, flags)]
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log)  # fmt: skip
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.sent = 0

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)

    def messages(self):
        self.log.seek(0)
        return self.log.read().decode()

    def classify(self, text):
        """Sends a line and waits for its record, which must be the next one."""
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()
        record = json.loads(self.lines.get(timeout=TIMEOUT_S))
        assert record["id"] == self.sent, f"{record} is not record {self.sent}"
        self.sent += 1
        return record

    def until_route(self, route, text, most=5000):
        """Classifies until a sample goes that way; the records."""
        records = []
        for _ in range(most):
            records.append(self.classify(text))
            if records[-1]["route"] == route:
                return records
            threading.Event().wait(0.01)
        raise AssertionError(f"no record with route {route} of {most}\n{self.messages()}")

    def finish(self, status=0):
        self.process.stdin.close()
        code = self.process.wait(TIMEOUT_S)
        assert code == status, f"status {code}\n{self.messages()}"
        return self.messages()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(TIMEOUT_S)
        self.log.close()


def patiently(condition):
    """Returns once condition() is true."""
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def wait_until_blocked(pid, number=signal.SIGTERM):
    """Until a program has blocked a signal that it takes in its own time.

    All signals are blocked for a moment wherever the C library starts a thread; a signal that nothing
    here waits for tells that moment apart.
    """

    def blocked():
        with open(f"/proc/{pid}/status") as file:
            mask = int(next(line.split()[1] for line in file if line.startswith("SigBlk:")), 16)
        return mask & (1 << (number - 1)) and not mask & (1 << (signal.SIGUSR2 - 1))

    patiently(blocked)


def write(folder, name, content):
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    return path


def read(path):
    with open(path, "rb") as file:
        return file.read()


def main(functions):
    """Runs every test_* function, or those named behind the programs and models."""
    run_tests(functions, sys.argv[6:])
