#!/usr/bin/env python3
"""splitee-edge against splitee-server: same answers, faults, keys, metrics."""

import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request

from binaries import (ANY_PORT, LAYERS, MODEL, OTHER_MODEL, SERVER, TIMEOUT_S, TOOL, LiveEdge, Server,
                      answers, check_ids, edge, lines, main, make_texts, read, records_of, run,
                      without_times, write)  # fmt: skip

TEXTS = make_texts(60)
# Confidences stay below 1, so that every sample is offloaded.
PATIENT = ("--connect-ms", "60000", "--deadline-ms", "60000")
OFFLOAD = ("--policy", "fixed", "--split", "2", "--alpha", "1", *PATIENT)
# For servers that will not be there.
ALONE = (*OFFLOAD[:-4], "--connect-ms", "300")


def server(*flags, status=None, model=MODEL):
    return run(SERVER, "--model", model, *flags, status=status)


def all_routes(records, route):
    assert records and {record["route"] for record in records} == {route}, records[:3]


def test_same_answers(_):
    local = records_of("--policy", "final", stdin=lines(TEXTS))
    with Server() as remote:
        link = ("--server", remote.endpoint, "--alpha", "1", *PATIENT)
        for split in range(1, LAYERS + 1):
            flags = ("--policy", "fixed", "--split", split)
            records = records_of(*flags, *link, stdin=lines(TEXTS))
            all_routes(records, "offload" if split < LAYERS else "final")
            assert answers(records) == answers(local), split
            for record in records:
                assert record["split"] == split and record["exit_layer"] == LAYERS
                assert (record["bytes_sent"] > 0) == (split < LAYERS)
                assert record["cost"] == split + (5 if split < LAYERS else 0)
        at_once = records_of("--policy", "offload", *link, stdin=lines(TEXTS))
        all_routes(at_once, "offload")
        assert answers(at_once) == answers(local)
        assert {record["split"] for record in at_once} == {0}
        assert {record["cost"] for record in at_once} == {5}
        for kind, less in (("f16", 1), ("i8", 2)):
            flags = ("--policy", "fixed", "--split", 2, "--activation", kind)
            records = records_of(*flags, *link, stdin=lines(TEXTS))
            all_routes(records, "offload")
            for ours, theirs in zip(records, local, strict=True):
                assert abs(ours["confidence"] - theirs["confidence"]) < 0.2 or ours["class"] != theirs["class"]
            sizes = [sum(r["bytes_sent"] for r in rs) for rs in (records, at_once)]
            assert sizes[0] > sizes[1], (kind, less, sizes)


def test_seeded_runs_are_equal(_):
    with Server() as remote:
        for policy in ("splitee", "splitee-s", "random"):
            flags = ("--policy", policy, "--alpha", "0.8", "--seed", "5", *PATIENT)
            one, two = (records_of(*flags, "--server", remote.endpoint, stdin=lines(TEXTS))
                        for _ in range(2))  # fmt: skip
            assert without_times(one) == without_times(two), policy
            assert {"exit", "offload"} <= {record["route"] for record in one}, policy


def test_windows_differ_only_in_time(_):
    with Server() as remote:
        flags = (*OFFLOAD, "--server", remote.endpoint)
        sent = [records_of(*flags, "--window", n, stdin=lines(TEXTS)) for n in (1, 3, 64)]
        assert without_times(sent[0]) == without_times(sent[1]) == without_times(sent[2])
        # A learner's decisions belong to its seed and window.
        flags = ("--policy", "splitee", "--alpha", "0.8", "--seed", "5", *PATIENT, "--server", remote.endpoint)
        for window in (1, 5):
            one, two = (records_of(*flags, "--window", window, stdin=lines(TEXTS * 5)) for _ in range(2))
            assert without_times(one) == without_times(two), window


def test_payloads(_):
    local = answers(records_of("--policy", "final", stdin=lines(TEXTS)))
    with Server() as remote:
        flags = (*OFFLOAD, "--server", remote.endpoint)
        sent = {}
        for payload in ("activation", "input", "auto"):
            records = records_of(*flags, "--payload", payload, stdin=lines(TEXTS))
            all_routes(records, "offload")
            assert answers(records) == local
            sent[payload] = records
        kinds = {payload: {record["payload"] for record in records} for payload, records in sent.items()}
        assert kinds["activation"] == {"f32"} and kinds["input"] == {"input"}, kinds
        assert kinds["auto"] <= {"f32", "input"}, kinds
        for small, large in zip(sent["input"], sent["activation"], strict=True):
            assert 0 < small["bytes_sent"] < large["bytes_sent"]


