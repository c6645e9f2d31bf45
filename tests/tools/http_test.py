#!/usr/bin/env python3
"""splitee-edge --http and splitee-server --http: the protocol, errors, limits, tokens, signals.
Arguments as binaries.py, with a model on rows of numbers before the names of tests."""

import json
import os
import re
import resource
import signal
import socket
import struct
import sys

NUMBERS = os.path.abspath(sys.argv.pop(6))

import binaries  # noqa: E402
from binaries import EDGE, LABELS, LAYERS, MODEL, OTHER_MODEL, SERVER, TIMEOUT_S, make_texts, patiently  # noqa: E402
from http_service import (ANY, INFER, JSON, NAME, HttpClient, HttpEdge, HttpServer, Reply, at_once,  # noqa: E402
                          binary_strings, live, outputs_of, text_request, text_tensor, until_live)  # fmt: skip

TEXTS = make_texts(40)
ANSWER = ["label", "confidence", "exit_layer", "probabilities"]
EDGE_ANSWER = ANSWER + ["route", "cost", "exit_confidences", "latency_us", "bytes_sent"]
FIXED = ("--policy", "threshold", "--alpha", "0.55")  # decides each sample by itself
TOKEN = "a-token-of-the-tests-0123"


def stream(*flags, texts=TEXTS):
    return binaries.records_of(*flags, stdin=binaries.lines(texts))


def near(a, b):
    return len(a) == len(b) and all(abs(x - y) <= 1e-6 * max(1, abs(y)) for x, y in zip(a, b))


def check_equal(outputs, records):
    """An edge's answers over HTTP are those of a stream."""
    assert outputs["label"] == [record["label"] for record in records]
    assert near(outputs["confidence"], [record["confidence"] for record in records])
    for name in ("exit_layer", "route", "bytes_sent"):
        assert outputs[name] == [record[name] for record in records], name
    assert near(outputs["cost"], [round(record["cost"], 6) for record in records])


def both():
    """One program after the other."""
    for program in (HttpEdge, HttpServer):
        with program() as running, running.client() as client:
            yield running, client, program is HttpEdge


def test_protocol(_):
    """What the protocol says of a server and a model, as both programs answer it."""
    for _, client, edge in both():
        server = client.get("/v2").expect(200).json
        assert server["name"] == "splitee" and "binary_tensor_data" in server["extensions"], server
        assert re.fullmatch(r"\d+\.\d+\.\d+", server["version"]), server
        for path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{NAME}/ready",
                     f"/v2/models/{NAME}/versions/1/ready"):  # fmt: skip
            assert client.get(path).expect(200).headers["Content-Type"] == "application/json"
        model = client.get(f"/v2/models/{NAME}").expect(200).json
        assert client.get(f"/v2/models/{NAME}/versions/1").expect(200).json == model
        assert model["name"] == NAME and model["versions"] == ["1"], model
        assert [(i["name"], i["datatype"], i["shape"]) for i in model["inputs"]] == [
            ("text", "BYTES", [-1]), ("text2", "BYTES", [-1])], model  # fmt: skip
        assert [output["name"] for output in model["outputs"]] == (EDGE_ANSWER if edge else ANSWER), model
        types = {output["name"]: (output["datatype"], output["shape"]) for output in model["outputs"]}
        assert types["label"] == ("BYTES", [-1]) and types["exit_layer"] == ("INT32", [-1])
        assert types["confidence"] == ("FP32", [-1]) and types["probabilities"] == ("FP32", [-1, len(LABELS)])
        assert client.ask("HEAD", "/v2").expect(200).body == b""
        reply = client.infer(["good"], id="7 \" é")
        assert reply.json["id"] == "7 \" é" and reply.json["model_name"] == NAME, reply.body
        assert reply.json["model_version"] == "1", reply.body
        assert [output["name"] for output in reply.json["outputs"]] == (EDGE_ANSWER if edge else ANSWER)
        assert "id" not in client.infer(["good"]).json


def test_outputs_are_those_asked_for(_):
    for _, client, _ in both():
        reply = client.infer(["a", "b"], outputs=[{"name": "confidence"}, {"name": "label"}])
        assert [output["name"] for output in reply.json["outputs"]] == ["confidence", "label"], reply.body
        nested = {"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": [["a"], ["b"]]}
        assert outputs_of(client.post({"inputs": [nested]}))["label"] == outputs_of(reply)["label"]


