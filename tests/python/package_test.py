#!/usr/bin/env python3
"""The Python package on the library of the build folder, with nothing but NumPy: what it answers is what the
programs answer, on texts, pairs and rows of numbers, alone and with a server, by iteration and asynchronously; with
policies written in Python; its errors; threads.

Arguments: EDGE SERVER TOOL MODEL OTHER_MODEL NUMBERS_MODEL [test names]. $PYTHONPATH has the package,
$SPLITEE_LIBRARY names the library.
"""

import asyncio
import concurrent.futures
import gc
import json
import os
import pickle
import signal
import subprocess
import sys

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
NUMBERS_MODEL = os.path.abspath(sys.argv.pop(6))

import numpy as np  # noqa: E402

import splitee  # noqa: E402
from binaries import (  # noqa: E402
    LAYERS, MODEL, OTHER_MODEL, TIMES, TOOL, Server, edge, lines, main, make_texts, patiently, read, records_of, run,
    without_times, write)  # fmt: skip

TEXTS = [*make_texts(40), "", "bada bodo"]
MODEL_HERE = splitee.Model(MODEL)


def raises(kind, call, *words):
    try:
        call()
    except kind as problem:
        for word in words:
            assert word in str(problem), (word, str(problem))
        return problem
    raise AssertionError(f"no {kind.__name__}")


def rows_of_numbers(count):
    rng = np.random.default_rng(5)
    return rng.normal(size=(count, splitee.Model(NUMBERS_MODEL).numbers)).astype(np.float32)


def number_lines(rows):
    names = [f"c{i}" for i in range(rows.shape[1])]
    names = splitee.Model(NUMBERS_MODEL).columns or names
    return lines([",".join(names), *(",".join(repr(float(x)) for x in row) for row in rows)])


def test_model_says_what_it_is(_):
    model = MODEL_HERE
    said = json.loads(run(TOOL, "inspect", MODEL, "--json").out)
    assert model.layers == LAYERS == said["layers"] and len(model.exit_layers) == model.exits
    assert f"{model.hash:016x}" in json.dumps(said)
    assert model.input == "text" and model.output == "classes" and model.pairs and len(model.labels) == model.classes
    assert MODEL in repr(model)
    assert pickle.loads(pickle.dumps(model)).hash == model.hash


def test_run_is_what_the_programs_compute(_):
    found = MODEL_HERE.run(TEXTS)
    assert found.shape == (len(TEXTS), MODEL_HERE.exits, MODEL_HERE.classes) and found.dtype == np.float32
    assert np.allclose(found.sum(axis=2), 1, atol=1e-5)
    for row, record in zip(found, records_of("--exits", stdin=lines(TEXTS))):
        wanted = np.array([exit["probabilities"] for exit in record["exits"]], np.float32)
        assert np.array_equal(row, wanted), (row, wanted)
    assert np.array_equal(MODEL_HERE.predict(TEXTS, exit=0), found[:, 0].argmax(axis=1))
    assert np.array_equal(MODEL_HERE.run(TEXTS, threads=2), found)
    assert MODEL_HERE.run([]).shape == (0, MODEL_HERE.exits, MODEL_HERE.classes)


def test_pairs_of_texts(folder):
    pairs = [(a, b) for a, b in zip(TEXTS[:10], TEXTS[10:20])]
    table = lines(["text\ttext2", *(f"{a}\t{b}" for a, b in pairs)])
    found = MODEL_HERE.run(pairs)
    for row, record in zip(found, records_of("--exits", "--input-format", "tsv", stdin=table)):
        assert np.array_equal(row, np.array([e["probabilities"] for e in record["exits"]], np.float32))
    assert not np.array_equal(found, MODEL_HERE.run([a for a, _ in pairs]))


def test_rows_of_numbers(_):
    model = splitee.Model(NUMBERS_MODEL)
    rows = rows_of_numbers(20)
    found = model.run(rows)
    records = records_of("--exits", "--input-format", "numbers", stdin=number_lines(rows), model=NUMBERS_MODEL)
    for row, record in zip(found, records):
        assert np.array_equal(row, np.array([e["probabilities"] for e in record["exits"]], np.float32))
    ours = list(splitee.Edge(model, exits=True).run(rows))
    assert without_times(ours) == without_times(records)
    assert np.array_equal(model.run(rows.astype(float).tolist()), found)
    raises(ValueError, lambda: model.run(rows[:, 1:]), str(model.numbers))
    raises(ValueError, lambda: model.run(rows[0]), str(model.numbers))
    rows[3, 0] = np.nan
    raises(splitee.SpliteeError, lambda: model.run(rows))


