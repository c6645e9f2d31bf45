#!/usr/bin/env python3
"""splitee-server beyond the link itself: metrics, health, change of model, load, shards."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import threading
import time
import urllib.error
import urllib.request

from binaries import (ANY_PORT, MODEL, OTHER_MODEL, SERVER, TIMEOUT_S, TOOL, LiveEdge, Server, answers, lines,
                      main, make_texts, read, records_of, run, write)  # fmt: skip

TEXTS = make_texts(40)
PATIENT = ("--connect-ms", "60000", "--deadline-ms", "60000")
OFFLOAD = ("--policy", "fixed", "--split", "1", "--alpha", "1", *PATIENT)
METRIC = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([0-9.eE+-]+|\+Inf|NaN)$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)')


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def eventually(condition, what):
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def metrics_url(server):
    return next(w for w in server.messages().split() if w.startswith("http://")).removesuffix("/metrics")


def parse_labels(text):
    labels, end = {}, 0
    while end < len(text):
        match = LABEL.match(text, end)
        assert match, f"labels {text!r}"
        assert match[1] not in labels, f"label twice in {text!r}"
        labels[match[1]] = match[2]
        end = match.end()
    return labels


def check_histogram(name, samples):
    """The rules of a histogram without other labels: ascending bounds and counts, +Inf is the count."""
    buckets = [(float(labels["le"]), value) for suffix, labels, value in samples if suffix == "_bucket"]
    rest = {suffix: value for suffix, labels, value in samples if suffix != "_bucket"}
    assert set(rest) == {"_sum", "_count"}, f"{name}: {rest}"
    assert buckets == sorted(buckets) and len({b for b, _ in buckets}) == len(buckets), name
    assert [c for _, c in buckets] == sorted(c for _, c in buckets), f"{name}: counts fall"
    assert buckets[-1] == (float("inf"), rest["_count"]), name


def parse_metrics(text):
    """Checks a page as promtool does (text format 0.0.4); values by name and labels."""
    assert text.endswith("\n"), "no newline at the end"
    values, types, helped, histograms = {}, {}, set(), {}
    current = None
    for number, line in enumerate(text[:-1].split("\n"), 1):
        where = f"line {number}: {line!r}"
        if line.startswith("# HELP "):
            name, help_text = line[7:].split(" ", 1)
            assert name not in helped and help_text, where
            helped.add(name)
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert name in helped and name not in types, where
            assert kind in ("counter", "gauge", "histogram"), where
            assert (kind == "counter") == name.endswith("_total"), where
            types[name] = kind
            current = name
        else:
            match = METRIC.match(line)
            assert match, where
            name, labels, value = match[1], parse_labels(match[2] or ""), float(match[3])
            assert current and name.startswith(current), f"{where} outside its family"
            suffix = name[len(current):]  # fmt: skip
            if types[current] == "histogram":
                assert suffix in ("_bucket", "_sum", "_count"), where
                histograms.setdefault(current, []).append((suffix, labels, value))
            else:
                assert suffix == "", where
            key = (name, tuple(sorted(labels.items())))
            assert key not in values, f"{where} twice"
            assert value >= 0, where
            values[key] = value
    for name, samples in histograms.items():
        check_histogram(name, samples)
    return values


def metrics_of(url):
    status, text = get(url + "/metrics")
    assert status == 200
    return parse_metrics(text)


def with_metrics():
    probe = run(SERVER, "--model", MODEL, "--bind", ANY_PORT, "--metrics", "nonsense", status=None)
    if "libmicrohttpd" in probe.err:
        print("  built without libmicrohttpd")
        return False
    return True


def hash_of(model):
    return json.loads(run(TOOL, "inspect", "--json", model).out)["hash"]


def check_documented(series, reasons):
    """The sheet in deploy/README.md names every family that is served, and no other."""
    sheet = read(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../deploy/README.md")).decode()
    rows = "\n".join(line for line in sheet.splitlines() if line.startswith("| `splitee_"))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in series}
    assert set(re.findall(r"splitee_\w+", rows)) == families, families
    assert reasons and all(f"`{reason}`" in rows for reason in reasons), reasons


def test_metrics(folder):
    if not with_metrics():
        return
    for name in ("host", "friend", "idle"):
        run(TOOL, "keygen", "--output", os.path.join(folder, name))
    host, friend, idle = (os.path.join(folder, name) for name in ("host", "friend", "idle"))
    allowed = write(folder, "allowed", read(friend + ".public") + read(idle + ".public"))
    with Server("--metrics", "127.0.0.1:0", "--secret-key", host + ".secret", "--authorized-keys", allowed) as remote:
        url = metrics_url(remote)
        before = metrics_of(url)
        assert before["splitee_model_info", (("hash", hash_of(MODEL)),)] == 1
        secure = ("--secret-key", friend + ".secret", "--server-key", host + ".public")
        records = records_of("--server", remote.endpoint, *OFFLOAD, *secure, stdin=lines(TEXTS))
        offloads = sum(record["route"] == "offload" for record in records)
        sent = sum(record["bytes_sent"] for record in records)
        eventually(lambda: metrics_of(url)["splitee_connections", ()] == 0, "a connection stays")
        after = metrics_of(url)
        assert offloads == len(TEXTS) and after["splitee_replies_total", ()] == offloads, after
        assert after["splitee_request_seconds_count", ()] == offloads
        assert after["splitee_queue_seconds_count", ()] == offloads
        assert after["splitee_batch_size_sum", ()] == offloads
        assert after["splitee_received_bytes_total", ()] >= sent
        assert after["splitee_queue_requests", ()] == after["splitee_in_flight", ()] == 0
        assert after["splitee_connections_accepted_total", ()] == 1
        edges = {dict(labels)["edge"]: value for (name, labels), value in after.items()
                 if name == "splitee_edge_replies_total"}  # fmt: skip
        keys = [read(path + ".public").decode().strip() for path in (friend, idle)]
        assert edges == {keys[0]: offloads, keys[1]: 0, "other": 0}, edges
        assert set(before) <= set(after), "a series has gone"
        check_documented({name for name, _ in after}, {dict(labels).get("reason") for _, labels in after} - {None})


def exchange(port, request):
    """Status, fields and body of all that comes back for these bytes, until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        answer = b""
        try:
            connection.sendall(request)
            while part := connection.recv(65536):
                answer += part
        except ConnectionError:
            pass  # it does not read what is too long
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return int(status.split()[1]), dict(field.lower().split(": ") for field in fields), body