def test_pairs(_):
    """The second text counts, and a pair is what a stream makes of it."""
    pairs = list(zip(TEXTS[:8], TEXTS[8:16]))
    table = "text\ttext2\n" + "".join(f"{a}\t{b}\n" for a, b in pairs)
    records = binaries.records_of("--policy", "final", "--input-format", "tsv", stdin=table)
    for program, flags in ((HttpEdge, ("--policy", "final")), (HttpServer, ())):
        with program(*flags) as running, running.client() as client:
            outputs = outputs_of(client.infer([a for a, _ in pairs], second=[b for _, b in pairs]))
            assert near(outputs["confidence"], [record["confidence"] for record in records])
            single = outputs_of(client.infer([a for a, _ in pairs]))
            assert not near(single["confidence"], outputs["confidence"])


def test_same_answers_as_a_stream(folder):
    """Requests one after the other, of one row or of many: what a stream of the same samples gives,
    with a policy that learns too; and the records on file are a stream's."""
    for flags in (FIXED, ("--policy", "splitee", "--alpha", "0.55"), ("--policy", "final")):
        expected = stream(*flags)
        path = os.path.join(folder, "records")
        with HttpEdge(*flags, "--output", path) as edge, edge.client() as client:
            for at, count in ((0, 1), (1, 1), (2, 10), (12, 28)):
                outputs = outputs_of(client.infer(TEXTS[at : at + count]))
                check_equal(outputs, expected[at : at + count])
                for row, confidence in enumerate(outputs["confidence"]):
                    own = outputs["probabilities"][row * len(LABELS) : (row + 1) * len(LABELS)]
                    assert max(own) == confidence and abs(sum(own) - 1) < 1e-5, own
                    seen = outputs["exit_confidences"][row * LAYERS : (row + 1) * LAYERS]
                    layer = outputs["exit_layer"][row]
                    assert seen[layer - 1] == confidence and set(seen[layer:]) <= {-1.0}, seen
            assert edge.stop(signal.SIGTERM) == 0, edge.messages()
        with open(path, encoding="utf-8") as file:
            records = [json.loads(line) for line in file]
        assert binaries.without_times(records) == binaries.without_times(expected)


def test_the_server_runs_every_layer(_):
    """And stops at an earlier exit where it is asked to."""
    expected = stream("--policy", "final", "--exits")
    with HttpServer("--threads", "2", "--max-batch", "4") as server, server.client() as client:
        outputs = outputs_of(client.infer(TEXTS))
        assert outputs["label"] == [record["label"] for record in expected]
        assert near(outputs["confidence"], [record["confidence"] for record in expected])
        assert outputs["exit_layer"] == [LAYERS] * len(TEXTS)
        for layer in range(1, LAYERS + 1):
            outputs = outputs_of(client.infer(TEXTS[:6], parameters={"exit_layer": layer}))
            assert outputs["exit_layer"] == [layer] * 6
            wanted = [p for record in expected[:6] for p in record["exits"][layer - 1]["probabilities"]]
            assert near(outputs["probabilities"], wanted), layer
        client.infer(["a"], parameters={"exit_layer": LAYERS + 1}).expect(400, "exit_layer", str(LAYERS + 1))
        client.infer(["a"], parameters={"exit_layer": "2"}).expect(400, "exit_layer")
    with HttpEdge() as edge, edge.client() as client:
        client.infer(["a"], parameters={"exit_layer": 1}).expect(400, "exit_layer", "policy")


def test_binary_tensors(_):
    """Triton's extension, both ways and mixed, with bytes that JSON cannot hold."""
    texts = [b"good \xff\xfe film", b"with\0a NUL", "schön \u4e2d".encode(), b""]
    for _, client, _ in both():
        data = binary_strings(texts)
        head = {"inputs": [{"name": "text", "shape": [4], "datatype": "BYTES",
                            "parameters": {"binary_data_size": len(data)}}]}  # fmt: skip
        for binary in (True, False):
            head["parameters"] = {"binary_data_output": binary}
            head["outputs"] = [{"name": name} for name in ANSWER[:-1]]
            head["outputs"].append({"name": ANSWER[-1], "parameters": {"binary_data": not binary}})
            encoded = json.dumps(head).encode()
            headers = {"Inference-Header-Content-Length": str(len(encoded))}
            reply = client.post(encoded + data, headers=headers)
            outputs = outputs_of(reply)
            kinds = ["data" in output for output in json.loads(
                reply.body[: int(reply.headers["Inference-Header-Content-Length"])])["outputs"]]  # fmt: skip
            assert kinds == [not binary] * 3 + [binary], kinds
            assert len(outputs["label"]) == 4 and set(outputs["label"]) <= set(LABELS), outputs
            plain = outputs_of(client.infer([texts[1].decode(), texts[2].decode(), ""]))
            assert near(plain["confidence"], outputs["confidence"][1:]), "the same texts as JSON"


