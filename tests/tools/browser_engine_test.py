#!/usr/bin/env python3
"""The page that `tools/cross-build wasm` makes, in a real browser without a network: what its engine says of texts is
what splitee-edge says of them with the kernels of SSE 4.2, to the bit, and what it says of a stream is what
`splitee replay` says. Skipped (77) where the page has not been built, or Chromium and its driver are not installed.

Arguments: EDGE TOOL SOURCE_ROOT [test names]."""

import csv
import json
import os
import platform
import struct
import subprocess
import sys

import browser
from browser import Browser
from run_tests import run_tests

EDGE, TOOL, ROOT = map(os.path.abspath, sys.argv[1:4])
PAGE = os.path.join(ROOT, "build-wasm", "splitee.html")
MODEL = os.path.join(ROOT, "models", "small.gguf")
REVIEWS = os.path.join(ROOT, "models", "demo_reviews.tsv")
# Elsewhere other kernels round at other places.
EXACT = platform.machine() == "x86_64"
NATIVE = {**os.environ, "SPLITEE_TARGET": "sse4.2"} if EXACT else os.environ
TYPED = "Dull, loud and far too long; I walked out."
TEXTS = ["a warm and funny film", "!", "Ünïcödé – naïve café 映画 👍", "The plot is thin, and yet I liked it. " * 60,
         "<script>alert(1)</script> &amp; not good"]  # fmt: skip
# Policy, sureness, layers that sending costs (None: no server), allowed disagreement in percent.
SETTINGS = [("audited", 0.66, 1.5, 2), ("audited", 0.66, None, 5), ("audited", 0.66, 4, 0.5), ("threshold", 0.9, 1.5, 2),
            ("splitee", 0.8, 3, 2), ("splitee-s", 0.8, 0.5, 2), ("splitee-s", 0.95, None, 2), ("final", 0.66, 1.5, 2),
            ("entropy", 0.75, 1.5, 2)]  # fmt: skip
FIGURES = {"samples": "samples", "cost": "cost", "saved": "cost_reduction", "sent": "offload_rate", "audited": "audit_rate",
           "accuracy": "accuracy", "final-accuracy": "final_accuracy", "upper": "upper"}  # fmt: skip
DISPLAYED = "return Object.fromEntries([...document.querySelectorAll('#facts dd')].map(e => [e.id.slice(5), Number(e.dataset.value)]))"