def test_edge_alone_is_splitee_edge(_):
    for flags, options in (
        ((), {}),
        (("--policy", "splitee-s", "--seed", 4, "--alpha", 0.55), {"policy": "splitee-s", "seed": 4, "alpha": 0.55}),
        (("--policy", "fixed", "--split", 2, "--lambda", 0.2), {"policy": "fixed", "split": 2, "lambda_": 0.2}),
        (("--exits", "--max-tokens", 6), {"exits": True, "max_tokens": 6}),
    ):
        ours = list(splitee.Edge(MODEL, **options).run(TEXTS))
        assert without_times(ours) == without_times(records_of(*flags, stdin=lines(TEXTS))), flags


def test_edge_with_a_server_is_splitee_edge(_):
    with Server() as server:
        flags = ("--server", server.endpoint, "--policy", "splitee", "--alpha", 0.6, "--seed", 2, "--require-server",
                 "--deadline-ms", 60000)  # fmt: skip
        theirs = records_of(*flags, stdin=lines(TEXTS * 3))
        options = dict(server=server.endpoint, policy="splitee", alpha=0.6, seed=2, require_server=True, deadline_ms=60000)
        with splitee.Edge(MODEL_HERE, **options) as device:
            ours = list(device.run(TEXTS * 3))
            assert device.summary()["routes"]["offload"] == sum(r["route"] == "offload" for r in ours) > 0
        assert without_times(ours) == without_times(theirs)
        assert ours[-1].keys() == theirs[-1].keys()

        async def slow(texts):
            for text in texts:
                await asyncio.sleep(0)
                yield text

        async def collect(samples):
            with splitee.Edge(MODEL_HERE, **options) as device:
                return [record async for record in device.run(samples)]

        assert without_times(asyncio.run(collect(slow(TEXTS * 3)))) == without_times(theirs)
        assert without_times(asyncio.run(collect(TEXTS * 3))) == without_times(theirs)


def test_asynchronous_input_that_pauses_holds_no_record_back(_):
    async def check():
        with Server() as server:
            device = splitee.Edge(MODEL_HERE, server=server.endpoint, policy="offload", require_server=True, window=8,
                                  deadline_ms=60000)  # fmt: skip
            got, given = asyncio.Queue(), asyncio.Queue()

            async def samples():
                while True:
                    text = await given.get()
                    if text is None:
                        return
                    yield text

            async def read():
                async for record in device.run(samples()):
                    got.put_nowait(record)

            reader = asyncio.ensure_future(read())
            for number, text in enumerate(TEXTS[:5]):
                given.put_nowait(text)
                record = await asyncio.wait_for(got.get(), 60)
                assert record["id"] == number and record["route"] == "offload", record
            given.put_nowait(None)
            await reader

    asyncio.run(check())


def test_a_server_that_goes_leaves_every_sample_its_record(_):
    with Server() as server:
        device = splitee.Edge(MODEL_HERE, server=server.endpoint, policy="offload", require_server=True)

        def samples():
            for number, text in enumerate(TEXTS):
                if number == 10:
                    server.kill()
                yield text

        records = list(device.run(samples()))
    assert [record["id"] for record in records] == list(range(len(TEXTS)))
    assert {record["route"] for record in records} >= {"offload", "fallback"}


def test_state_of_a_policy_is_kept(folder):
    state = os.path.join(folder, "state")
    halves = []
    for part in (TEXTS[:20], TEXTS[20:]):
        with splitee.Edge(MODEL_HERE, policy="splitee", alpha=0.55, seed=1, window=1, state=state) as device:
            halves += [record["split"] for record in device.run(part)]
    whole = splitee.Edge(MODEL_HERE, policy="splitee", alpha=0.55, seed=1, window=1)
    assert halves == [record["split"] for record in whole.run(TEXTS)]


def test_labels_and_one_sample(_):
    device = splitee.Edge(MODEL_HERE)
    name = MODEL_HERE.labels[1]
    assert device.classify({"text": "bada", "label": name})["truth"] == 1
    assert device.classify({"text": "bada", "text2": "bodo", "label": 0})["truth"] == 0
    assert device.classify({"text": "bada", "label": None}).get("truth") is None
    raises(splitee.CorruptError, lambda: device.classify({"text": "bada", "label": "none"}), "none")
    assert device.summary()["samples"] == 3


class SecondSure(splitee.Policy):
    """Looks at every second exit; answers where it is sure."""

    def __init__(self, sure):
        self.sure, self.readings, self.outcomes, self.plans = sure, [], [], []

    def plan(self, sample, link):
        self.plans.append((sample, link))
        return 1

    def decide(self, reading):
        self.readings.append(reading)
        if reading.confidence >= self.sure or reading.last:
            return splitee.ANSWER
        return min(reading.exit + 2, reading.exits - 1)

    def observe(self, outcome):
        self.outcomes.append(outcome)