def test_binary_errors(_):
    def request(content, size=None, shape=1, length=None, **tensor):
        head = json.dumps({"inputs": [{"name": "text", "shape": [shape], "datatype": "BYTES", "parameters": {
            "binary_data_size": len(content) if size is None else size}, **tensor}]}).encode()  # fmt: skip
        length = str(len(head)) if length is None else length
        return client.post(head + content, headers={"Inference-Header-Content-Length": length})

    with HttpEdge() as edge, edge.client() as client:
        good = binary_strings([b"good"])
        request(good).expect(200)
        request(good, size=len(good) + 1).expect(400, "input 'text'", "are left in the body")
        request(good, size=len(good) - 1).expect(400, "ends in a string")
        request(good + b"\0\0").expect(400, "ends in a length")
        request(good + b"x", size=len(good)).expect(400, "belong to no input")
        request(struct.pack("<I", 0xFFFFFFFF)).expect(400, "ends in a string")
        request(good, shape=2).expect(400, "1 values", "shape says 2")
        request(good, size=-1).expect(400, "binary_data_size")
        request(good, data=["x"]).expect(400, "both")
        for length in ("999999", "-1", "x", "1.5", "99999999999999999999999", "0"):
            request(good, length=length).expect(400)
        request(good).expect(200)


def test_errors(_):
    """Each names what is wrong, and leaves the connection and the program as they were."""
    tensor = text_tensor("text", ["a"])
    wrong = [
        (b"", "not JSON"), (b"{", "not JSON"), (b"[1]", "not a JSON object"), (b'{"inputs": 3}', "inputs"),
        (b"\xff\xfe", "not JSON"), (b'{"inputs": [{"name": "\xff"}]}', "not JSON"), (b"{}\0x", "not JSON"),
        (b'{"a":' * 30 + b"1" + b"}" * 30, "nested"), (b"[" * 100000, "nested"),
        ({}, "no 'inputs'"), ({"inputs": []}, "input 'text' is missing"), ({"inputs": [3]}, "not an object"),
        ({"inputs": [{}]}, "no 'name'"), ({"inputs": [tensor, tensor]}, "twice"),
        ({"inputs": [tensor | {"name": "input_ids"}]}, "input 'input_ids' is unknown"),
        ({"inputs": [tensor | {"datatype": "FP32"}]}, "is of type BYTES, not FP32"),
        ({"inputs": [tensor | {"datatype": None}]}, "datatype"),
        ({"inputs": [tensor | {"shape": [2]}]}, "1 values, but its shape says 2"),
        ({"inputs": [tensor | {"shape": [1, 2]}]}, "shape"), ({"inputs": [tensor | {"shape": []}]}, "shape"),
        ({"inputs": [tensor | {"shape": [-1]}]}, "shape"), ({"inputs": [tensor | {"shape": "1"}]}, "shape"),
        ({"inputs": [tensor | {"shape": [0], "data": []}]}, "0 rows"),
        ({"inputs": [tensor | {"shape": [10**9]}]}, "rows"),
        ({"inputs": [tensor | {"shape": [2**64]}]}, "shape"),
        ({"inputs": [tensor | {"data": [3]}]}, "no string"), ({"inputs": [tensor | {"data": "a"}]}, "no 'data'"),
        ({"inputs": [tensor | {"data": [None]}]}, "no string"), ({"inputs": [tensor], "id": 3}, "'id'"),
        ({"inputs": [tensor], "outputs": [{"name": "logits"}]}, "output 'logits' is unknown"),
        ({"inputs": [tensor], "outputs": [{"name": "label"}, {"name": "label"}]}, "twice"),
        ({"inputs": [tensor], "outputs": {}}, "outputs"), ({"inputs": [tensor], "parameters": 1}, "parameters"),
        ({"inputs": [tensor], "parameters": {"binary_data_output": 1}}, "binary_data_output"),
        ({"inputs": [tensor | {"parameters": {"shared_memory_region": "x"}}]}, "shared_memory_region"),
        ({"inputs": [tensor], "outputs": [{"name": "label", "parameters": {"classification": 1}}]}, "classification"),
        (text_request(["a", "b"], second=["c"]), "'text2' has 1 rows, but 'text' has 2"),
    ]  # fmt: skip
    for _, client, _ in both():
        for body, word in wrong:
            client.post(body).expect(400, word)
        client.infer(["a"]).expect(200)
        for path in ("/v2/models/other", "/v2/models/other/ready", f"/v2/models/{NAME}/versions/2"):
            client.get(path).expect(404, "unknown model", NAME)
        client.post(text_request(["a"]), path="/v2/models/other/infer").expect(404, NAME)
        for path in ("/nope", "/v2x", "/v2/models/", f"/v2/models/{NAME}/", f"/v2/models/{NAME}/infer/x",
                     "/%2e%2e/etc/passwd", "/" + "a" * 5000):  # fmt: skip
            client.get(path).expect(404)
        assert client.get(INFER).expect(405).headers["Allow"] == "POST"
        for path in ("/", "/v2", "/live.json", "/metrics", "/healthz"):
            assert client.ask("POST", path, b"{}", JSON).expect(405).headers["Allow"] == "GET, HEAD"
        client.infer(["a"]).expect(200)


