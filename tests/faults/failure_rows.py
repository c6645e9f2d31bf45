#!/usr/bin/env python3
"""Servers and links that fail under a stream of samples: killed, stopped, drained, cut, stalled,
reset. Every sample gets exactly one record, with the right answer, and offloading resumes.

Arguments: EDGE SERVER TOOL MODEL OTHER_MODEL PROXY [--full] [--seed N] [row ...]
Without --full a few of each; with it many, and a table of figures. Nothing is asserted of time.
"""

import argparse
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
OPTIONS = sys.argv[6:]

from binaries import Server, edge, read  # noqa: E402
from proxy import LINK_FAULTS, Proxy  # noqa: E402
from stream import TEXTS, Stream  # noqa: E402


class Times:
    """Seconds between a cure and the first offload after it."""

    def __init__(self):
        self.values = []

    def until_offload(self, stream):
        begin = time.monotonic()
        stream.wait_for("offload")
        self.values.append(time.monotonic() - begin)

    def __str__(self):
        ordered = sorted(self.values)
        return f"offloads again after {ordered[len(ordered) // 2]:.2f} s (median), {ordered[-1]:.2f} s (most)"


def figures(name, count, what, stream, times):
    routes = ", ".join(f"{n} {route}" for route, n in sorted(stream.routes.items()))
    print(f"{name}: {count} {what}; {stream.sent} samples, {stream.count} records ({routes}), {stream.wrong} wrong; "
          f"{times}; slowest sample {stream.slowest_us / 1e3:.0f} ms", flush=True)  # fmt: skip


def row_c1(rng, full, count):
    """kill -9 of the server."""
    server = Server()
    times = Times()
    with Stream(server.endpoint) as stream:
        stream.wait_for("offload", 100)
        for _ in range(count or (1000 if full else 5)):
            stream.wait_for("offload", rng.randrange(1, 60))
            server.kill()
            stream.wait_for(None, rng.randrange(1, 300))
            with server:
                pass
            server = Server(bind=server.endpoint)
            times.until_offload(stream)
        stream.finish()
    with server:
        pass
    figures("C1", len(times.values), "kills", stream, times)


def row_c2(rng, full, count):
    """SIGSTOP of the server: its connections stay up."""
    times = Times()
    with Server() as server, Stream(server.endpoint, deadline_ms=300) as stream:
        stream.wait_for("offload", 100)
        for _ in range(count or (500 if full else 5)):
            stream.wait_for("offload", rng.randrange(1, 60))
            server.send(signal.SIGSTOP)
            stream.wait_for("fallback", rng.randrange(1, 300))
            time.sleep(rng.uniform(0, 0.5))
            server.send(signal.SIGCONT)
            times.until_offload(stream)
        stream.finish()
    figures("C2", len(times.values), "stops", stream, times)


def row_c3(rng, full, count, proxy_program):
    """The link: partitions, one-way stalls, cuts, resets at any byte, corruption, 64 kbit/s."""
    times = Times()
    with Server() as server, Proxy(proxy_program, server.endpoint.removeprefix("tcp://"), "--seed",
                                   rng.randrange(1 << 30)) as proxy:  # fmt: skip
        with Stream(proxy.endpoint, deadline_ms=200) as stream:
            stream.wait_for("offload", 100)
            for episode in range(count or (2000 if full else len(LINK_FAULTS))):
                stream.wait_for("offload", rng.randrange(1, 60))
                proxy.tell(LINK_FAULTS[episode % len(LINK_FAULTS)].format(n=rng.randrange(3000)))
                stream.wait_for(None, rng.randrange(1, 300))
                proxy.tell("pass")
                times.until_offload(stream)
            stream.finish()
        relayed = proxy.stats()
        # Nothing of the old connections is left.
        assert relayed["open"] <= 1, relayed
    figures("C3", len(times.values), "episodes", stream, times)
    if full:
        print(f"C3: {relayed}")


