#!/usr/bin/env python3
"""Published faults of ZeroMQ, replayed on a server's port as raw bytes. After each the server, with
bounded memory, answers a good request.

Arguments: EDGE SERVER TOOL MODEL OTHER_MODEL [number ...]
"""

import contextlib
import os
import struct
import sys
import tempfile
import time

WANTED = sys.argv[6:]

from published import bound, case, main, peak_kb
import curve
import zmtp
from binaries import TOOL, Server, edge, read, run  # noqa: E402

GROWTH_KB = 300 << 10
STUCK = 4  # connections that may stay: kMostStuck of transport/server/front.cc
OFFLOAD = ("--policy", "offload", "--require-server", "--quiet")


class Target:
    """A server, which must go on answering."""

    def __init__(self, server, *flags):
        self.server, self.flags = server, flags
        self.address = server.endpoint.removeprefix("tcp://")
        bound(server.process.pid, memory_bytes=6 << 30)
        self.check()
        self.before_kb = peak_kb(server.process.pid)

    def check(self):
        records = edge("--server", self.server.endpoint, *OFFLOAD, *self.flags, stdin="ba be bi\n").records
        assert records[0]["route"] == "offload", records
        assert self.server.process.poll() is None, self.server.messages()

    def bounded(self):
        self.check()
        grown = peak_kb(self.server.process.pid) - self.before_kb
        assert grown < GROWTH_KB, f"{grown} KiB more than before"

    def send(self, data, greet=True, many=1):
        """What the server says to these bytes until it closes, or nothing more for a moment; on `many` connections."""
        said = b""
        for _ in range(many):
            with zmtp.Peer(self.address, greet=greet) as peer, contextlib.suppress(zmtp.Gone):
                peer.write(data)
                peer.socket.settimeout(0.3)
                with contextlib.suppress(OSError):
                    while part := peer.socket.recv(1 << 16):
                        said += part
        return said


class Targets:
    """One server without keys, one with."""

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        self.folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        path = lambda name: os.path.join(self.folder, name)  # noqa: E731
        for name in ("host", "friend", "stranger"):
            run(TOOL, "keygen", "--output", path(name))
        self.plain = Target(self.stack.enter_context(Server()))
        keyed = Server("--secret-key", path("host.secret"), "--authorized-keys", path("friend.public"))
        self.keyed = Target(self.stack.enter_context(keyed), "--secret-key", path("friend.secret"), "--server-key", path("host.public"))
        return self

    def __exit__(self, *_):
        self.stack.close()

    def key(self, name):
        return curve.key_of(read(os.path.join(self.folder, name)).decode().split()[-1])

    def client(self, name="friend"):
        return curve.Client(self.key("host.public"), self.key(name + ".public"), self.key(name + ".secret"))

    def checked(self):
        self.plain.bounded()
        self.keyed.bounded()


def long_frame(size, data=b"A" * 5000, flags=2):
    return struct.pack(">BQ", flags, size) + data


SIZES = [(1 << 64) - 1, (1 << 64) - 32, 0xFFFFFFFFFFFFFFDA, 1 << 63, (1 << 63) - 1, 1 << 62, 1 << 40, 1 << 32]


@case("CVE-2019-6250", "zeromq/libzmq#3351")
def sizes_of_frames(_, targets):
    """Of messages and of commands, after the handshake and in it."""
    for size in SIZES:
        for flags in (2, 3, 6):
            targets.plain.send(long_frame(size, flags=flags))
            targets.plain.send(zmtp.GREETING + long_frame(size, flags=flags), greet=False)
        targets.keyed.send(curve.GREETING + long_frame(size, flags=6), greet=False)
    targets.checked()


@case("zeromq/libzmq#1488")
def sizes_of_version_1(_, targets):
    for size in SIZES:
        data = struct.pack(">BQB", 0xFF, size, 0) + b"A" * 5000
        for target in (targets.plain, targets.keyed):
            target.send(data, greet=False)
            target.send(b"\1\0" + data, greet=False)  # behind an empty identity
    targets.checked()


