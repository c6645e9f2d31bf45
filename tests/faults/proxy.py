"""The fault proxy, started and driven from a test."""

import json
import subprocess

# What can become of a link, one by one; {n} is a byte of a connection. "pass" ends each.
LINK_FAULTS = ("stall=1", "up.stall=1", "down.stall=1", "cut", "reset", "refuse", "corrupt=0.01", "rate=8000",
               "delay_ms=100 jitter_ms=100", "up.reset_at={n}", "down.reset_at={n}", "up.cut_at={n}",
               "down.corrupt_at={n}")  # fmt: skip


class Proxy:
    """A fault_proxy in front of HOST:PORT; commands and settings as its --help tells."""

    def __init__(self, program, target, *flags, listen="127.0.0.1:0"):
        command = [program, "--listen", listen, "--connect", target, *map(str, flags)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        first = self.process.stdout.readline()
        assert first.startswith("listening on "), f"{command}: {first!r}"
        self.address = first.split()[-1]
        self.endpoint = "tcp://" + self.address

    def tell(self, command, expect="ok"):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer.startswith(expect), f"{command}: {answer!r}"
        return answer

    def stats(self):
        self.process.stdin.write("stats\n")
        self.process.stdin.flush()
        values = json.loads(self.process.stdout.readline())
        assert self.process.stdout.readline() == "ok\n"
        return values

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
