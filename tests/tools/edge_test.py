#!/usr/bin/env python3
"""splitee-edge without a server: input, records, policies, state, bad input."""

import fcntl
import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
import termios
import time

from binaries import (EDGE, FIELDS, LABELS, LAYERS, MODEL, OTHER_MODEL, TIMEOUT_S, LiveEdge, answers,
                      edge, lines, main, make_texts, patiently, read, records_of, run, wait_until_blocked,
                      without_times, write)  # fmt: skip

TEXTS = make_texts(60)
RANDOM_MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "random_model.py")
CONVERTER = os.path.join(os.path.dirname(RANDOM_MODEL), "../../tools/convert_hf.py")


def wait_until_full(pipe):
    """Until nothing more comes into a pipe that nobody reads."""
    seen = [-1]

    def full():
        held = int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
        before, seen[0] = seen[0], held
        return held > 60_000 and held == before

    patiently(full)


def test_records(_):
    result = edge("--policy", "final", stdin=lines(TEXTS))
    records = result.records
    assert len(records) == len(TEXTS)
    for i, record in enumerate(records):
        assert list(record) == FIELDS, record
        assert record["id"] == i and record["label"] == LABELS[record["class"]]
        assert 0.5 <= record["confidence"] <= 1 and record["exit_layer"] == LAYERS
        assert record["split"] == LAYERS and record["route"] == "final" and record["cost"] == LAYERS
        assert abs(record["reward"] - (record["confidence"] - 0.1 * LAYERS)) < 1e-5
        assert record["bytes_sent"] == record["link_us"] == record["server_us"] == 0
    assert {record["class"] for record in records} == {0, 1}
    assert "samples                  60" in result.err and "accuracy" not in result.err


def test_exits(_):
    for record in records_of("--policy", "threshold", "--alpha", "0.8", "--exits", stdin=lines(TEXTS)):
        assert [item["layer"] for item in record["exits"]] == [1, 2, 3, 4]
        tops = [max(item["probabilities"]) for item in record["exits"]]
        assert all(abs(sum(item["probabilities"]) - 1) < 1e-5 for item in record["exits"])
        # The rule itself, worked out from the probabilities: the first exit that is sure enough.
        layer = next((i + 1 for i, top in enumerate(tops) if top >= 0.8), LAYERS)
        assert record["exit_layer"] == layer and record["confidence"] == tops[layer - 1], record
        assert record["route"] == ("final" if layer == LAYERS else "exit"), record
        assert record["cost"] == layer
    # From the third exit on; the first two answer nothing, and cost nothing here.
    flags = ("--policy", "threshold", "--alpha", "0.5", "--first-exit", "3")
    assert {record["exit_layer"] for record in records_of(*flags, stdin=lines(TEXTS))} == {3}
    flags = ("--policy", "threshold", "--alpha", "0.5", "--first-exit", "3", "--lambda1", "0.08", "--lambda2", "0.02")
    assert {record["cost"] for record in records_of(*flags, stdin=lines(TEXTS))} == {2.6}
    edge("--policy", "threshold", "--first-exit", "5", status=None).expect(2, "first exit must be one of the 4 exits")


def test_line_forms(_):
    plain = answers(records_of("--policy", "final", stdin=lines(TEXTS[:3])))
    for stdin in ("\ufeff" + lines(TEXTS[:3]), lines(TEXTS[:3]).replace("\n", "\r\n"),
                  lines(TEXTS[:3])[:-1]):  # fmt: skip
        assert answers(records_of("--policy", "final", stdin=stdin)) == plain
    assert records_of(stdin="") == []
    assert len(records_of(stdin="\n\n\n")) == 3
    # Bytes that are not UTF-8, control characters and a NUL lose no record.
    strange = b"baba \xff\xfe\n\x00\x01\n\xed\xa0\x80\nbaba\n"
    result = edge("--policy", "final", stdin=strange)
    assert len(result.records) == 4 and "texts not in UTF-8       2" in result.err, result
    long = "babe " * 100_000
    records = records_of("--policy", "final", stdin=f"baba\n{long}\nbaba\n")
    assert len(records) == 3 and answers(records)[0] == answers(records)[2]
    # Cut to [CLS], the first tokens, [SEP]: what follows them makes no difference.
    assert answers(records)[1] == answers(records_of("--policy", "final", stdin="babe " * 46))[0]


