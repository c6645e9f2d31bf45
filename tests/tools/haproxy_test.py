#!/usr/bin/env python3
"""deploy/haproxy.cfg for real: several servers behind HAProxy, with CURVE passing through; one is
killed, one added, one drained, and every sample still gets its record.

By hand, with the name measure_throughput after the other arguments: goodput through HAProxy against
the same servers addressed directly."""

import collections
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../faults"))

import binaries  # noqa: E402
from binaries import MODEL, TIMEOUT_S, TOOL, LiveEdge, Server, answers, lines, make_texts, read, records_of, run, write  # noqa: E402 # fmt: skip
from server_test import eventually, metrics_of, metrics_url  # noqa: E402
from stream import Stream  # noqa: E402

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
CONFIG = os.path.join(os.path.dirname(__file__), "../../deploy/haproxy.cfg")
TEXTS = make_texts(30)
OFFLOAD = ("--policy", "fixed", "--split", "1", "--alpha", "1", "--connect-ms", "60000", "--deadline-ms", "60000")
SKIPPED = 77


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Backend(Server):
    """A server with metrics."""

    def __init__(self, *flags, **more):
        super().__init__("--metrics", "127.0.0.1:0", *flags, **more)
        self.address = self.endpoint.removeprefix("tcp://")
        self.url = metrics_url(self)
        self.check_port = self.url.rsplit(":", 1)[1]

    def metric(self, name):
        return metrics_of(self.url)[f"splitee_{name}", ()]


class Proxy:
    """HAProxy with the settings of deploy/haproxy.cfg, for our addresses."""

    def __init__(self, folder, backends):
        self.folder, self.port = folder, free_port()
        self.admin = os.path.join(folder, "admin.sock")
        text = read(CONFIG).decode()
        text, binds = re.subn(r"bind :5555", f"bind 127.0.0.1:{self.port}", text)
        text, sockets = re.subn(r"/run/haproxy/admin.sock mode", f"{self.admin} mode", text)
        text, servers = re.subn(r"(?m)^    server place.*\n", "", text)
        text, places = re.subn(r"server-template place 3-8", f"server-template place {len(backends) + 1}-8", text)
        # Not as root, who could raise the limit on open files.
        text = re.sub(r"maxconn \d+", "maxconn 500", text)
        assert (binds, sockets, servers, places) == (1, 1, 2, 1), "deploy/haproxy.cfg has another form"
        for number, backend in enumerate(backends, 1):
            text += f"    server place{number} {backend.address} check port {backend.check_port}\n"
        self.path = write(folder, "haproxy.cfg", text)
        self.log = open(os.path.join(folder, "haproxy.log"), "w+b")
        self.process = subprocess.Popen([HAPROXY, "-db", "-f", self.path], stderr=self.log, stdout=self.log)
        self.endpoint = f"tcp://127.0.0.1:{self.port}"
        eventually(lambda: os.path.exists(self.admin), "HAProxy does not start")
        self.wait_up(len(backends))

    def ask(self, command):
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(self.admin)
            admin.sendall(command.encode() + b"\n")
            parts = []
            while part := admin.recv(65536):
                parts.append(part)
        return b"".join(parts).decode()

    def up(self):
        rows = [line.split(",") for line in self.ask("show stat").splitlines()[1:] if line]
        return {row[1] for row in rows if row[0] == "splitee" and row[1] != "BACKEND" and row[17] == "UP"}

    def wait_up(self, count):
        eventually(lambda: len(self.up()) == count, f"not {count} servers up")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(TIMEOUT_S)
        self.log.close()


def make_keys(folder):
    for name in ("host", "edge"):
        run(TOOL, "keygen", "--output", os.path.join(folder, name))
    host, own = (os.path.join(folder, name) for name in ("host", "edge"))
    server = ("--secret-key", host + ".secret", "--authorized-keys", own + ".public")
    return server, ("--secret-key", own + ".secret", "--server-key", host + ".public")


