#!/usr/bin/env python3
"""The dashboard, the alert rules and the adapter's rules of deploy/ against what programs really serve: every
metric and every value of a label that they ask for is there. promtool takes the rules, where it is installed.
Arguments: as binaries.py."""

import json
import os
import re
import shutil
import subprocess
import urllib.request

import binaries

DEPLOY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../deploy")
NAME = re.compile(r"\bsplitee_[a-z0-9_]+\b")
# Of Prometheus itself and of the adapter's rules.
OTHERS = {"splitee_shed_per_second"}


def deployed(name):
    with open(os.path.join(DEPLOY, name), encoding="utf-8") as file:
        return file.read()


def fetch(url):
    with urllib.request.urlopen(url, timeout=binaries.TIMEOUT_S) as reply:
        return reply.read().decode()


def server_metrics(folder):
    """With keys and an edge that has been served: every family is there."""
    for name in ("server", "edge"):
        binaries.run(binaries.TOOL, "keygen", "--output", os.path.join(folder, name))
    keys = os.path.join(folder, "edges.public")
    shutil.copy(os.path.join(folder, "edge.public"), keys)
    with binaries.Server("--secret-key", f"{folder}/server.secret", "--authorized-keys", keys, "--metrics",
                         "127.0.0.1:0") as server:  # fmt: skip
        binaries.edge("--server", server.endpoint, "--require-server", "--secret-key", f"{folder}/edge.secret",
                      "--server-key", f"{folder}/server.public", "--policy", "fixed", "--split", 1, "--alpha", 1,
                      stdin=binaries.lines(binaries.make_texts(5)))  # fmt: skip
        url = re.search(r"metrics at (\S+)", server.messages()).group(1)
        return fetch(url)


def edge_metrics(folder):
    """Of an edge that serves over HTTP, with a server; nothing where the edge has no HTTP."""
    if "--http" not in binaries.run(binaries.EDGE, "--help").out:
        return None
    with binaries.Server() as server:
        command = [binaries.EDGE, "--model", binaries.MODEL, "--http", "127.0.0.1:0", "--server", server.endpoint,
                   "--policy", "audited", "--quiet"]  # fmt: skip
        edge = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            url = edge.stdout.readline().removeprefix("listening on ").strip()
            return fetch(url.rstrip("/") + "/metrics")
        finally:
            edge.terminate()
            edge.communicate(timeout=binaries.TIMEOUT_S)


def used_names(text):
    return {name for name in NAME.findall(text) if name not in OTHERS and name != "splitee_adapter"}


def dashboard_expressions(name):
    dashboard = json.loads(deployed(name))
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len(panels) > 8 and len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels:
        spot = panel["gridPos"]
        assert spot["x"] + spot["w"] <= 24 and panel["title"] and panel["description"], panel["title"]
        for target in panel["targets"]:
            yield target["expr"]
    yield from (variable["definition"] for variable in dashboard["templating"]["list"] if "definition" in variable)


def check_names(what, text, served):
    names = used_names(text)
    families = set(re.findall(r"^(\w+)(?:\{| )", served, re.MULTILINE))
    if what == "the README":  # which names a histogram as a whole
        families |= set(re.findall(r"^# TYPE (\w+)", served, re.MULTILINE))
    assert names, f"{what} asks for nothing"
    assert names <= families, f"{what} asks for {names - families}, which nothing serves"
    for label, value in re.findall(r'[{,] *(\w+)="(\w+)"', text):
        if label not in ("job", "namespace", "pod", "instance"):
            assert f'{label}="{value}"' in served, f"{what}: there is no {label}={value}"
    return len(names)


def test_names(folder):
    served = server_metrics(folder)
    alerts = "\n".join(line for line in deployed("prometheus-rules.yaml").splitlines() if "job:" not in line)
    adapter = re.findall(r"(?:seriesQuery|matches): .*", deployed("kubernetes.yaml"))
    for what, text in (("the dashboard", "\n".join(dashboard_expressions("grafana-server.json"))), ("an alert", alerts),
                       ("the adapter", "\n".join(adapter)),
                       ("the README", "\n".join(re.findall(r"`(splitee_[a-z0-9_]+)", deployed("README.md"))))):  # fmt: skip
        print(f"  {what}: {check_names(what, text, served)} metrics")
    # And the other way round: what is served is documented.
    documented = used_names(deployed("README.md"))
    families = set(re.findall(r"^# TYPE (\w+)", served, re.MULTILINE))
    assert families <= documented, f"deploy/README.md does not know {families - documented}"


def test_names_of_the_edge(folder):
    served, expressions = edge_metrics(folder), "\n".join(dashboard_expressions("grafana-edge.json"))
    if served is None:
        assert used_names(expressions)
        print("  this splitee-edge has no --http: its dashboard is not compared")
        return
    print(f"  the dashboard: {check_names('the dashboard', expressions, served)} metrics")


def test_promtool(_):
    promtool = shutil.which("promtool")
    if promtool is None:
        print("  no promtool (Debian: prometheus)")
        return
    for command in (["check", "rules", "prometheus-rules.yaml"], ["test", "rules", "prometheus-rules-test.yaml"]):
        done = subprocess.run([promtool, *command], cwd=DEPLOY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    # A page that Prometheus reads without complaint.
    with binaries.Server("--metrics", "127.0.0.1:0") as server:
        page = fetch(re.search(r"metrics at (\S+)", server.messages()).group(1))
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


binaries.main(globals())
