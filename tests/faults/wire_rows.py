#!/usr/bin/env python3
"""Hostile peers on a live server, with good edges beside them: the bad ones get an error or are cut,
the good ones see nothing of it.

Arguments: EDGE SERVER TOOL MODEL OTHER_MODEL [--full] [--seed N] [row ...]
Without --full a few thousand messages; with it as many as the test plan says, and a table of
figures. Nothing is asserted of time.
"""

import argparse
import collections
import contextlib
import os
import random
import re
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
OPTIONS = sys.argv[6:]

import zmtp  # noqa: E402
from binaries import LAYERS, MODEL, SERVER, TOOL, Server, edge, lines, read, run, write  # noqa: E402
from stream import OFFLOAD, TEXTS, Stream  # noqa: E402

HIDDEN = 24
# What no refusal may say: addresses, paths, pointers, names of the inside.
INNER = re.compile(r"/|0x[0-9a-f]|\d+\.\d+\.\d+|tcp:|std::|\.cc|errno|[^\x20-\x7e]")


def resident_kb(server):
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:
        found = re.search(r"VmRSS:\s+(\d+)", status.read())
    assert found, f"the server is gone: status {server.process.wait()}\n{server.messages()}"
    return int(found.group(1))


def address_of(server):
    return server.endpoint.removeprefix("tcp://")


class Attack(threading.Thread):
    """Runs a function in the background; its failure is the test's."""

    def __init__(self, function, *args):
        super().__init__(daemon=True)
        self.function, self.args, self.problem = function, args, None
        self.start()

    def run(self):
        try:
            self.function(*self.args)
        except BaseException as error:  # noqa: BLE001
            self.problem = error

    def finish(self):
        self.join(3600)
        assert not self.is_alive(), "an attacker hangs"
        if self.problem:
            raise self.problem


@contextlib.contextmanager
def good_edges(server, count, *flags, pause_s=0):
    """Edges that offload all the time; none of their requests may go wrong meanwhile. pause_s: between
    two rounds of their texts, so that many of them leave the attackers some of two cores."""
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(Stream(server.endpoint, *flags, deadline_ms=60000, pause_s=pause_s))
                   for _ in range(count)]  # fmt: skip
        for stream in streams:
            stream.wait_for("offload", 20)
        yield streams
        for stream in streams:
            stream.wait_for("offload", 20)
            stream.finish()
            if set(stream.routes) != {"offload"}:
                raise Disturbed(f"{stream.routes}\n{stream.messages()}")


class Disturbed(AssertionError):
    """A good edge lost its server for a moment. That happens to a machine that stands still for seconds
    too, so that a short run tries again; what the attack causes comes back."""


class Tally:
    def __init__(self):
        self.lock = threading.Lock()
        self.kinds, self.codes, self.texts = collections.Counter(), collections.Counter(), collections.Counter()
        self.sent = self.gone = 0

    def answer(self, parts):
        with self.lock:
            self.kinds[zmtp.kind_of(parts)] += 1
            if zmtp.kind_of(parts) == zmtp.REFUSE:
                code, text = zmtp.refusal(parts)
                self.codes[code] += 1
                self.texts[text] += 1


def attack_with_corpus(address, model, seed, messages, tally):
    """Sends the corpus round and round, reads every answer, and begins anew where it is cut off."""
    rng = random.Random(seed)
    peer, request_id, sent = None, 1, 0
    while sent < messages:
        try:
            if peer is None:
                peer, request_id = zmtp.Peer(address), 2
                # Some never say hello.
                if rng.random() < 0.8:
                    tally.answer(peer.ask(zmtp.hello(1, model, window=4)))
            for _, parts in zmtp.corpus(rng, model, request_id, LAYERS, HIDDEN):
                peer.send(parts)
                sent += 1
                request_id += 1
                for answer in peer.arrived():
                    tally.answer(answer)
            # Everything was looked at: an answer to the last question is there.
            while zmtp.kind_of(last := peer.ask(zmtp.message(zmtp.PING, request_id))) != zmtp.PONG:
                tally.answer(last)
                peer.send([])
        except zmtp.Gone:
            with tally.lock:
                tally.gone += 1
            if peer:
                peer.close()
            peer = None
    with tally.lock:
        tally.sent += sent
    if peer:
        peer.close()