@case("CVE-2021-20235")
def version_1_beyond_its_buffer(_, targets):
    """Frames of the oldest version, shorter and longer than a buffer of 8 KiB, whole and not."""
    for size in (8191, 8192, 8193, 65536):
        frame = struct.pack(">BQB", 0xFF, size + 1, 0) + b"A" * size
        for target in (targets.plain, targets.keyed):
            target.send(b"\1\0" + frame * 20 + frame[:-1], greet=False)
    targets.checked()


@case("CVE-2021-20234", "CVE-2021-20236", "CVE-2021-20237")
def subscriptions(_, targets):
    """To a socket that takes none: as messages and as commands, of large topics, never cancelled."""
    topic = os.urandom(60_000)
    messages = b"".join(zmtp.frame(bytes([i % 2]) + topic[: 100 * i]) for i in range(100))
    commands = b"".join(zmtp.frame(name + topic[: 500 * i], command=True) for i in range(50) for name in (b"\x09SUBSCRIBE", b"\x06CANCEL"))
    for data in (messages, commands, zmtp.frame(b"\x09SUBSCRIBE", command=True) * 20_000):
        targets.plain.send(data)
        targets.plain.send(b"\xff" + bytes(8) + b"\x7f\x01\x01" + data, greet=False)  # as a SUB of version 2
    targets.checked()


@case("CVE-2014-7202", "CVE-2014-9721")
def downgrades(_, targets):
    """A server with keys answers nobody who shakes hands without, or as an older version does."""
    model = zmtp.model_of(targets.plain.address)
    talk = zmtp.wire_bytes(zmtp.hello(1, model)) + zmtp.wire_bytes(zmtp.tokens_request(2, model))
    old = b"".join(struct.pack(">BQB", 0xFF, len(part) + 1, more) + part
                   for part, more in zip(zmtp.hello(1, model), (1, 0)))  # fmt: skip
    for opening in (b"\1\0" + old, b"\xff" + bytes(7) + b"\1\x7f\0" + talk, b"\xff" + bytes(8) + b"\x7f\1\5\0\0" + talk,
                    zmtp.GREETING + zmtp.ready() + talk, curve.GREETING + zmtp.ready() + talk,
                    zmtp.GREETING.replace(b"NULL\0", b"PLAIN") + talk, curve.GREETING + zmtp.frame(b"\x07MESSAGE" + talk, command=True) + talk):  # fmt: skip
        said = targets.keyed.send(opening, greet=False)
        assert b"SPLE" not in said and b"READY" not in said[64:], said
    targets.checked()


@case("CVE-2020-15166")
def peers_without_a_handshake(_, targets):
    """Connections of bare TCP and half a handshake each, held while a good one is served."""
    half = (b"", b"\xff", zmtp.GREETING[:11], curve.GREETING[:40], curve.GREETING, curve.GREETING + b"\4", b"GET / HTTP/1.0\r\n\r\n")
    for target in (targets.plain, targets.keyed):
        held = [zmtp.Peer(target.address, greet=False) for _ in range(70)]
        for number, peer in enumerate(held):
            with contextlib.suppress(zmtp.Gone):
                peer.write(half[number % len(half)])
        target.check()
        for peer in held:
            peer.close()
    targets.checked()


# --- within the encryption ---


def shake(targets, peer, client, data):
    """Sends hello, takes the welcome, and sends an INITIATE with this metadata; what is said to that."""
    peer.write(curve.GREETING + zmtp.frame(client.hello(), command=True))
    peer.take(64)
    client.welcomed(peer.read_frame()[1])
    peer.write(zmtp.frame(client.initiate(data), command=True))
    return peer.read_frame()[1]


GOOD = curve.metadata((b"Socket-Type", b"DEALER"), (b"Identity", b""))