def drip(connections, stop):
    """A byte now and then on each, for ever."""
    while not stop.wait(0.1):
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.send(b"a")


def test_http(_):
    if not with_metrics():
        return
    with Server("--metrics", "127.0.0.1:0") as remote:
        url = metrics_url(remote)
        port = int(url.rsplit(":", 1)[1])
        host = b" HTTP/1.1\r\nHost: x\r\n"
        for request in (b"GET /livez HTTP/1.0\r\n\r\n", b"GET /livez" + host + b"\r\n",
                        b"GET /livez?verbose=1" + host + b"Connection: close\r\n\r\n",
                        b"GET /livez" + host + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000):  # fmt: skip
            status, fields, body = exchange(port, request)
            assert (status, body, fields["content-length"], fields["connection"]) == (200, b"ok\n", "3", "close"), request
        status, fields, body = exchange(port, b"HEAD /livez" + host + b"\r\n")
        assert (status, body, fields["content-length"]) == (200, b"", "3")
        for request, code in ((b"GET /other" + host + b"\r\n", 404), (b"POST /livez" + host + b"\r\n", 405),
                              (b"GET /livez HTTP/2\r\n\r\n", 400)):  # fmt: skip
            assert exchange(port, request)[0] == code, request
        # Clients that never come to an end keep nobody waiting: neither a scrape nor the server's end.
        with contextlib.ExitStack() as stack:
            slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(300)]
            stop = threading.Event()
            dripping = threading.Thread(target=drip, args=(slow, stop))
            dripping.start()
            stack.callback(dripping.join)
            stack.callback(stop.set)
            for _ in range(5):
                assert get(url + "/healthz") == (200, "ok\n")
            remote.send(signal.SIGTERM)
            assert remote.wait() == (0, ""), remote.messages()


def test_health_while_draining(_):
    """From SIGTERM on /healthz says 503, and /livez says ok until the end."""
    if not with_metrics():
        return
    with Server("--metrics", "127.0.0.1:0") as remote:
        url = metrics_url(remote)
        assert get(url + "/healthz") == (200, "ok\n")
        assert get(url + "/livez") == (200, "ok\n")
        # A request in the queue of a stopped process keeps it draining once it goes on.
        remote.send(signal.SIGTERM)
        seen = set()
        try:
            while remote.process.poll() is None:
                seen.add(get(url + "/healthz")[0])
        except (urllib.error.URLError, ConnectionError):
            pass
        assert seen <= {200, 503}, seen
        assert remote.wait() == (0, ""), remote.messages()


