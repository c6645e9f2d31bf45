"""Speaks ZMTP 3.0 and the wire protocol (transport/wire/wire.h) by hand, rightly and wrongly."""

import os
import random
import select
import socket
import struct

MASK = (1 << 64) - 1
STEP = 0x9E3779B97F4A7C15
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
HEADER = struct.Struct("<4sHBBQQIIIIQQQQ")
HELLO, WELCOME, INFER, REPLY, REFUSE, PING, PONG = range(1, 8)
INPUT, F32, F16, I8 = 4, 1, 2, 3
TEXT = 1  # kind of input
BAD_REQUEST, NO_SESSION = 2, 7


def mix(x):
    x = ((x ^ x >> 33) * 0xFF51AFD7ED558CCD) & MASK
    x = ((x ^ x >> 33) * 0xC4CEB9FE1A85EC53) & MASK
    return x ^ x >> 33


def content_hash(data):
    """As base/hash.h says."""
    padded = data + bytes(-len(data) % 8)
    total = sum(mix(w ^ ((i + 1) * STEP & MASK)) for i, (w,) in enumerate(struct.iter_unpack("<Q", padded)))
    return mix((total + len(data) * STEP) & MASK)


def payload_checksum(data):
    """As transport/wire/checksum.h says."""
    sums, running = [0] * 8, [0] * 8
    for group in struct.iter_unpack("<8I", data + bytes(-len(data) % 32)):
        for lane, word in enumerate(group):
            sums[lane] += word
            running[lane] += sums[lane]
    return content_hash(struct.pack("<17Q", len(data), *(x & MASK for x in sums + running)))


def seal(header, payload):
    """The header with the two checks that it and the payload need."""
    whole = header[:36] + bytes(4) + header[40:64] + struct.pack("<Q", payload_checksum(payload))
    return whole[:36] + struct.pack("<I", content_hash(whole) & 0xFFFFFFFF) + whole[40:]


def message(kind, request_id, model=0, payload=b"", dtype=0, layer=0, rows=0, cols=0, time_us=0, clock=0,
            magic=b"SPLE", version=2, size=None):  # fmt: skip
    size = len(payload) if size is None else size
    fields = (magic, version, kind, dtype, request_id & MASK, model, layer & 0xFFFFFFFF, rows & 0xFFFFFFFF,
              cols & 0xFFFFFFFF, 0, time_us & MASK, clock, size & MASK, 0)  # fmt: skip
    return [seal(HEADER.pack(*fields), payload), payload]


def hello(request_id, model, window=1, low=2, high=2, reserved=0):
    return message(HELLO, request_id, model, struct.pack("<HHIII", low, high, 0x1E, window, reserved))


def tokens_request(request_id, model, count=2, time_us=10**6, clock=0, token=5):
    payload = struct.pack("<I", token) * count + bytes(count)
    return message(INFER, request_id, model, payload, INPUT, rows=count, cols=TEXT, time_us=time_us, clock=clock)


def frame(data, more=False, command=False):
    flags = (1 if more else 0) | (4 if command else 0)
    if len(data) > 255:
        return struct.pack(">BQ", flags | 2, len(data)) + data
    return struct.pack(">BB", flags, len(data)) + data


def wire_bytes(parts):
    return b"".join(frame(part, more=i + 1 < len(parts)) for i, part in enumerate(parts))


def ready(identity=None):
    identity = os.urandom(8) if identity is None else identity
    body = b"\x05READY"
    for name, value in ((b"Socket-Type", b"DEALER"), (b"Identity", identity)):
        body += bytes([len(name)]) + name + struct.pack(">I", len(value)) + value
    return frame(body, command=True)


class Gone(Exception):
    """The server has closed the connection."""


class Peer:
    """A connection to a server of this project, without keys."""

    def __init__(self, address, greet=True, identity=None, timeout=60):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        if greet:
            self.write(GREETING + ready(identity))
            self.take(64)
            self.read_frame()

    def write(self, data):
        try:
            self.socket.sendall(data)
        except (ConnectionError, TimeoutError) as error:
            raise Gone from error

    def send(self, parts):
        self.write(wire_bytes(parts))

    def take(self, size):
        while len(self.buffer) < size:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionError as error:
                raise Gone from error
            if not data:
                raise Gone
            self.buffer += data
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def read_frame(self):
        flags, size = self.take(2)
        if flags & 2:
            size = int.from_bytes(bytes([size]) + self.take(7), "big")
        return flags, self.take(size)

    def receive(self, wait=True):
        """The next message's parts; what ZeroMQ says itself (heartbeats) is answered and skipped. Without
        `wait`: None where that was all."""
        parts = []
        while True:
            flags, data = self.read_frame()
            if flags & 4:
                if data.startswith(b"\x04PING"):
                    self.write(frame(b"\x04PONG" + data[7:], command=True))
                if not wait and not parts:
                    return None
                continue
            parts.append(data)
            if not flags & 1:
                return parts

    def waiting(self):
        return bool(self.buffer) or bool(select.select([self.socket], [], [], 0)[0])

    def arrived(self):
        """The messages that are here now; waits for none, as after a heartbeat there may be nothing."""
        while self.waiting():
            if (message := self.receive(wait=False)) is not None:
                yield message

    def ask(self, parts):
        self.send(parts)
        return self.receive()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def kind_of(parts):
    return parts[0][6]


