#!/usr/bin/env python3
"""Writes live_page.cc from an HTML file: embed_page.py PAGE.html OUTPUT.cc"""

import base64
import hashlib
import re
import sys

POLICY = ("default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
          "frame-ancestors 'none'; script-src {script}; style-src {style}")  # fmt: skip


def hashes(page, element):
    bodies = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
    assert len(bodies) == 1, f"{len(bodies)} elements {element}"
    digest = hashlib.sha256(bodies[0].encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        page = file.read()
    policy = POLICY.format(script=hashes(page, "script"), style=hashes(page, "style"))
    data = page.encode()
    rows = [",".join(map(str, data[i : i + 24])) for i in range(0, len(data), 24)]
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write('#include "tools/http/live_page.h"\n\nnamespace splitee::tools {\n\n')
        file.write("static const unsigned char kPage[] = {\n" + ",\n".join(rows) + "};\n\n")
        file.write("std::string_view live_page() {\n"
                   "  return {reinterpret_cast<const char*>(kPage), sizeof kPage};\n}\n\n")  # fmt: skip
        file.write(f'const char* live_page_policy() {{\n  return "{policy}";\n}}\n\n}}  // namespace splitee::tools\n')


if __name__ == "__main__":
    main()
