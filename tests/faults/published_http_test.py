#!/usr/bin/env python3
"""Published faults of HTTP servers, of readers of JSON and of other inference servers, replayed as raw bytes on
splitee-edge --http and splitee-server --http. After each both programs, with bounded memory, give the same bytes
as before to a good request.

Arguments: EDGE SERVER TOOL MODEL OTHER_MODEL [number ...]
"""

import contextlib
import gzip
import json
import os
import re
import socket
import struct
import sys
import time
import urllib.parse
import zlib

WANTED = sys.argv[6:]

from published import bound, case, main, peak_kb
from binaries import TIMEOUT_S
from http_service import INFER, NAME, HttpEdge, HttpServer, binary_strings, text_tensor  # noqa: E402

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


# --- where a request ends ---


@case("CVE-2005-2088", "CVE-2019-20445", "CVE-2020-10109")
def length_and_chunks(_, fronts):
    """Both Content-Length and Transfer-Encoding, in either order: refused, and nothing behind it is read."""
    for front in fronts.each():
        end = b"0\r\n\r\n" + HIDDEN
        front.refuses(post(length(end), CHUNKED, body=end))
        front.refuses(post(CHUNKED, length(end), body=end))
        front.refuses(post(CHUNKED, "Content-Length: 4", body=chunks() + HIDDEN))
        front.refuses(request("GET", "/v2", "Content-Length: 0", CHUNKED, body=end))
        front.same(post(CHUNKED, body=chunks()))


@case("CVE-2005-2090", "CVE-2015-5740", "CVE-2019-16792", "CVE-2020-10108")
def two_lengths(_, fronts):
    for front in fronts.each():
        for first, second in ((len(BODY), 0), (0, len(BODY)), (len(BODY), len(BODY) + len(HIDDEN)),
                              (len(BODY), len(BODY))):  # fmt: skip
            front.refuses(post(f"Content-Length: {first}", f"content-length: {second}", body=BODY + HIDDEN))
        for value in (f"{len(BODY)}, {len(BODY)}", f"{len(BODY)},0", f"{len(BODY)} 0"):
            front.refuses(post(f"Content-Length: {value}", body=BODY + HIDDEN))