def test_costs_live(folder):
    path = os.path.join(folder, "summary.json")
    with Server() as remote:
        flags = ("--costs", "live", "--policy", "adaptive", "--alpha", "0.8", "--summary-json", path, *PATIENT)
        records = records_of(*flags, "--server", remote.endpoint, stdin=lines(TEXTS * 5))
    assert len(records) == 5 * len(TEXTS)
    assert all(record["cost"] > 0 for record in records)
    summary = json.loads(read(path))
    assert summary["policy"] == "adaptive" and summary["layer_us"] > 0, summary
    link = summary["link"]
    # Where all wait for a processor, more bytes may seem to take no more time.
    assert link["rtt_us"] > 0 and (link["bytes_per_second"] is None or link["bytes_per_second"] > 0), summary
    assert summary["latency_us"]["mean"] > 0 and summary["energy"] is None, summary
    # Without a link there is only the work here to measure.
    records = records_of("--costs", "live", "--policy", "final", stdin=lines(TEXTS))
    assert all(0 < record["cost"] <= LAYERS + 0.01 for record in records), records[0]


def test_stop_with_samples_in_progress(_):
    """Each line read has its record, though the server has stopped answering."""
    with Server() as remote:
        flags = ("--policy", "fixed", "--split", "1", "--alpha", "1", "--deadline-ms", "2000", "--window", "4")
        with LiveEdge("--server", remote.endpoint, *flags) as live:
            live.until_route("offload", TEXTS[0])
            remote.send(signal.SIGSTOP)
            live.process.stdin.write(lines(TEXTS[:3]).encode())
            live.process.stdin.flush()
            first = json.loads(live.lines.get(timeout=TIMEOUT_S))
            live.process.send_signal(signal.SIGTERM)
            live.process.wait(TIMEOUT_S)
            rest = []
            while live.process.poll() is None or not live.lines.empty():
                rest.append(json.loads(live.lines.get(timeout=TIMEOUT_S)))
            remote.send(signal.SIGCONT)
            assert live.process.returncode == 0, live.messages()
    ids = [record["id"] for record in [first, *rest]]
    assert ids == list(range(live.sent, live.sent + len(ids))) and len(ids) <= 3, ids
    all_routes([first, *rest], "fallback")


def test_server_killed_and_restarted(_):
    remote = Server()
    with LiveEdge("--server", remote.endpoint, *OFFLOAD) as live:
        records = live.until_route("offload", TEXTS[0])
        for _ in range(2):
            remote.kill()
            lost = [live.classify(text) for text in TEXTS[:10]]
            # At most the requests that were under way differ: none of them here.
            all_routes(lost, "fallback")
            assert answers(lost) == answers(records_of("--policy", "final", stdin=lines(TEXTS[:10])))
            with remote:
                pass
            remote = Server(bind=remote.endpoint)
            records += live.until_route("offload", TEXTS[1])
        messages = live.finish()
        assert "no server" in messages and "link is up again" in messages, messages
    with remote:
        pass


def test_kill_in_mid_stream(folder):
    """A file at full speed, the server killed at some point of it: a record per line, in order."""
    output = os.path.join(folder, "out.jsonl")
    texts = TEXTS * 100
    source = write(folder, "in.txt", lines(texts))
    with Server() as remote:
        flags = ["--server", remote.endpoint, "--input", source, "--output", output]
        with LiveEdge(*flags, *OFFLOAD[:-1], "2000") as live:
            while not (os.path.exists(output) and os.path.getsize(output)):
                if live.process.poll() is not None:
                    break
            remote.kill()
            live.finish()
    records = [json.loads(line) for line in read(output).splitlines()]
    check_ids(records)
    assert len(records) == len(texts)
    local = answers(records_of("--policy", "final", stdin=lines(TEXTS))) * 100
    assert answers(records) == local
    assert "offload" in {record["route"] for record in records}


def test_no_server(_):
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        result = edge("--server", endpoint, *ALONE, stdin=lines(TEXTS))
        assert len(result.records) == len(TEXTS) and "no server" in result.err, result
        all_routes(result.records, "fallback")
        assert {record["bytes_sent"] for record in result.records} == {0}
        at_once = records_of("--policy", "offload", "--server", endpoint, "--connect-ms", "300", stdin=lines(TEXTS))
        all_routes(at_once, "fallback")
        # The second of two servers is taken where the first is not there.
        with Server() as remote:
            flags = ("--server", endpoint, "--server", remote.endpoint, *OFFLOAD)
            with LiveEdge(*flags) as live:
                live.until_route("offload", TEXTS[0])
                live.finish()


