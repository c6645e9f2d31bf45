#!/usr/bin/env python3
"""--log-format of splitee-edge and splitee-server: plain messages stay what they were, text has time and level,
json is an object a line; none of them holds a program up. Arguments: as binaries.py."""

import json
import os
import re
import signal
import subprocess
import time

import binaries

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
TEXTS = binaries.lines(binaries.make_texts(3))
BAD_ROWS = "text\tlabel\ngood film\tnegative\nbad row\n\x01odd \"quoted\" row\tx\ty\n"


def seconds_of(stamp):
    whole, fraction = stamp.rstrip("Z").split(".")
    return time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) - time.timezone + int(fraction) / 1000


def server_log(*flags):
    with binaries.Server("--metrics", "127.0.0.1:0", *flags) as server:
        server.send(signal.SIGHUP)
        binaries.patiently(lambda: "reloaded" in server.messages())
        server.send(signal.SIGTERM)
        status, _ = server.wait()
        assert status == 0
        return server.messages()


def bad_rows(*flags):
    return binaries.edge("--input-format", "tsv", *flags, stdin=BAD_ROWS, status=1).err


def test_plain_is_the_default(_):
    for text in (server_log(), server_log("--log-format", "plain")):
        assert all(line.startswith("splitee-server: ") for line in text.splitlines()), text
    assert bad_rows("--quiet") == bad_rows("--quiet", "--log-format", "plain")


def test_text_has_time_and_level(_):
    begin = time.time() - 1
    lines = server_log("--log-format", "text").splitlines()
    rows = [re.fullmatch(rf"({TIME}) (info|warning|error) splitee-server: (\S.*)", line) for line in lines]
    assert len(rows) >= 4 and all(rows), lines
    assert all(begin <= seconds_of(row.group(1)) <= time.time() + 1 for row in rows), lines
    assert rows[-1].group(3).startswith("stopped after"), lines
    errors = [line for line in bad_rows("--quiet", "--log-format", "text").splitlines() if re.match(rf"{TIME} error splitee-edge: ", line)]
    assert len(errors) == 1 and "2 row(s) could not be read" in errors[0], errors


def test_json_is_an_object_a_line(_):
    log = [json.loads(line) for line in server_log("--log-format", "json").splitlines()]
    assert all(list(entry) == ["time", "level", "program", "message"] for entry in log), log
    assert {entry["program"] for entry in log} == {"splitee-server"} and {entry["level"] for entry in log} == {"info"}
    assert any(entry["message"].startswith("reloaded ") for entry in log), log
    log = [json.loads(line) for line in bad_rows("--log-format", "json").splitlines()]
    levels = [entry["level"] for entry in log]
    assert levels.count("warning") == 2 and levels.count("error") == 1, log
    plain = [line for line in bad_rows("--quiet").splitlines()]
    told = [f"{entry['program']}: {entry['message']}" for entry in log if entry["level"] != "info"]
    assert told == plain, (told, plain)


def test_errors_of_the_start(_):
    entry = json.loads(binaries.run(binaries.SERVER, "--model", "/nowhere", "--log-format", "json", status=1).err)
    assert entry["level"] == "error" and "/nowhere" in entry["message"], entry
    binaries.edge("--log-format", "xml", status=2).expect(2, "--log-format")


def test_nobody_reads(_):
    """A full pipe as standard error: records come all the same."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    rows = "text\tlabel\n" + "a\tb\tc\n" * 20 + "fine\tnegative\n"
    command = [binaries.EDGE, "--model", binaries.MODEL, "--input-format", "tsv", "--log-format", "json"]
    done = subprocess.run(command, input=rows.encode(), stdout=subprocess.PIPE, stderr=writer,
                          timeout=binaries.TIMEOUT_S, check=False)  # fmt: skip
    os.close(reader)
    os.close(writer)
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 1, done


binaries.main(globals())
