#!/usr/bin/env python3
"""Reaching a server by name, by key, by path; and a server whose model file changes under it."""

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import urllib.request

from binaries import (EDGE, MODEL, SERVER, TIMEOUT_S, TOOL, LiveEdge, Server, answers, edge,
                      lines, main, make_texts, read, records_of, run, write)  # fmt: skip

TEXTS = make_texts(20)
PATIENT = ("--connect-ms", "60000", "--deadline-ms", "60000")
OFFLOAD = ("--policy", "offload", "--alpha", "1", *PATIENT)


def own_files_possible():
    """Whether a process can be given a /etc/hosts of its own, and a name server be played."""
    ours = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.53", 53))
        except OSError:
            return False
    return ours


class SilentNameServer:
    """Takes every question and answers none."""

    def __enter__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.53", 53))
        self.asked = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self):
        try:
            while self.socket.recv(2000):
                self.asked.set()
        except OSError:
            pass

    def __exit__(self, *_):
        self.socket.close()


class NamedEdge(LiveEdge):
    """A live edge with a /etc/hosts of its own, which can change."""

    def __init__(self, folder, hosts, *flags, before=""):
        self.hosts = write(folder, "hosts", hosts)
        resolv = write(folder, "resolv", "nameserver 127.0.0.53\n")
        nsswitch = write(folder, "nsswitch", "hosts: files dns\n")
        script = "".join(f"mount --bind {ours} /etc/{name} && " for ours, name in (
            (self.hosts, "hosts"), (resolv, "resolv.conf"), (nsswitch, "nsswitch.conf")))  # fmt: skip
        self.command = ["unshare", "-m", "sh", "-c", script + before + 'exec "$0" "$@"', EDGE]
        super().__init__(*flags)

    def set_hosts(self, hosts):
        with open(self.hosts, "w", encoding="utf-8") as file:  # the same file, in place
            file.write(hosts)


def test_name_that_stops_resolving(folder):
    if not own_files_possible():
        print("  skipped: needs root")
        return
    with Server() as first, SilentNameServer() as names:
        second = Server()
        port = second.endpoint.rsplit(":", 1)[1]
        flags = ("--server", f"tcp://second.test:{port}", "--server", first.endpoint)
        with NamedEdge(folder, "127.0.0.1 second.test\n", *flags, *OFFLOAD) as live:
            live.until_route("offload", TEXTS[0])
            live.set_hosts("")
            second.kill()
            # The link is looked after with every sample.
            for _ in range(20_000):
                live.classify(TEXTS[0])
                if names.asked.is_set():
                    break
            assert names.asked.is_set(), live.messages()
            # The other server is not held up: but for what was on its way, everything is offloaded.
            live.until_route("offload", TEXTS[0])
            records = [live.classify(TEXTS[i % len(TEXTS)]) for i in range(200)]
            assert {record["route"] for record in records} == {"offload"}, records[-1]
            # Nor is the end.
            live.process.send_signal(signal.SIGTERM)
            live.process.stdin.close()
            assert live.process.wait(5) == 0, live.messages()


def test_name_with_two_addresses(folder):
    if not own_files_possible():
        print("  skipped: needs root")
        return
    for hosts in ("::1 dual.test\n127.0.0.1 dual.test\n", "127.0.0.9 dual.test\n127.0.0.1 dual.test\n"):
        with Server() as remote:
            port = remote.endpoint.rsplit(":", 1)[1]
            with NamedEdge(folder, hosts, "--server", f"tcp://dual.test:{port}", *OFFLOAD) as live:
                assert live.classify(TEXTS[0])["route"] == "offload", live.messages()
                live.finish()


def test_name_with_many_silent_addresses(folder):
    """With no more open files than the edge says that it needs."""
    if not own_files_possible():
        print("  skipped: needs root")
        return
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))  # noqa: E731
    refused = subprocess.run([EDGE, "--model", MODEL, "--server", "tcp://many.test:1"], input=b"", capture_output=True,
                             timeout=TIMEOUT_S, check=False, preexec_fn=few)  # fmt: skip
    needed = int(re.search(rb"but (\d+) are needed", refused.stderr).group(1))
    silent = [f"127.0.0.{number}" for number in range(11, 20)]
    with Server(bind="tcp://127.0.0.1:*") as remote, contextlib.ExitStack() as stack:
        port = remote.endpoint.rsplit(":", 1)[1]
        for host in silent:
            stack.enter_context(socket.create_server((host, int(port)), backlog=100))
        hosts = "".join(f"{host} many.test\n" for host in [*silent, "127.0.0.1"])
        with NamedEdge(folder, hosts, "--server", f"tcp://many.test:{port}", "--policy", "offload", "--alpha", "1",
                       "--connect-ms", "500", before=f"ulimit -n {needed} && ") as live:  # fmt: skip
            live.until_route("offload", TEXTS[0])
            live.finish()


