#!/usr/bin/env python3
"""Published faults of HTTP servers, readers of JSON and other inference servers in headers and bodies,
replayed as raw bytes on splitee-edge --http and splitee-server --http. After each both programs, with bounded memory,
give the same bytes as before to a good request.

Arguments: EDGE SERVER TOOL MODEL OTHER_MODEL [number ...]
"""

import gzip
import json
import struct
import sys
import zlib

WANTED = sys.argv[6:]

from published import case, main  # noqa: E402
from http_front import BODY, CLOSE, CLOSED, Fronts, GOOD, HIDDEN, HOST, PAGES, length, post, request  # noqa: E402
from http_service import INFER, binary_strings, text_tensor  # noqa: E402


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
    """100 before a body that is wanted (or not, where the body is there already), the refusal before one that is not;
    nothing comes back."""
    for front in fronts.each():
        *first, last = front.talk(post("Expect: 100-continue", length(), CLOSE), closing=True)[0]
        assert [answer.status for answer in first] in ([100], []), first
        assert (last.status, last.body) == (200, front.good)
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