@case("CVE-2019-13132")
def metadata_of_any_length(_, targets):
    """In the right handshake: long, short, and with lengths that are wrong; of a friend and of a stranger."""
    if curve.sodium is None:
        return print("  skipped: libsodium is not installed")
    for size in (0, 90, 255, 256, 257, 5000):  # commands without any encryption
        for name in (b"\x05HELLO\1\0", b"\x08INITIATE", b"\x07MESSAGE", b"\x07WELCOME", b"\x05ERROR"):
            targets.keyed.send(curve.GREETING + zmtp.frame(name + bytes(size), command=True), greet=False)
    wrong = [b"", b"\xff", b"\x05ab", b"\1a\xff\xff\xff\xff", b"\1a\x7f\xff\xff\xffbc", b"\0\0\0\0\1x", curve.metadata((b"Socket-Type", b"D" * 100_000)),
             GOOD + bytes(500), GOOD + b"x" * 500, curve.metadata(*[(b"x", b"y" * 300)] * 3000), curve.metadata((b"Identity", b"i" * 70_000)) + GOOD,
             GOOD + curve.metadata((b"n" * 255, b"v" * 1_000_000))]  # fmt: skip
    for name in ("friend", "stranger"):
        for data in wrong:
            with zmtp.Peer(targets.keyed.address, greet=False, timeout=5) as peer, contextlib.suppress(zmtp.Gone, TimeoutError):
                shake(targets, peer, targets.client(name), data)
    # The same with good metadata gets in, and a stranger does not.
    with zmtp.Peer(targets.keyed.address, greet=False) as peer:
        assert shake(targets, peer, targets.client(), GOOD).startswith(b"\x05READY")
    with zmtp.Peer(targets.keyed.address, greet=False) as peer, contextlib.suppress(zmtp.Gone):
        assert not shake(targets, peer, targets.client("stranger"), GOOD).startswith(b"\x05READY")
    targets.checked()


@case("CVE-2014-7203")
def messages_again(_, targets):
    """A sealed message sent twice costs the connection: it is answered once at most."""
    if curve.sodium is None:
        return print("  skipped: libsodium is not installed")
    model = zmtp.model_of(targets.plain.address)
    client = targets.client()
    with zmtp.Peer(targets.keyed.address, greet=False) as peer:
        assert shake(targets, peer, client, GOOD).startswith(b"\x05READY")

        def sealed(parts):
            return b"".join(zmtp.frame(client.message(part, flags=i + 1 < len(parts))) for i, part in enumerate(parts))

        hello, request = sealed(zmtp.hello(1, model)), sealed(zmtp.tokens_request(2, model))
        replies = 0
        with contextlib.suppress(zmtp.Gone, TimeoutError):
            peer.write(hello + request)
            for _ in range(4):  # welcome and reply, of two parts each
                replies += peer.read_frame()[1].startswith(b"\x07MESSAGE")
            peer.write(request)
            peer.socket.settimeout(1)
            while True:
                replies += peer.read_frame()[1].startswith(b"\x07MESSAGE")
    assert replies == 4, replies
    targets.checked()


@case("zmq-damaged-messages")
def damaged_messages(_, targets):
    """ZeroMQ may stop reading from whoever's message cannot be deciphered, and never close the connection; a few of
    them at most stay."""
    if curve.sodium is None:
        return print("  skipped: libsodium is not installed")
    descriptors = lambda: len(os.listdir(f"/proc/{targets.keyed.server.process.pid}/fd"))  # noqa: E731
    model = zmtp.model_of(targets.plain.address)
    before, most = descriptors(), 0
    for _ in range(40):
        with zmtp.Peer(targets.keyed.address, greet=False) as peer, contextlib.suppress(zmtp.Gone):
            client = targets.client()
            assert shake(targets, peer, client, GOOD).startswith(b"\x05READY")
            hello = zmtp.hello(1, model)
            said = b"".join(zmtp.frame(client.message(part, flags=i + 1 < len(hello))) for i, part in enumerate(hello))
            sealed = bytearray(client.message(bytes(2000)))
            sealed[-1] ^= 1
            peer.write(said)
            time.sleep(0.02)  # it looks for commands, and so sets another error, where it last did a while ago
            peer.write(zmtp.frame(bytes(sealed)) * 3)
            time.sleep(0.02)
        most = max(most, descriptors())
    print(f"  {before} descriptors before, at most {most}, ", end="")
    until = time.monotonic() + 60
    while descriptors() >= before + STUCK and time.monotonic() < until:
        time.sleep(0.1)
    print(f"{descriptors()} after")
    assert descriptors() < before + STUCK, (before, most, descriptors())
    targets.checked()


if __name__ == "__main__":
    main(WANTED, Targets)