def test_numbers(_):
    """A network on rows of numbers takes FP32 of its width, as JSON and as bytes."""
    name = os.path.basename(NUMBERS).removesuffix(".gguf")
    with HttpEdge("--policy", "final", model=NUMBERS) as edge, edge.client() as client:
        tensor = client.get(f"/v2/models/{name}").expect(200).json["inputs"][0]
        assert tensor["name"] == "numbers" and tensor["datatype"] == "FP32", tensor
        columns = tensor["shape"][1]
        rows = [[round(0.25 * (i * j % 7 - 3), 2) for j in range(columns)] for i in range(5)]
        frames = struct.pack(f"<{5 * columns}f", *sum(rows, []))
        records = binaries.run(EDGE, "--model", NUMBERS, "--quiet", "--policy", "final", "--input-format", "float32",
                               stdin=frames).records  # fmt: skip
        path = f"/v2/models/{name}/infer"
        tensor = {"name": "numbers", "shape": [5, columns], "datatype": "FP32"}
        outputs = outputs_of(client.post({"inputs": [tensor | {"data": rows}]}, path=path))
        check_equal(outputs, records)
        head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(frames)}}]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        check_equal(outputs_of(client.post(head + frames, path, headers)), records)
        wrong = [({"data": rows[:4]}, "values"), ({"shape": [5, columns + 1]}, "shape"), ({"shape": [5]}, "shape"),
                 ({"data": [["a"] * columns] * 5}, "no number"), ({"data": [[1e39] * columns] * 5}, "finite"),
                 ({"data": [[10**400] * columns] * 5}, "")]  # fmt: skip
        for change, word in wrong:
            client.post({"inputs": [tensor | {"data": rows} | change]}, path=path).expect(400, word)
        nan = struct.pack(f"<{5 * columns}f", *([float("nan")] * 5 * columns))
        client.post(head + nan, path, headers).expect(400, "finite")