def test_a_policy_in_python_on_a_live_edge(_):
    policy = SecondSure(0.6)
    device = splitee.Edge(MODEL_HERE, policy=policy, window=1, lambda_=0.2)
    records = list(device.run(TEXTS))
    confidences = MODEL_HERE.run(TEXTS).max(axis=2)
    looks = list(range(1, MODEL_HERE.exits, 2))
    if looks[-1] != MODEL_HERE.exits - 1:
        looks.append(MODEL_HERE.exits - 1)
    for row, record in zip(confidences, records):
        exit = next((e for e in looks if row[e] >= 0.6), looks[-1])
        assert record["exit_layer"] == MODEL_HERE.exit_layers[exit], (row, record)
    assert len({record["exit_layer"] for record in records}) > 1
    assert policy.plans == [(i, "none") for i in range(len(TEXTS))]
    assert all(r.probabilities.shape == (MODEL_HERE.classes,) and r.probabilities.max() == r.confidence
               for r in policy.readings)  # fmt: skip
    device.close()  # learns from the last one, too
    assert [o.sample for o in policy.outcomes] == list(range(len(TEXTS)))
    assert [o.class_index for o in policy.outcomes] == [r["class"] for r in records]
    assert all(np.isnan(o.confidences[0]) and o.class_indices[0] == -1 for o in policy.outcomes)


def test_a_policy_in_python_sends(_):
    class Sends(splitee.Policy):
        def decide(self, reading):
            return splitee.SEND

    with Server() as server:
        device = splitee.Edge(MODEL_HERE, server=server.endpoint, policy=Sends(), require_server=True, deadline_ms=60000)
        records = list(device.run(TEXTS))
    assert {record["route"] for record in records} == {"offload"} and {r["split"] for r in records} == {1}
    final = records_of("--policy", "final", stdin=lines(TEXTS))
    assert [r["class"] for r in records] == [r["class"] for r in final]


def test_what_a_policy_in_python_raises_comes_out(_):
    class Fails(splitee.Policy):
        def decide(self, reading):
            raise KeyError("mine")

    class Backwards(splitee.Policy):
        def decide(self, reading):
            return reading.exit

    raises(KeyError, lambda: list(splitee.Edge(MODEL_HERE, policy=Fails()).run(TEXTS)), "mine")
    raises(splitee.PolicyError, lambda: list(splitee.Edge(MODEL_HERE, policy=Backwards()).run(TEXTS)), "exit")
    raises(NotImplementedError, lambda: list(splitee.Edge(MODEL_HERE, policy=splitee.Policy()).run(TEXTS)))


def figures_of(trace, *flags):
    return json.loads(run(TOOL, "replay", "--trace", trace, *flags, "--json").out)


def test_replay(folder):
    trace = os.path.join(folder, "trace.csv")
    run(TOOL, "trace", "--model", MODEL, "--input", write(folder, "texts", lines(TEXTS * 5)), "--output", trace)
    ours = os.path.join(folder, "ours.csv")
    splitee.write_trace(ours, MODEL_HERE.run(TEXTS * 5))
    assert read(ours) == read(trace)
    theirs = figures_of(trace, "--policy", "splitee", "--runs", 3, "--alpha", 0.6, "--offload-cost", "none")
    rows = as_rows(splitee.replay(trace, ["splitee", "final"], runs=3, alpha=0.6, offload_cost="none"))
    assert [row["policy"] for row in rows] == ["splitee", "final"]
    assert rows[0]["cost"] == theirs["cost"]["mean"] and rows[0]["cost_ci95"] == theirs["cost"]["ci95"]
    assert rows[0]["disagreement"] == theirs["disagreement"]["mean"] and rows[1]["disagreement"] == 0
    decided = as_rows(splitee.replay(trace, "splitee", alpha=0.6, decisions=True))
    assert len(decided) == 5 * len(TEXTS) and decided[0].keys() >= {"run", "t", "arm", "route", "reward", "cost"}

    # In Python: as on the live edge, sample by sample.
    policy = SecondSure(0.6)
    row = as_rows(splitee.replay(trace, policy, order="file", offload_cost="none"))[0]
    live = [r["cost"] for r in splitee.Edge(MODEL_HERE, policy=SecondSure(0.6)).run(TEXTS * 5)]
    assert abs(row["cost"] - sum(live) / len(live)) < 1e-4 and row["policy"] == "SecondSure"
    assert len(policy.plans) == len(policy.outcomes) == 5 * len(TEXTS) and policy.readings[0].probabilities is None
    # A threshold in Python is the library's threshold.

    class Threshold(splitee.Policy):
        def decide(self, reading):
            return splitee.ANSWER if reading.confidence >= 0.6 else reading.exit + 1

    both = as_rows(splitee.replay(trace, [Threshold(), "threshold"], alpha=0.6, runs=2, seed=9))
    for name in ("cost", "disagreement", "offload_rate"):
        assert both[0][name] == both[1][name], (name, both)

    raises(splitee.InvalidError, lambda: splitee.replay(trace, "no policy"), "no policy")
    raises(splitee.SpliteeError, lambda: splitee.replay(trace + "x", "final"), trace + "x")
    raises(NotImplementedError, lambda: splitee.replay(trace, splitee.Policy()))