def row_b1(rng, full, count):
    """Malformed messages of every class, good edges beside; B6: what refusals say."""
    attackers, edges = (8, 16) if full else (2, 2)
    messages = count or (1_000_000 if full else 4_000)
    tally = Tally()
    with Server("--max-queue", "1024") as server:
        model = zmtp.model_of(address_of(server))
        with good_edges(server, edges, pause_s=0.5 if full else 0) as streams:
            before_kb = resident_kb(server)
            begin = time.monotonic()
            attacks = [Attack(attack_with_corpus, address_of(server), model, rng.random(), messages // attackers, tally)
                       for _ in range(attackers)]  # fmt: skip
            for attack in attacks:
                attack.finish()
            seconds = time.monotonic() - begin
            grown_kb = resident_kb(server) - before_kb
    good = sum(stream.count for stream in streams)
    bad_texts = [text for text in tally.texts if INNER.search(text)]
    assert not bad_texts, bad_texts
    assert tally.codes[2] > 0 and tally.sent >= messages - attackers, tally.codes
    print(f"B1: {tally.sent} malformed messages of {attackers} attackers in {seconds:.0f} s, refusals {dict(tally.codes)}, "
          f"cut off {tally.gone} times; {edges} good edges: {good} requests, 0 errors; memory {grown_kb / 1024:+.1f} MiB")  # fmt: skip
    print(f"B6: {len(tally.texts)} different texts, none with a path, an address or memory", flush=True)


RAW = (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
       b"\xff" + bytes(7) + b"\x01\x7f\x00", b"\xff" + bytes(8) + b"\x7f\x01\x00", bytes(100), b"\xff" * 300,
       zmtp.GREETING[:12], zmtp.GREETING, zmtp.GREETING + zmtp.frame(b"\x05READY\xff", command=True),
       zmtp.GREETING + b"\x06\xff\xff\xff\xff\xff\xff\xff\xff", zmtp.GREETING + zmtp.ready(b"x" * 255),
       zmtp.GREETING + zmtp.ready(b""), zmtp.GREETING + zmtp.ready(b"\0abcd"))  # fmt: skip


def knock(address, seed, connections):
    """Connections that never get as far as a message."""
    rng = random.Random(seed)
    for number in range(connections):
        try:
            peer = zmtp.Peer(address, greet=False)
            peer.write(RAW[number % len(RAW)] if rng.random() < 0.8 else rng.randbytes(rng.randrange(400)))
            (peer.reset if rng.random() < 0.5 else peer.close)()
        except (zmtp.Gone, ConnectionError):
            pass


def row_b3(rng, full, count):
    """No key, wrong keys, no ZMTP at all, half-open handshakes on a server with keys."""
    knocks, held = count or (10_000 if full else 200), 1000 if full else 50
    with tempfile.TemporaryDirectory() as folder:
        for name in ("host", "friend", "stranger"):
            run(TOOL, "keygen", "--output", os.path.join(folder, name))
        path = lambda name: os.path.join(folder, name)  # noqa: E731
        allowed = write(folder, "allowed", read(path("friend.public")))
        friend = ("--secret-key", path("friend.secret"), "--server-key", path("host.public"))
        stranger = ("--secret-key", path("stranger.secret"), "--server-key", path("host.public"))
        with Server("--secret-key", path("host.secret"), "--authorized-keys", allowed) as server:
            with good_edges(server, 2, *friend) as streams:
                half_open = []
                for number in range(held):
                    half_open.append(zmtp.Peer(address_of(server), greet=False))
                    half_open[-1].write((b"\xff", zmtp.GREETING[:10], zmtp.GREETING[:11], b"")[number % 4])
                attacks = [Attack(knock, address_of(server), rng.random(), knocks // 2) for _ in range(2)]
                alone = ("--server", server.endpoint, *OFFLOAD, "--connect-ms", "300", "--quiet")
                for flags in (stranger, ()):
                    records = edge(*alone, *flags, stdin=lines(TEXTS[:5])).records
                    assert [record["route"] for record in records] == ["fallback"] * 5, records
                for attack in attacks:
                    attack.finish()
                # There is still room for one more.
                with good_edges(server, 1, *friend):
                    pass
                for peer in half_open:
                    peer.close()
    good = sum(stream.count for stream in streams)
    print(f"B3: {knocks} bad handshakes, {held} held half-open, a stranger's key, no key: none let in; "
          f"good edges: {good} requests, 0 errors", flush=True)  # fmt: skip


def row_b4(rng, full, count):
    """Addresses that others can reach need keys: without, the server does not start."""
    reachable = ["tcp://0.0.0.0:*", "tcp://*:*", "tcp://[::]:*", "tcp://eth0:*", "tcp://localhost.example.org:5",
                 "tcp://127.0.0.1.example.org:5", "tcp://192.0.2.1:*", "tcp://128.0.0.1:*", "tcp://::1.example.org:5"]  # fmt: skip
    loopback = ["tcp://127.0.0.1:*", "tcp://localhost:*"]
    started = refused = 0
    with tempfile.TemporaryDirectory() as folder:
        run(TOOL, "keygen", "--output", os.path.join(folder, "host"))
        secret = ("--secret-key", os.path.join(folder, "host.secret"))
        allowed = ("--authorized-keys", write(folder, "allowed", read(os.path.join(folder, "host.public"))))
        wrong = ("--authorized-keys", write(folder, "wrong", b"no key\n"))
        halves = (secret, allowed, (*secret, *wrong), ("--secret-key", allowed[1], *allowed))
        for address in (*reachable, *loopback):
            flags = [*halves] if address in loopback else [(), *halves]
            for without in flags if full else rng.sample(flags, 1):
                done = run(SERVER, "--model", MODEL, "--bind", address, *without, status=None)
                assert done.status in (1, 2) and not done.out and "splitee-server: " in done.err, done
                refused += 1
        for address, flags in (("tcp://0.0.0.0:*", (*secret, *allowed)), ("tcp://0.0.0.0:*", ("--insecure",)),
                               (loopback[0], ())):  # fmt: skip
            with Server(*flags, bind=address):
                started += 1
    print(f"B4: {refused} settings without keys refused, {started} with keys, by --insecure or on loopback started",
          flush=True)  # fmt: skip


def older_id(request_id, number):
    return number * 2654435761 % (request_id + 1)


def converse(peer, model, token, tally):
    """A hundred questions of one tenant, which repeats itself."""
    if tally["last"]:
        # The last message of the old session, on a connection that has none (W22).
        assert zmtp.refusal(peer.ask(tally["last"]))[0] == zmtp.NO_SESSION
        tally["replays"] += 1
    assert zmtp.kind_of(peer.ask(zmtp.hello(1, model))) == zmtp.WELCOME
    # The ids of all tenants are the same (W18).
    for request_id in range(2, 102):
        request = zmtp.tokens_request(request_id, model, token=token, time_us=60 * 10**6)
        header, payload = peer.ask(request)
        assert zmtp.kind_of([header]) == zmtp.REPLY and zmtp.request_id_of(header) == request_id, (header, payload)
        tally["answers"].add(payload)
        tally["last"] = request
        tally["replies"] += 1
        # Once more, and one that never was: an id is used once, and ids grow (W17).
        old = request if request_id % 2 else zmtp.tokens_request(older_id(request_id, tally["replies"]), model, token=token)
        assert zmtp.refusal(peer.ask(old))[0] == zmtp.BAD_REQUEST
        tally["repeats"] += 1


def tenant(address, model, token, requests, tally):
    while tally["replies"] < requests:
        try:
            with zmtp.Peer(address) as peer:
                converse(peer, model, token, tally)
        except zmtp.Gone:
            tally["gone"] += 1  # a machine that stood still, and no heartbeat answered


def row_b5(rng, full, count):
    """Tenants with equal request ids, that repeat messages: no answer goes astray."""
    tenants, requests = 4, (count or (100_000 if full else 1_200)) // 4
    tallies = [{"replies": 0, "repeats": 0, "replays": 0, "gone": 0, "last": None, "answers": set()} for _ in range(tenants)]
    with Server() as server, good_edges(server, 1):
        address = address_of(server)
        model = zmtp.model_of(address)
        tokens = rng.sample(range(5, 100), tenants)
        for attack in [Attack(tenant, address, model, token, requests, tally) for token, tally in zip(tokens, tallies)]:
            attack.finish()
    total = {name: sum(tally[name] for tally in tallies) for name in ("replies", "repeats", "replays", "gone")}
    answers = [tally["answers"] for tally in tallies]
    assert all(len(own) == 1 for own in answers), "a tenant got another answer than its own"
    assert len(set.union(*answers)) == tenants, "the tenants' answers do not differ"
    print(f"B5: {total['replies']} replies to {tenants} tenants with equal ids, 0 to the wrong one; {total['repeats']} "
          f"repeated messages and {total['replays']} of older sessions, all refused; cut off {total['gone']} times",
          flush=True)  # fmt: skip


def never_reads(address, model, messages):
    """Sends requests and reads nothing."""
    try:
        # A hundred of these may be too slow for the server's patience with handshakes.
        with zmtp.Peer(address, timeout=5) as peer:
            peer.send(zmtp.hello(1, model, window=16))
            for request_id in range(2, messages):
                peer.send(zmtp.tokens_request(request_id, model))
    except zmtp.Gone:
        pass


def byte_by_byte(address, model):
    for last in (False, False, True):
        try:
            with zmtp.Peer(address) as peer:
                for byte in zmtp.wire_bytes(zmtp.hello(1, model)):
                    peer.write(bytes([byte]))
                assert zmtp.kind_of(peer.receive()) == zmtp.WELCOME
            return
        except zmtp.Gone:
            # Beside a hundred others it may be too slow to answer a heartbeat.
            if last:
                raise


def many_parts(address, parts):
    """One message of very many parts (W14)."""
    with zmtp.Peer(address) as peer:
        block = zmtp.frame(b"", more=True) * 10_000
        try:
            for _ in range(parts // 10_000):
                peer.write(block)
            peer.write(zmtp.frame(b""))
            assert zmtp.kind_of(peer.receive()) == zmtp.REFUSE
        except zmtp.Gone:
            pass


def row_b7(rng, full, count):
    """Peers that do not read, send byte by byte, or send very many parts."""
    readers, parts = (100, 1_000_000) if full else (8, 50_000)
    # Requests of peers that never read fill the queue as others do: it must be long enough for the
    # good ones to be sure of a place.
    with Server("--max-queue", "4096") as server:
        model, address = zmtp.model_of(address_of(server)), address_of(server)
        with good_edges(server, 2) as streams:
            before_kb = resident_kb(server)
            attacks = [Attack(never_reads, address, model, count or (20_000 if full else 1_000)) for _ in range(readers)]
            attacks.append(Attack(byte_by_byte, address, model))
            attacks.append(Attack(many_parts, address, parts))
            peak_kb = before_kb
            while any(attack.is_alive() for attack in attacks):
                peak_kb = max(peak_kb, resident_kb(server))
                time.sleep(0.05)
            for attack in attacks:
                attack.finish()
    good = sum(stream.count for stream in streams)
    print(f"B7: {readers} peers that never read, {parts} parts in one message; memory at most "
          f"{(peak_kb - before_kb) / 1024:+.1f} MiB; good edges: {good} requests, 0 errors", flush=True)  # fmt: skip


def row_w15(rng, full, count):
    """A message without end, on a server without keys: what ZeroMQ keeps of it is measured only."""
    megabytes = count or (256 if full else 8)
    with Server() as server, good_edges(server, 1):
        before_kb = resident_kb(server)
        peak_kb, sent = before_kb, 0
        with zmtp.Peer(address_of(server)) as peer:
            part = zmtp.frame(bytes(1000), more=True) * 1049
            try:
                for _ in range(megabytes):
                    peer.write(part)
                    sent += 1
                    peak_kb = max(peak_kb, resident_kb(server))
            except zmtp.Gone:
                pass
    print(f"W15: {sent} MiB of an endless message taken, memory at most {(peak_kb - before_kb) / 1024:+.1f} MiB",
          flush=True)  # fmt: skip


def row_w40(rng, full, count):
    """A good conversation, cut or reset behind each of its bytes."""
    with Server() as server, good_edges(server, 1):
        address = address_of(server)
        model = zmtp.model_of(address)
        talk = zmtp.GREETING + zmtp.ready(b"w40-identity") + zmtp.wire_bytes(zmtp.hello(1, model))
        talk += zmtp.wire_bytes(zmtp.tokens_request(2, model))
        for end in range(0, len(talk), 1 if full else 7):
            peer = zmtp.Peer(address, greet=False)
            peer.write(talk[:end])
            (peer.reset if end % 2 else peer.close)()
    print(f"W40: cut off behind each of {len(talk)} bytes", flush=True)


def row_w38(rng, full, count):
    """Connections that come and go as fast as they can."""
    total = count or (10_000 if full else 200)
    with Server() as server, good_edges(server, 1):
        address = address_of(server)
        model = zmtp.model_of(address)
        before = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        begin = time.monotonic()
        for number in range(total):
            with zmtp.Peer(address) as peer:
                if number % 2:
                    assert zmtp.kind_of(peer.ask(zmtp.hello(1, model))) == zmtp.WELCOME
        seconds = time.monotonic() - begin
        for _ in range(400):
            after = len(os.listdir(f"/proc/{server.process.pid}/fd"))
            if after <= before + 4:
                break
            time.sleep(0.05)
        assert after <= before + 4, f"{after} descriptors, {before} before"
    print(f"W38: {total} connections in {seconds:.1f} s; descriptors {before} before, {after} after", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, help="messages or connections per row, instead of the usual number")
    parser.add_argument("rows", nargs="*")
    options = parser.parse_intermixed_args(OPTIONS)
    print(f"seed {options.seed}")
    for name, row in list(globals().items()):
        if not name.startswith("row_") or (options.rows and name[4:] not in options.rows):
            continue
        begin = time.monotonic()
        for last in (True,) if options.full else (False, False, True):
            try:
                row(random.Random(options.seed), options.full, options.count)
                break
            except Disturbed as problem:
                if last:
                    raise
                print(f"  disturbed, once more: {problem}", flush=True)
        print(f"  {row.__doc__} {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()