def test_token(folder):
    """With a token everything but the health checks and the bare page wants it."""
    path = binaries.write(folder, "token", TOKEN + "\n")
    for program in (HttpEdge, HttpServer):
        with program("--http-token-file", path) as running, running.client() as stranger:
            with running.client(token=TOKEN) as client:
                client.infer(["a"]).expect(200)
                client.get("/live.json").expect(200)
            for open_path in ("/", "/healthz", "/livez", "/v2/health/live", "/v2/health/ready"):
                assert stranger.get(open_path).status == 200, open_path
            for closed in ("/live.json", "/metrics", "/v2", f"/v2/models/{NAME}", "/v2/models/other"):
                assert stranger.get(closed).expect(401).headers["WWW-Authenticate"] == "Bearer", closed
            stranger.infer(["a"]).expect(401)
            for value in ("Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, "Basic " + TOKEN):
                stranger.get("/v2", Authorization=value).expect(401)
            stranger.get("/v2", Authorization=f"Bearer {TOKEN}", Host="any.name").expect(200)


def refused_start(program, *flags, status=1):
    return binaries.run(program, "--model", MODEL, *flags, status=status)


def test_who_may_connect(folder):
    """Beyond loopback it takes a token or --insecure; bad tokens and addresses are named."""
    token = binaries.write(folder, "token", TOKEN)
    server = ("--bind", binaries.ANY_PORT)
    for program, more in ((EDGE, ()), (SERVER, server)):
        for address in ("0.0.0.0:0", "[::]:0", "*:0"):
            refused_start(program, *more, "--http", address).expect(1, address, "--insecure")
        for content in ("", "short", "two words are no token", "x" * 600, "caf\u00e9" * 5, "a" * 20 + "\nb"):
            bad = binaries.write(folder, "bad", content)
            refused_start(program, *more, "--http", ANY, "--http-token-file", bad).expect(1, bad, "token")
        missing = os.path.join(folder, "missing")
        refused_start(program, *more, "--http", ANY, "--http-token-file", missing).expect(1, missing)
        refused_start(program, *more, "--http", ANY, "--http-token-file", os.path.dirname(missing)).expect(
            1, os.path.dirname(missing), "not a regular file")  # fmt: skip
        for address in ("nonsense", "127.0.0.1", "127.0.0.1:x", ":80", "127.0.0.1:99999"):
            refused_start(program, *more, "--http", address, status=2).expect(2, "--http " + address)
        refused_start(program, *more, "--http-token-file", token, status=2).expect(2, "--http")
    refused_start(EDGE, "--http", ANY, "--input", token, status=2).expect(2, "--input")
    with HttpEdge("--http-token-file", token, address="0.0.0.0:0") as edge:
        with HttpClient(edge.url.replace("0.0.0.0", "127.0.0.1"), TOKEN) as client:
            client.infer(["a"]).expect(200)
        taken = edge.url.removeprefix("http://").replace("0.0.0.0", "127.0.0.1")
        refused_start(EDGE, "--http", taken).expect(1, taken, "in use")
    with HttpEdge("--insecure", address="0.0.0.0:0") as edge:
        with HttpClient(edge.url.replace("0.0.0.0", "127.0.0.1")) as client:
            client.get("/v2", Host="any.name").expect(200)


def test_browsers(_):
    """A page of another origin gets nothing done, nor does a name that was pointed here; the live page
    may run its own script alone."""
    with HttpEdge() as edge, edge.client() as client:
        own = {"Origin": edge.url, "Sec-Fetch-Site": "same-origin"}
        client.post(text_request(["a"]), headers=JSON | own).expect(200)
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
                        {"Sec-Fetch-Site": "same-site"}, {"Origin": edge.url.replace("http:", "")},
                        {"Origin": f"http://127.0.0.1:{client.port + 1}"}):  # fmt: skip
            client.post(text_request(["a"]), headers=JSON | headers).expect(403)
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json"):
            client.post(text_request(["a"]), headers=own | {"Content-Type": kind}).expect(415)
        client.post(text_request(["a"]), headers=own).expect(415)
        client.post(text_request(["a"]), headers=own | {"Content-Type": "Application/JSON; charset=utf-8"}).expect(200)
        for name in ("evil.example", f"evil.example:{client.port}", "localhost.evil.example", "127.0.0.1.evil.example"):
            client.get("/live.json", Host=name).expect(403, "Host")
            client.post(text_request(["a"]), headers=JSON | {"Host": name, "Origin": f"http://{name}"}).expect(403)
        for name in ("localhost", "LocalHost", f"localhost:{client.port}", "127.0.0.1", "[::1]:80"):
            client.get("/live.json", Host=name).expect(200)
        assert client.ask("OPTIONS", INFER, headers={"Origin": "http://evil.example"}).status == 405
        page = client.get("/").expect(200)
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy, policy
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        text = page.body.decode()
        own = text.replace('$("preview").src = reader.result;', "")  # the picture that was dropped
        assert not re.search(r"(src|href)\s*=|@import|innerHTML|url\(", own), "an outside resource, or raw HTML"
        assert "Access-Control-Allow-Origin" not in page.headers


