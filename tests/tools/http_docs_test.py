#!/usr/bin/env python3
"""Runs every shell example of docs/http.md and of README's part on HTTP, as it stands there but for
the ports. Arguments: the sources' folder, the build folder."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

from run_tests import run_tests

ROOT, BUILD = map(os.path.abspath, sys.argv[1:3])
TIMEOUT_S = 120


def examples(path, heading=None):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        text = file.read()
    if heading:
        text = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def commands_of(block):
    """Commands, with the lines that belong together."""
    command = ""
    for line in block.splitlines():
        command += line + "\n"
        if command.count("'") % 2 == 0 and not line.endswith("\\"):
            yield command
            command = ""


def run_blocks(blocks, folder):
    """Blocks one after the other in one folder that looks like the sources'; what each command printed."""
    for name in ("models", "docs"):
        os.symlink(os.path.join(ROOT, name), os.path.join(folder, name))
    os.symlink(BUILD, os.path.join(folder, "build"))
    ports, programs, printed = {}, [], []
    try:
        for command in (command for block in blocks for command in commands_of(block)):
            for port in re.findall(r"127\.0\.0\.1:(\d+)", command):
                ports.setdefault(port, str(free_port()))
            for port, free in ports.items():
                command = command.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}")
            if command.rstrip().endswith("&"):
                program = subprocess.Popen(["exec " + command.rstrip().rstrip("&")], shell=True, cwd=folder,
                                           stdout=subprocess.PIPE, text=True)  # fmt: skip
                programs.append(program)
                line = program.stdout.readline()
                assert line.startswith("listening on "), (command, line)
                continue
            done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True,
                                  timeout=TIMEOUT_S, check=False)  # fmt: skip
            assert done.returncode == 0, (command, done)
            printed.append(done.stdout)
    finally:
        for program in programs:
            program.send_signal(signal.SIGTERM)
            status = program.wait(TIMEOUT_S)
            program.stdout.close()
    assert status == 0, status
    return printed


def outputs_of(text):
    return {output["name"]: output["data"] for output in json.loads(text)["outputs"]}


def test_reference(folder):
    printed = run_blocks(examples("docs/http.md"), folder)
    assert json.loads(printed[0]) == {"ready": True}, printed[0]
    assert json.loads(printed[1])["name"] == "default", printed[1]
    assert outputs_of(printed[2])["label"] == ["positive"], printed[2]
    assert "splitee_edge_samples_total" in printed[3], printed[3]
    two = outputs_of(printed[4])
    assert two["label"] == ["negative", "positive"] and len(two) == 3, printed[4]
    assert json.loads(printed[4])["id"] == "42", printed[4]
    assert json.loads(printed[-1])["name"] == "splitee", printed[-1]


def test_readme(folder):
    blocks = examples("README.md", "Over HTTP")
    assert sum(len(list(commands_of(block))) for block in blocks) <= 5, "five commands to an answer"
    printed = run_blocks(blocks, folder)
    assert outputs_of(printed[-1])["label"] == ["positive"], printed


if __name__ == "__main__":
    if shutil.which("curl") is None:
        print("skipped: curl is not installed (apt-get install curl)")
        sys.exit(77)
    run_tests(globals())
