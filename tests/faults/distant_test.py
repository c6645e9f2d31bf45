#!/usr/bin/env python3
"""A link over a satellite: 640 ms there and back. CURVE's handshake takes three and a half round trips.
Arguments: those of binaries.py, then the program fault_proxy."""

import os
import sys

FAULT_PROXY = sys.argv.pop()
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from binaries import TOOL, Server, answers, lines, main, make_texts, records_of, run  # noqa: E402
from proxy import Proxy  # noqa: E402

TEXTS = make_texts(3)


def test_connects_with_curve(folder):
    host, edge = (os.path.join(folder, name) for name in ("host", "edge"))
    for prefix in (host, edge):
        run(TOOL, "keygen", "--output", prefix)
    flags = ("--policy", "fixed", "--split", "1", "--alpha", "1", "--deadline-ms", "60000",
             "--secret-key", edge + ".secret", "--server-key", host + ".public")  # fmt: skip
    local = answers(records_of("--policy", "final", stdin=lines(TEXTS)))
    for handshake_ms, connect_ms, route in ((60_000, 60_000, "offload"), (500, 4_000, "fallback")):
        keys = ("--secret-key", host + ".secret", "--authorized-keys", edge + ".public")
        with Server(*keys, "--handshake-ms", handshake_ms) as remote:
            address = remote.endpoint.removeprefix("tcp://")
            with Proxy(os.path.abspath(FAULT_PROXY), address, "delay_ms=320") as proxy:
                link = ("--server", proxy.endpoint, "--connect-ms", connect_ms)
                records = records_of(*flags, *link, stdin=lines(TEXTS))
        assert {record["route"] for record in records} == {route}, (handshake_ms, records)
        assert answers(records) == local


if __name__ == "__main__":
    main(globals())
