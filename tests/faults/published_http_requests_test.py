#!/usr/bin/env python3
"""Published faults of HTTP servers in where a request ends, its chunks, its time and its first line,
replayed as raw bytes on splitee-edge --http and splitee-server --http. After each both programs, with bounded memory,
give the same bytes as before to a good request.

Arguments: EDGE SERVER TOOL MODEL OTHER_MODEL [number ...]
"""

import contextlib
import json
import os
import socket
import struct
import sys

WANTED = sys.argv[6:]

from published import case, main  # noqa: E402
from http_front import (  # noqa: E402
    BODY, CHUNKED, CLOSE, CLOSED, Fronts, GOOD, HIDDEN, HOST, MOMENT_S, PAGES, chunks, length, post,
    request)  # fmt: skip
from http_service import INFER, NAME  # noqa: E402


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
    """Read over, or refused (by libmicrohttpd 1.0), and refused where one is longer than the headers may be."""
    for front in fronts.each():
        for extension in (b";a=b", b";" + b"a=b" * 500):
            ((answer,), _) = front.talk(post(CHUNKED, CLOSE, body=chunks(size=1, extension=extension)), closing=True)
            assert (answer.status, answer.body) == (200, front.good) or answer.status in (400, 413), answer
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
                    # Libmicrohttpd 1.0 closes those whose bytes have become no request.
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
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
        front.refuses(request("GET", "/live\0z", CLOSE), 400, 404, CLOSED)
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


if __name__ == "__main__":
    main(WANTED, Fronts)