def test_server_with_another_model(_):
    with Server(model=OTHER_MODEL) as remote:
        result = edge("--server", remote.endpoint, *ALONE[:-1], "3000", stdin=lines(TEXTS))
    hashes = [json.loads(run(TOOL, "inspect", "--json", model).out)["hash"]
              for model in (MODEL, OTHER_MODEL)]  # fmt: skip
    assert hashes[0] in result.err and hashes[1] in result.err, result
    all_routes(result.records, "fallback")
    local = records_of("--policy", "final", stdin=lines(TEXTS))
    assert answers(result.records) == answers(local)


def test_server_that_hangs(_):
    with Server() as remote:
        flags = ("--policy", "fixed", "--split", "1", "--alpha", "1", "--deadline-ms", "300")
        with LiveEdge("--server", remote.endpoint, *flags) as live:
            live.until_route("offload", TEXTS[0])
            remote.send(signal.SIGSTOP)
            lost = [live.classify(text) for text in TEXTS[:5]]
            remote.send(signal.SIGCONT)
            assert lost[0]["route"] == "fallback" and lost[0]["bytes_sent"] > 0, lost[0]
            assert lost[0]["link_us"] >= 300_000  # it did wait for the deadline
            all_routes(lost, "fallback")
            live.until_route("offload", TEXTS[0])
            live.finish()


def test_drain(_):
    for number in (signal.SIGTERM, signal.SIGINT):
        with Server() as remote:
            with LiveEdge("--server", remote.endpoint, *OFFLOAD) as live:
                live.until_route("offload", TEXTS[0])
                remote.send(number)
                assert remote.wait() == (0, ""), remote.messages()
                assert "stopped after" in remote.messages()
                live.until_route("fallback", TEXTS[0])
                live.finish()


def test_server_start_errors(folder):
    with Server() as remote:
        result = server("--bind", remote.endpoint).expect(1, remote.endpoint, "in use")
        assert result.out == "", result
    for flags, words in (
        (("--bind", "tcp://0.0.0.0:*"), ("--insecure",)), (("--bind", "tcp://*:*"), ("--insecure",)),
        (("--bind", "tcp://127.0.0.1.example.org:1"), ("--insecure",)),
        (("--bind", "ipc:///no/such/folder/s"), ("/no/such/folder/s",)),
    ):  # fmt: skip
        assert server(*flags).expect(1, *words).out == ""
    server("--bind", ANY_PORT, model=os.path.join(folder, "no")).expect(1, "no")
    server("--bind", ANY_PORT, model=write(folder, "bad.gguf", read(MODEL)[:999])).expect(1, "bad.gguf")
    for bind in ("", "nonsense", "tcp://127.0.0.1", "tcp://", "tcp://127.0.0.1:", "5555", "127.0.0.1:5555",
                 "udp://127.0.0.1:5555"):  # fmt: skip
        server("--bind", bind).expect(2, f"'{bind}'", "is not an endpoint")
    server("--what").expect(2, "--what")
    server("--threads", "0").expect(2, "0")
    for address in ("tcp://192.0.2.1:5555", "tcp://no-such-interface:5555"):
        server("--bind", address, "--insecure").expect(1, address)
    with Server(bind="tcp://localhost:*") as remote:
        assert remote.endpoint.startswith("tcp://127.0.0.1:"), remote.endpoint
    server("--secret-key", "x").expect(2, "--authorized-keys")
    help_text = run(SERVER, "--help").out
    for word in ("tcp://127.0.0.1:5555", "--max-batch", "SIGTERM", "--metrics"):
        assert word in help_text, word
    with Server("--insecure", bind="tcp://0.0.0.0:*") as remote:
        port = remote.endpoint.rsplit(":", 1)[1]
        flags = ("--server", f"tcp://127.0.0.1:{port}", *OFFLOAD)
        with LiveEdge(*flags) as live:
            live.until_route("offload", TEXTS[0])
            live.finish()


def make_keys(folder, *names):
    for name in names:
        run(TOOL, "keygen", "--output", os.path.join(folder, name))
    return [os.path.join(folder, name) for name in names]