def test_reload(folder):
    model = os.path.join(folder, "model.gguf")
    shutil.copyfile(MODEL, model)
    old, new = hash_of(MODEL), hash_of(OTHER_MODEL)
    with Server(model=model) as remote:
        flags = ("--server", remote.endpoint, *OFFLOAD)
        with LiveEdge(*flags) as live:
            live.until_route("offload", TEXTS[0])
            # A bad file changes nothing.
            os.replace(write(folder, "bad", read(MODEL)[:5000]), model)
            remote.send(signal.SIGHUP)
            eventually(lambda: "not reloaded" in remote.messages(), "no word of the bad file")
            assert f"model {old} stays" in remote.messages() and "model.gguf" in remote.messages()
            assert live.classify(TEXTS[1])["route"] == "offload"
            # Another model: this edge goes on alone, one that has it is served.
            shutil.copyfile(OTHER_MODEL, os.path.join(folder, "next"))
            os.replace(os.path.join(folder, "next"), model)
            remote.send(signal.SIGHUP)
            eventually(lambda: f"model {new} from now on" in remote.messages(), "not reloaded")
            live.until_route("fallback", TEXTS[0])
            assert old in live.messages() and new in live.messages(), live.messages()
            records = records_of(*flags, stdin=lines(TEXTS), model=OTHER_MODEL)
            assert {record["route"] for record in records} == {"offload"}
            assert answers(records) == answers(records_of("--policy", "final", stdin=lines(TEXTS), model=OTHER_MODEL))
            # And back.
            shutil.copyfile(MODEL, os.path.join(folder, "next"))
            os.replace(os.path.join(folder, "next"), model)
            remote.send(signal.SIGHUP)
            live.until_route("offload", TEXTS[0])
            live.finish()
        remote.send(signal.SIGTERM)
        assert remote.wait() == (0, ""), remote.messages()


def test_landlock(folder):
    """A restricted server serves as ever, takes a model from its folder, and none from elsewhere."""
    allowed, other = os.path.join(folder, "allowed"), os.path.join(folder, "other")
    for path in (allowed, other):
        os.mkdir(path)
    model = os.path.join(allowed, "model.gguf")
    shutil.copyfile(MODEL, model)
    shutil.copyfile(OTHER_MODEL, os.path.join(other, "model.gguf"))
    metrics = ("--metrics", "127.0.0.1:0") if with_metrics() else ()
    with Server("--landlock", *metrics, model=model) as remote:
        records = records_of("--server", remote.endpoint, *OFFLOAD, stdin=lines(TEXTS))
        assert {record["route"] for record in records} == {"offload"}
        if metrics:
            assert get(metrics_url(remote) + "/healthz") == (200, "ok\n")
        if "no Landlock" in remote.messages():
            print("  this kernel has no Landlock")
        else:
            os.symlink(os.path.join(other, "model.gguf"), os.path.join(allowed, "next"))
            os.replace(os.path.join(allowed, "next"), model)
            remote.send(signal.SIGHUP)
            eventually(lambda: "not reloaded" in remote.messages(), "took a file that it may not read")
            assert f"{model}: cannot open: Permission denied" in remote.messages(), remote.messages()
        shutil.copyfile(OTHER_MODEL, os.path.join(allowed, "next"))
        os.replace(os.path.join(allowed, "next"), model)
        remote.send(signal.SIGHUP)
        eventually(lambda: f"model {hash_of(OTHER_MODEL)} from now on" in remote.messages(), "not reloaded")
        remote.send(signal.SIGTERM)
        assert remote.wait() == (0, ""), remote.messages()
    # A socket in the file system, in a folder of its own.
    with Server("--landlock", bind="ipc://" + os.path.join(other, "socket"), model=model) as remote:
        records = records_of("--server", remote.endpoint, *OFFLOAD, stdin=lines(TEXTS), model=model)
        assert {record["route"] for record in records} == {"offload"}