def row_c4(rng, full, count):
    """kill -9 of an edge that saves its policy: the file is always a whole state."""
    import tempfile

    saved = kills = 0
    with tempfile.TemporaryDirectory() as folder:
        state = os.path.join(folder, "state")
        flags = ("--state", state, "--quiet", "--policy", "splitee")
        for _ in range(count or (1000 if full else 10)):
            with Stream("tcp://127.0.0.1:1", "--state", state, "--quiet", policy=("--policy", "splitee"),
                        connect_ms=0) as stream:  # fmt: skip
                stream.wait_for(None, 1000 * rng.randrange(1, 4) + rng.randrange(-20, 40))
                stream.kill()
                stream.check()
            kills += 1
            # A state that is there must be taken; what it says is checked by its checksum.
            assert edge(*flags, "--server", "tcp://127.0.0.1:1", "--connect-ms", "0", stdin=TEXTS[0]).records
            saved += os.path.exists(state)
            if rng.random() < 0.3:
                os.remove(state)
        left = [name for name in os.listdir(folder) if name != "state"]
    assert saved == kills, f"{saved} states after {kills} runs"
    print(f"C4: {kills} kills, {saved} states, all of them whole; {len(left)} temporary files left", flush=True)


def row_c6(rng, full, count):
    """A damaged state is refused with its name, and left as it is."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        state = os.path.join(folder, "state")
        flags = ("--state", state, "--policy", "splitee", "--quiet")
        edge(*flags, stdin="".join(text + "\n" for text in TEXTS))
        good = read(state)
        bits = list(range(8 * len(good)))
        sizes = list(range(len(good)))
        if not full:
            bits, sizes = rng.sample(bits, count or 10), rng.sample(sizes, count or 5)
        damaged = [good[:size] for size in sizes]
        for bit in bits:
            flipped = bytearray(good)
            flipped[bit // 8] ^= 1 << bit % 8
            damaged.append(bytes(flipped))
        for content in damaged:
            with open(state, "wb") as file:
                file.write(content)
            done = edge(*flags, stdin=TEXTS[0], status=None)
            assert done.status == 1 and state in done.err and not done.out, done
            assert read(state) == content, "a damaged state was changed"
    print(f"C6: {len(bits)} flipped bits, {len(sizes)} lengths, all refused", flush=True)


def row_c9(rng, full, count):
    """SIGTERM under load: what was accepted is answered."""
    times = Times()
    server = Server()
    with Stream(server.endpoint, deadline_ms=60000) as stream:
        for _ in range(count or (1000 if full else 5)):
            stream.wait_for("offload", rng.randrange(1, 60))
            server.send(signal.SIGTERM)
            status, rest = server.wait()
            assert (status, rest) == (0, ""), server.messages()
            words = server.messages().split("stopped after ")[1].split()
            stream.wait_for(None)
            # Requests that came after the signal were refused, so the two may differ, by refusals.
            assert int(words[2]) <= int(words[0]), words
            with server:
                pass
            server = Server(bind=server.endpoint)
            times.until_offload(stream)
        server.send(signal.SIGTERM)
        assert server.wait()[0] == 0
        with server:
            pass
        stream.finish()
        # A request that was lost would have waited for its deadline of a minute.
        assert stream.slowest_us < 60_000_000, stream.slowest_us
    figures("C9", len(times.values) + 1, "drains", stream, times)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("proxy")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, help="faults per row, instead of the usual number")
    parser.add_argument("rows", nargs="*")
    options = parser.parse_intermixed_args(OPTIONS)
    print(f"seed {options.seed}")
    for name, row in list(globals().items()):
        if not name.startswith("row_") or (options.rows and name[4:] not in options.rows):
            continue
        begin = time.monotonic()
        more = (options.proxy,) if name == "row_c3" else ()
        row(random.Random(options.seed), options.full, options.count, *more)
        print(f"  {row.__doc__} {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()