def request_id_of(header):
    return HEADER.unpack(header)[4]


def refusal(parts):
    """Code and text."""
    return struct.unpack("<I", parts[1][:4])[0], parts[1][4:].decode("ascii")


def model_of(address):
    """The hash of the model that a server has: it says so in a refusal."""
    with Peer(address) as peer:
        answer = peer.ask(hello(1, 1))
        assert kind_of(answer) == REFUSE, answer
        return HEADER.unpack(answer[0])[5]


def corpus(rng: random.Random, model, request_id, layers, hidden):
    """One message of each class of wrong ones, by the names of the test plan; all but the last few are
    broken in one place only."""
    values = struct.pack("<6f", *(rng.uniform(-1, 1) for _ in range(6)))

    def infer(payload=None, rows=2, **more):
        data = bytes(4 * rows * hidden) if payload is None else payload
        return message(INFER, request_id, model, data, **({"dtype": F32, "layer": 1, "rows": rows, "cols": hidden,
                                                           "time_us": 10**6} | more))  # fmt: skip

    good = infer()
    odd = [struct.pack("<f", x) for x in (float("nan"), float("inf"), -float("inf"))]
    yield "W02 one empty frame", [b""]
    yield "W03 header short", [good[0][: rng.randrange(72)], good[1]]
    yield "W04 header long", [good[0] + bytes(rng.randrange(1, 99)), good[1]]
    yield "W05 magic", message(INFER, request_id, model, magic=b"SPLF")
    yield "W05 version", message(INFER, request_id, model, version=rng.choice([0, 1, 3, 256, 65535]))
    yield "W06 type", message(rng.choice([0, 8, 255]), request_id, model)
    yield "W07 reserved", hello(request_id, model, reserved=1 << rng.randrange(32))
    for size in (len(good[1]) - 1, len(good[1]) + 1, 0, 1 << 31, 1 << 63):
        yield "W08 payload size", infer(size=size)
    yield "W09 frame at the limit", infer(payload=bytes(rng.choice([4095, 4096, 4097, 16384])))
    yield "W10 one part", good[:1]
    yield "W10 three parts", [*good, b"x"]
    yield "W10 many parts", [*good, *[b"y"] * rng.randrange(4, 200)]
    yield "W11 dtype", infer(dtype=rng.choice([0, 5, 255]))
    for rows, width in ((0, hidden), (-1, hidden), (2, 0), (2, -1), (1 << 31, 1 << 31), (65536, 65536), (3, hidden)):
        yield "W12 shape", message(INFER, request_id, model, good[1], F32, 1, rows, width, time_us=10**6)
    for layer in (-1, layers, layers + 1, 1 << 31):
        yield "W13 split layer", infer(layer=layer)
    for value in odd:
        yield "W16 not finite", infer(payload=value + good[1][4:])
    yield "W16 huge", infer(payload=struct.pack("<f", 1e38) * (2 * hidden))
    yield "W17 old id", message(INFER, 1, model, good[1], F32, 1, 2, hidden, time_us=10**6)
    yield "W19 reply", message(REPLY, request_id, model, struct.pack("<I3f", 0, 0.5, 0.5, 0.5), cols=2)
    yield "W23 welcome", message(WELCOME, request_id, model, struct.pack("<6IQ", 30, 9, 4, 1, 2, 1, 0))
    yield "W23 refusal", message(REFUSE, request_id, model, struct.pack("<I", 1) + b"busy")
    yield "W24 model", message(INFER, request_id, model ^ 1, good[1], F32, 1, 2, hidden, time_us=10**6)
    for time_us in (0, 1 << 63, MASK):
        yield "W25 deadline", infer(time_us=time_us)
    yield "W25 no time", infer(time_us=1, clock=rng.randrange(MASK))
    flipped = bytearray(good[0])
    flipped[rng.randrange(72)] ^= 1 << rng.randrange(8)
    yield "W29 checksum", [bytes(flipped), good[1]]
    yield "W29 payload", [good[0], values]
    yield "W39 scales", infer(payload=odd[0] * 2 + bytes(2 * hidden), dtype=I8)
    yield "W39 half floats", infer(payload=b"\x00\x7c" * (2 * hidden), dtype=F16)
    yield "W12 kind", message(INFER, request_id, model, bytes(10), INPUT, rows=2, cols=rng.choice([0, 2, 256]), time_us=10**6)
    yield "ids", tokens_request(request_id, model, token=rng.choice([131, 1 << 30, MASK >> 33]))
    yield "hello", hello(request_id, model, window=rng.choice([0, 1 << 20]), low=rng.choice([1, 2, 9]), high=2)
    yield "noise", [rng.randbytes(rng.randrange(200)) for _ in range(rng.randrange(1, 5))]