def test_notify(folder):
    """READY=1 once it listens, STOPPING=1 when it drains, as systemd's Type=notify wants it."""
    path = os.path.join(folder, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(TIMEOUT_S)
        os.environ["NOTIFY_SOCKET"] = path
        try:
            remote = Server()
        finally:
            del os.environ["NOTIFY_SOCKET"]
        with remote:
            assert manager.recv(100) == b"READY=1"
            remote.send(signal.SIGTERM)
            assert manager.recv(100) == b"STOPPING=1"
            assert remote.wait()[0] == 0


def load(*flags, status=0):
    seq = () if "--seq" in flags else ("--seq", "4-12")
    result = run(TOOL, "load", "--model", MODEL, *seq, *flags, status=status)
    return json.loads(result.out) if "--json" in flags else result


def test_load(_):
    with Server("--threads", "2") as remote, Server() as second:
        common = ("--server", remote.endpoint, "--deadline-ms", "60000", "--json")
        for flags in (("--layer", "2"), ("--arrivals", "fixed"), ("--layer", "1", "--activation", "i8"),
                      ("--server", second.endpoint), ("--flood", "5")):  # fmt: skip
            runs = load(*common, "--connections", "4", "--rate", "40,80", "--seconds", "0.5", "--warm-up", "0.2",
                        "--seq", "4-12", *flags)  # fmt: skip
            assert [r["rate"] for r in runs] == [40, 80]
            for r in runs:
                assert r["good"] + r["late"] + r["shed"] + r["lost"] + r["unsent"] == r["intended"] > 0, r
                assert r["good"] > 0 and r["lost"] == r["unsent"] == 0, r
                assert 0 < r["answered_ms"]["p50"] <= r["answered_ms"]["max"] and 0 < r["fairness"] <= 1, r
        # Of two deadlines the short one cannot be met; told of a long one, the server answers all the same.
        for told, answered in (((), False), (("--told-deadline-ms", "60000"), True)):
            mixed = load(*common[:2], "--json", "--deadline-ms", "0.001,60000", "--rate", "100", "--seconds", "0.5",
                         "--warm-up", "0", *told)[0]
            short, long = mixed["deadlines"]
            assert (short["deadline_ms"], long["deadline_ms"]) == (0.001, 60000), mixed
            assert short["intended"] + long["intended"] == mixed["intended"], mixed
            assert short["good"] == 0 and long["good"] == long["intended"] == mixed["good"] > 0, mixed
            assert (mixed["shed"] == 0) == answered and ("told_deadline_ms" in mixed) == answered, mixed
        # No time at all: everything is refused, nothing lost.
        shed = load(*common[:2], "--json", "--deadline-ms", "0.001", "--rate", "100", "--seconds", "0.3")[0]
        assert shed["good"] == shed["lost"] == 0 and shed["shed"] + shed["late"] == shed["intended"], shed
        table = load("--server", remote.endpoint, "--rate", "20", "--seconds", "0.2").out
        assert table.splitlines()[0].split()[:2] == ["rate/s", "goodput/s"], table
    with Server(model=OTHER_MODEL) as other:
        load("--server", other.endpoint, status=None).expect(1, "wrong model", hash_of(MODEL), hash_of(OTHER_MODEL))
    load("--server", "nonsense", status=None).expect(2, "nonsense")
    load("--server", "tcp://127.0.0.1:1", "--connect-ms", "100", status=None).expect(1, "0 of 1")
    for flags, word in ((("--layer", "4"), "--layer"), (("--seq", "9-3"), "--seq"), (("--rate", "0"), "0")):
        load("--server", "tcp://127.0.0.1:1", *flags, status=None).expect(2, word)


def test_queue_and_connection_limits(_):
    with Server("--max-connections", "2") as remote:
        load("--server", remote.endpoint, "--connections", "2", "--seconds", "0.2", "--rate", "50")
        result = load("--server", remote.endpoint, "--connections", "3", "--connect-ms", "1500", status=None)
        result.expect(1, "of 3 connections")
    for flags in (("--max-queue-mb", "0.0001"), ("--max-connections", "0"), ("--max-edge-mb", "x")):
        run(SERVER, "--model", MODEL, *flags, status=None).expect(2, flags[1])


def test_trace_shards(folder):
    """The shards of a trace, put together, are the whole, for every number of shards."""
    source = write(folder, "texts", lines(TEXTS[:11]))

    def trace(*flags):
        path = os.path.join(folder, "out.csv")
        run(TOOL, "trace", "--model", MODEL, "--input", source, "--output", path, *flags)
        return read(path).decode().splitlines()

    whole = trace()
    assert len(whole) == 12
    for count in (1, 2, 3, 11, 13):
        rows = []
        for index in range(1, count + 1):
            header, *shard = trace("--shard", f"{index}/{count}")
            assert header == whole[0]
            rows += shard
        assert rows == whole[1:], count
    for bad in ("0/2", "3/2", "1", "a/b", "1/0", "1/2x"):
        run(TOOL, "trace", "--model", MODEL, "--input", source, "--output", os.path.join(folder, "x"), "--shard", bad,
            status=None).expect(2, bad)  # fmt: skip


if __name__ == "__main__":
    main(globals())
