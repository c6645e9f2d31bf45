"""An edge with its user: a stream of texts goes in, every record that comes out is checked, and an edge
that ended is started again with the first text that has no whole record, as its manual says. Texts come
at a steady rate, whatever becomes of the edge; what it has missed it gets as fast as it takes it.

Thread rule: start() and end() by one thread at a time, which holds `busy`.
"""

import dataclasses
import os
import resource
import signal
import subprocess
import threading
import time

from binaries import EDGE, MODEL
from stream import TEXTS, Ledger
from tally import PATIENCE_S, Logged

BLOCK = 64
ROTATE_BYTES = 2 << 20
STUCK_FSYNC = os.path.join(os.path.dirname(MODEL), "stuck_fsync.so")
NO_WARNINGS = {"ASAN_OPTIONS": "verify_asan_link_order=0"}  # of a library that is preloaded


@dataclasses.dataclass(frozen=True)
class Kind:
    policy: tuple
    hosts: tuple  # numbers
    file: bool  # --output FILE, else a pipe
    state: bool
    lives: bool  # from the beginning to the end: never killed


OFFLOAD = ("--policy", "fixed", "--split", "2", "--alpha", "1")
KINDS = (
    Kind(OFFLOAD, (0,), file=False, state=False, lives=False),
    Kind(OFFLOAD, (1,), file=True, state=False, lives=False),
    Kind(("--policy", "splitee", "--alpha", "1", "--offload-cost", "0.05"), (0, 1), file=True, state=True, lives=False),
    Kind(OFFLOAD, (2,), file=True, state=False, lives=True),
    Kind(("--policy", "audited", "--offload-cost", "0.05"), (2,), file=False, state=True, lives=True),
)


class FileTail:
    """What is appended to a file, also beyond a renaming."""

    def __init__(self, path):
        self.path, self.aside, self.file, self.bytes = path, None, None, 0

    def rename(self):
        os.rename(self.path, self.path + ".1")
        self.aside = self.path + ".1"

    def taken_back(self):
        """How many bytes that were read are not there any more: of a record for which the disk had no room."""
        gone = max(0, self.bytes - os.fstat(self.file.fileno()).st_size) if self.file else 0
        if gone:
            self.file.seek(-gone, os.SEEK_CUR)
            self.bytes -= gone
        return gone

    def read(self):
        """What is there now, or nothing; whether the file has just become another one."""
        if self.file is None:
            if not os.path.exists(self.path):
                return b"", False
            self.file, self.bytes = open(self.path, "rb", buffering=0), 0  # noqa: SIM115
        # The old one is complete once the new one is there.
        renamed = self.aside is not None and os.path.exists(self.path)
        data = self.file.read(1 << 18)
        self.bytes += len(data)
        if data or not renamed:
            return data, False
        self.file.close()
        os.remove(self.aside)
        self.file = self.aside = None
        return b"", True


