#!/usr/bin/env python3
"""Links with keys (CURVE) through the fault proxy. A satellite: 640 ms there and back, where the handshake takes three
and a half round trips. Answers that are damaged on the way before the connection goes.
Arguments: those of binaries.py, then the program fault_proxy."""

import os
import sys
import time

FAULT_PROXY = sys.argv.pop()
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from binaries import TOOL, Server, answers, lines, main, make_texts, records_of, run  # noqa: E402
from proxy import Proxy  # noqa: E402
from stream import Stream  # noqa: E402

HEARTBEAT_S = 0.5
TEXTS = make_texts(3)


def make_keys(folder):
    """Flags of the edge and of the server."""
    host, edge = (os.path.join(folder, name) for name in ("host", "edge"))
    for prefix in (host, edge):
        run(TOOL, "keygen", "--output", prefix)
    return (("--secret-key", edge + ".secret", "--server-key", host + ".public"),
            ("--secret-key", host + ".secret", "--authorized-keys", edge + ".public"))


def test_connects_with_curve(folder):
    edge_keys, keys = make_keys(folder)
    flags = ("--policy", "fixed", "--split", "1", "--alpha", "1", "--deadline-ms", "60000", *edge_keys)
    local = answers(records_of("--policy", "final", stdin=lines(TEXTS)))
    for handshake_ms, connect_ms, route in ((60_000, 60_000, "offload"), (500, 4_000, "fallback")):
        with Server(*keys, "--handshake-ms", handshake_ms) as remote:
            address = remote.endpoint.removeprefix("tcp://")
            with Proxy(os.path.abspath(FAULT_PROXY), address, "delay_ms=320") as proxy:
                link = ("--server", proxy.endpoint, "--connect-ms", connect_ms)
                records = records_of(*flags, *link, stdin=lines(TEXTS))
        assert {record["route"] for record in records} == {route}, (handshake_ms, records)
        assert answers(records) == local


def test_damaged_answers(folder):
    """libzmq issue 4364: where ZeroMQ has stopped reading, as it may do at a message that cannot be deciphered, the next
    heartbeat behind the connection's end aborts the process."""
    edge_keys, keys = make_keys(folder)
    with Server(*keys) as remote, Proxy(os.path.abspath(FAULT_PROXY), remote.endpoint.removeprefix("tcp://")) as proxy, \
            Stream(proxy.endpoint, *edge_keys, deadline_ms=3000, pause_s=0.02) as stream:  # fmt: skip
        for end in ("cut", "reset", "cut"):
            stream.wait_for("offload", 20)
            proxy.tell("down.corrupt=0.02")
            time.sleep(0.1)
            proxy.tell(end)
            proxy.tell("refuse")
            time.sleep(3 * HEARTBEAT_S)
            assert stream.process.poll() is None, stream.messages()
            proxy.tell("pass")
        stream.wait_for("offload", 20)
        stream.finish()


if __name__ == "__main__":
    main(globals())