@case("CVE-2014-0099", "CVE-2022-24761", "CVE-2023-40225")
def lengths_that_are_none(_, fronts):
    """Signs, other bases, separators, nothing at all, and lengths that wrap to the right one."""
    n = len(BODY)
    for front in fronts.each():
        for value in (f"+{n}", f"-{n}", hex(n), f"{n}_0", f"{n}.0", f"{n}e0", "", "abc", "\xb2", f"{n};x"):
            front.refuses(post(f"Content-Length: {value}", body=BODY + HIDDEN))
        for value in (2**64 + n, 2**64, 10**40 + n, 2**63):
            front.refuses(post(f"Content-Length: {value}", body=BODY + HIDDEN), 400, 413)
        for size in (b"+%x", b"-%x", b"0x%x", b" %x", b"%x_", b"%x.0", b"\t%x", b"%x g"):
            front.refuses(post(CHUNKED, body=size % n + b"\r\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN))


@case("CVE-2019-16786", "CVE-2019-16789", "CVE-2020-8287", "CVE-2022-32213", "CVE-2024-1135")
def other_encodings(_, fronts):
    """Transfer-Encoding that is not "chunked", said once; nor known to HTTP/1.0."""
    for front in fronts.each():
        for value in ("xchunked", "chunkedx", "chunked, identity", "gzip, chunked", "chunked, chunked", "identity", "",
                      "\x0bchunked", "chunked\x0b", "chunked;q=1", '"chunked"', "\xa0chunked", "chunked, "):  # fmt: skip
            front.refuses(post(f"Transfer-Encoding: {value}", body=chunks() + HIDDEN))
            front.refuses(post(f"Transfer-Encoding: {value}", length(), body=BODY + HIDDEN))
        for second in ("identity", "chunked", "gzip", ""):
            front.refuses(post(CHUNKED, f"Transfer-Encoding: {second}", body=chunks() + HIDDEN))
            front.refuses(post(f"Transfer-Encoding: {second}", CHUNKED, body=chunks() + HIDDEN))
        front.refuses(post(CHUNKED, version="HTTP/1.0", body=chunks() + HIDDEN))
        front.same(post("tRANSFER-eNCODING:   ChUnKeD", body=chunks()))


@case("CVE-2019-16276", "CVE-2019-16869", "CVE-2020-7238", "CVE-2021-22959")
def spaces_around_names(_, fronts):
    for front in fronts.each():
        for name in ("Transfer-Encoding ", "Transfer-Encoding\t", "Transfer Encoding", " Transfer-Encoding",
                     "\tTransfer-Encoding"):  # fmt: skip
            front.refuses(request("POST", INFER, f"{name}: chunked", HOST, length(), host="", body=BODY + HIDDEN))
        front.refuses(post(f"Content-Length : {len(BODY)}", body=BODY + HIDDEN))
        front.refuses(post(f"Content Length: {len(BODY)}", "Content-Length: 0", body=BODY + HIDDEN))


@case("CVE-2019-20444", "CVE-2023-25725", "gnunet#9634")
def names_that_are_none(_, fronts):
    """Lines without a colon or a name, and names of any bytes."""
    for front in fronts.each():
        front.refuses(post("no colon", length(), body=BODY + HIDDEN))
        for line in (":", ": x", ":: x", "\0", "\0: x"):
            # Some versions of the library end the headers there: what follows is then no request.
            answers, closed = front.talk(post(line, length(), body=BODY + HIDDEN), closing=True)
            assert closed and {answer.status for answer in answers} == {400}, answers
        for byte in b'\1\2\7\b\v\f\x1b\x1f"(),/;<=>?@[\\]{}\x7f\x80\xa0\xff':
            front.refuses(post(f"X{chr(byte)}Y: 1", length(), body=BODY + HIDDEN))
        front.same(post("!#$%&'*+-.^_`|~09azAZ: 1", length()))


@case("CVE-2021-40346")
def long_names(_, fronts):
    """A name whose length wraps in 8 bits is just another name."""
    for front in fronts.each():
        for size in (255, 256, 270, 512, 4096):
            front.same(post("Content-Length0".ljust(size, "a") + ":", f"{'X' * size}: 5", length()))
            front.same(post("Transfer-Encoding".ljust(size, "a") + ": chunked", length()))


@case("CVE-2022-32215", "CVE-2025-32094")
def folded_lines(_, fronts):
    """Refused, or read as one line: then they are no length, and no name's second half."""
    for front in fronts.each():
        for space in (" ", "\t", "   \t"):
            for header in (f"Transfer-Encoding:\r\n{space}chunked", f"Transfer-Encoding: chunked\r\n{space}x",
                           f"Transfer-Enc: chunked\r\n{space}oding",
                           f"X: a\r\n{space}Transfer-Encoding: chunked", f"Content-Length: 0\r\n{space}{len(BODY)}",
                           f"Content-Len: {len(BODY)}\r\n{space}gth"):  # fmt: skip
                front.refuses(post(header, body=BODY + HIDDEN))
            body = HIDDEN + HIDDEN
            front.refuses(request("OPTIONS", "/v2", f"Expect:\r\n{space}100-continue", length(body), body=body))
            answers, _ = front.talk(request("GET", "/livez", f"X: a\r\n{space}b", "Y: c") + HIDDEN, wait=2)
            assert [answer.status for answer in answers] in ([400], [200, 200]), answers


@case("CVE-2019-16785", "CVE-2022-32214", "CVE-2023-30589")
def bare_line_ends(_, fronts):
    """What a line feed or a carriage return alone could hide from others makes two lengths, or nothing."""
    for front in fronts.each():
        end = b"0\r\n\r\n" + HIDDEN
        front.refuses(post("X: x\nContent-Length: 0", length(end), body=end))
        front.refuses(post(length(end), "X: x\nTransfer-Encoding: chunked", body=end))
        front.refuses(post("X: x\n\rContent-Length: 0", length(end), body=end), 400, CLOSED)
        for header in ("X: x\rContent-Length: 0", "X: x\rTransfer-Encoding: chunked", "X: x\r\r"):
            answers, _ = front.talk(post(header, length(end), body=end))
            assert [answer.status for answer in answers] == [400], answers  # not JSON, or the carriage return
        # A body of chunks whose sizes end in a carriage return alone.
        bodies = (b"%x\r" % len(BODY) + BODY + b"\r\n0\r\n\r\n", chunks(end=b"0\r\r"), chunks(end=b"0\r\rx: y\r\n\r\n"))
        front.never([post(CHUNKED, body=body) for body in bodies])


# --- chunks ---


@case("CVE-2002-0392", "CVE-2013-2028", "CVE-2014-0075", "CVE-2026-45352")
def sizes_of_chunks(_, fronts):
    """Huge, negative, too long and missing: never the end of the body, never memory ahead of it."""
    for front in fronts.each():
        sizes = ("ffffffffffffffff", "fffffffffffffffe", "ffffffffffffffec", "8000000000000000", "7fffffffffffffff",
                 "ffffffff", "fffffffb", "80000000", "7fffffff")  # fmt: skip
        front.never([post(CHUNKED, body=size.encode() + b"\r\nAAAAA\r\n0\r\n\r\n" + HIDDEN) for size in sizes], 413)
        for size in ("10000000000000005", "f" * 1000, "1" + "0" * 16 + f"{len(BODY):x}"):
            front.refuses(post(CHUNKED, body=size.encode() + b"\r\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN), 400, 413)
        for size in ("-1", "-2", "-5", "-fffffffffffffffb", "", "g", "5g", ";", "\0"):
            front.refuses(post(CHUNKED, body=size.encode() + b"\r\nAAAAA\r\n0\r\n\r\n" + HIDDEN))
        front.same(post(CHUNKED, body=b"%064x\r\n" % len(BODY) + BODY + b"\r\n000\r\n\r\n"))


@case("CVE-2025-46728")
def chunks_without_end(_, fronts):
    """16 MiB in chunks, of a body that may have 2: told so where it ends, and dropped."""
    many = chunks(bytes(16 << 20), size=1 << 16, end=b"")
    for front in fronts.each():
        front.takes(post(CHUNKED, CLOSE, body=many + b"0\r\n\r\n"), status=413)
        front.never([post(CHUNKED, body=many)], 413)


@case("CVE-2012-3544", "CVE-2021-22960", "CVE-2023-39326", "CVE-2024-21647")
def extensions_of_chunks(_, fronts):
    """Read over where they are short, refused where one is longer than the headers may be."""
    for front in fronts.each():
        front.same(post(CHUNKED, body=chunks(size=1, extension=b";" + b"a=b" * 500)))
        for extension in (b";" + b"x" * (1 << 20), b';a="' + b"\\" * (1 << 20) + b'"'):
            front.refuses(post(CHUNKED, body=chunks(extension=extension)), CLOSED, 400, 413, 431, 500)
        inner = b"0\r\n\r\n" + HIDDEN
        answers, _ = front.talk(post(CHUNKED, body=b"2;\nxx\r\n%x\r\n" % len(inner) + inner + b"\r\n0\r\n\r\n"))
        assert [answer.status for answer in answers] == [400], answers


@case("CVE-2025-43859")
def ends_of_chunks(_, fronts):
    """What stands behind a chunk must be the end of a line."""
    for front in fronts.each():
        for end in (b"XX", b"\r\r", b"\nX", b"  ", b"0\r\n", b"\0\0"):
            body = b"%x\r\n" % len(BODY) + BODY + end + b"0\r\n\r\n" + HIDDEN
            front.refuses(post(CHUNKED, body=body))


@case("CVE-2025-23310", "CVE-2025-23311", "CVE-2025-69229")
def many_small_chunks(_, fronts):
    """A stack that grows with the number of chunks."""
    many = chunks(b"[" + b"0," * 149_999 + b"0]", size=1)
    for front in fronts.each():
        front.same(post(CHUNKED, body=chunks(size=1)))
        front.takes(post(CHUNKED, CLOSE, body=many), status=400)
        for path in ("/v2/repository/index", "/v2", f"/v2/models/{NAME}/load"):
            front.takes(request("POST", path, CHUNKED, CLOSE, body=many), status=405 if path == "/v2" else 404)


@case("CVE-2012-2733", "CVE-2023-46589")
def trailers(_, fronts):
    """Headers behind a body are no headers, and end within bounds."""
    for front in fronts.each():
        late = b"0\r\nContent-Length: 500\r\nTransfer-Encoding: chunked\r\nHost: evil.example\r\nX: y\r\n\r\n"
        first, second = front.takes(post(CHUNKED, body=chunks(end=late) + HIDDEN), count=2)
        assert (first.body, second.body) == (front.good, b"ok\n")
        for lines in (b"X: %s\r\n" % (b"y" * (1 << 20)), b"".join(b"X-%d: y\r\n" % i for i in range(50_000)),
                      b"x" * (1 << 20)):  # fmt: skip
            front.refuses(post(CHUNKED, body=chunks(end=b"0\r\n" + lines + b"\r\n")), CLOSED, 400, 413, 431, 500)


# --- the slow and the many ---


@case("CVE-2007-6750", "CVE-2018-12122", "http-slow-bodies")
def slow_requests(_, fronts):
    """100 headers and 100 bodies that come byte by byte hold up nobody. (They have 30 s.)"""
    for front in fronts.each():
        with contextlib.ExitStack() as held:
            slow = [held.enter_context(front.connect()) for _ in range(200)]
            for number, connection in enumerate(slow):
                connection.sendall(post("X: y", body=b"")[: 1 + number]
                                   if number % 2 else post(length(), body=BODY[: number + 1]))  # fmt: skip
            for turn in range(3):
                front.check()
                for connection in slow:
                    connection.sendall(b"x")
            front.check()


@case("CVE-2018-12121", "CVE-2025-48956", "CVE-2025-52887")
def floods_of_headers(_, fronts):
    """One of 4 MiB, and 100,000; up to 16 KiB they are taken."""
    for front in fronts.each():
        for lines in ("X: " + "y" * (4 << 20), "y" * (1 << 20) + ": X",
                      "\r\n".join(f"X-{i}: y" for i in range(100_000)),
                      "Cookie: " + "a=b; " * 100_000, "X: y\r\n" + " y\r\n" * 50_000):  # fmt: skip
            front.refuses(post(lines, length()), CLOSED, 400, 413, 431)
        front.same(post(*(f"X-{i}: y" for i in range(100)), length()))


@case("CVE-2025-53628")
def long_lines(_, fronts):
    """A request's first line of 1 MiB: its path, its query, its method, its version, and without end."""
    much = "a" * (1 << 20)
    for front in fronts.each():
        for data in (request("GET", "/" + much), request("GET", "/v2?" + much), request(much, "/"),
                     request("GET", "/", version="HTTP/" + much),
                     request("GET", "/v2?" + "a&" * (1 << 19)), much.encode(), b"GET " + b"/" * (1 << 20)):  # fmt: skip
            front.refuses(data, CLOSED, 400, 413, 414, 431)
        front.get("/" + "a" * 10_000, status=404)


@case("CVE-2013-4450")
def pipelined(_, fronts):
    """200 requests at once are answered in order; without number, by a client that reads nothing, they stop."""
    for front in fronts.each():
        bodies = [json.dumps(GOOD | {"id": str(i)}).encode() for i in range(200)]
        data = b"".join(post(length(body), body=body) for body in bodies)
        answers = front.takes(data, count=200)
        assert [json.loads(answer.body)["id"] for answer in answers] == [str(i) for i in range(200)]
        with front.connect() as connection:
            connection.settimeout(MOMENT_S)
            with contextlib.suppress(TimeoutError, ConnectionResetError, BrokenPipeError):
                for _ in range(2000):
                    connection.sendall(request("GET", "/") * 20)
            front.check()


# --- the first line ---


@case("CVE-2013-4547", "CVE-2013-7038", "http-nul-bytes")
def zeros_and_escapes(_, fronts):
    """A NUL or half an escape in a path ends no path, and a space begins no version."""
    for front in fronts.each():
        for path in ("/livez%00", "/livez%00.json", "/%00livez", f"{INFER}%00", "/livez%", "/livez%4", "/livez%zz",
                     "/%", "/%0", "/livez%%36"):  # fmt: skip
            front.get(path, status=404)
        front.get("/live%7a")
        for path in ("/livez x", "/livez \0", "/livez /../ HTTP/1.1"):
            front.refuses(request("GET", path), 400, CLOSED)
        front.get("/live\0z", status=(400, 404))
        # The library cuts a value at a NUL, or refuses it; the request has one end all the same.
        front.refuses(post("X\0: a", length(), body=BODY + HIDDEN))
        front.refuses(post(f"{length()}\0 0", length(), body=BODY + HIDDEN))
        told = []
        for count, end in ((1, b""), (2, HIDDEN)):
            answers, _ = front.talk(post("X: a\0b", length(), body=BODY + end), wait=count)
            told.append([answer.status for answer in answers])
        assert told in ([[200], [200, 200]], [[400], [400]]), told


@case("CVE-2021-41773", "CVE-2021-42013", "CVE-2023-31036", "CVE-2026-24208")
def paths_upwards(_, fronts):
    """Models are no files: ".." in every spelling is one that is not there."""
    up = ("..", "%2e%2e", ".%2e", "%%32%65%%32%65", "%252e%252e", "%c0%ae%c0%ae", "%u002e%u002e", "..%00", "..\\..",
          "..;")  # fmt: skip
    for front in fronts.each():
        for dots in up:
            for slash in ("/", "%2f", "%5c"):
                for start in ("/", "/v2/models/", f"/v2/models/{NAME}/", f"/v2/models/{NAME}/versions/"):
                    if start != "/" and slash != "/":
                        continue
                    path = start + slash.join([dots] * 8 + ["etc", "passwd"])
                    front.get(path, status=404)
        for name in ("../" + NAME, "%2e%2e%2f" + NAME, NAME + ".gguf", "/etc/passwd", "%2fetc%2fpasswd", "~", ".",
                     NAME + "%00"):  # fmt: skip
            front.ask(BODY, path=f"/v2/models/{name}/infer", status=404)
            body = json.dumps({"parameters": {"config": "{}", "file:../../x/model.py": "AAAA"}}).encode()
            front.ask(body, path=f"/v2/repository/models/{name}/load", status=404)


@case("CVE-2024-0087", "CVE-2024-0088", "CVE-2024-0100")
def pages_of_triton(folder, fronts):
    """Those that write files, or map memory, are not there."""
    file = os.path.join(folder, "written")
    memory = {"key": "/splitee", "offset": 2**63, "byte_size": 2**64 - 1}
    for front in fronts.each():
        for path, body in (("logging", {"log_file": file}), ("trace/setting",
                                                             {"trace_file": file, "trace_level": ["TIMESTAMPS"]}),
                           (f"models/{NAME}/trace/setting",
                            {"trace_file": file}), ("systemsharedmemory/region/r/register", memory),
                           ("cudasharedmemory/region/r/register",
                            memory | {"raw_handle": {"b64": ""}}), ("systemsharedmemory/unregister", {}),
                           ("repository/index", {}), (f"repository/models/{NAME}/unload", {})):  # fmt: skip
            front.ask(json.dumps(body).encode(), path="/v2/" + path, status=404)
        for name, value in (("shared_memory_region", "r"), ("shared_memory_region", "/dev/shm/x"),
                            ("shared_memory_region", "a" * 100_000)):  # fmt: skip
            shared = {"name": "text", "shape": [1], "datatype": "BYTES",
                      "parameters": {name: value, "shared_memory_byte_size": 2**63}}  # fmt: skip
            front.wrong({"inputs": [shared]}, word="shared_memory_region")
            front.wrong(GOOD | {"outputs": [{"name": "label", "parameters": shared["parameters"]}]},
                        word="shared_memory_region")  # fmt: skip
        assert not os.path.exists(file)


@case("CVE-2011-3368", "CVE-2021-40438", "http-absolute")
def other_hosts(_, fronts):
    """Nothing is fetched from elsewhere for anybody: a listener on the machine is not called."""
    for front in fronts.each():
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            for path in (f"http://127.0.0.1:{port}/v2", f"@127.0.0.1:{port}/v2", f":{port}/v2",
                         f"//127.0.0.1:{port}/v2",
                         f"/?unix:{'A' * 5000}|http://127.0.0.1:{port}/", f"http://user@127.0.0.1:{port}/v2"):  # fmt: skip
                answer = front.get(path, status=(200, 400, 404))
                assert (answer.status == 200) == path.startswith("/?"), path
            front.ask(method="CONNECT", path=f"127.0.0.1:{port}", status=404)
            other.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                raise AssertionError(f"a connection from {other.accept()[1]}")


@case("CVE-2004-2320", "CVE-2017-9798", "http-methods")
def other_methods(_, fronts):
    """Each page has its methods and says so; nothing of a request comes back, nor of memory."""
    for front in fronts.each():
        for path in PAGES:
            allowed = "POST" if path == INFER else "GET, HEAD"
            for method in ("OPTIONS", "TRACE", "TRACK", "DELETE", "PUT", "PATCH", "DEBUG", "PROPFIND", "get",
                           "G" * 5000, "*", "<x>"):  # fmt: skip
                answer = front.ask(b"", "Cookie: secret=1", "X-Secret: secret", method=method, path=path, status=405)
                assert answer.headers["allow"] == allowed and b"secret" not in answer.body, answer
            if path != INFER:
                head, whole = front.ask(method="HEAD", path=path), front.get(path)
                assert head.headers["content-type"] == whole.headers["content-type"] and whole.body
        front.ask(method="OPTIONS", path="*", status=(400, 404))


@case("CVE-2023-44487", "http-versions")
def other_versions(_, fronts):
    """HTTP/0.9, 2 and others are not spoken."""
    frames = struct.pack(">I", 0)[1:] + b"\4\0" + bytes(4)
    for stream in range(1, 2001, 2):
        frames += b"\0\0\1\1\5" + struct.pack(">I", stream) + b"\x82" + b"\0\0\4\3\0" + struct.pack(">II", stream, 8)
    for front in fronts.each():
        front.refuses(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frames, CLOSED, 400, 505)
        front.refuses(b"GET /livez\r\n\r\n", CLOSED, 400)
        for version in ("HTTP/0.9", "HTTP/2.0", "HTTP/3", "HTTP/9.9", "http/1.1", "HTTP/1.10", "HTTP/01.1", "HTTP/-1.1",
                        "HTCPCP/1.0", "1.1"):  # fmt: skip
            front.refuses(request("GET", "/livez", version=version) + HIDDEN, CLOSED, 400, 505)
        # An upgrade to 2 is not taken up.
        assert front.get("/livez", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk").body == b"ok\n"


# --- headers ---


@case("CVE-2018-7160", "CVE-2024-28224")
def names_pointed_here(_, fronts):
    """DNS rebinding: to a program on loopback without a token no name of elsewhere is right."""
    for front in fronts.each():
        port = front.address[1]
        for name in ("evil.example", f"evil.example:{port}", "localhost.evil.example", "127.0.0.1.evil.example",
                     "evil.example.",
                     "localhost6", "0x7f.1", "2130706433", "127.1", "localhost@evil.example", "evil.example/localhost",
                     "localhost evil"):  # fmt: skip
            for path in PAGES:
                method = "POST" if path == INFER else "GET"
                front.ask(BODY if method == "POST" else b"", method=method, path=path, host=f"Host: {name}", status=403)
        for name in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", "[::1]:80"):
            assert front.ask(BODY, host=f"Host: {name}").body == front.good


@case("gradio-app/gradio#13594", "http-hosts")
def hosts_that_are_none(_, fronts):
    """None, or two of them, is no Host."""
    for front in fronts.each():
        front.refuses(request("GET", "/v2", host="") + HIDDEN)
        for second in ("localhost", "evil.example", ""):
            front.refuses(request("GET", "/v2", f"Host: {second}") + HIDDEN)
            front.refuses(request("GET", "/v2", HOST, host=f"Host: {second}") + HIDDEN)
        front.takes(request("GET", "/v2", version="HTTP/1.0", host=""))
        for origin in ("https://evil.example", "http://localhost"):  # of a Host that is not ours
            front.ask(BODY, f"Origin: {origin}", host="Host: spoofed.example", status=403)


@case("CVE-2024-47084", "CVE-2024-47165")
def other_origins(_, fronts):
    """With or without a cookie, and of none: nothing is computed, and no answer allows them anything."""
    for front in fronts.each():
        for origin in ("http://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.1:1", "file://",
                       "http://localhost@evil.example",
                       "*", "http://"):  # fmt: skip
            for more in ((), ("Cookie: session=1",), ("Sec-Fetch-Site: cross-site",)):
                front.ask(BODY, f"Origin: {origin}", *more, status=403)
            asked = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type",
                     "Access-Control-Request-Private-Network: true")  # fmt: skip
            for path in PAGES:  # that no header allows anything is checked of every answer
                front.ask(b"", f"Origin: {origin}", *asked, method="OPTIONS", path=path, status=405)
                if path != INFER:
                    assert front.get(path, f"Origin: {origin}").headers["cross-origin-resource-policy"] == "same-origin"
        assert front.ask(BODY, "Origin: http://localhost", "Sec-Fetch-Site: same-origin").body == front.good


@case("CVE-2006-3918", "http-expectations")
def expectations(_, fronts):
    """100 before a body that is wanted, the refusal before one that is not; nothing comes back."""
    for front in fronts.each():
        first, second = front.talk(post("Expect: 100-continue", length(), CLOSE), closing=True)[0]
        assert (first.status, second.status, second.body) == (100, 200, front.good)
        front.refuses(post("Expect: 100-continue", f"Content-Length: {3 << 20}", body=b""), 413)
        front.refuses(post("Expect: 100-continue", f"Content-Length: {2**63 - 1}", body=b""), 413)
        front.refuses(request("POST", "/nowhere", "Expect: 100-continue", "Content-Length: 9"), 404)
        for value in ("<script>alert(1)</script>", "200-ok", "100-continue, 100-continue", "x" * 5000):
            answers, _ = front.talk(post(f"Expect: {value}", length(), CLOSE), closing=True)
            assert answers[-1].status in (200, 417) and not any(value.encode() in answer.body for answer in answers)


@case("CVE-2011-3192", "CVE-2017-7529")
def ranges(_, fronts):
    """Pages come whole, whatever part of them is asked for."""
    many = "0-," + ",".join(f"5-{i}" for i in range(1300))
    for front in fronts.each():
        for path in ("/", "/v2"):
            whole = front.get(path)
            for part in (many, "0-0", "-9223372036854775000", "0-18446744073709551615", "-1,0-", "9-1", "999999999-",
                         "x", "-"):  # fmt: skip
                for header in (f"Range: bytes={part}", f"Request-Range: bytes={part}",
                               f"If-Range: x\r\nRange: bytes={part}"):  # fmt: skip
                    assert front.get(path, header).body == whole.body


@case("CVE-2024-37890")
def upgrades(_, fronts):
    """To a web socket, with one header and with a thousand more: no other protocol is taken up."""
    upgrade = ("Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13")
    for front in fronts.each():
        for path in ("/v2", INFER):
            data = request("GET", path, "Connection: Upgrade", *upgrade)
            answers, _ = front.talk(data + b"\x81\xfe\xff\xff" + bytes(100))
            assert answers[0].status == (405 if path == INFER else 200) and {answer.status for answer
                                                                             in answers[1:]} <= {400}, answers  # fmt: skip
        front.refuses(request("GET", "/v2", "Connection: Upgrade", *upgrade, *(f"{i}: x" for i in range(3000))), CLOSED,
                      400, 413, 431)  # fmt: skip


@case("CVE-2021-3466", "CVE-2023-27371", "CVE-2026-29076")
def forms(_, fronts):
    """Forms are not read, whatever their boundaries, their fields and their escapes."""
    for front in fronts.each():
        kinds = ['multipart/form-data; boundary=""', 'multipart/form-data; boundary="',
                 "multipart/form-data; boundary=", "multipart/form-data",
                 "multipart/form-data; boundary=" + "b" * 10_000, "multipart/mixed; boundary=b, boundary=c",
                 "application/x-www-form-urlencoded"]  # fmt: skip
        name = b"UTF-8''" + b"a%" * 200_000
        part = b'--b\r\nContent-Disposition: form-data; name="a"; filename*=' + name + b"\r\n\r\nx\r\n--b--\r\n"
        for kind in kinds:
            for body in (part, b"--\r\n--\r\n", b"a=%&%=%4&" * 10_000 + b"%", b"a" * 300_000 + b"=" + b"%" * 300_000):
                data = request("POST", INFER, f"Content-Type: {kind}", length(body), CLOSE, body=body)
                answer = front.takes(data, status=400)[0]
                assert b"not JSON" in answer.body, answer
                front.takes(request("POST", INFER, f"Content-Type: {kind}", "Origin: http://localhost", length(body),
                                    CLOSE, body=body), status=415)  # fmt: skip


@case("CVE-2026-45372")
def line_ends_in_escapes(_, fronts):
    """Escaped line ends in paths, headers and JSON make no line of an answer."""
    break_out = "%0d%0aSet-Cookie:%20a=b%0d%0a%0d%0aHTTP/1.1%20200%20OK%0d%0a"
    for front in fronts.each():
        front.get("/" + break_out, status=404)
        front.get(f"/v2/models/{break_out}", status=404)
        front.get("/v2", host="Host: " + break_out, status=403)
        front.ask(BODY, "Origin: http://" + break_out, status=403)
        name = "x\r\nSet-Cookie: a=b\r\n\r\n"
        assert json.loads(front.ask(json.dumps(GOOD | {"id": name}).encode()).body)["id"] == name
        front.wrong({"inputs": [text_tensor(name, ["a"])]}, word="unknown")


@case("CVE-2022-29225")
def bodies_that_unpack(_, fronts):
    """1.5 GiB in 1.5 MiB, and a good body too: what is packed is refused, not unpacked."""
    packer = zlib.compressobj()
    first, more = (packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    bombs = {"gzip": gzip.compress(bytes(1 << 20)) * 1500, "deflate": first + more * 1499,
             "gzip, gzip": gzip.compress(gzip.compress(bytes(1 << 27), 1))}  # fmt: skip
    assert all(len(bomb) < 2 << 20 for bomb in bombs.values())
    for front in fronts.each():
        for coding, bomb in bombs.items():
            front.ask(bomb, f"Content-Encoding: {coding}", status=415)
            front.ask(bomb, status=400)
        for coding in ("gzip", "x-gzip", "GZIP", "deflate", "br", "zstd", "compress", "identity, gzip", "nonsense"):
            front.ask(BODY, f"Content-Encoding: {coding}", status=415)
        for coding in ("identity", "Identity"):
            assert front.ask(BODY, f"Content-Encoding: {coding}",
                             "Accept-Encoding: gzip, br, zstd, *").body == front.good  # fmt: skip


# --- JSON ---


@case("CVE-2024-34363", "CVE-2024-38525")
def texts_that_are_none(_, fronts):
    """Bytes that are no UTF-8, and halves of surrogates, in each place: a message, which is UTF-8."""
    bad = [b"\xff", b"\x80", b"\xc0\xaf", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80",
           b"\xf8\x88\x80\x80\x80",
           b"\\ud800", b"\\udc00", b"\\ud800\\ud800", b"\\udc00\\ud800", b"\\ud83d\\u0041", b"\\u12", b"\\x41",
           b"\\ud800\\"]  # fmt: skip
    for front in fronts.each():
        for part in bad:
            for body in (BODY.replace(b"ba be bi", part), BODY.replace(b'"7"', b'"' + part + b'"'),
                         BODY.replace(b'"text"', b'"te' + part + b'xt"'),
                         BODY.replace(b'"label"', b'"' + part + b'"'), BODY.replace(b'"id"',
                                                                                    b'"' + part + b'"'), part,
                                                                                    BODY + part):  # fmt: skip
                assert body != BODY
                front.wrong(body, word="not JSON")
        for name in ("\0", "\uffff", "\U0010ffff", "é" * 59, "x" + "é" * 59, "\u202e",
                     "中" * 500):  # cut off within a letter  # fmt: skip
            front.wrong({"inputs": [text_tensor(name, ["a"])]}, word="unknown")
        for text in ("\0", "\U0010ffff", "\ufffe", "\ufeff"):
            front.ask(json.dumps({"inputs": [text_tensor("text", [text])]}).encode())


@case("CVE-2020-36518", "CVE-2023-1370")
def deep_values(_, fronts):
    """A million levels, closed and not; brackets within texts are none."""
    half = 500_000
    for front in fronts.each():
        for body in (b"[" * half, b"[" * half + b"]" * half, b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
                     b'[{"a":' * 150_000,
                     BODY.replace(b'["ba be bi", "gu"]',
                                  b"[" * half + b'"a"' + b"]" * half), BODY.replace(b'"7"', b"[" * 1000 + b"]" * 1000)):  # fmt: skip
            front.wrong(body, word="nested")
        front.ask(BODY.replace(b"ba be bi", b"[{" * half + b'\\"' + b"[" * 100))


@case("CVE-2020-10735", "CVE-2024-38517", "CVE-2024-39684")
def numbers_beyond(_, fronts):
    """Of a million digits, of exponents beyond all types, and such that are none."""
    digits = b"9" * 1_000_000
    numbers = [digits, b"-" + digits, b"0." + b"0" * 1_000_000 + b"1", b"1e" + digits, b"1e-" + digits, b"1e2147483648",
               b"1e-2147483649", b"1e400", b"-0",
               b"1e99999999999999999999", b"0.1e-99999999999999999999", b"18446744073709551616",
               b"18446744073709551615", b"-9223372036854775809",
               b"9223372036854775808", b"2.0000001", b"NaN", b"Infinity", b"-", b"+2", b"02", b"0x2", b".5", b"2.",
               b"2e", b"1e+"]  # fmt: skip
    for front in fronts.each():
        for number in numbers:
            front.wrong(BODY.replace(b'"shape": [2]', b'"shape": [' + number + b"]"))
            front.wrong(BODY.replace(b'"id": "7"', b'"id": ' + number))
            front.wrong(BODY.replace(b'"id"', b'"parameters": {"exit_layer": ' + number + b'}, "id"'))


@case("CVE-2017-12635")
def keys_twice(_, fronts):
    """The last of two counts, in each check and in the answer."""
    for front in fronts.each():
        for other, ours in ((b'"shape": [9000]', b'"shape": [2]'), (b'"datatype": "FP32"', b'"datatype": "BYTES"'),
                            (b'"id": 1', b'"id": "7"'),
                            (b'"data": [1, 2]', b'"data": ["ba be bi", "gu"]')):  # fmt: skip
            assert BODY.count(ours) == 1
            assert front.ask(BODY.replace(ours, other + b", " + ours)).body == front.good
            front.wrong(BODY.replace(ours, ours + b", " + other))
        front.wrong(BODY[:-1] + b', "inputs": []}', word="missing")
        front.wrong({"inputs": GOOD["inputs"] * 2}, word="twice")


@case("CVE-2026-24173")
def shapes_that_wrap(_, fronts):
    """Sides whose product is 0, 2 or the right number in 32 or 64 bits."""
    for front in fronts.each():
        for shape in ([2**32 + 2], [2**64 + 2], [2**63, 2], [2**32, 2**32], [2**33, 2**31], [2**62, 4], [2, 2**63 + 1],
                      [2, 2**64 - 1], [2**32 + 1, 2],
                      [2, 1, 2**64 - 1], [2, 0], [0, 2**63], [-2], [-1,
                                                                    -2], [2**63 + 1], [2**31], [2] + [1] * 100_000,
                                                                    [1] * 2_000, [], [[2]], [2.0],
                      [True, 2], ["2"], [None]):  # fmt: skip
            front.wrong({"inputs": [text_tensor("text", ["a", "b"]) | {"shape": shape}]}, word="text")


@case("CVE-2026-24146")
def many_outputs(_, fronts):
    """A name may be there once, so that there are no more than the model has."""
    for front in fronts.each():
        front.wrong(GOOD | {"outputs": [{"name": "label"}] * 50_000}, word="twice")
        front.wrong(GOOD | {"outputs": [{"name": f"o{i}"} for i in range(50_000)]}, word="unknown")
        front.wrong({"inputs": [text_tensor(f"t{i}", ["a"]) for i in range(15_000)]}, word="unknown")


@case("http-binary-sizes")
def sizes_of_binary_data(_, fronts):
    """Negative, beyond the body, and such that wrap to the right one; of the JSON, of tensors, of texts."""
    data = binary_strings([b"ba be bi", b"gu"])

    def head(size, second=None):
        sizes = [("text", size)] + ([("text2", second)] if second is not None else [])
        inputs = [{"name": name, "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": size}} for name,
                  size in sizes]  # fmt: skip
        return json.dumps(GOOD | {"inputs": inputs}).encode()

    def json_size(size):
        return f"Inference-Header-Content-Length: {size}"

    for front in fronts.each():
        good = head(len(data))
        assert front.ask(good + data, json_size(len(good))).body == front.good
        for size in (-1, -len(data), len(data) + 1, len(data) - 1, 0, 2**31, 2**32 + len(data), 2**63, 2**64 - 1,
                     2**64 + len(data), 1e300, "26", [], 2.5):  # fmt: skip
            front.wrong(head(size) + data, json_size(len(head(size))))
            wrapping = head(len(data), size)
            front.wrong(wrapping + data, json_size(len(wrapping)))
        for size in (-1, "+5", len(good) + len(data) + 1, 2**63, 2**64 - 1, 2**64 + len(good), "0x10", "1 2",
                     len(good) - 1, len(good) + 1, 0):  # fmt: skip
            front.wrong(good + data, json_size(size))
        for sizes in ((2**32 - 1, 2), (2**31, 2), (len(data), 0), (2**32 - 4, 2**32 - 4)):
            texts = struct.pack("<I", sizes[0]) + b"ba be bi" + struct.pack("<I", sizes[1]) + b"gu"
            front.wrong(good + texts, json_size(len(good)))
        for inner in (good + data[:-1], good + data + b"x", good):
            front.wrong(inner, json_size(len(good)))


if __name__ == "__main__":
    main(WANTED, Fronts)