def test_tsv(folder):
    rows = [f"{i}\t{text}\t{i % 2}\n" for i, text in enumerate(TEXTS)]
    path = write(folder, "in.tsv", "number\ttext\tlabel\n" + "".join(rows))
    summary = os.path.join(folder, "summary.json")
    output = os.path.join(folder, "out.jsonl")
    flags = ("--input-format", "tsv", "--policy", "final")
    edge("--input", path, "--output", output, "--summary-json", summary, *flags)
    records = [json.loads(line) for line in read(output).splitlines()]
    assert [record["truth"] for record in records] == [i % 2 for i in range(len(TEXTS))]
    right = sum(record["truth"] == record["class"] for record in records)
    assert abs(json.loads(read(summary))["accuracy"] - right / len(TEXTS)) < 1e-9
    assert answers(records) == answers(records_of("--policy", "final", stdin=lines(TEXTS)))
    # Names of classes, and no label.
    named = "label\ttext\nnegative\tba\npositive\tba\n\tba\n0\tba\n"
    truths = [record.get("truth") for record in records_of(*flags, stdin=named)]
    assert truths == [0, 1, None, 0]
    # A pair is not the text alone.
    pair = records_of(*flags, stdin="text\ttext2\nba de\tfi go\nba de\t\n")
    alone = records_of(*flags, stdin="text\nba de\n")
    assert len({record["confidence"] for record in pair + alone}) == 3


def test_other_than_text(folder):
    """What is no UTF-8 by its first bytes is refused, not classified letter by letter."""
    table = "text\tlabel\nba\t1\n"
    for name, data in (("UTF-16", table.encode("utf-16")), ("UTF-16", b"\xfe\xff" + table.encode("utf-16-be")),
                       ("UTF-32", table.encode("utf-32")), ("gzip", gzip.compress(table.encode())),
                       ("xz", lzma.compress(table.encode())), ("zstd", b"\x28\xb5\x2f\xfd" + bytes(20)),
                       ("zip", b"PK\3\4" + bytes(30))):  # fmt: skip
        for flags in ((), ("--input-format", "text"), ("--input-format", "tsv")):
            path, output = write(folder, "in", data), write(folder, "out", "old\n")
            result = edge(*flags, "--input", path, "--output", output, status=None)
            result.expect(1, path, "line 1", name, "not text in UTF-8")
            assert read(output) == b"old\n"
            assert edge(*flags, stdin=data, status=None).expect(1, "standard input: line 1", name).out == ""
    (record,) = records_of(stdin=b"\xef\xbb\xbfba\n")  # a byte order mark of UTF-8 is none of the text
    assert answers([record]) == answers(records_of(stdin="ba\n"))


def test_bad_tsv(folder):
    flags = ("--input-format", "tsv")
    edge(*flags, stdin="a\tb\nx\ty\n", status=None).expect(1, "standard input", "line 1", "'text'")
    edge(*flags, stdin="", status=None).expect(1, "'text'")
    edge(*flags, stdin="text\ttext\n", status=None).expect(1, "twice")
    for row, words in (("ba", ("line 4", "1 field", "2 columns")),
                       ("ba\t0\t1", ("line 4", "3 field")),
                       ("ba\t2", ("line 4", "'label'", "negative, positive")),
                       ("ba\tgood", ("line 4", "'label'", "'good'")),
                       ("ba\t-1", ("line 4", "'label'"))):  # fmt: skip
        good = "text\tlabel\nba\t0\nde\t1\n"
        result = edge(*flags, stdin=good + row + "\nfi\t0\n", status=None).expect(1, *words)
        # The good rows on both sides have their records.
        truths = [(record["id"], record["truth"]) for record in result.records]
        assert truths == [(0, 0), (1, 1), (2, 0)], result
    many = edge(*flags, "--quiet", stdin="text\tlabel\nba\t0\n" + "de\n" * 30, status=None)
    many.expect(1, "line 12", "30 row(s)")
    assert "line 13" not in many.err and len(many.records) == 1, many
    # What comes from a file does not steer the terminal.
    shown = edge(*flags, stdin=b"text\tlabel\nba\t\x1b[2J\xff\xc2\x9b\xc3\xa9\n", status=None)
    shown.expect(1, r"\x1b[2J\xff\xc2\x9b\u00e9".replace(r"\u00e9", "\u00e9"))
    edge(*flags, stdin="text\tlabel\rba\t0\r", status=None).expect(1, "carriage return")
    edge(*flags, "--input", folder, status=None).expect(1, folder, "folder")


