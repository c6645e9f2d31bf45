#!/usr/bin/env python3
"""The live page in a real browser. Skipped (77) where Chromium and its driver are not installed.
Arguments as binaries.py; the model is one that knows something. With SPLITEE_SCREENSHOTS=FOLDER
pictures are left there."""

import os
import signal
import sys

import binaries
import browser
from binaries import MODEL
from browser import Browser
from http_service import HttpEdge, HttpServer, live

SHOTS = os.environ.get("SPLITEE_SCREENSHOTS")
GOOD = "A wonderful film, warm and funny from start to end."
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>&amp; good"


def shot(page, name, whole=False):
    if SHOTS:
        page.screenshot(os.path.join(SHOTS, name), whole)


def opened(url):
    page = Browser()
    page.size(1200, 900)
    page.scheme("light")
    page.open(url)
    page.until("return document.getElementById('what').textContent !== ''")
    return page


def answer(page):
    page.until("return document.getElementById('answer').className === '' && "
               "!document.getElementById('go').disabled")  # fmt: skip
    return page.text("#answer")


def warm_up(client):
    """Some history for the charts: rows of the demo's stream."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../models/demo_reviews.tsv")
    with open(path, encoding="utf-8") as file:
        rows = [line.split("\t")[0] for line in file.read().splitlines()[1:]]
    for at in range(0, 2500 if SHOTS else 300, 50):
        client.infer(rows[at % len(rows) :][:50]).expect(200)


def test_the_edge_page(_):
    """By keyboard alone: type a text, read the answer, its exits and what it cost; figures move."""
    with binaries.Server() as server, HttpEdge("--server", server.endpoint, "--require-server", "--policy", "audited",
                                               "--max-disagreement", "0.02") as edge, edge.client() as client:  # fmt: skip
        warm_up(client)
        with opened(edge.url + "/") as page:
            page.press("Tab")
            assert page.script("return document.activeElement.id") == "text"
            page.press(*GOOD, ("Control", "Enter"))
            label, share = answer(page).split(", ")
            assert label == "positive" and 50 <= float(share.split()[0]) <= 100, (label, share)
            assert page.text("#where").startswith("layer "), page.text("#where")
            bars = page.script("return [...document.querySelectorAll('#exits li')].map(e => e.innerText)")
            assert bars and bars[0].split()[0] in ("layer", "server"), bars
            answered = page.script("return document.querySelectorAll('#exits .answered').length")
            assert answered == 1, bars
            page.until("return [...document.querySelectorAll('#exits .fill')].every(e => parseFloat(e.style.width) > 0)")
            assert "λ" in page.text("#cost") and "sent to the server" in page.text("#cost"), page.text("#cost")
            total = live(client)["summary"]["samples"]
            page.until("return document.getElementById('facts').innerText.includes(arguments[0])", str(total))
            for word in ("Exits used", "Ways samples went", "Disagreement: estimated",
                         "Time per sample: last", "Link at the last samples: up"):  # fmt: skip
                assert word in page.text("#charts"), word
            assert page.script("return [...document.querySelectorAll('svg')].every(e => e.getAttribute('aria-label'))")
            assert page.text("#link") == "link up"
            if SHOTS:
                page.click("#examples button:last-child")
                answer(page)
                page.script("document.activeElement.blur()")
                page.script("scrollTo(0, 0)")
            page.size(1000, 1060)
            shot(page, "light.png")
            page.size(1200, 900)
            page.scheme("dark")
            shot(page, "dark.png")
            background = page.script("return getComputedStyle(document.body).backgroundColor")
            assert background == "rgb(18, 21, 28)", background
            page.size(360, 740, 2)
            check_width(page, 360)
            shot(page, "narrow-dark.png", whole=True)
            page.scheme("light")
            page.size(1200, 900)
            server.kill()
            page.until("return document.getElementById('link').textContent.startsWith('link down')")
            shot(page, "down.png")
            assert page.errors() == [], page.errors()
            assert edge.stop(signal.SIGTERM) == 0
            page.until("return document.getElementById('link').textContent.startsWith('not reached')")


def check_width(page, width):
    assert page.script("return document.documentElement.scrollWidth") <= width, "it scrolls sideways"


def test_texts_are_texts(_):
    """Markup in a text, and the examples by the keyboard."""
    with HttpEdge() as edge, opened(edge.url + "/") as page:
        page.script("document.getElementById('text').value = arguments[0]", MARKUP)
        page.click("#go")
        answer(page)
        assert page.script("return document.querySelectorAll('img:not(#preview)').length") == 0
        page.press("Tab")
        page.script("document.querySelector('#examples button').focus()")
        page.press("Enter")
        page.until("return document.getElementById('text').value.startsWith('A wonderful film')")
        assert "positive" in answer(page), page.text("#answer")
        assert page.errors() == [], page.errors()


def test_the_server_page(_):
    with HttpServer() as server, opened(server.url + "/") as page:
        page.script("document.getElementById('text').value = arguments[0]", GOOD)
        page.click("#go")
        assert answer(page).startswith("positive"), page.text("#answer")
        page.until("return document.getElementById('facts').innerText.includes('rows over HTTP')")
        bars = page.script("return [...document.querySelectorAll('#exits li')].map(e => e.innerText)")
        assert len(bars) == 2 and "positive" in bars[0], bars
        shot(page, "server.png")
        assert page.errors() == [], page.errors()


def test_token(folder):
    """The page asks for the token, and works with it."""
    path = binaries.write(folder, "token", "a-token-of-the-tests-0123")
    with HttpEdge("--http-token-file", path) as edge, Browser() as page:
        page.open(edge.url + "/")
        page.until("return document.activeElement.id === 'token'")
        page.press(*"a-token-of-the-tests-0123", "Enter")
        page.until("return document.getElementById('what').textContent !== ''")
        page.script("document.getElementById('text').value = arguments[0]", GOOD)
        page.click("#go")
        assert answer(page).startswith("positive"), page.text("#answer")
        assert page.script("return document.getElementById('key').hidden")


if __name__ == "__main__":
    if reason := browser.missing():
        print(f"skipped: not installed: {reason}")
        sys.exit(77)
    assert os.path.isfile(MODEL), MODEL
    binaries.main(globals())
