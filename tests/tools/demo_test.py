#!/usr/bin/env python3
"""tools/scripts/demo_run.py (the first argument) with the programs of the build folder (the second)."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

from run_tests import run_tests

DEMO, BUILD = map(os.path.abspath, sys.argv[1:3])
TIMEOUT_S = 120


def command(data, *flags):
    return [sys.executable, DEMO, "--build", BUILD, "--data", data, *flags]


def demo(folder, content, *flags):
    path = os.path.join(folder, "data")
    with open(path, "wb") as file:
        file.write(content)
    return subprocess.run(command(path, "--samples", "20", *flags), capture_output=True, text=True,
                          timeout=TIMEOUT_S, check=False)  # fmt: skip


def test_forms_of_data(folder):
    named = "text\tlabel\r\nA good film.\tpositive\r\n\r\nA bad film.\t0\r\n"
    for content in (named.encode(), b"\xef\xbb\xbf" + named.encode(), named.encode()[:-1]):
        result = demo(folder, content)
        assert result.returncode == 0 and " - " not in result.stdout, result
        assert max(map(len, result.stdout.partition("\nnext:")[0].splitlines())) <= 80, result.stdout
    unlabelled = demo(folder, b"A good film.\n\n\xff\xfe\n")
    assert unlabelled.returncode == 0 and " - " in unlabelled.stdout, unlabelled


def test_bad_data(folder):
    """Named by the line of the file that was given, in one line."""
    for content, words in ((b"text\tlabel\na\t1\na\n", ("line 3", "1 fields")),
                           (b"text\tlabel\na\tx\n", ("line 2", "'x'", "negative, positive")),
                           (b"text\n", ("no samples",)), (b"", ("no samples",))):  # fmt: skip
        result = demo(folder, content)
        assert result.returncode == 1 and result.stderr.count("\n") == 1, result
        assert all(word in result.stderr for word in words), result
    missing = subprocess.run(command("/no/such"), capture_output=True, text=True, check=False)
    assert missing.returncode == 2 and "/no/such" in missing.stderr, missing


def test_the_table_compares(folder):
    """Everything asked for is there, in order, and "same" is measured against the whole network."""
    stdout = demo(folder, b"text\tlabel\nA good film.\t1\nA bad film.\t0\n").stdout
    rows = stdout[stdout.index("---") :].splitlines()[1:7]
    titles = [row[:18].strip() for row in rows]
    assert titles[0].startswith("default (") and titles[1].startswith("threshold 0."), titles
    assert titles[2:] == ["SplitEE", "SplitEE-S", "all layers here", "offload everything"], titles
    cells = [row[18:].split() for row in rows]
    assert all(len(row) == 10 for row in cells), rows
    assert cells[4][0] == "100.0" and cells[4][-1] == "0.0", rows
    assert cells[5][0] == "100.0" and cells[5][3] == "100.0", rows
    assert "where the samples were answered" in stdout and "three of them" in stdout, stdout


def test_the_server_ends_with_the_demo(folder):
    path = os.path.join(folder, "data")
    with open(path, "w", encoding="utf-8") as file:
        file.write("A good film.\n")
    for number in (signal.SIGTERM, signal.SIGHUP):
        with subprocess.Popen(command(path, "--samples", "300000"), stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True) as process:  # fmt: skip
            line = ""
            while not line.startswith("server on "):
                line = process.stderr.readline()
                assert line, "it ended without a server"
            port = int(line.split(";")[0].rpartition(":")[2])
            process.send_signal(number)
            process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 128 + number, process.returncode
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, "the server is still there"


def test_the_live_page_stays_up(folder):
    """--serve: an edge with a link to the demo's server, until the demo is ended."""
    path = os.path.join(folder, "data")
    with open(path, "w", encoding="utf-8") as file:
        file.write("A good film.\n")
    with subprocess.Popen(command(path, "--samples", "20", "--serve"), stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True) as process:  # fmt: skip
        address = None
        while address is None:
            line = process.stdout.readline()
            assert line, "it ended without an address"
            if line.startswith("live page: "):
                address = line.split()[2]
        up = False
        while not up:
            with urllib.request.urlopen(address + "live.json", timeout=TIMEOUT_S) as reply:
                up = json.load(reply)["link"]["up"]
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as reply:
            assert b"<title>splitee</title>" in reply.read()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 128 + signal.SIGTERM, process.returncode
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(address.rstrip("/").rpartition(":")[2]))) != 0


if __name__ == "__main__":
    run_tests(globals())