def test_listens_on_all_of_localhost(_):
    process = subprocess.Popen([SERVER, "--model", MODEL, "--bind", "tcp://localhost:*", "--metrics",
                                "localhost:0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    try:
        endpoints = process.stdout.readline().decode().split()[2:]
        hosts = {"[" + info[4][0] + "]" if ":" in info[4][0] else info[4][0]
                 for info in socket.getaddrinfo("localhost", 1, type=socket.SOCK_STREAM)}  # fmt: skip
        ports = {endpoint.rsplit(":", 1)[1] for endpoint in endpoints}
        assert len(ports) == 1, endpoints
        assert {endpoint[6:].rsplit(":", 1)[0] for endpoint in endpoints} == hosts, endpoints
        for endpoint in endpoints:
            records = records_of(*OFFLOAD, "--server", endpoint, stdin=lines(TEXTS[:2]))
            assert {record["route"] for record in records} == {"offload"}
        url = process.stderr.readline().decode().split()[-1]
        for host in hosts:
            page = urllib.request.urlopen(url.replace("localhost", host), timeout=TIMEOUT_S).read()
            assert b"splitee_requests_total" in page
    finally:
        process.kill()
        process.communicate()


def test_paths(folder):
    path = os.path.join(folder, "socket")
    write(folder, "precious", "precious")
    run(SERVER, "--model", MODEL, "--bind", "ipc://" + folder + "/precious", status=1).expect(
        1, "precious", "no socket")  # fmt: skip
    assert read(folder + "/precious") == b"precious"
    with Server(bind="ipc://" + path) as remote:
        run(SERVER, "--model", MODEL, "--bind", "ipc://" + path, status=1).expect(1, path, "another server")
        records = records_of(*OFFLOAD, "--server", "ipc://" + path, stdin=lines(TEXTS[:2]))
        assert {record["route"] for record in records} == {"offload"}
        remote.kill()
    assert os.path.exists(path)
    with Server(bind="ipc://" + path) as remote:
        remote.send(signal.SIGTERM)
        assert remote.wait()[0] == 0, remote.messages()
    assert not os.path.exists(path)


def make_keys(folder, *names):
    for name in names:
        run(TOOL, "keygen", "--output", os.path.join(folder, name))
    return [os.path.join(folder, name) for name in names]


def test_why_an_edge_is_not_let_in(folder):
    host, friend, stranger = make_keys(folder, "host", "friend", "stranger")
    key = read(stranger + ".public").decode().strip()
    with Server("--secret-key", host + ".secret", "--authorized-keys", friend + ".public") as remote:
        for secure, words in (
            (("--secret-key", stranger + ".secret", "--server-key", host + ".public"), ("authorized keys", key)),
            (("--secret-key", friend + ".secret", "--server-key", stranger + ".public"), ("is the server key",)),
            ((), ("asks for keys", "has none")),
        ):  # fmt: skip
            flags = ("--server", remote.endpoint, *secure, "--policy", "offload", "--connect-ms", "2000")
            edge(*flags, "--require-server", stdin=lines(TEXTS[:2]), status=1).expect(
                1, "--require-server: no server within 2000 ms", *words)  # fmt: skip
            # Without the flag samples are finished here.
            result = edge(*flags, stdin=lines(TEXTS[:2])).expect(0, *words)
            assert [record["route"] for record in result.records] == ["fallback"] * 2
        secure = ("--secret-key", friend + ".secret", "--server-key", host + ".public")
        records = records_of("--server", remote.endpoint, *secure, "--require-server", *OFFLOAD,
                             stdin=lines(TEXTS[:2]))  # fmt: skip
        assert {record["route"] for record in records} == {"offload"}
        assert remote.messages().count(f"refused the key {key} from 127.0.0.1") == 1, remote.messages()
        assert remote.messages().count("another server key") == 1, remote.messages()
    flags = ("--server", "tcp://no-such-name.invalid:5555", "--connect-ms", "2000", "--policy", "offload")
    edge(*flags, "--require-server", stdin=lines(TEXTS[:2]), status=1).expect(1, "cannot resolve no-such-name.invalid")
    edge("--require-server", status=2).expect(2, "--server")
    for endpoint in ("inproc://x", "tcp://127.0.0.1:0", "tcp://127.0.0.1:*", "tcp://*:5555"):
        edge("--server", endpoint, status=2).expect(2, endpoint)


def test_model_overwritten_while_serving(folder):
    """In place, as a careless copy does: what is served is what was checked at the start."""
    content = read(MODEL)
    served, ours = write(folder, "served.gguf", content), write(folder, "ours.gguf", content)
    local = answers(records_of("--policy", "final", model=ours, stdin=lines(TEXTS)))
    with Server(model=served) as remote:
        with open(served, "r+b") as file:
            file.write(bytes(len(content)))
        for payload in ("input", "activation"):
            flags = ("--server", remote.endpoint, "--payload", payload, *PATIENT)
            records = records_of("--policy", "fixed", "--split", "1", "--alpha", "1", *flags, model=ours,
                                 stdin=lines(TEXTS))  # fmt: skip
            assert {record["route"] for record in records} == {"offload"}
            assert answers(records) == local
        # Such a file is not taken in its place.
        remote.send(signal.SIGHUP)
        while "not reloaded" not in remote.messages():
            threading.Event().wait(0.01)
        records = records_of(*OFFLOAD, "--server", remote.endpoint, model=ours, stdin=lines(TEXTS))
        assert answers(records) == local


if __name__ == "__main__":
    main(globals())