def test_live_figures(_):
    """The page's figures count what was answered, and hold no text."""
    with HttpEdge(*FIXED) as edge, edge.client() as client:
        before = live(client)
        assert before["recent"]["first"] == 0 and before["recent"]["exit_layer"] == [], before
        outputs = outputs_of(client.infer(["a secret word", *TEXTS[:6]]))
        figures = live(client)
        assert figures["recent"]["exit_layer"] == outputs["exit_layer"], figures
        assert figures["recent"]["route"] == outputs["route"], figures
        assert figures["recent"]["latency_us"] == outputs["latency_us"], figures
        assert figures["summary"]["samples"] == 7 and figures["model"]["name"] == NAME, figures
        assert figures["link"] == {"configured": False, "up": False, "problem": ""}, figures
        assert "secret" not in json.dumps(figures)
        client.infer(TEXTS * 6).expect(200)
        figures = live(client)
        assert figures["recent"]["first"] == 47 and len(figures["recent"]["upper"]) == 200, figures["recent"]["first"]
        metrics = client.get("/metrics").expect(200).body.decode()
        assert sum(map(int, re.findall(r'^splitee_edge_samples_total\{.*\} (\d+)$', metrics, re.M))) == 247, metrics
        assert 'splitee_http_answers_total{status="2xx"}' in metrics, metrics
        check_prometheus(metrics)
    with HttpServer() as server, server.client() as client:
        client.infer(TEXTS).expect(200)
        figures = live(client)
        assert figures["rows"] == 40 and figures["recent"]["exit_layer"] == [LAYERS] * 40, figures
        metrics = client.get("/metrics").expect(200).body.decode()
        assert "splitee_http_rows_total 40\n" in metrics and "splitee_requests_total 0\n" in metrics, metrics
        check_prometheus(metrics)


def check_prometheus(text):
    """Each family has its type before its samples; every sample a number."""
    typed = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            typed.add(line.split()[2])
        elif not line.startswith("#"):
            name = re.fullmatch(r"([a-z_]+)(\{.*\})? [-+.\dena]+", line)
            assert name, line
            family = re.sub(r"_(bucket|sum|count)$", "", name[1])
            assert name[1] in typed or family in typed, line


def test_disagreement_is_shown(_):
    with HttpEdge("--policy", "audited") as edge, edge.client() as client:
        client.infer(TEXTS).expect(200)
        figures = live(client)
        told = figures["summary"]["disagreement"]
        assert told["limit"] == 0.01 and 0 < told["audited"] <= len(TEXTS), told
        assert all(0 <= bound <= 1 for bound in figures["recent"]["upper"]), figures
        metrics = client.get("/metrics").body.decode()
        assert f"splitee_edge_audited_total {told['audited']}\n" in metrics, metrics
        upper = float(re.search(r"^splitee_edge_disagreement_upper (.*)$", metrics, re.M)[1])
        assert abs(upper - told["upper"]) < 1e-6 and 0 <= upper <= 1, (upper, told)


def test_many_clients(folder):
    """Each of many clients at once gets the answers to its own texts; the records are one stream's."""
    expected = {record["id"]: record for record in stream(*FIXED)}
    order = [[(7 * client + 3 * turn) % len(TEXTS) for turn in range(12)] for client in range(24)]

    def run(running, mine, check):
        with running.client() as client:
            for at in range(0, len(mine), 3):
                part = mine[at : at + 3]
                check(outputs_of(client.infer([TEXTS[i] for i in part])), part)

    def edge_check(outputs, part):
        check_equal(outputs, [expected[i] for i in part])

    path = os.path.join(folder, "records")
    with HttpEdge(*FIXED, "--output", path) as edge:
        at_once([lambda mine=mine: run(edge, mine, edge_check) for mine in order])
        with edge.client() as client:
            assert live(client)["summary"]["samples"] == 24 * 12
        assert edge.stop(signal.SIGTERM) == 0, edge.messages()
    records = [json.loads(line) for line in binaries.read(path).splitlines()]
    binaries.check_ids(records)
    wanted = [expected[i] for mine in order for i in mine]
    assert sorted(binaries.answers(records)) == sorted(binaries.answers(wanted))
    whole = stream("--policy", "final")

    def server_check(outputs, part):
        assert near(outputs["confidence"], [whole[i]["confidence"] for i in part])
        assert outputs["label"] == [whole[i]["label"] for i in part]

    with HttpServer("--threads", "2") as server:
        at_once([lambda mine=mine: run(server, mine, server_check) for mine in order])