def test_keys(folder):
    host, friend, stranger = make_keys(folder, "host", "friend", "stranger")
    assert os.stat(host + ".secret").st_mode & 0o777 == 0o600
    again = run(TOOL, "keygen", "--output", host, status=None).expect(1, "host.secret")
    assert read(host + ".secret").decode().split()[3] not in again.err + again.out
    public = read(host + ".public").decode().strip()
    assert len(public) == 40
    allowed = write(folder, "allowed", b"# edges\n\n" + read(friend + ".public").strip() + b" kitchen\n")
    with Server("--secret-key", host + ".secret", "--authorized-keys", allowed) as remote:
        flags = ("--server", remote.endpoint, *OFFLOAD)
        for key in (public, host + ".public"):
            secure = ("--secret-key", friend + ".secret", f"--server-key={key}")
            with LiveEdge(*flags, *secure) as live:
                record = live.until_route("offload", TEXTS[0])[-1]
                live.finish()
            assert answers([record]) == answers(records_of("--policy", "final", stdin=TEXTS[0]))
        # Not on the list, the wrong server key, no keys at all: never let in, all records local.
        for secure in (("--secret-key", stranger + ".secret", "--server-key", host + ".public"),
                       ("--secret-key", friend + ".secret", "--server-key", friend + ".public"),
                       ()):  # fmt: skip
            flags = ("--server", remote.endpoint, *ALONE)
            result = edge(*flags, *secure, stdin=lines(TEXTS[:5]))
            assert len(result.records) == 5, result
            all_routes(result.records, "fallback")
    # With keys, an address beyond loopback is allowed.
    with Server("--secret-key", host + ".secret", "--authorized-keys", allowed, bind="tcp://0.0.0.0:*"):
        pass


def test_bad_keys(folder):
    host, friend = make_keys(folder, "host", "friend")
    secrets, others = read(host + ".secret").decode().split("\n"), read(friend + ".secret").decode().split("\n")
    crossed = write(folder, "crossed", secrets[0] + "\n" + others[1] + "\n")
    for secret, allowed, words in (
        (crossed, host + ".public", ("crossed", "does not belong")),
        (os.path.join(folder, "no"), host + ".public", ("no",)),
        (host + ".public", host + ".public", ("host.public", "line 1")),
        (write(folder, "empty", ""), host + ".public", ("empty",)),
        (host + ".secret", write(folder, "short", "abc\n"), ("short", "line 1")),
        (host + ".secret", write(folder, "none", "# nobody\n"), ("none",)),
        (host + ".secret", folder, (folder,)),
    ):  # fmt: skip
        flags = ("--secret-key", secret, "--authorized-keys", allowed)
        result = server("--bind", ANY_PORT, *flags).expect(1, *words)
        assert secrets[1].split()[1] not in result.err, result
    flags = ("--server", "tcp://127.0.0.1:1", "--secret-key", host + ".secret")
    edge(*flags, "--server-key", "abc", status=None).expect(1, "abc")
    edge(*flags, status=None).expect(2, "--server-key")


def get(url):
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
        return answer.read().decode()


def test_metrics(_):
    remote_flags = ("--metrics", "127.0.0.1:0")
    probe = subprocess.run([SERVER, "--model", MODEL, "--bind", "ipc:///no/such/folder/s", *remote_flags],
                           capture_output=True, check=False, timeout=TIMEOUT_S)  # fmt: skip
    assert probe.returncode == 1
    result = server("--bind", ANY_PORT, "--metrics", "nonsense", status=None)
    if "libmicrohttpd" in result.err:
        print("  built without libmicrohttpd")
        return
    result.expect(2, "nonsense")
    with Server(*remote_flags) as remote:
        url = next(w for w in remote.messages().split() if w.startswith("http://")).removesuffix("/metrics")
        with LiveEdge("--server", remote.endpoint, *OFFLOAD) as live:
            done = live.until_route("offload", TEXTS[0])
            offloads = sum(record["route"] == "offload" for record in done)
            live.finish()
        assert get(url + "/healthz") == "ok\n"
        values = dict(line.rsplit(" ", 1) for line in get(url + "/metrics").splitlines() if line[0] != "#")
        assert int(values["splitee_replies_total"]) >= offloads
        assert int(values["splitee_received_bytes_total"]) >= done[-1]["bytes_sent"]
        try:
            get(url + "/other")
            raise AssertionError("/other is there")
        except urllib.error.HTTPError as error:
            assert error.code == 404
        port = url.rsplit(":", 1)[1]
        server("--bind", ANY_PORT, "--metrics", f"127.0.0.1:{port}").expect(1, "--metrics")
        remote.send(signal.SIGTERM)
        assert remote.wait()[0] == 0


if __name__ == "__main__":
    main(globals())
