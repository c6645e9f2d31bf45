#!/usr/bin/env python3
"""tritonclient (PyPI: tritonclient[http]) against both programs, unchanged. Skipped (77) where no
Python with it is found: SPLITEE_CLIENTS_PYTHON names one, say of a virtual environment.
Arguments as binaries.py."""

import os
import shutil
import subprocess
import sys


def has_client(python):
    return subprocess.run([python, "-c", "import tritonclient.http"], capture_output=True, check=False).returncode == 0


if "SPLITEE_CLIENTS_CHILD" not in os.environ:
    candidates = [os.environ.get("SPLITEE_CLIENTS_PYTHON", sys.executable), sys.executable]
    found = next((path for path in candidates if shutil.which(path) and has_client(path)), None)
    if found is None:
        print("skipped: no Python with tritonclient (python3 -m venv V; V/bin/pip install 'tritonclient[http]'; "
              "SPLITEE_CLIENTS_PYTHON=V/bin/python)")  # fmt: skip
        sys.exit(77)
    sys.exit(subprocess.run([found, *sys.argv], env=os.environ | {"SPLITEE_CLIENTS_CHILD": "1"}, check=False).returncode)

import numpy  # noqa: E402
import tritonclient.http as triton  # noqa: E402
from tritonclient.utils import InferenceServerException  # noqa: E402

import binaries  # noqa: E402
from binaries import make_texts  # noqa: E402
from http_service import NAME, HttpEdge, HttpServer  # noqa: E402

TEXTS = make_texts(16)


def tensor(name, texts, binary):
    made = triton.InferInput(name, [len(texts)], "BYTES")
    made.set_data_from_numpy(numpy.array(texts, dtype=object), binary_data=binary)
    return made


def both(*flags):
    for program in (HttpEdge, HttpServer):
        own = ("--policy", "final") if program is HttpEdge else ()
        with program(*own, *flags) as running:
            client = triton.InferenceServerClient(running.url.removeprefix("http://"), concurrency=8)
            yield client
            client.close()


def test_health_and_metadata(_):
    for client in both():
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(NAME)
        assert not client.is_model_ready("other")
        assert client.get_server_metadata()["name"] == "splitee"
        assert client.get_model_metadata(NAME)["inputs"][0] == {"name": "text", "datatype": "BYTES", "shape": [-1]}


def test_inference(_):
    """Binary data as the client sends it by itself, and JSON; the answers are a stream's."""
    records = binaries.records_of("--policy", "final", stdin=binaries.lines(TEXTS))
    labels = [record["label"].encode() for record in records]
    for client in both():
        for binary_in in (True, False):
            for wanted in (None, True, False):
                outputs = None if wanted is None else [
                    triton.InferRequestedOutput(name, binary_data=wanted)
                    for name in ("label", "confidence", "exit_layer", "probabilities")]  # fmt: skip
                result = client.infer(NAME, [tensor("text", TEXTS, binary_in)], outputs=outputs, request_id="r1")
                assert result.get_response()["id"] == "r1"
                got = [label if isinstance(label, bytes) else label.encode() for label in result.as_numpy("label")]
                assert got == labels, (binary_in, wanted)
                confidence = result.as_numpy("confidence")
                assert confidence.dtype == numpy.float32
                assert numpy.allclose(confidence, [record["confidence"] for record in records], atol=1e-6)
                assert result.as_numpy("exit_layer").dtype == numpy.int32
                assert result.as_numpy("probabilities").shape == (len(TEXTS), 2)
        pairs = client.infer(NAME, [tensor("text", TEXTS, True), tensor("text2", TEXTS[::-1], True)])
        assert len(pairs.as_numpy("label")) == len(TEXTS)


def test_async_inference(_):
    expected = {text: record["confidence"] for text, record in zip(
        TEXTS, binaries.records_of("--policy", "final", stdin=binaries.lines(TEXTS)))}  # fmt: skip
    for client in both():
        requests = [(text, client.async_infer(NAME, [tensor("text", [text], True)])) for text in TEXTS]
        for text, request in requests:
            assert abs(request.get_result().as_numpy("confidence")[0] - expected[text]) < 1e-6, text


def test_errors(_):
    for client in both():
        for inputs, word in (([tensor("other", ["a"], True)], "other"), ([], "text")):
            try:
                client.infer(NAME, inputs)
            except InferenceServerException as error:
                assert word in error.message() and error.status() == "400", error
            else:
                raise AssertionError("no error")


if __name__ == "__main__":
    binaries.main(globals())