def test_edge_with_a_server(_):
    """Requests go through the same link as a stream: offloads, and the end of the server."""
    with binaries.Server() as server:
        flags = ("--server", server.endpoint, "--policy", "offload")
        expected = stream(*flags, "--require-server")
        with HttpEdge(*flags, "--require-server") as edge, edge.client() as client:
            outputs = outputs_of(client.infer(TEXTS))
            check_equal(outputs, expected)
            assert outputs["route"] == ["offload"] * len(TEXTS), outputs["route"]
            assert outputs["exit_layer"] == [LAYERS] * len(TEXTS)
            assert near([max(outputs["probabilities"][2 * i : 2 * i + 2]) for i in range(len(TEXTS))],
                        outputs["confidence"])  # fmt: skip
            assert live(client)["link"] == {"configured": True, "up": True, "problem": ""}
            assert "splitee_edge_link_up 1\n" in client.get("/metrics").body.decode()

            def ask(texts):
                with edge.client() as own:
                    return outputs_of(own.infer(texts))

            at_once([lambda i=i: check_equal(ask(TEXTS[i : i + 2]), expected[i : i + 2]) for i in range(0, 38, 2)])
            server.kill()
            until_live(client, lambda figures: not figures["link"]["up"])
            outputs = outputs_of(client.infer(TEXTS[:5]))
            assert set(outputs["route"]) == {"fallback"}, outputs["route"]
            assert outputs["label"] == [record["label"] for record in expected[:5]]
            assert live(client)["link"]["problem"] != ""


def test_state_is_kept(folder):
    """One policy's state, saved and taken up again, as with a stream."""
    state = os.path.join(folder, "state")
    flags = ("--policy", "splitee", "--state", state)
    for _ in range(2):
        with HttpEdge(*flags) as edge, edge.client() as client:
            client.infer(TEXTS).expect(200)
            assert edge.stop(signal.SIGTERM) == 0, edge.messages()
    other = os.path.join(folder, "other")
    stream("--policy", "splitee", "--state", other)
    stream("--policy", "splitee", "--state", other)
    assert binaries.read(state) == binaries.read(other)


def raw(running):
    client = running.client()
    connection = socket.create_connection((client.host, client.port), TIMEOUT_S)
    client.close()
    return connection


def test_limits_of_bodies(_):
    for _, client, _ in both():
        client.post(b'{"x": "' + b"a" * (3 << 20) + b'"}').expect(413, "longer than")
        chunks = (b"x" * 65536 for _ in range(64))
        client.connection.request("POST", INFER, chunks, JSON, encode_chunked=True)
        reply = client.connection.getresponse()
        assert (reply.status, set(json.loads(reply.read()))) == (413, {"error"})
        client.post(text_request(["a"] * 1025)).expect(400, "1025 rows")
        client.infer(["word " * 100000]).expect(200)
        client.close()


def test_limits_of_headers(_):
    """A flood of headers is cut; others are served meanwhile."""
    for running, client, _ in both():
        with raw(running) as flood:
            try:
                flood.sendall(b"GET /v2 HTTP/1.1\r\nHost: 127.0.0.1\r\n")
                for number in range(20000):
                    flood.sendall(b"X-%d: %s\r\n" % (number, b"y" * 100))
                reply = flood.recv(65536)
            except (ConnectionResetError, BrokenPipeError):
                reply = b""
            assert reply == b"" or b" 431 " in reply or b" 413 " in reply, reply
        client.infer(["a"]).expect(200)


def test_broken_requests(_):
    """Bytes that are no HTTP harm nobody."""
    for running, client, _ in both():
        for data in (b"\0" * 100, b"nonsense\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                     b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
                     b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nabc",
                     b"POST " + INFER.encode() + b" HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                     bytes(range(256)) * 50):  # fmt: skip
            with raw(running) as connection:
                try:
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)
                    assert b" 200 " not in connection.recv(65536)
                except OSError:
                    pass  # it was cut already
        client.infer(["a"]).expect(200)