def test_configuration(_):
    checked = subprocess.run([HAPROXY, "-c", "-f", CONFIG], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "warning" not in checked.stderr.lower(), checked.stderr


def test_two_servers_with_curve(folder):
    server_keys, edge_keys = make_keys(folder)
    local = answers(records_of("--policy", "final", stdin=lines(TEXTS)))
    with Backend(*server_keys) as first, Backend(*server_keys) as second:
        with Proxy(folder, [first, second]) as proxy:
            flags = ("--server", proxy.endpoint, *OFFLOAD, *edge_keys)
            with LiveEdge(*flags) as one, LiveEdge(*flags) as two:
                for live in (one, two):
                    live.until_route("offload", TEXTS[0])
                records = [live.classify(text) for text in TEXTS for live in (one, two)]
                assert answers(records[0::2]) == answers(records[1::2]) == local
                assert {record["route"] for record in records} == {"offload"}
                # Least connections: one each.
                assert first.metric("sessions") == second.metric("sessions") == 1
                one.finish(), two.finish()
            # No key, no word: HAProxy passes the handshake on and the server refuses it.
            shut = records_of("--server", proxy.endpoint, "--policy", "offload", "--connect-ms", "500",
                              stdin=lines(TEXTS[:3]))  # fmt: skip
            assert {record["route"] for record in shut} == {"fallback"}


def test_kill_add_and_drain(folder):
    backends = [Backend() for _ in range(4)]
    added = None
    try:
        with Proxy(folder, backends) as proxy:
            flags = ("--server", proxy.endpoint, "--policy", "fixed", "--split", "1", "--alpha", "1",
                     "--connect-ms", "60000", "--deadline-ms", "5000")  # fmt: skip
            edges = [LiveEdge(*flags) for _ in range(4)]
            local = answers(records_of("--policy", "final", stdin=TEXTS[0]))[0]

            def all_offload():
                """Each edge gets a record for every sample (classify checks it), until it offloads."""
                for live in edges:
                    for record in live.until_route("offload", TEXTS[0]):
                        assert answers([record])[0] == local, record

            all_offload()
            assert [backend.metric("sessions") for backend in backends] == [1, 1, 1, 1]
            backends[0].kill()
            all_offload()
            proxy.wait_up(3)
            # A fifth server takes a free place at run time, and the next edge.
            added = Backend()
            host, port = added.address.rsplit(":", 1)
            for command in (f"addr {host} port {port}", f"check-addr {host} port {added.check_port}",
                            "state ready"):  # fmt: skip
                proxy.ask(f"set server splitee/place5 {command}")
            proxy.ask("enable health splitee/place5")
            proxy.wait_up(4)
            edges.append(LiveEdge(*flags))
            all_offload()
            assert added.metric("sessions") == 1, [b.metric("sessions") for b in backends[1:]]
            # One drains: its edges go on elsewhere, it answers what it took and ends.
            backends[1].send(signal.SIGTERM)
            assert backends[1].wait()[0] == 0, backends[1].messages()
            all_offload()
            proxy.wait_up(3)
            for live in edges:
                live.finish()
    finally:
        for backend in [*backends, *([added] if added else [])]:
            backend.__exit__()


def test_streams_through_changes(folder):
    """Edges that never stop sending, with CURVE, while one of two, then of four servers is killed, one added
    and one drained: a record for every sample, each with the right answer (Stream checks both)."""
    server_keys, edge_keys = make_keys(folder)
    for count in (2, 4):
        backends = [Backend(*server_keys) for _ in range(count)]
        place = count + 1
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: [backend.__exit__() for backend in backends])
            own = os.path.join(folder, str(count))
            os.mkdir(own)
            proxy = stack.enter_context(Proxy(own, list(backends)))
            streams = [stack.enter_context(Stream(proxy.endpoint, *edge_keys)) for _ in range(count)]

            def offloads():
                for stream in streams:
                    stream.wait_for("offload", 20)

            offloads()
            backends[0].kill()
            offloads()
            proxy.wait_up(count - 1)
            backends.append(Backend(*server_keys))
            host, port = backends[-1].address.rsplit(":", 1)
            for command in (f"addr {host} port {port}", f"check-addr {host} port {backends[-1].check_port}",
                            "state ready"):  # fmt: skip
                proxy.ask(f"set server splitee/place{place} {command}")
            proxy.ask(f"enable health splitee/place{place}")
            proxy.wait_up(count)
            offloads()
            # From now on new connections go elsewhere; the edges of the one that ends come back there.
            proxy.ask("set server splitee/place2 state drain")
            backends[1].send(signal.SIGTERM)
            assert backends[1].wait()[0] == 0, backends[1].messages()
            offloads()
            for stream in streams:
                stream.finish()
        routes = sum((stream.routes for stream in streams), collections.Counter())
        print(f"  {count} servers: {sum(routes.values())} samples, {dict(routes)}")


def goodput(servers, rate, seconds):
    flags = [flag for server in servers for flag in ("--server", server)]
    result = run(TOOL, "load", "--model", MODEL, *flags, "--connections", "16", "--rate", str(rate), "--seconds",
                 str(seconds), "--seq", "16-48", "--json")  # fmt: skip
    return json.loads(result.out)[0]["goodput"]


def measure_throughput(folder):
    """Not a test: interleaved, the servers' sum when addressed directly and through HAProxy."""
    rate = float(os.environ.get("RATE", "4000"))
    for count in (2, 4):
        backends = [Backend() for _ in range(count)]
        own = os.path.join(folder, str(count))
        os.mkdir(own)
        with Proxy(own, backends) as proxy:
            endpoints = [backend.endpoint for backend in backends]
            pairs = [(goodput(endpoints, rate, 2), goodput([proxy.endpoint], rate, 2)) for _ in range(3)]
        for backend in backends:
            backend.__exit__()
        for direct, through in pairs:
            print(f"{count} servers: direct {direct:.0f}/s, through HAProxy {through:.0f}/s: {through / direct:.3f}")


if __name__ == "__main__":
    if HAPROXY is None:
        print("haproxy is not installed")
        sys.exit(SKIPPED)
    if "measure_throughput" in sys.argv:
        import tempfile

        with tempfile.TemporaryDirectory() as scratch:
            measure_throughput(scratch)
    else:
        binaries.main(globals())