def test_empty_tsv_lines(_):
    flags = ("--input-format", "tsv", "--policy", "final")
    for end in ("\n", "\r\n"):
        several = "text\tlabel\nba\t0\n\nde\t1\n".replace("\n", end)
        assert [record["truth"] for record in records_of(*flags, stdin=several)] == [0, 1]
        cut = several.rstrip("\n")
        assert [record["truth"] for record in records_of(*flags, stdin=cut)] == [0, 1]
        # With one column an empty line is an empty text.
        assert len(records_of(*flags, stdin="text\nba\n\nde\n".replace("\n", end))) == 3


def test_number_names(folder):
    """Where class names are other numbers, a label is a name, and nothing is guessed."""
    model = os.path.join(folder, "stars.gguf")
    run(sys.executable, RANDOM_MODEL, CONVERTER, "1", model, "--labels", "2,1")
    flags = ("--input-format", "tsv", "--policy", "final")
    records = records_of(*flags, stdin="text\tlabel\nba\t1\nba\t2\n", model=model)
    assert [record["truth"] for record in records] == [1, 0]
    result = edge(*flags, stdin="text\tlabel\nba\t0\n", model=model, status=None)
    result.expect(1, "'0' is not one of 2, 1")


def test_bad_files(folder):
    missing = os.path.join(folder, "no.txt")
    edge("--input", missing, status=None).expect(1, missing)
    edge(model=os.path.join(folder, "no.gguf"), status=None).expect(1, "no.gguf")
    edge(model=folder, status=None).expect(1, folder)
    whole = read(MODEL)
    for name, content in (("cut.gguf", whole[: len(whole) // 2]), ("text.gguf", b"not a model"),
                          ("empty.gguf", b""), ("old.gguf", b"GGUF\x01" + whole[5:])):  # fmt: skip
        path = write(folder, name, content)
        result = edge(model=path, stdin="ba\n", status=None).expect(1, name)
        assert result.out == "" and result.err.count("\n") == 1, result
    edge("--output", os.path.join(folder, "no", "out"), status=None).expect(1, "out")
    both = write(folder, "both.txt", "ba\n")
    model = write(folder, "model.gguf", whole)
    state = os.path.join(folder, "state")
    for flags in (("--input", both, "--output", both), ("--input", both, "--summary-json", both),
                  ("--output", model), ("--summary-json", model), ("--state", model),
                  ("--output", state, "--state", state), ("--summary-json", both, "--output", both),
                  ("--costs", both, "--output", both)):  # fmt: skip
        result = edge(*flags, model=model, stdin="ba\n", status=None).expect(1, flags[-1])
        assert result.out == "" and read(both) == b"ba\n" and read(model) == whole, result
    with open(both, "rb") as stdin:
        command = [EDGE, "--model", MODEL, "--output", both]
        status = subprocess.run(command, stdin=stdin, capture_output=True, timeout=TIMEOUT_S).returncode
    assert status == 1 and read(both) == b"ba\n"
    link = os.path.join(folder, "link")
    os.symlink(model, link)
    edge("--output", link, model=model, stdin="ba\n", status=None).expect(1, link, "is an input")
    assert read(model) == whole
    edge("--output", "/dev/full", stdin="ba\n", status=None).expect(1, "/dev/full", "No space")
    # What could not be written at the end is refused before the first record.
    for flags, code, word in (
        (("--summary-json", "/no/such/folder/s"), 1, "/no/such/folder/s: cannot create: No such file"),
        (("--summary-json", folder), 1, "not a regular file"), (("--summary-json", "-"), 2, "standard output"),
        (("--output", folder), 1, "Is a directory"), (("--output", "/no/such/o"), 1, "No such file"),
    ):  # fmt: skip
        assert edge(*flags, stdin="ba\n", status=None).expect(code, word).out == ""
    twice = os.path.join(folder, "new"), os.path.join(folder, ".", "new")
    edge("--output", twice[0], "--summary-json", twice[1], stdin="ba\n", status=None).expect(1, "written twice")
    assert not os.path.exists(twice[0])


def test_usage(_):
    for flags, word in (
        (("--what",), "--what"), (("--policy", "best"), "best"), (("--alpha", "1.5"), "1.5"),
        (("--alpha", "nan"), "nan"), (("--alpha", "-0.1"), "-0.1"), (("--alpha", "x"), "x"),
        (("--policy", "fixed"), "--split"), (("--policy", "fixed", "--split", "5"), "1, 2, 3, 4"),
        (("--policy", "fixed", "--split", "0"), "0"), (("--lambda", "-1"), "-1"),
        (("--lambda", "0"), "0"), (("--lambda", "inf"), "inf"), (("--offload-cost", "-1"), "-1"),
        (("--lambda", "1e308"), "1e308"), (("--offload-cost", "1e13"), "1e13"), (("--mu", "1e13"), "1e13"),
        (("--lambda1", "0", "--lambda2", "1e-300"), "1e-12"), (("--seed", "-1"), "-1"),
        (("--seed", "99999999999999999999"), "99999999999999999999"), (("--seed", "1.5"), "whole number"),
        (("--server", "tcp://127.0.0.1"), "not an endpoint"), (("--server", "127.0.0.1:5"), "not an endpoint"),
        (("--mu", "nan"), "nan"), (("--lambda1", "0.2"), "--lambda"), (("--threads", "0"), "0"),
        (("--deadline-ms", "0"), "0"), (("--input-format", "csv"), "csv"), (("--seed", "x"), "x"),
        (("--window", "0"), "0"), (("--payload", "tokens"), "tokens"), (("--activation", "f64"), "f64"),
        (("--budget", "2", "--reward", "paper"), "--reward"),
        (("--objective", "energy"), "--costs live"), (("--slowdown", "0.5"), "0.5"),
        (("--costs", "live", "--policy", "splitee", "--state", "f"), "--state"),
        (("--secret-key", "f"), "--server"), (("--target", "abacus"), "abacus"),
        (("--server", "nonsense"), "nonsense"), (("--server", ""), "is not an endpoint"),
        (("--server", "tcp://127.0.0.1"), "is not an endpoint"), (("--server", "tcp://a:"), "is not an endpoint"), (("extra",), "extra"),
    ):  # fmt: skip
        result = edge(*flags, status=None).expect(2, word)
        assert result.out == "", result
    edge(status=None, env={"SPLITEE_TARGET": "abacus"}).expect(2, "SPLITEE_TARGET", "abacus")
    help_text = edge("--help").out
    for word in ("--deadline-ms", "milliseconds", "splitee-s", "fallback", "Exit status"):
        assert word in help_text, word
    # The default of --lambda, as older and as newer CLI11 show it.
    assert "=0.1" in help_text or "[0.1]" in help_text, help_text
    assert edge("--version").out.startswith("splitee-edge ")


def test_objective(folder):
    flags = ("--costs", "live", "--policy", "final", "--objective", "energy", "--energy-root", folder)
    edge(*flags, stdin="ba\n", status=None).expect(1, "--objective energy", "RAPL")
    os.makedirs(os.path.join(folder, "sys/class/hwmon/hwmon0"))
    write(folder, "sys/class/hwmon/hwmon0/name", "ina226\n")
    write(folder, "sys/class/hwmon/hwmon0/power1_input", "3000000\n")
    path = os.path.join(folder, "summary.json")
    edge(*flags, "--summary-json", path, stdin=lines(TEXTS))
    energy = json.loads(read(path))["energy"]
    assert energy["source"] == "ina226" and abs(energy["computing_watts"] - 3) < 1e-6, energy


def test_board(folder):
    """Temperature and throttling are told where the system tells them, and break nothing where it does not."""
    path = os.path.join(folder, "summary.json")

    def board():
        edge("--energy-root", folder, "--summary-json", path, stdin=lines(TEXTS))
        return json.loads(read(path))["board"]

    def put(name, text):
        os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
        write(folder, name, text)

    assert board() is None
    put("sys/class/thermal/thermal_zone0/temp", "48312\n")
    put("sys/class/thermal/thermal_zone1/temp", "61500\n")
    put("sys/class/thermal/cooling_device0/temp", "99000\n")
    assert board() == {"temperature_celsius": 61.5, "throttled": None}
    put("sys/class/thermal/thermal_zone1/temp", "none\n")
    assert board() == {"temperature_celsius": 48.312, "throttled": None}
    policy = "sys/devices/system/cpu/cpufreq/policy0/"
    put(policy + "cpuinfo_max_freq", "1800000\n")
    for limit, throttled in (("1800000", False), ("1200000", True)):
        put(policy + "scaling_max_freq", limit + "\n")
        assert board()["throttled"] is throttled, limit
    put(policy + "scaling_max_freq", "1800000\n")
    for bits, throttled in (("0x50000", False), ("0x50005", True), ("0x2", True), ("8", True), ("what", False)):
        put("sys/devices/platform/soc/soc:firmware/get_throttled", bits + "\n")
        assert board()["throttled"] is throttled, bits


def test_policies(_):
    for policy in ("splitee", "splitee-s", "final", "random", "threshold", "entropy", "patience"):
        flags = ("--policy", policy, "--alpha", "0.8")
        records = records_of(*flags, "--seed", "7", stdin=lines(TEXTS))
        assert len(records) == len(TEXTS), policy
        again = records_of(*flags, "--seed", "7", stdin=lines(TEXTS))
        assert without_times(records) == without_times(again), policy
        # Without a server nothing is offloaded, and nothing fell back.
        assert {record["route"] for record in records} <= {"exit", "final"}, policy
    seeds = [[r["split"] for r in records_of("--policy", "random", "--seed", s, stdin=lines(TEXTS))]
             for s in (1, 2)]  # fmt: skip
    assert seeds[0] != seeds[1]
    for split in range(1, LAYERS + 1):
        flags = ("--policy", "fixed", "--split", split, "--alpha", "0.8", "--exits")
        for record in records_of(*flags, stdin=lines(TEXTS)):
            top = max(record["exits"][split - 1]["probabilities"])
            assert record["split"] == split
            assert record["exit_layer"] == (split if top >= 0.8 else LAYERS), record


def test_options_that_a_policy_does_not_read(_):
    """Said, and the run goes on; not with --quiet."""
    given = ("--policy", "threshold", "--patience", "2", "--split", "2", "--first-exit", "2")
    said = "policy threshold does not read --patience, --split"
    assert said in edge(*given, stdin="ba\n").err
    assert said not in edge(*given, "--quiet", stdin="ba\n").err
    assert "does not read" not in edge("--policy", "threshold", "--first-exit", "2", stdin="ba\n").err


def test_targets_agree(_):
    help_text = edge("--help").out
    line = next(line for line in help_text.splitlines() if "kernel target to force" in line)
    targets = [word.strip() for word in line.split("force:")[1].split("(")[0].split(",")]
    assert targets[-1] == "scalar"
    wanted = records_of("--policy", "final", "--target", "scalar", stdin=lines(TEXTS))
    for target in targets[:-1]:
        result = edge("--policy", "final", "--quiet", "--target", target, stdin=lines(TEXTS), status=None)
        if result.status == 2:
            print(f"  {target}: not on this CPU")
            continue
        for ours, theirs in zip(result.records, wanted, strict=True):
            assert ours["class"] == theirs["class"], target
            assert abs(ours["confidence"] - theirs["confidence"]) < 1e-4, target


def test_state(folder):
    state = os.path.join(folder, "state")
    flags = ("--policy", "splitee", "--alpha", "0.8", "--seed", "3")
    whole = records_of(*flags, stdin=lines(TEXTS))
    first = records_of(*flags, "--state", state, stdin=lines(TEXTS[:25]))
    second = records_of(*flags, "--state", state, stdin=lines(TEXTS[25:]))
    # Stopped and started again: the same decisions as in one go.
    assert [r["split"] for r in first + second] == [r["split"] for r in whole]
    fresh = records_of(*flags, stdin=lines(TEXTS[25:]))
    assert [r["split"] for r in fresh] != [r["split"] for r in second]
    good = read(state)
    foreign = ("--policy", "splitee-s", "--alpha", "0.8")
    edge(*foreign, "--state", state, stdin="ba\n", status=None).expect(1, state)
    edge(*flags, "--lambda", "0.2", "--state", state, stdin="ba\n", status=None).expect(1, state)
    for damaged in (good[:-1], good[: len(good) // 2], good[:40] + bytes([good[40] ^ 1]) + good[41:],
                    good + b"x", b"hello"):  # fmt: skip
        write(folder, "state", damaged)
        result = edge(*flags, "--state", state, stdin="ba\n", status=None).expect(1, state)
        assert result.out == "" and read(state) == damaged, result
    edge(*flags, "--state", folder, stdin="ba\n", status=None).expect(1, folder)
    result = edge(*flags, "--state", os.path.join(folder, "no", "s"), stdin="ba\n", status=None)
    assert result.expect(1, "no/s").out == "", result


def test_state_of_another_model(folder):
    state = os.path.join(folder, "state")
    for policy in ("audited", "splitee", "factored"):
        flags = ("--policy", policy, "--alpha", "0.8", "--state", state)
        records_of(*flags, stdin=lines(TEXTS[:5]))
        kept = read(state)
        result = edge(*flags, stdin="ba\n", status=None, model=OTHER_MODEL)
        assert result.expect(1, state, "another model", "begin anew").out == "" and read(state) == kept
        records_of(*flags, stdin=lines(TEXTS[:5]))
        write(folder, "state", kept[:8] + b"\5" + kept[9:])
        edge(*flags, stdin="ba\n", status=None).expect(1, state, "version 5", "begin anew")
        os.unlink(state)


def test_signals(folder):
    for number in (signal.SIGTERM, signal.SIGINT):
        state = os.path.join(folder, f"state{int(number)}")
        with LiveEdge("--state", state) as live:
            for text in TEXTS[:5]:
                live.classify(text)
            live.process.send_signal(number)  # it waits for input that does not come
            assert live.process.wait(TIMEOUT_S) == 0, live.messages()
            assert "signal" in live.messages() and "samples                  5" in live.messages()
        saved = read(state)
        records_of("--state", state, stdin=lines(TEXTS[:1]))
        assert read(state) != saved


def test_signal_while_waiting(_):
    """For a server that is not there, and for the header of a TSV."""
    for flags in (("--server", "tcp://127.0.0.1:1", "--connect-ms", "3000000"),
                  ("--input-format", "tsv")):  # fmt: skip
        with LiveEdge(*flags) as live:
            wait_until_blocked(live.process.pid)
            live.process.send_signal(signal.SIGTERM)
            assert live.process.wait(TIMEOUT_S) == 0, live.messages()
            assert "stopped by a signal" in live.messages()


def test_signal_while_the_reader_stalls(folder):
    """A full pipe holds the program up, but not for ever once it is to end."""
    state = os.path.join(folder, "state")
    path = write(folder, "in.txt", "ba\n" * 20_000)
    command = [EDGE, "--model", MODEL, "--input", path, "--state", state]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until_full(process.stdout)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 1
        assert b"does not read" in process.stderr.read()
        whole = process.stdout.read().decode().rpartition("\n")[0].split("\n")
    assert [json.loads(line)["id"] for line in whole] == list(range(len(whole)))
    records_of("--state", state, stdin="ba\n")


def test_closed_streams(folder):
    """A closed standard stream is an error, and its number goes to no other file."""
    path = write(folder, "in.txt", "ba\n")
    for redirect, word in (("<&-", "standard input"), (f"< {path} >&-", "standard output")):
        done = subprocess.run(["sh", "-c", f'"$0" --model "$1" {redirect}', EDGE, MODEL],
                              capture_output=True, timeout=TIMEOUT_S, check=False)  # fmt: skip
        message = done.stderr.decode()
        assert done.returncode == 1 and word in message and "Bad file descriptor" in message, message


def test_file_size_limit(folder):
    """ulimit -f, in KiB: an error like a full disk, not an end by SIGXFSZ."""
    path = write(folder, "in.txt", "ba\n" * 2000)
    output = os.path.join(folder, "out")
    command = 'ulimit -f 64; exec "$0" --model "$1" --input "$2" --output "$3"'
    done = subprocess.run(["bash", "-c", command, EDGE, MODEL, path, output],
                          capture_output=True, timeout=TIMEOUT_S, check=False)  # fmt: skip
    assert done.returncode == 1 and b"out: cannot write: File too large" in done.stderr, done


def test_reader_gone(_):
    process = subprocess.Popen([EDGE, "--model", MODEL], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    process.stdout.close()
    message = process.communicate(lines(TEXTS).encode(), timeout=TIMEOUT_S)[1].decode()
    assert process.returncode == 1 and "standard output" in message, message


def test_records_at_once(_):
    with LiveEdge("--quiet") as live:
        for text in TEXTS[:10]:
            live.classify(text)  # each record comes before the next line is sent
        live.finish()


def test_libraries_of_the_link_are_loaded_for_a_link(_):
    """With libzmq come a dozen more, with libmicrohttpd another: an edge without them starts faster."""
    with LiveEdge("--quiet") as live:
        live.classify(TEXTS[0])
        maps = read(f"/proc/{live.process.pid}/maps").decode()
        assert "libstdc++" in maps or "libc.so" in maps, maps
        assert "libzmq" not in maps and "libmicrohttpd" not in maps and "gnutls" not in maps, maps
        live.finish()


def test_records_in_a_file_while_the_input_pauses(folder):
    path = os.path.join(folder, "records")
    with subprocess.Popen([EDGE, "--model", MODEL, "--quiet", "--output", path], stdin=subprocess.PIPE) as edge:
        for count in range(1, 5):
            edge.stdin.write(lines(TEXTS[:1]).encode())
            edge.stdin.flush()
            end = time.monotonic() + TIMEOUT_S
            while not os.path.exists(path) or read(path).count(b"\n") < count:
                assert time.monotonic() < end, "a record waits for the next line"
                time.sleep(0.01)
        edge.stdin.close()
        assert edge.wait(TIMEOUT_S) == 0


def test_summary(folder):
    path = os.path.join(folder, "summary.json")
    flags = ("--policy", "threshold", "--alpha", "0.8", "--summary-json", path)
    records = records_of(*flags, stdin=lines(TEXTS))
    summary = json.loads(read(path))
    count = len(records)
    mean = lambda field: sum(record[field] for record in records) / count  # noqa: E731
    assert summary["samples"] == count and summary["accuracy"] is None
    assert abs(summary["mean_cost"] - mean("cost")) < 1e-6
    assert abs(summary["cost_saved"] - (1 - mean("cost") / LAYERS)) < 1e-6
    assert abs(summary["mean_edge_layers"] - mean("exit_layer")) < 1e-9
    for route, number in summary["routes"].items():
        assert number == sum(record["route"] == route for record in records)
    for layer in range(1, LAYERS + 1):
        assert summary["exit_layers"][layer] == sum(r["exit_layer"] == layer for r in records)
    times = sorted(record["edge_us"] for record in records)
    for name, q in (("p50", 0.5), ("p99", 0.99)):
        exact = times[max(0, -int(-q * count // 1) - 1)]
        assert abs(summary["latency_us"][name] - exact) <= 0.01 * exact + 1, (name, summary, exact)


def test_other_model_differs(_):
    ours = answers(records_of("--policy", "final", stdin=lines(TEXTS)))
    assert ours != answers(records_of("--policy", "final", stdin=lines(TEXTS), model=OTHER_MODEL))


if __name__ == "__main__":
    main(globals())