def test_a_thousand_connections(_):
    """A thousand that say nothing, and requests beside them; beyond that the oldest silent ones go."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = min(1000, hard // 2 if hard != resource.RLIM_INFINITY else 1000)
    own = min(most + 20, hard - 50)
    if own < most + 20:
        print(f"  {hard} open files are allowed: {own} connections instead of {most + 20}")
    for running, client, _ in both():
        client.infer(["a"]).expect(200)
        silent = [raw(running) for _ in range(own)]
        if own == most + 20:
            patiently(lambda: closed(silent[0]))
        with running.client() as late:
            late.infer(["a"]).expect(200)
        assert not closed(silent[-1])
        several = [running.client() for _ in range(20)]
        for one in several:
            one.infer(["a"]).expect(200)
        for one in silent + several:
            one.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def closed(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_slow_clients_and_the_end(folder):
    """Clients that send byte by byte, or never end, hold up neither others nor the end of the program:
    whole requests are answered before it."""
    summary = os.path.join(folder, "summary")
    for program, flags in ((HttpEdge, ("--summary-json", summary)), (HttpServer, ())):
        with program(*flags) as running, running.client() as client:
            slow = [raw(running) for _ in range(50)]
            for number, connection in enumerate(slow):
                body = b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{"
                connection.sendall(body[: 1 + number] if number % 2 else body)
            client.infer(TEXTS).expect(200)
            assert running.stop(signal.SIGTERM) == 0, running.messages()
            for connection in slow:
                connection.settimeout(TIMEOUT_S)
                try:
                    assert b" 200 " not in connection.recv(65536)
                except ConnectionResetError:
                    pass
                connection.close()
    assert json.loads(binaries.read(summary))["samples"] == len(TEXTS)


def test_the_end_answers_everything(_):
    """Of many requests at the moment of SIGTERM each gets its answer or 503, none is left without."""
    for program in (HttpEdge, HttpServer):
        with program("--threads", "1") as running:
            clients = [running.client() for _ in range(16)]
            for client in clients:
                client.connection.request("POST", INFER, json.dumps(text_request(TEXTS * 5)).encode(), JSON)
            first = clients[0].connection.getresponse()
            first.read()
            running.process.send_signal(signal.SIGTERM)
            kinds = set()
            for client in clients[1:]:
                try:
                    reply = client.connection.getresponse()
                    body = reply.read()
                    Reply(reply.status, reply.headers, body).expect(reply.status)
                    kinds.add(reply.status)
                except ConnectionResetError:
                    kinds.add("reset")  # it had not been accepted yet
                client.close()
            assert kinds <= {200, 503, "reset"}, kinds
            assert running.process.wait(TIMEOUT_S) == 0, running.messages()


def test_too_much_work_is_refused(_):
    """Rows that wait are bounded: what comes beyond is told so at once, and may come again."""
    with HttpEdge("--policy", "final", "--slowdown", "50") as edge:
        texts = TEXTS * 25
        waiting = [edge.client() for _ in range(6)]
        for client in waiting:
            client.connection.request("POST", INFER, json.dumps(text_request(texts)).encode(), JSON)
        ready = []

        def one_is_refused():
            for client in waiting:
                client.connection.sock.setblocking(False)
                try:
                    if client.connection.sock.recv(1, socket.MSG_PEEK):
                        ready.append(client)
                except BlockingIOError:
                    pass
                client.connection.sock.setblocking(True)
            return bool(ready)

        patiently(one_is_refused)
        reply = ready[0].connection.getresponse()
        assert reply.status == 503 and reply.headers["Retry-After"] == "1", reply.status
        for client in waiting:
            client.close()
        edge.process.kill()


def test_reload(folder):
    """SIGHUP replaces the model for HTTP, too."""
    path = os.path.join(folder, f"{NAME}.gguf")
    binaries.write(folder, f"{NAME}.gguf", binaries.read(MODEL))
    old = stream("--policy", "final")
    with HttpServer(model=path) as server, server.client() as client:
        assert near(outputs_of(client.infer(TEXTS))["confidence"], [record["confidence"] for record in old])
        binaries.write(folder, "next", binaries.read(OTHER_MODEL))
        os.replace(os.path.join(folder, "next"), path)
        server.send(signal.SIGHUP)
        patiently(lambda: "reloaded" in server.messages())
        new = binaries.records_of("--policy", "final", stdin=binaries.lines(TEXTS), model=OTHER_MODEL)
        assert near(outputs_of(client.infer(TEXTS))["confidence"], [record["confidence"] for record in new])
        assert not near([record["confidence"] for record in new], [record["confidence"] for record in old])


if __name__ == "__main__":
    binaries.main(globals())
