#!/usr/bin/env python3
"""The manifests of deploy/ against the schemas of Kubernetes, with `kubernetes-validate` (PyPI); its containers
stand for an InferenceService, whose own schema is KServe's. Skipped (77) where that or PyYAML is not installed;
$KUBERNETES_VALIDATE names it where it is not on the PATH. Arguments: none."""

import os
import shutil
import subprocess
import sys
import tempfile

DEPLOY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../deploy")
VALIDATE = os.environ.get("KUBERNETES_VALIDATE") or shutil.which("kubernetes-validate")


def validate(path):
    done = subprocess.run([VALIDATE, "--strict", path], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def write(folder, name, item, yaml):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        yaml.safe_dump(item, file)
    return path


def main():
    try:
        import yaml
    except ImportError:
        yaml = None
    if VALIDATE is None or yaml is None:
        print("skipped: pip install kubernetes-validate; Debian: python3-yaml")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        status, text = validate(os.path.join(DEPLOY, "kubernetes.yaml"))
        assert status == 0 and text.count("passed") == 5, text
        with open(os.path.join(DEPLOY, "inferenceservice.yaml"), encoding="utf-8") as file:
            predictor = yaml.safe_load(file)["spec"]["predictor"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
               "spec": {"containers": predictor["containers"]}}  # fmt: skip
        status, text = validate(write(folder, "pod.yaml", pod, yaml))
        assert status == 0, text
        pod["spec"]["containers"][0]["port"] = pod["spec"]["containers"][0].pop("ports")
        status, text = validate(write(folder, "wrong.yaml", pod, yaml))
        assert status != 0, "a wrong manifest passes"
    return 0


sys.exit(main())
