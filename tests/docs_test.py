#!/usr/bin/env python3
"""The pages: links and anchors of every Markdown file lead somewhere, each message that troubleshooting.md quotes
is one that the sources say, mkdocs takes the site (where it is installed), the commands of docs/ run, and lists of
Debian's packages to build with are whole.

A fenced block marked `sh` is run in a folder that looks like the root of the source after a build; a block that
cannot be has the comment `<!-- not run: WHY -->` before it. No network is used.

Arguments: SOURCE_ROOT BUILD_ROOT links|messages|site|packages|commands
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT, BUILD = (pathlib.Path(os.path.abspath(path)) for path in sys.argv[1:3])
DOCS = ROOT / "docs"
# Their own tests use what they show.
OTHERS = {"http.md", "c.md", "python.md"}
FENCE = re.compile(r"^( *)(```+)[^\n]*\n.*?^\1\2 *$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"(?:<!-- (not run: [^\n]+) -->\n)?```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TIMEOUT_S = 500


def pages():
    skipped = {"build", "node_modules", ".git"}
    for path in sorted(ROOT.rglob("*.md")):
        if not any(part in skipped or part.startswith("build") for part in path.relative_to(ROOT).parts[:-1]):
            yield path


def without_code(text):
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def anchors(path):
    """The names that headings have on the usual hosts and in mkdocs."""
    for heading in re.findall(r"^#+ +(.*)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links():
    count = 0
    for page in pages():
        for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8"))):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            path = page.parent / name if name else page
            where = f"{page.relative_to(ROOT)}: {target}"
            assert path.exists(), f"{where} leads nowhere"
            assert not anchor or anchor in set(anchors(path)), f"{where}: no such heading"
            count += 1
    assert count > 20, count
    print(f"  {count} links")


def said():
    """All string literals of the C++ sources, pieces put together."""
    for folder in ("base", "kernels", "runtime", "policy", "transport", "tools"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".h", ".cc"):
                yield re.sub(r'"\s*\n\s*"', "", path.read_text(encoding="utf-8"))


def messages():
    sources = "\n".join(said())
    quoted = re.findall(r"^### `(.*)`$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(quoted) > 20, quoted
    missing = [message for message in quoted if message not in sources]
    assert not missing, f"no program says {missing}"
    print(f"  {len(quoted)} messages")


def site():
    if shutil.which("mkdocs") is None:
        print("skipped: no mkdocs (Debian: mkdocs)")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mkdocs", "build", "--strict", "--quiet", "--site-dir", folder], cwd=ROOT,
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        built = {path.stem for path in pathlib.Path(folder).glob("*.html")}
        assert built >= {path.stem for path in DOCS.glob("*.md")}, built


def packages():
    """What tools/scripts/setup.sh installs of libraries, but for tests, benchmarks and HTTP."""
    setup = (ROOT / "tools/scripts/setup.sh").read_text(encoding="utf-8")
    names = re.search(r"^build_packages=\(\n(.*?)^\)", setup, re.MULTILINE | re.DOTALL)[1].split()
    needed = {name for name in names if name.endswith("-dev")} - {"dpkg-dev", "doctest-dev", "libbenchmark-dev", "libmicrohttpd-dev"}
    count = 0
    for path in (ROOT / "README.md", DOCS / "python.md", ROOT / "deploy/Containerfile"):
        for listed in re.findall(r"libxsimd-dev[a-z0-9.+\s\\-]*", path.read_text(encoding="utf-8")):
            assert needed <= set(listed.split()), f"{path.relative_to(ROOT)}: {listed!r} lacks {needed - set(listed.split())}"
            count += 1
    assert count >= 4, count
    print(f"  {count} lists of {len(needed)} packages")


def run_page(page, folder):
    script = ["set -euo pipefail"]
    for reason, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if reason:
            print(f"  {page.name}: {reason}")
        else:
            script.append(block)
    if len(script) == 1:
        return 0
    done = subprocess.run(["bash", "-c", "\n".join(script)], cwd=folder, capture_output=True, text=True,
                          timeout=TIMEOUT_S, check=False, stdin=subprocess.DEVNULL)  # fmt: skip
    assert done.returncode == 0, f"{page.name}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return len(script) - 1


def commands():
    count = 0
    for page in sorted(DOCS.glob("*.md")):
        if page.name in OTHERS:
            continue
        text = page.read_text(encoding="utf-8")
        fences = len(re.findall(r"^```\w", text, re.MULTILINE))
        assert fences == len(BLOCK.findall(text)), f"{page.name}: a block is not marked sh"
        with tempfile.TemporaryDirectory() as folder:
            for name in ("models", "tools", "tests", "bench"):
                os.symlink(ROOT / name, os.path.join(folder, name))
            os.symlink(BUILD, os.path.join(folder, "build"))
            count += run_page(page, folder)
    assert count >= 8, count
    print(f"  {count} blocks of commands")


{"links": links, "messages": messages, "site": site, "packages": packages, "commands": commands}[sys.argv[3]]()
