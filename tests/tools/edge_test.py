#!/usr/bin/env python3
"""splitee-edge without a server: input, records, policies, state, bad input."""

import json
import os
import signal
import subprocess
import time

from binaries import (EDGE, FIELDS, LABELS, LAYERS, MODEL, OTHER_MODEL, TIMEOUT_S, LiveEdge, answers,
                      edge, lines, main, make_texts, read, records_of, without_times, write)  # fmt: skip

TEXTS = make_texts(60)


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
        assert len(result.records) == 2, result
    edge(*flags, "--input", folder, status=None).expect(1, folder, "folder")


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
    edge("--input", both, "--output", both, status=None).expect(1, "both.txt")
    assert read(both) == b"ba\n"
    # Neither is the model, by whatever name.
    model = write(folder, "own.gguf", whole)
    link = os.path.join(folder, "link")
    os.symlink(model, link)
    for flag in ("--output", "--summary-json"):
        for name in (model, link):
            edge(flag, name, model=model, stdin="ba\n", status=None).expect(1, name, "is an input")
    assert read(model) == whole
    edge("--output", "/dev/full", stdin="ba\n", status=None).expect(1, "/dev/full", "No space")
    edge("--summary-json", "/no/such/folder/s", stdin="ba\n", status=None).expect(1, "/no/such")


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
        (("--objective", "energy"), "--costs live"), (("--slowdown", "0.5"), "0.5"),
        (("--costs", "live", "--policy", "splitee", "--state", "f"), "--state"),
        (("--secret-key", "f"), "--server"), (("--target", "abacus"), "abacus"),
        (("--server", "nonsense"), "nonsense"), (("extra",), "extra"),
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
                    b"", good + b"x", b"hello"):  # fmt: skip
        write(folder, "state", damaged)
        result = edge(*flags, "--state", state, stdin="ba\n", status=None).expect(1, state)
        assert result.out == "" and read(state) == damaged, result
    edge(*flags, "--state", folder, stdin="ba\n", status=None).expect(1, folder)
    result = edge(*flags, "--state", os.path.join(folder, "no", "s"), stdin="ba\n", status=None)
    assert len(result.expect(1, "no/s").records) == 1


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
