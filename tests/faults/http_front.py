"""A client of raw bytes for splitee-edge --http and splitee-server --http, which says what they answer to
requests that no client should send, and that they are as before afterwards. For published_http_*_test.py."""

import contextlib
import json
import re
import socket
import time
import urllib.parse

from published import bound, peak_kb
from binaries import TIMEOUT_S
from http_service import INFER, NAME, HttpEdge, HttpServer, text_tensor

GROWTH_KB = 64 << 10
MOMENT_S = 0.3  # for what must not come: never for what must
CLOSING_S = 30  # for a close that must come
CLOSED = 0  # instead of a status: closed without an answer
OUTPUTS = [{"name": name} for name in ("label", "confidence", "exit_layer", "probabilities")]
GOOD = {"id": "7", "inputs": [text_tensor("text", ["ba be bi", "gu"])], "outputs": OUTPUTS}
BODY = json.dumps(GOOD).encode()
HOST, JSON = "Host: localhost", "Content-Type: application/json"
CLOSE, CHUNKED = "Connection: close", "Transfer-Encoding: chunked"
PAGES = ("/", "/v2", "/live.json", "/metrics", "/healthz", f"/v2/models/{NAME}", INFER)
HEADERS = {"date", "connection", "content-length", "content-type", "cache-control", "x-content-type-options", "allow",
           "cross-origin-resource-policy", "content-security-policy", "referrer-policy"}  # fmt: skip


def request(method, path, *headers, body=b"", version="HTTP/1.1", host=HOST):
    lines = [f"{method} {path} {version}", *([host] if host else []), *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def post(*headers, body=BODY, **more):
    return request("POST", INFER, JSON, *headers, body=body, **more)


def length(body=BODY):
    return f"Content-Length: {len(body)}"


def chunks(body=BODY, size=40, extension=b"", end=b"0\r\n\r\n"):
    parts = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts) + end


HIDDEN = request("GET", "/livez")  # what a request smuggled in asks for


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}"


def answers_in(said, heads=False):
    """The whole answers in these bytes, which must hold nothing else; `heads`: they have no bodies."""
    answers = []
    while b"\r\n\r\n" in said:
        head, _, rest = said.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        assert re.fullmatch(r"HTTP/1\.[01] \d{3} [\w '-]+", first), first
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        assert len(headers) == len(lines) and set(headers) <= HEADERS, head
        status = int(first.split()[1])
        size = 0 if heads or status < 200 else int(headers["content-length"])
        if len(rest) < size:
            break
        answers.append(Answer(status, headers, rest[:size]))
        said = rest[size:]
    return answers