class Feed(Ledger, Logged):
    def __init__(self, tally, watch, number, hosts, disk, folder, pace, log_full=False):
        super().__init__()
        self.kind = KINDS[number % len(KINDS)]
        self.name = f"edge {number}"
        self.tally, self.watch, self.disk, self.pace, self.log_full = tally, watch, disk, pace, log_full
        self.hosts = [hosts[n] for n in self.kind.hosts]
        self.log_path = os.path.join(folder, f"edge{number}.log")
        self.output, self.state = os.path.join(disk.folder, "out"), os.path.join(disk.folder, "state")
        self.gate = os.path.join(folder, f"edge{number}.gate")  # fsync() waits while it is there
        self.tail = FileTail(self.output) if self.kind.file else None
        self.rest, self.cut_in_file = b"", False
        self.busy, self.rotate_lock = threading.RLock(), threading.Lock()
        self.starts = self.rotations = 0
        self.closing = False
        self.process = None
        self.tamper = lambda text_lines: text_lines  # a planted fault

    # Starting and ending.

    def command(self):
        words = [EDGE, "--model", MODEL, *self.kind.policy, "--deadline-ms", "1000", "--connect-ms", "1000",
                 "--seed", str(self.starts)]  # fmt: skip
        for host in self.hosts:
            words += ["--server", host.proxy.endpoint]
        words += self.hosts[0].edge_keys
        words += ["--output", self.output, "--append"] if self.kind.file else []
        return words + (["--state", self.state] if self.kind.state else [])

    def environment(self):
        if not self.kind.state:
            return None
        return os.environ | {"LD_PRELOAD": STUCK_FSYNC, "STUCK_FSYNC": self.gate} | NO_WARNINGS

    def start(self):
        self.started_again()
        self.starts += 1
        self.mute = self.log_full
        with open("/dev/full" if self.mute else self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL if self.kind.file else subprocess.PIPE,
                stderr=log, env=self.environment())  # fmt: skip
        self.watch.began(self.name, self.process.pid)
        self.killed = False
        self.threads = [threading.Thread(target=self._guarded, args=(body,), daemon=True)
                        for body in (self._write, self._read)]  # fmt: skip
        for thread in self.threads:
            thread.start()

    def send(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.killed = True
        self.send(signal.SIGKILL)

    def end(self, status):
        """Waits for the end, which has to have this status."""
        try:
            given = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            given = "none: it does not end"
        process, self.process = self.process, None
        self.tally.check("exit status as documented", given == status, f"{self.name}: {given} in place of {status}")
        for thread in self.threads:
            thread.join(PATIENCE_S)
        process.stdin = None
        self.watch.end(self.name)
        self.check_log()

    def alive(self):
        process = self.process
        return process is None or process.poll() is None

    # Texts in, records out.

    def _guarded(self, body):
        try:
            body(self.process)
        except Exception as error:  # noqa: BLE001
            self.tally.problem = self.tally.problem or f"{self.name}: {error!r}"
            self.tally.stopping.set()

    def _write(self, process):
        self.given = self.base
        try:
            while not self.closing:
                count = min(self.pace() - self.given, BLOCK)
                if count <= 0:
                    time.sleep(0.02)
                    continue
                texts = (TEXTS[n % len(TEXTS)] for n in range(self.given, self.given + count))
                process.stdin.write("".join(text + "\n" for text in texts).encode())
                process.stdin.flush()
                self.given += count
            process.stdin.close()
        except (BrokenPipeError, ValueError):
            pass  # it has ended; what it did not answer is given again

    def _read(self, process):
        while True:
            ended = process.poll() is not None
            if self.tail:
                self._forget(self.tail.taken_back())
            data, renamed = self.tail.read() if self.tail else (os.read(process.stdout.fileno(), 1 << 18), False)
            if renamed:
                self.cut_in_file = False
                self.rotations += 1
            elif data:
                self._take(data)
            elif ended or not self.tail:
                break
            else:
                time.sleep(0.01)
        # Of a record that a kill has cut: the next life ends the line of it.
        self.tally.check("records whole", not self.rest or self.killed, f"{self.name}: {self.rest[:200]}")
        self.cut_in_file |= bool(self.rest and self.tail)
        self.rest = b""

    def _forget(self, count):
        if count == 0:
            return
        self.tally.check("only a cut record is taken back", count <= len(self.rest), f"{self.name}: {count} bytes")
        self.rest = self.rest[:-count]

    def _take(self, data):
        if self.cut_in_file:
            self.tally.check("a cut record ends its line", data.startswith(b"\n"), f"{self.name}: {data[:200]}")
            data, self.cut_in_file = data[1:], False
        whole, end, self.rest = (self.rest + data).rpartition(b"\n")
        for line in self.tamper(whole.split(b"\n") if end else []):
            self.take(line)
        if self.problem:
            self.tally.fail(f"{self.name}: {self.problem}")

    # What a log rotator does; every second, as the disks are small.

    def rotate(self):
        if not self.tail or not self.busy.acquire(blocking=False):
            return
        try:
            fits = self.process and self.count > self.base and not self.tail.aside and self.tail.file
            if fits and self.tail.bytes > ROTATE_BYTES and self.alive():
                self.tail.rename()
                self.send(signal.SIGHUP)
        finally:
            self.busy.release()

    # The disk of its output and state.

    def fill_disk(self):
        """Until free_disk(), the output cannot be written on."""
        if self.disk.mounted:
            return self.disk.fill()
        # The messages go to a file too, and must not reach the limit.
        sizes = [os.path.getsize(path) for path in (self.output, self.log_path) if os.path.exists(path)]
        limit = (max(sizes) + 8192, resource.RLIM_INFINITY)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, limit)
        return None

    def finish(self):
        """Ends the input; every text that was given must have its record."""
        with self.busy:
            self.closing = True
            self.end(0)
        self.tally.check("none lost at the end", self.count == self.given, f"{self.name}: {self.count} of {self.given}")
