#!/usr/bin/env python3
"""The live page for a network on images, in a real browser: a picture that is dropped, chosen, or none. Skipped (77) where
Chromium and its driver are not installed. Arguments as binaries.py. With SPLITEE_SCREENSHOTS=FOLDER pictures are left there."""

import base64
import sys

import browser
from binaries import main, records_of, write
from http_page_test import answer, check_width, opened, shot
from http_service import HttpEdge, HttpServer
from random_images import picture, png, ppm

# arguments[0]: base64, [1]: name, [2]: how it comes.
GIVE = """
const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0)), given = new DataTransfer();
given.items.add(new File([bytes], arguments[1]));
if (arguments[2] === "drop") {
  document.getElementById("ask").dispatchEvent(new DragEvent("drop", {dataTransfer: given, bubbles: true, cancelable: true}));
} else {
  const input = document.getElementById("picture");
  input.files = given.files;
  input.dispatchEvent(new Event("change"));
}
"""


def give(page, file, name, how):
    page.script("document.getElementById('answer').className = 'soft'")
    page.script(GIVE, base64.b64encode(file).decode(), name, how)


def expected_of(folder, file):
    (record,) = records_of("--policy", "final", stdin=write(folder, "picture", file) + "\n")
    return f"{record['label']}, {100 * record['confidence']:.1f} %"


def test_pictures(folder):
    for program, flags in ((HttpEdge, ("--policy", "final")), (HttpServer, ())):
        with program(*flags) as running, opened(running.url + "/") as page:
            page.press("Tab")
            assert page.script("return document.activeElement.id") == "picture"
            assert page.script("return document.getElementById('text-part').hidden")
            page.click("#go")
            page.until("return document.getElementById('answer').textContent === 'no picture was chosen'")
            for number, (how, encode) in enumerate((("drop", png), ("choose", png), ("drop", ppm))):
                file = encode(picture(number, 200, 300))
                give(page, file, f"<{number}>", how)
                page.until("return document.getElementById('preview').alt === arguments[0]", f"<{number}>")
                assert answer(page) == expected_of(folder, file)
                if encode is png:
                    page.until("return document.getElementById('preview').naturalWidth === 300")
                    shot(page, f"images-{program.__name__}.png")
            page.until("return document.getElementById('preview').hidden")  # a PPM
            give(page, b"words", "words.png", "drop")
            page.until("return document.getElementById('answer').className === 'error'")
            assert "neither PNG nor JPEG" in page.text("#answer")
            page.size(360, 740, 2)
            check_width(page, 360)


if __name__ == "__main__":
    if reason := browser.missing():
        print(f"skipped: not installed: {reason}")
        sys.exit(77)
    main(globals())