class Front:
    """A program that serves HTTP, and must go on doing so."""

    def __init__(self, running):
        self.running, self.tried = running, 0
        url = urllib.parse.urlsplit(running.url)
        self.address = (url.hostname, url.port)
        bound(running.process.pid, memory_bytes=6 << 30)
        self.good = self.ask(BODY).body
        assert len(json.loads(self.good)["outputs"]) == len(OUTPUTS), self.good
        # That a second request on a connection is answered is what tells the first one's end.
        first, second = self.takes(post(length()) + HIDDEN, count=2)
        assert (first.body, second.body) == (self.good, b"ok\n")
        for body in (b"[" + b"0," * 900_000 + b"0]", json.dumps(GOOD | {"id": "x" * 1_500_000}).encode()):
            self.ask(body, status=(200, 400))  # the memory of large requests of the right kind
        self.before_kb = peak_kb(running.process.pid)

    def connect(self):
        return socket.create_connection(self.address, TIMEOUT_S)

    def talk(self, data, wait=1, closing=False, heads=False):
        """What is answered to these bytes until the connection is closed, or nothing more comes for a moment;
        and whether it was closed.

        wait: so many answers will come, or a close, however late. closing: a close will."""
        self.tried += 1
        said = b""
        with self.connect() as connection:
            try:
                connection.sendall(data)
            except (ConnectionResetError, BrokenPipeError):
                pass  # refused before its end
            while True:
                late = len(answers_in(said, heads)) >= wait
                connection.settimeout((CLOSING_S if closing else MOMENT_S) if late else TIMEOUT_S)
                try:
                    part = connection.recv(1 << 16)
                except ConnectionResetError:
                    part = b""
                except TimeoutError:
                    assert late, f"{self.running.process.args[0]} says nothing to {data[:300]!r}"
                    return answers_in(said, heads), False
                if not part:
                    return answers_in(said, heads), True
                said += part

    def takes(self, data, count=1, status=200, **more):
        """So many answers of this status, and no more."""
        answers, _ = self.talk(data, wait=count, **more)
        assert [answer.status for answer in answers] == [status] * count, f"{answers}\n{data[:300]!r}"
        return answers

    def refuses(self, data, *statuses, **more):
        """One answer, of 400 or these statuses, or none if CLOSED is one of them; and the connection is closed."""
        answers, closed = self.talk(data, closing=True, **more)
        told = [answer.status for answer in answers] or [CLOSED]
        assert closed and len(told) == 1 and told[0] in (statuses or (400,)), f"{answers} {closed}\n{data[:300]!r}"
        return answers

    def ask(self, body=b"", *headers, method="POST", path=INFER, status=200, host=HOST):
        """The only answer to one request, of this status."""
        more = [JSON, length(body)] if method == "POST" else []
        data = request(method, path, *more, *headers, CLOSE, body=body, host=host)
        answers, closed = self.talk(data, closing=True, heads=method == "HEAD")
        wanted = status if isinstance(status, tuple) else (status,)
        assert closed and len(answers) == 1 and answers[0].status in wanted, f"{answers}\n{data[:300]!r}"
        return answers[0]

    def get(self, path, *headers, **more):
        return self.ask(b"", *headers, method="GET", path=path, **more)

    def wrong(self, body, *headers, word=""):
        """A body that is refused with a message, which is JSON and short."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        error = json.loads(self.ask(data, *headers, status=400).body.decode())["error"]
        assert word in error and len(error) < 1000, error

    def same(self, data):
        """A request that looks strange, and is the good one."""
        data = data.replace(b"\r\n\r\n", f"\r\n{CLOSE}\r\n\r\n".encode(), 1)
        assert self.takes(data)[0].body == self.good

    def never(self, several, *statuses):
        """Requests without an end, each on a connection of its own: no answer comes, or one of 400 or these."""
        self.tried += 1
        with contextlib.ExitStack() as held:
            connections = [held.enter_context(self.connect()) for _ in several]
            for connection, data in zip(connections, several):
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    connection.sendall(data)
            self.check()  # while they wait
            time.sleep(MOMENT_S)
            for connection, data in zip(connections, several):
                connection.setblocking(False)
                said = b""
                with contextlib.suppress(BlockingIOError, ConnectionResetError):
                    said = connection.recv(1 << 16)
                answers = answers_in(said)
                assert [answer.status for answer in answers] in ([], *([status] for status
                                                                       in (400, *statuses))), (answers, data[:300])  # fmt: skip

    def check(self):
        assert self.running.process.poll() is None, self.running.messages()
        assert self.ask(BODY).body == self.good

    def bounded(self):
        self.check()
        grown = peak_kb(self.running.process.pid) - self.before_kb
        assert grown < GROWTH_KB, f"{grown} KiB more than before"


class Fronts:
    """An edge and a server."""

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        edge = self.stack.enter_context(HttpEdge("--policy", "final"))
        self.all = [Front(edge), Front(self.stack.enter_context(HttpServer()))]
        return self

    def __exit__(self, *_):
        self.stack.close()

    def each(self):
        """One after the other, each of which must then be as it was, and have been asked something."""
        for front in self.all:
            front.tried = 0
            yield front
            assert front.tried > 0
            front.bounded()
