#!/usr/bin/env python3
"""A soak in small, and its checks, each seen failing on a fault that is played to it.

Arguments: EDGE SERVER TOOL MODEL OTHER_MODEL PROXY [test names]
"""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
for name in ("../tools", "../faults"):
    sys.path.insert(0, os.path.join(HERE, name))

import planted  # noqa: E402
from binaries import OTHER_MODEL, edge, lines, main  # noqa: E402
from feed import FileTail  # noqa: E402
from stream import TEXTS, Ledger  # noqa: E402
from tally import Failed, Tally  # noqa: E402
from watch import Watch  # noqa: E402

PROGRAMS, NAMES = sys.argv[1:7], sys.argv[7:]
sys.argv[6:] = NAMES
# Every kind of check that a run of any length has.
ALWAYS = ("records: order and answer", "records whole", "nothing ends by itself", "exit status as documented",
          "no crash in the messages", "none lost at the end", "served again", "records go on")  # fmt: skip


def soak(folder, *flags):
    command = [sys.executable, os.path.join(HERE, "soak.py"), *PROGRAMS, "--output", folder, "--every", "0.5",
               "--look", "0.1", *map(str, flags)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    with open(os.path.join(folder, "report.json"), encoding="utf-8") as file:
        return done, json.load(file)


def good_soak(folder, *flags):
    done, report = soak(folder, *flags)
    assert done.returncode == 0 and report["problem"] is None, done.stdout + done.stderr
    assert {what: report[what] for what in ("lost", "doubled", "swapped", "wrong")} == dict.fromkeys(
        ("lost", "doubled", "swapped", "wrong"), 0), report  # fmt: skip
    assert all(report["checks"].get(name) for name in ALWAYS), report["checks"]
    assert report["faults_in_all"] > 0 and report["requests"] > 0, report
    assert os.path.getsize(os.path.join(folder, "report.html")) > 1000
    print(f"  {report['requests']} requests, {report['faults']}")
    return report


def test_a_record_that_is_taken_back(folder):
    """One for which the disk had no room, read before its edge made the file end with a whole one."""
    with open(os.path.join(folder, "out"), "wb", buffering=0) as file:
        tail = FileTail(file.name)
        file.write(b"whole\ncut")
        assert tail.read() == (b"whole\ncut", False) and tail.taken_back() == 0
        file.truncate(len(b"whole\n"))
        assert tail.taken_back() == len(b"cut") and tail.taken_back() == 0 and tail.read() == (b"", False)
        file.seek(0, os.SEEK_END)
        file.write(b"next\n")
        assert tail.taken_back() == 0 and tail.read() == (b"next\n", False)


def test_in_small(folder):
    good_soak(folder, "--minutes", 0.2, "--requests", 16000, "--seed", 1)


def test_without_mounts(folder):
    """As anybody, on a plain folder."""
    report = good_soak(folder, "--minutes", 0.1, "--requests", 8000, "--seed", 5, "--no-mounts")
    assert report["left_out"], report


def test_a_failure_is_told_with_its_command(folder):
    """Of two answers that are exchanged."""
    done, report = soak(folder, "--minutes", 5, "--requests", 500000, "--seed", 7, "--plant", "swapped")
    assert done.returncode == 1 and planted.KINDS["swapped"][0] in report["problem"] and report["swapped"], report
    told = done.stdout.split("The same faults again: ")[1]
    assert "--seed 7" in told and "--plant swapped" in told and PROGRAMS[0] in told, done.stdout
    assert os.path.exists(os.path.join(folder, "edge1.log")), os.listdir(folder)


def test_an_edge_that_ends_by_itself_is_noticed(folder):
    done, report = soak(folder, "--minutes", 5, "--requests", 500000, "--plant", "crash")
    assert done.returncode == 1 and planted.KINDS["crash"][0] in report["problem"], done.stdout


def test_records_that_are_not_right_are_noticed(_):
    records = edge("--quiet", "--policy", "final", stdin=lines(TEXTS)).out.splitlines()
    good = Ledger()
    for line in records:
        good.take(line)
    assert good.problem is None and good.count == len(TEXTS), good.problem
    changes = {"lost": lambda some: some[1:], "doubled": lambda some: [some[0], *some], "swapped": planted.swapped,
               "altered": planted.altered, "cut": lambda some: [some[0][:-9], *some[1:]]}  # fmt: skip
    for name, change in changes.items():
        ledger = Ledger()
        for line in records[:10] + change(records[10:]):
            ledger.take(line)
        assert planted.KINDS[name][0] in (ledger.problem or ""), f"{name}: {ledger.problem}"
        counted = {what: getattr(ledger, what) for what in ("lost", "doubled", "swapped", "wrong")}
        # Of a record that is no record, the text is lost.
        expected = {"swapped": {"swapped": 2, "wrong": 2}, "altered": {"wrong": 1}, "cut": {"lost": 1}}.get(name, {name: 1})
        assert {what: n for what, n in counted.items() if n} == expected, f"{name}: {counted}"
    # Of another model, as a server could have it.
    other = Ledger()
    other.take(edge("--quiet", "--policy", "final", stdin=lines(TEXTS), model=OTHER_MODEL).out.splitlines()[0])
    assert other.wrong == 1 and "instead of" in other.problem, other.problem
    # A last record that never came shows in the number alone, which is checked at the end of each input.
    short = Ledger()
    for line in records[:-1]:
        short.take(line)
    assert short.problem is None and short.count == len(TEXTS) - 1


def test_what_grows_is_noticed(_):
    for what in ("none", *planted.LEAKS):
        tally = Tally()
        watch = Watch(tally, every_s=0.02, fresh_s=0, least_s=1.5)
        script = planted.script(planted.LEAKS.get(what, "pass"))
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
            child.stdout.readline()  # it has begun
            watch.began("leaking", child.pid)
            watch.start()
            while len(watch.living["leaking"].looks) < 100:
                watch.closed.wait(0.01)
            try:
                watch.close()
            except Failed:
                pass
            child.kill()
        assert tally.checks, what
        if what == "none":
            assert tally.problem is None, tally.problem
        else:
            assert planted.KINDS[what][0] in (tally.problem or ""), f"{what}: {tally.problem}"


if __name__ == "__main__":
    main(globals())
