"""What the tests of HTTP share: programs that serve, and requests to them. Arguments as binaries.py."""

import http.client
import json
import queue
import struct
import subprocess
import tempfile
import threading
import urllib.parse

import binaries
from binaries import EDGE, MODEL, TIMEOUT_S, Server, patiently

ANY = "127.0.0.1:0"
JSON = {"Content-Type": "application/json"}
NAME = MODEL.rpartition("/")[2].removesuffix(".gguf")
INFER = f"/v2/models/{NAME}/infer"
DATATYPES = {"FP32": ("f", 4), "INT32": ("i", 4), "INT64": ("q", 8)}


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def expect(self, status, *words):
        assert self.status == status, f"{self.status}, {status} expected: {self.body[:500]!r}"
        for word in words:
            assert word in self.body.decode(), f"{word!r} expected: {self.body[:500]!r}"
        if status >= 400:
            assert set(self.json) == {"error"} and isinstance(self.json["error"], str), self.body
        return self


class HttpClient:
    """Requests over one connection that is kept."""

    def __init__(self, url, token=None):
        self.host, self.port = urllib.parse.urlsplit(url).hostname, urllib.parse.urlsplit(url).port
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)

    def ask(self, method, path, body=None, headers=None):
        self.connection.request(method, path, body, self.headers | (headers or {}))
        reply = self.connection.getresponse()
        return Reply(reply.status, reply.headers, reply.read())

    def get(self, path, **headers):
        return self.ask("GET", path, headers=headers)

    def post(self, body, path=INFER, headers=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", path, data, JSON if headers is None else headers)

    def infer(self, texts, **more):
        return self.post(text_request(texts, **more))

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def text_tensor(name, texts):
    return {"name": name, "shape": [len(texts)], "datatype": "BYTES", "data": texts}


def text_request(texts, second=None, **more):
    inputs = [text_tensor("text", texts)]
    if second is not None:
        inputs.append(text_tensor("text2", second))
    return {"inputs": inputs, **more}


def binary_strings(values):
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def outputs_of(reply):
    """Values by name, whichever way they came; shapes and types are checked."""
    reply.expect(200)
    length = reply.headers["Inference-Header-Content-Length"]
    head = json.loads(reply.body[: int(length)] if length else reply.body)
    rest = reply.body[int(length) :] if length else b""
    result = {}
    for output in head["outputs"]:
        if "data" in output:
            values = output["data"]
        else:
            size = output["parameters"]["binary_data_size"]
            values, rest = read_binary(rest[:size], output["datatype"]), rest[size:]
        count = 1
        for side in output["shape"]:
            count *= side
        assert len(values) == count, output
        result[output["name"]] = values
    assert not rest, rest
    return result


def read_binary(data, datatype):
    if datatype != "BYTES":
        code, size = DATATYPES[datatype]
        return list(struct.unpack(f"<{len(data) // size}{code}", data))
    values = []
    while data:
        (size,) = struct.unpack_from("<I", data)
        values.append(data[4 : 4 + size].decode())
        data = data[4 + size :]
    return values


class HttpEdge:
    """A splitee-edge that serves."""

    def __init__(self, *flags, address=ANY, model=MODEL):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([EDGE, "--model", model, "--http", address, *map(str, flags)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log)  # fmt: skip
        first = self.process.stdout.readline().decode()
        assert first.startswith("listening on http://"), f"{first!r}\n{self.messages()}"
        self.url = first.split()[-1]

    messages = binaries.LiveEdge.messages

    def client(self, **more):
        return HttpClient(self.url, **more)

    def stop(self, number):
        """Its exit status after a signal."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=TIMEOUT_S)
        self.log.close()


class HttpServer(Server):
    """A splitee-server that serves HTTP, too."""

    def __init__(self, *flags, address=ANY, **more):
        super().__init__("--http", address, *flags, **more)
        self.url = next(line.split()[-1].rstrip("/") for line in self.messages().splitlines()
                        if line.startswith("splitee-server: HTTP at "))  # fmt: skip

    def client(self, **more):
        return HttpClient(self.url, **more)

    def stop(self, number):
        self.send(number)
        return self.wait()[0]


def at_once(jobs):
    """Runs functions in threads of their own; their results in order, or the first error."""
    results = queue.Queue()

    def work(number, job):
        try:
            results.put((number, job(), None))
        except BaseException as error:
            results.put((number, None, error))

    for number, job in enumerate(jobs):
        threading.Thread(target=work, args=(number, job), daemon=True).start()
    done = sorted((results.get(timeout=TIMEOUT_S) for _ in jobs), key=lambda result: result[0])
    for _, _, error in done:
        if error is not None:
            raise error
    return [result for _, result, _ in done]


def live(client):
    return client.get("/live.json").expect(200).json


def until_live(client, condition):
    patiently(lambda: condition(live(client)))
