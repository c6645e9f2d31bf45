#!/usr/bin/env python3
"""The edge that `tools/package static` makes: no library but the C library's, and it answers, alone and over a link
with keys to this build's server. Needs a Debian mirror with sources.

Arguments: SOURCE_ROOT SERVER."""

import glob
import json
import os
import re
import subprocess
import sys
import tempfile

ROOT, SERVER = map(os.path.abspath, sys.argv[1:])
MODEL = os.path.join(ROOT, "models", "default.gguf")
TEXTS = "a warm and funny film\ndull, loud and far too long\n"
FILES = {"splitee", "splitee-edge", "splitee.1", "splitee-edge.1", "LICENSE", "LICENSES.md", "COPYING.LESSER.libzmq"}
WITH_LIBC = re.compile(r"lib(c|m)\.so\.6|ld-linux-.*")


def run(*command, **options):
    done = subprocess.run(command, text=True, capture_output=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def needed(path):
    return re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-dW", path, env={**os.environ, "LC_ALL": "C"}))


def answers(folder, *flags):
    records = run(os.path.join(folder, "splitee-edge"), "--model", MODEL, *flags, input=TEXTS).splitlines()
    records = [json.loads(record) for record in records]
    assert [record["label"] for record in records] == ["positive", "negative"], records
    return [record["route"] for record in records]


def check_link(folder):
    keys = {name: os.path.join(folder, name) for name in ("server", "edge")}
    for prefix in keys.values():
        run(os.path.join(folder, "splitee"), "keygen", "--output", prefix)
    server = [SERVER, "--model", MODEL, "--bind", "tcp://127.0.0.1:*", "--secret-key", keys["server"] + ".secret",
              "--authorized-keys", keys["edge"] + ".public"]  # fmt: skip
    with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as process:
        try:
            (endpoint,) = re.findall(r"tcp://\S+", process.stdout.readline())
            flags = ["--server", endpoint, "--require-server", "--policy", "offload", "--connect-ms", "60000",
                     "--deadline-ms", "60000", "--secret-key", keys["edge"] + ".secret",
                     "--server-key", keys["server"] + ".public"]  # fmt: skip
            assert answers(folder, *flags) == ["offload"] * 2
        finally:
            process.terminate()


def main():
    with tempfile.TemporaryDirectory() as folder:
        run(os.path.join(ROOT, "tools", "package"), "static", "--output", folder)
        (archive,) = glob.glob(os.path.join(folder, "*.tar.xz"))
        name = os.path.basename(archive).removesuffix(".tar.xz")
        assert re.fullmatch(r"splitee-edge-\d+\.\d+\.\d+-\w+", name), name
        run("tar", "-C", folder, "-xf", archive)
        folder = os.path.join(folder, name)
        assert set(os.listdir(folder)) == FILES, os.listdir(folder)
        for program in ("splitee", "splitee-edge"):
            path = os.path.join(folder, program)
            assert all(WITH_LIBC.fullmatch(library) for library in needed(path)), needed(path)
            assert run(path, "--version").startswith(f"{program} {name.split('-')[2]} "), run(path, "--version")
        answers(folder)
        check_link(folder)


main()
