"""Servers of a soak, each behind a fault proxy and with a model file of its own that can be replaced; and
the small disks of the edges."""

import errno
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading

from binaries import MODEL, OTHER_MODEL, TOOL, Server, read, run, write
from proxy import Proxy
from tally import PATIENCE_S, Logged

DISK_BYTES = 32 << 20


def free_port(rng):
    """Outside the range that connections take theirs from: a proxy that tries a server which is gone could
    meet itself there."""
    while True:
        port = rng.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


class Keys:
    """Of one server and its edges."""

    def __init__(self, folder):
        server, edge = os.path.join(folder, "server"), os.path.join(folder, "edge")
        for path in (server, edge):
            run(TOOL, "keygen", "--output", path)
        allowed = write(folder, "allowed", read(edge + ".public"))
        self.of_server = ["--secret-key", server + ".secret", "--authorized-keys", allowed]
        self.of_edge = ["--secret-key", edge + ".secret", "--server-key", server + ".public"]


class Host(Logged):
    def __init__(self, tally, watch, number, folder, proxy_program, seed, keys=None, lives=False):
        self.tally, self.watch, self.lives = tally, watch, lives
        self.name = f"server {number}"
        self.keys = keys.of_server if keys else []
        self.edge_keys = keys.of_edge if keys else []
        self.log_path = os.path.join(folder, f"server{number}.log")
        self.model = os.path.join(folder, f"model{number}.gguf")
        self.place(read(MODEL))
        # Not from the seed: ports that are free differ from run to run.
        self.address = f"127.0.0.1:{free_port(random.Random())}"
        self.server, self.lock = None, threading.Lock()  # held while what `server` is changes, or is asked
        self.start()
        self.proxy = Proxy(proxy_program, self.address, "--seed", seed)
        watch.began(f"proxy {number}", self.proxy.process.pid)

    def place(self, content):
        """The server's model file from its next reload or start on."""
        with open(self.model + ".next", "wb") as file:
            file.write(content)
        os.replace(self.model + ".next", self.model)

    def start(self, log_full=False):
        self.mute = log_full
        log = open("/dev/full" if log_full else self.log_path, "wb")  # noqa: SIM115
        self.server = Server(*self.keys, bind="tcp://" + self.address, model=self.model, log=log)
        self.watch.began(self.name, self.server.process.pid)

    def send(self, number):
        self.server.send(number)

    def end(self, number, status):
        """Sends a signal that ends it."""
        with self.lock:
            server, self.server = self.server, None
        server.send(number)
        try:
            rest = server.process.communicate(timeout=PATIENCE_S)[0]
        except subprocess.TimeoutExpired:
            rest = None
        given = server.process.returncode
        self.tally.check("exit status as documented", (given, rest) == (status, b""), f"{self.name}: {given}, {rest}")
        server.log.close()
        self.watch.end(self.name)
        self.check_log()

    def alive(self):
        with self.lock:
            return self.server is None or self.server.process.poll() is None

    def reload(self, content, words):
        """Replaces its model; until it has said so."""
        before = self.messages().count(words)
        self.place(content)
        self.send(signal.SIGHUP)
        self.tally.wait("a reload is told of", lambda: self.messages().count(words) > before, lambda: self.name)

    def close(self):
        if self.server:
            self.server.process.kill()
            self.server.process.communicate()
        self.proxy.process.kill()
        self.proxy.process.communicate()


def hash_of(model):
    return re.search(r'"hash": *"([0-9a-f]+)"', run(TOOL, "inspect", "--json", model).out)[1]


class Models:
    def __init__(self):
        self.good, self.other = read(MODEL), read(OTHER_MODEL)
        self.good_hash, self.other_hash = hash_of(MODEL), hash_of(OTHER_MODEL)


class Disk:
    """Of one edge. A small tmpfs where something can be mounted (see soak.py), which can then be full."""

    def __init__(self, folder, mounted):
        self.folder, self.mounted = folder, mounted
        os.mkdir(folder)
        if mounted:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "soak", folder], check=True)
        self.ballast = os.path.join(folder, "ballast")

    def fill(self):
        with open(self.ballast, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 20))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def free(self):
        if self.mounted:
            os.remove(self.ballast)

    def left_overs(self):
        """Of states that were being saved."""
        return [name for name in os.listdir(self.folder) if name.startswith("state.tmp-")]


def has_mounts():
    """Whether this process may mount; see soak.py."""
    return os.environ.get("SPLITEE_SOAK_MOUNTS") == "1" and shutil.which("mount") is not None
