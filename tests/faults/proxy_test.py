#!/usr/bin/env python3
"""fault_proxy over real sockets. Argument: the program. No test measures time."""

import random
import socket
import subprocess
import sys
import tempfile
import threading

from proxy import Proxy

PROGRAM = sys.argv[1]
PATIENCE_S = 60


class EchoServer:
    """Sends back what it gets, on any number of connections."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "%s:%d" % self.listener.getsockname()
        self.received = 0
        self.resets = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            peer, _ = self.listener.accept()
            threading.Thread(target=self._echo, args=(peer,), daemon=True).start()

    def _echo(self, peer):
        try:
            while data := peer.recv(1 << 16):
                self.received += len(data)
                peer.sendall(data)
        except ConnectionError:
            self.resets += 1
        peer.close()


def connect(proxy):
    host, port = proxy.address.split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def echo(client, data):
    """Sends and receives at once, so that no buffer on the way can fill up for good."""
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    got = read(client, len(data))
    sender.join(PATIENCE_S)
    return got


def read(client, size):
    parts = []
    while size > 0 and (part := client.recv(min(size, 1 << 16))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def ends_in_reset(client):
    try:
        while client.recv(1 << 16):
            pass
    except ConnectionResetError:
        return True
    return False


def test_everything_arrives(proxy, _):
    for settings in ("pass", "delay_ms=5 jitter_ms=5", "mbit=200 buffer=10000"):
        proxy.tell(settings)
        data = random.Random(1).randbytes(3_000_000)
        with connect(proxy) as client:
            assert echo(client, data) == data, settings
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b"", "the end of the stream must pass too"
    stats = proxy.stats()
    assert stats["bytes_up"] == stats["bytes_down"] == 9_000_000, stats
    assert stats["corrupted"] == 0 and stats["connections"] == 3, stats


def test_reset_at_each_byte(proxy, server):
    for position in (0, 1, 63, 64, 65, 1000):
        proxy.tell(f"down.reset_at={position}")
        with connect(proxy) as client:
            client.sendall(bytes(2000))
            got = b""
            try:
                while part := client.recv(1 << 16):
                    got += part
                raise AssertionError("closed, not reset")
            except ConnectionResetError:
                # What came before a reset may be lost by the kernel, but never more may come.
                assert len(got) <= position, (len(got), position)
    proxy.tell("down.reset_at=off down.cut_at=77")
    with connect(proxy) as client:
        client.sendall(bytes(2000))
        assert read(client, 2000) == bytes(77)


def test_cut_and_reset(proxy, server):
    for command, reset in (("cut", False), ("reset", True)):
        clients = [connect(proxy) for _ in range(5)]
        for client in clients:
            assert echo(client, b"abc") == b"abc"
        proxy.tell(command)
        for client in clients:
            assert ends_in_reset(client) == reset, command
            client.close()
    proxy.tell("refuse")
    with connect(proxy) as client:
        assert read(client, 1) == b""
    proxy.tell("accept")
    with connect(proxy) as client:
        assert echo(client, b"abc") == b"abc"


def test_stall_one_way(proxy, server):
    with connect(proxy) as client:
        assert echo(client, b"abc") == b"abc"
        proxy.tell("down.stall=1")
        before = server.received
        client.sendall(b"x" * 1000)
        while server.received < before + 1000:
            threading.Event().wait(0.01)
        client.settimeout(0.2)
        try:
            client.recv(1)
            raise AssertionError("a stalled direction moved")
        except TimeoutError:
            pass
        client.settimeout(PATIENCE_S)
        proxy.tell("down.stall=0")
        assert read(client, 1000) == b"x" * 1000


def test_corrupt(proxy, _):
    proxy.tell("up.corrupt_at=500")
    data = bytes(1000)
    with connect(proxy) as client:
        got = echo(client, data)
    assert [i for i in range(1000) if got[i] != data[i]] == [500]
    assert proxy.stats()["corrupted"] == 1


def test_sender_is_held(proxy, _):
    proxy.tell("up.stall=1")
    with connect(proxy) as client:
        client.settimeout(1)
        sent = 0
        try:
            while sent < 1 << 28:
                sent += client.send(bytes(1 << 16))
            raise AssertionError("the proxy takes endlessly much")
        except TimeoutError:
            pass


def test_no_server(*_):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with Proxy(PROGRAM, "%s:%d" % nobody.getsockname()) as proxy:
            try:
                with connect(proxy) as client:
                    assert ends_in_reset(client)
            except ConnectionResetError:
                pass  # came before connect() had returned
            assert proxy.stats()["failed_connects"] == 1


def test_wrong_words(proxy, _):
    assert "speed=1" in proxy.tell("speed=1", expect="error: ")
    for flags in (["speed=1"], ["--what", "1"], ["--script", "/no/such/file"]):
        done = subprocess.run([PROGRAM, "--connect", "127.0.0.1:1", *flags], capture_output=True, check=False)
        assert done.returncode == 2 and flags[-1].encode() in done.stderr or flags[0].encode() in done.stderr, done


def test_script(_, server):
    with tempfile.NamedTemporaryFile("w", suffix=".script") as script:
        script.write("# from the start on\n0 up.corrupt_at=1\n\n10 corrupt_at=off\n20 quit\n")
        script.flush()
        proxy = Proxy(PROGRAM, server.address, "--script", script.name)
        out, _ = proxy.process.communicate(timeout=PATIENCE_S)
        assert proxy.process.returncode == 0 and '"connections":0' in out, out


def main():
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            print(name, flush=True)
            server = EchoServer()
            with Proxy(PROGRAM, server.address, "--seed", 7) as proxy:
                test(proxy, server)


if __name__ == "__main__":
    main()