def as_rows(found):
    """A list of dicts, with pandas or without."""
    return found if isinstance(found, list) else found.to_dict("records")


def test_errors_are_the_packages_own_and_name_what_is_wrong(folder):
    missing = os.path.join(folder, "none.gguf")
    raises(splitee.SpliteeError, lambda: splitee.Model(missing), missing)
    raises(splitee.CorruptError, lambda: splitee.Model(write(folder, "bad.gguf", b"GGUF\3\0\0\0")), "bad.gguf")
    raises(splitee.InvalidError, lambda: splitee.Edge(MODEL_HERE, polcy="fixed"), "polcy")
    raises(ValueError, lambda: splitee.Edge(MODEL_HERE, alpha=7), "alpha")
    raises(TypeError, lambda: MODEL_HERE.run("one text"), "list")
    raises(TypeError, lambda: MODEL_HERE.run([3]), "int")
    raises(TypeError, lambda: list(splitee.Edge(MODEL_HERE).run([b"bytes"])), "bytes")
    raises(splitee.SpliteeError, lambda: splitee.Edge(MODEL_HERE, server="tcp://127.0.0.1:1", require_server=True,
                                                      connect_ms=10), "require-server")  # fmt: skip
    device = splitee.Edge(MODEL_HERE)
    device.close()
    raises(splitee.InvalidError, lambda: device.classify("bada"), "closed")
    # An input that is refused leaves the edge as it was.
    device = splitee.Edge(MODEL_HERE)
    found = device.run(["bada", 3, "bodo"])
    assert next(found)["id"] == 0
    raises(TypeError, lambda: next(found))
    assert next(found)["id"] == 2


def test_eight_threads_answer_as_one(_):
    wanted = MODEL_HERE.run(TEXTS)
    edges = [without_times(splitee.Edge(MODEL_HERE, policy="splitee", seed=1).run(TEXTS))]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: MODEL_HERE.run(TEXTS), range(32)):
            assert np.array_equal(found, wanted)

        def on_edge(_):
            return without_times(list(splitee.Edge(MODEL_HERE, policy="splitee", seed=1).run(TEXTS)))

        for found in pool.map(on_edge, range(16)):
            assert found == edges[0]


def test_the_gil_is_released(_):
    """While one thread waits for a server that stands still another one lets it go on: with the GIL held it could
    not before the deadline, and the sample would be finished here."""
    with Server() as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        device = splitee.Edge(MODEL_HERE, server=server.endpoint, policy="offload", require_server=True,
                              deadline_ms=20000)  # fmt: skip
        server.send(signal.SIGSTOP)
        records = device.run(TEXTS[:1])
        waiting = pool.submit(list, records)
        patiently(lambda: records._in_progress == 1)
        server.send(signal.SIGCONT)
        assert waiting.result()[0]["route"] == "offload", waiting.result()


def test_nothing_is_left_behind(_):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1])

    def turn():
        for _ in range(10):
            model = splitee.Model(OTHER_MODEL)
            list(splitee.Edge(model, policy=SecondSure(0.6)).run(TEXTS[:5]))
            model.run(TEXTS[:5])
        gc.collect()

    turn()
    before = resident()
    for _ in range(5):
        turn()
    assert resident() - before < 2000, (before, resident())  # pages; a model left behind a turn were more


def test_parts_that_are_not_installed_are_named(folder):
    code = ("import sys, splitee\n"
            "sys.modules['sklearn'] = sys.modules['matplotlib'] = None\n"
            "for name in ('SpliteeClassifier', 'plots'):\n"
            "    try:\n        getattr(splitee, name)\n"
            "    except splitee.MissingError as problem:\n        print(problem)\n")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "scikit-learn" in done.stdout and "matplotlib" in done.stdout, done.stdout
    environment = {**os.environ, "SPLITEE_LIBRARY": os.path.join(folder, "none.so")}
    done = subprocess.run([sys.executable, "-c", "import splitee"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and "SPLITEE_LIBRARY" in done.stderr, done.stderr


if __name__ == "__main__":
    main(globals())
