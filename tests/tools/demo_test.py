#!/usr/bin/env python3
"""tools/scripts/demo_run.py (the first argument) with the programs of the build folder (the second)."""

import json
import os
import pty
import random
import signal
import socket
import subprocess
import sys
import urllib.request

from run_tests import run_tests

DEMO, BUILD = map(os.path.abspath, sys.argv[1:3])
TIMEOUT_S = 120

sys.path.insert(0, os.path.dirname(DEMO))
import demo_run  # noqa: E402


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
    assert len(stdout.partition("\nnext:\n")[2].splitlines()) == 3, stdout


def test_a_terminal_shows_what_is_left(folder):
    path, (ours, theirs) = os.path.join(folder, "data"), pty.openpty()
    with open(path, "w", encoding="utf-8") as file:
        file.write("A good film.\n")
    with subprocess.Popen(command(path, "--samples", "20", "--build", own_build(folder)), stdout=subprocess.DEVNULL,
                          stderr=theirs) as process:  # fmt: skip
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 4096):
                seen += part
        except OSError:  # how a terminal ends
            pass
    os.close(ours)
    assert process.returncode == 0 and b"] 20/20, 0 s left" in seen, seen


def own_build(folder):
    """A build folder of the test's own, with BUILD's programs and nothing kept."""
    os.makedirs(os.path.join(folder, "build"))
    os.symlink(os.path.join(BUILD, "tools"), os.path.join(folder, "build", "tools"))
    return os.path.join(folder, "build")


def rows_of(result):
    assert result.returncode == 0, result
    return result.stdout[result.stdout.index("---") :].splitlines()[1:7]


def test_a_second_demo_runs_the_default_policy_only(folder):
    """What the others did is kept, with the time of it, until anything that it depends on changes."""
    build, content = own_build(folder), b"text\tlabel\nA good film.\t1\nA bad film.\t0\n"
    others = ["all layers here", "best threshold", "SplitEE", "SplitEE-S", "offload everything"]
    ran = lambda result: [line.split(":")[0] for line in result.stderr.splitlines() if " samples; the first: " in line]  # noqa: E731
    again = lambda *flags: demo(folder, content, "--build", build, *flags)  # noqa: E731

    first = again()
    assert ran(first) == ["default", *others] and "Kept from" not in first.stdout, first
    second = again()
    assert ran(second) == ["default"] and rows_of(second)[1:] == rows_of(first)[1:], second
    said = " ".join(second.stdout.split())
    assert f"model and stream ({second.stderr.split('kept from ')[1][:16]}): all layers here, threshold" in said, said
    assert second.stderr.count(": kept from ") == 5, second
    for flags in (["--fresh"], ["--seed", "2"], ["--offload-cost", "0.7"]):
        assert ran(again(*flags)) == ["default", *others], flags
    assert set(ran(again("--max-disagreement", "1"))) <= {"default", "best threshold"}  # maybe another threshold

    content += b"An ugly film.\t0\n"
    assert ran(again()) == ["default", *others]
    for name in os.listdir(os.path.join(build, "demo")):  # as after a crash, and of another's writing
        os.truncate(os.path.join(build, "demo", name), 100)
    broken = again()
    assert ran(broken) == ["default", *others] and ran(again()) == ["default"], broken


def test_little_is_kept(folder):
    build = own_build(folder)
    for seed in range(1, 6):
        assert demo(folder, b"A good film.\n", "--build", build, "--seed", str(seed)).returncode == 0
    assert len(os.listdir(os.path.join(build, "demo"))) == 20
    assert "Kept from" in demo(folder, b"A good film.\n", "--build", build, "--seed", "5").stdout
    assert "Kept from" not in demo(folder, b"A good film.\n", "--build", build, "--seed", "1").stdout


def test_a_folder_that_keeps_nothing(folder):
    build = own_build(folder)
    with open(os.path.join(build, "demo"), "w", encoding="utf-8"):
        pass
    assert len(rows_of(demo(folder, b"A good film.\n", "--build", build))) == 6


def threshold_by_trial(reference, limit):
    """What best_threshold() promises, threshold by threshold."""
    best, least = None, 1 / len(reference[0]["exits"][0]["probabilities"])
    for step in range(501):
        alpha = least + (1 - least) * step / 500
        taken = [next((e for e in r["exits"] if max(e["probabilities"]) >= alpha), r["exits"][-1]) for r in reference]
        layers = sum(e["layer"] for e in taken)
        answer = lambda e: e["probabilities"].index(max(e["probabilities"]))  # noqa: E731
        differ = sum(answer(e) != answer(r["exits"][-1]) for e, r in zip(taken, reference))
        if differ <= limit * len(reference) and (best is None or layers < best[0]):
            best = (layers, alpha)
    return best[1] if best else 1.0


def test_the_best_threshold(_):
    generator = random.Random(3)
    for classes in (2, 3):
        for limit in (0, 0.01, 0.1, 0.5, 1):
            reference = []
            for _ in range(60):
                exits = []
                for layer in (1, 2, 4):
                    drawn = [generator.random() ** 4 for _ in range(classes)]
                    exits.append({"layer": layer, "probabilities": [value / sum(drawn) for value in drawn]})
                reference.append({"exits": exits})
            assert demo_run.best_threshold(reference, limit) == threshold_by_trial(reference, limit), (classes, limit)
    sure = [{"exits": [{"layer": 1, "probabilities": [0.5, 0.5]}, {"layer": 2, "probabilities": [0.0, 1.0]}]}]
    assert demo_run.best_threshold(sure, 0) == threshold_by_trial(sure, 0)


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
