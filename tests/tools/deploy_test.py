#!/usr/bin/env python3
"""The files of deploy/ against what they speak of: flags, ports and paths that exist, YAML that parses, a unit
that systemd takes. Arguments: SERVER. What is not installed (PyYAML, systemd) is left out and said so."""

import os
import re
import shutil
import subprocess
import sys
import tempfile

SERVER = os.path.abspath(sys.argv[1])
DEPLOY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../deploy")


def text_of(name):
    with open(os.path.join(DEPLOY, name), encoding="utf-8") as file:
        return file.read()


def check_flags(name, flags):
    known = subprocess.run([SERVER, "--help"], capture_output=True, text=True, check=True).stdout
    for flag in flags:
        assert re.search(rf"{flag}\b", known), f"{name}: the server has no {flag}"


def without_comments(text):
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def check_unit():
    text = text_of("splitee-server.service")
    ours = "\n".join(line for line in text.splitlines() if "keygen" not in line)
    check_flags("unit", set(re.findall(r"(--[a-z-]+)", ours)))
    verify = shutil.which("systemd-analyze")
    if verify is None:
        print("  no systemd-analyze")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "splitee-server.service")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace("@bindir@/splitee-server", SERVER).replace("@datadir@", folder))
        done = subprocess.run([verify, "verify", "--man=no", path], capture_output=True, text=True, check=False)
        ours = [line for line in done.stderr.splitlines() if "splitee-server.service" in line]
        assert not ours, "\n".join(ours)
        # At most 2.0 of 10 points of exposure.
        done = subprocess.run([verify, "security", "--offline=true", "--threshold=20", path], capture_output=True,
                              text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        print("  " + done.stdout.strip().splitlines()[-1])


def check_kubernetes():
    try:
        import yaml
    except ImportError:
        print("  no PyYAML")
        return
    objects = {item["kind"]: item for item in yaml.safe_load_all(text_of("kubernetes.yaml"))}
    assert set(objects) == {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler", "ConfigMap"}
    for kind, item in objects.items():
        assert item["apiVersion"] and item["metadata"]["name"], kind
    deployment = objects["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"].items()
    for selector in (deployment["selector"]["matchLabels"], objects["Service"]["spec"]["selector"],
                     objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]):  # fmt: skip
        assert selector.items() <= labels, selector
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    check_flags("kubernetes", [argument.split("=")[0] for argument in container["args"]])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    bound = dict(argument.split("=", 1) for argument in container["args"] if "=" in argument)
    assert bound["--bind"].endswith(f":{ports['splitee']}") and bound["--metrics"].endswith(f":{ports['metrics']}")
    assert objects["Service"]["spec"]["ports"][0]["targetPort"] in ports
    for probe, path in (("readinessProbe", "/healthz"), ("livenessProbe", "/livez")):
        assert container[probe]["httpGet"] == {"path": path, "port": "metrics"}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    scaler = objects["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == objects["Deployment"]["metadata"]["name"]
    rules = yaml.safe_load(objects["ConfigMap"]["data"]["rules.yaml"])
    served = {rule["name"]["as"] for rule in rules}
    assert {metric["pods"]["metric"]["name"] for metric in scaler["metrics"]} == served
    with open(os.path.join(DEPLOY, "../tools/server/metrics_text.cc"), encoding="utf-8") as file:
        source = file.read()
    for rule in rules:
        series = rule["name"]["matches"].removeprefix("splitee_")
        assert f'"{series}"' in source, f"the server has no metric splitee_{series}"


def check_inferenceservice():
    try:
        import yaml
    except ImportError:
        return
    service = yaml.safe_load(text_of("inferenceservice.yaml"))
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert set(service) == {"apiVersion", "kind", "metadata", "spec"} and set(service["spec"]) == {"predictor"}
    (container,) = service["spec"]["predictor"]["containers"]
    assert container["name"] == "kserve-container"
    (port,) = container["ports"]
    bound = dict(argument.split("=", 1) for argument in container["args"] if "=" in argument)
    assert bound["--http"].endswith(f":{port['containerPort']}")
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == port["containerPort"]
    flags = [argument.split("=")[0] for argument in container["args"]]
    known = subprocess.run([SERVER, "--help"], capture_output=True, text=True, check=True).stdout
    if "--http" not in known:
        print("  this splitee-server has no --http: the InferenceService cannot run with it")
        flags.remove("--http")
    check_flags("inferenceservice", flags)


def check_container():
    text = without_comments(text_of("Containerfile"))
    check_flags("Containerfile", re.findall(r'"(--[a-z-]+)"', text))
    assert text.count("FROM ") == 2 and 'ENTRYPOINT ["/usr/bin/splitee-server"]' in text
    assert re.search(r"^USER \d+:\d+$", text, re.MULTILINE), "runs as root"


check_unit()
check_kubernetes()
check_inferenceservice()
check_container()
