#!/usr/bin/env python3
"""One file of page.html and all that it needs. Arguments: PAGE.html PAGE.js ENGINE.js ENGINE.wasm MODEL REVIEWS OUTPUT."""

import base64
import pathlib
import sys


def inside_script(text):
    """JavaScript as it may stand in a <script>."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def main():
    page, own, engine, wasm, model, reviews, output = map(pathlib.Path, sys.argv[1:])
    html = page.read_text(encoding="utf-8")
    parts = {"WASM": wasm, "MODEL": model, "REVIEWS": reviews}
    parts = {name: base64.b64encode(path.read_bytes()).decode() for name, path in parts.items()}
    parts |= {"ENGINE": inside_script(engine.read_text(encoding="utf-8")),
              "PAGE": inside_script(own.read_text(encoding="utf-8"))}  # fmt: skip
    for name, text in parts.items():
        before, mark, after = html.partition(f"@{name}@")
        if not mark:
            sys.exit(f"{page}: no @{name}@")
        html = before + text + after
    output.write_text(html, encoding="utf-8")


main()