def native(*command, **options):
    done = subprocess.run(command, text=True, capture_output=True, check=False, env=NATIVE, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def opened():
    page = Browser()
    page.size(1100, 1600)
    page.scheme("light")
    page.devtools("Network.enable")
    page.devtools("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
    page.open("file://" + PAGE)
    page.until("return !document.getElementById('classify').disabled || !document.getElementById('problem').hidden")
    assert page.text("#problem") == "", page.text("#problem")
    return page


def set_value(page, name, value):
    page.script("const e = document.getElementById(arguments[0]); if (e.type === 'checkbox') e.checked = arguments[1]; "
                "else e.value = arguments[1]; e.dispatchEvent(new Event('input'))", name, value)  # fmt: skip


def exits(page):
    return page.script("return [...document.querySelectorAll('#exits li')].map(e => "
                       "[Number(e.dataset.layer), Number(e.dataset.class), Number(e.dataset.confidence)])")  # fmt: skip


def single(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def check_exits(found, record):
    assert len(found) == len(record["exits"]) == 5, (found, record)
    for (layer, answer, confidence), exit_ in zip(found, record["exits"], strict=True):
        best = max(exit_["probabilities"])
        assert (layer, answer) == (exit_["layer"], exit_["probabilities"].index(best)), (found, record)
        near = confidence == single(best) if EXACT else abs(confidence - best) < 1e-4
        assert near, (confidence, best, record)


def test_answers_are_the_programs(_):
    """By keyboard first; then other texts, long and odd ones among them."""
    with open(REVIEWS, encoding="utf-8") as file:
        texts = [TYPED, *TEXTS, *(line.split("\t")[0] for line in file.read().splitlines()[1:700:25])]
    lines = native(EDGE, "--model", MODEL, "--policy", "final", "--exits",
                   input="".join(text + "\n" for text in texts)).splitlines()  # fmt: skip
    records = [json.loads(line) for line in lines]
    with opened() as page:
        page.script("document.getElementById('text').value = ''")
        page.press("Tab")
        assert page.script("return document.activeElement.id") == "text"
        page.press(*TYPED, ("Control", "Enter"))
        check_exits(exits(page), records[0])
        for text, record in zip(texts[1:], records[1:], strict=True):
            page.script("document.getElementById('text').value = arguments[0]", text)
            page.click("#classify")
            check_exits(exits(page), record)
            assert ("longer than the network reads" in page.text("#where")) == (len(text) > 2000), page.text("#where")
        check_stop(page)
        assert page.script("return performance.getEntriesByType('resource').length") == 0
        assert page.errors() == [], page.errors()


def check_stop(page):
    """The layer that is marked is that of the first exit that is sure enough."""
    stops = set()
    for text in (TYPED, "The plot is thin, and yet I would not have missed a minute of it."):
        page.script("document.getElementById('text').value = arguments[0]", text)
        for alpha in (0.5, 0.8, 0.9, 0.98, 1):
            set_value(page, "alpha", alpha)
            sure = [layer for layer, _, confidence in exits(page) if confidence >= single(alpha)] + [5]
            marked = page.script("return [...document.querySelectorAll('#exits .stop')].map(e => Number(e.dataset.layer))")
            assert marked == sure[:1], (alpha, exits(page), marked)
            assert f"layer {marked[0]} of 5" in page.text("#where")
            stops.add(marked[0])
    assert len(stops) > 1, stops


def replayed(trace, folder, policy, alpha, layers, limit):
    decisions = os.path.join(folder, "decisions.csv")
    flags = ["--policy", policy, "--alpha", str(alpha), "--offload-cost", "none" if layers is None else str(layers * 0.1)]
    if policy == "audited":
        flags += ["--max-disagreement", str(limit / 100)]
    figures = json.loads(native(TOOL, "replay", "--trace", trace, "--model", MODEL, "--order", "file", "--runs", "1", "--seed",
                                "0", "--decisions", decisions, "--json", *flags))  # fmt: skip
    with open(decisions, encoding="ascii") as file:
        return figures, [row["route"] for row in csv.DictReader(file)]


def check_stream(page, trace, folder, setting):
    policy, alpha, layers, limit = setting
    for name, value in (("policy", policy), ("sure", alpha), ("limit", limit), ("server", layers is not None),
                        ("offload", layers or 0)):  # fmt: skip
        set_value(page, name, value)
    page.until("return !state.asked")
    figures, routes = replayed(trace, folder, *setting)
    displayed = page.script(DISPLAYED)
    for name, key in FIGURES.items():
        wanted = figures[key]
        wanted = wanted["mean"] if isinstance(wanted, dict) else wanted
        assert (wanted is None) == (name not in displayed), (setting, name, displayed)
        assert wanted is None or abs(displayed[name] - wanted) < 1e-9, (setting, name, displayed, figures)
    assert abs(1 - displayed["agreement"] - figures["disagreement"]["mean"]) < 1e-9, (setting, displayed)
    drawn = page.script("return [...document.querySelectorAll('#layers rect')].map(e => e.getAttribute('class'))")
    assert drawn == routes, setting
    return displayed["cost"]


def test_the_stream_is_a_replay(folder):
    trace = os.path.join(folder, "reviews.csv")
    native(TOOL, "trace", "--model", MODEL, "--input", REVIEWS, "--input-format", "tsv", "--output", trace)
    with opened() as page:
        page.script("document.getElementById('run').focus()")
        page.press("Enter")
        page.until("return document.getElementById('done').textContent.startsWith('778 of 778')")
        costs = {check_stream(page, trace, folder, setting) for setting in SETTINGS}
        assert len(costs) >= len(SETTINGS) - 1, costs
        # The same stream as a file.
        page.choose_file("#own-trace", trace)
        page.until("return document.getElementById('done').textContent.startsWith('reviews.csv: 778')")
        for setting in SETTINGS[:3]:
            check_stream(page, trace, folder, setting)
        check_looks(page)
        assert page.script("return performance.getEntriesByType('resource').length") == 0
        assert page.errors() == [], page.errors()


def check_looks(page):
    assert page.script("return [...document.querySelectorAll('svg')].every(e => e.getAttribute('aria-label'))")
    page.scheme("dark")
    assert page.script("return getComputedStyle(document.body).backgroundColor") == "rgb(18, 21, 28)"
    page.size(360, 740, 2)
    assert page.script("return document.documentElement.scrollWidth") <= 360, "it scrolls sideways"


def refused(page, text, *words):
    page.script("document.getElementById('text').value = arguments[0]", text)
    page.click("#classify")
    assert all(word in page.text("#text-problem") for word in words), page.text("#text-problem")
    assert exits(page) == [] and page.text("#answer") == ""


def refused_file(page, selector, path, *words):
    """A message, and what was there before goes on."""
    page.script("document.getElementById('problem').hidden = true")
    page.choose_file(selector, path)
    page.until("return !document.getElementById('problem').hidden")
    assert all(word in page.text("#problem") for word in words), page.text("#problem")
    page.script("document.getElementById('text').value = 'good'")
    page.click("#classify")
    assert len(exits(page)) == 5 and page.text("#text-problem") == ""


def test_bad_input(folder):
    with open(MODEL, "rb") as file:
        model = file.read()
    damaged = bytearray(model)
    damaged[len(model) // 2] ^= 1
    files = {"text.gguf": b"not a network\n" * 9, "short.gguf": model[:100000], "damaged.gguf": bytes(damaged), "empty.gguf": b"",
             "words.csv": b"a,b\n1,2\n", "sure.csv": b"label,pred_1,conf_1\n0,1,1.5\n", "empty.csv": b""}  # fmt: skip
    with opened() as page:
        paths = {name: os.path.join(folder, name) for name in files}
        for name, content in files.items():
            with open(paths[name], "wb") as file:
                file.write(content)
        refused(page, "", "Type a text")
        refused(page, " \n\t ", "Type a text")
        refused(page, "x" * 100001, "100001 characters", "100000")
        refused_file(page, "#own-model", paths["text.gguf"], "text.gguf", "still in use")
        refused_file(page, "#own-model", paths["short.gguf"], "short.gguf", "still in use")
        refused_file(page, "#own-model", paths["damaged.gguf"], "damaged.gguf", "still in use")
        refused_file(page, "#own-model", paths["empty.gguf"], "empty.gguf is empty")
        refused_file(page, "#own-trace", paths["words.csv"], "words.csv: line 1", "still in use")
        refused_file(page, "#own-trace", paths["sure.csv"], "line 2", "not between 0 and 1")
        refused_file(page, "#own-trace", paths["empty.csv"], "empty.csv is empty")
        page.choose_file("#own-model", MODEL)
        page.until("return document.getElementById('what').textContent.startsWith('small.gguf: 5 layers')")
        assert page.errors() == [], page.errors()


if __name__ == "__main__":
    if not os.path.exists(PAGE):
        print("SKIP: build-wasm/splitee.html is not there; tools/cross-build wasm makes it (apt-get install emscripten)")
        sys.exit(77)
    if lacking := browser.missing():
        print(f"SKIP: not installed: {lacking}")
        sys.exit(77)
    run_tests(globals(), sys.argv[4:])
