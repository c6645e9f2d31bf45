#!/usr/bin/env python3
"""Images over HTTP: files and pixels in every form, through an edge and a server, against a stream of the same pictures;
requests that are wrong. Arguments as binaries.py, with PPM_TO_JPEG before the names of tests."""

import base64
import json
import os
import struct
import subprocess
import sys

import numpy as np

PPM_TO_JPEG = os.path.abspath(sys.argv.pop(6))

from binaries import answers, main, records_of, write  # noqa: E402
from http_service import INFER, JSON, NAME, HttpEdge, HttpServer, binary_strings, outputs_of  # noqa: E402
from random_images import HEIGHT, LABELS, WIDTH, picture, png, ppm  # noqa: E402

PICTURES = [picture(i) for i in range(6)]
PIXELS = np.stack(PICTURES)
SHAPE = [len(PICTURES), HEIGHT, WIDTH, 3]


def expected_of(folder):
    """Classes and confidences of the last exit for the pictures, as a stream gives them."""
    names = [write(folder, f"{i}.ppm", ppm(pixels)) for i, pixels in enumerate(PICTURES)]
    return answers(records_of("--policy", "final", "--input", write(folder, "list", "\n".join(names))))


def tensor(datatype, shape, data):
    return {"inputs": [{"name": "image", "datatype": datatype, "shape": shape, "data": data}]}


def files(contents, shape=None):
    return tensor("BYTES", shape or [len(contents)], [base64.b64encode(content).decode() for content in contents])


def binary(client, datatype, shape, data):
    head = json.dumps({"inputs": [{"name": "image", "datatype": datatype, "shape": shape,
                                   "parameters": {"binary_data_size": len(data)}}]}).encode()  # fmt: skip
    return client.post(head + data, headers=JSON | {"Inference-Header-Content-Length": str(len(head))})


def both():
    for program, flags in ((HttpEdge, ("--policy", "final")), (HttpServer, ())):
        with program(*flags) as running, running.client() as client:
            yield client


def check(reply, expected):
    outputs = outputs_of(reply)
    assert outputs["label"] == [LABELS[number] for number, _ in expected]
    assert np.abs(np.array(outputs["confidence"]) - [confidence for _, confidence in expected]).max() < 1e-6


def test_every_form(folder):
    expected = expected_of(folder)
    assert len(set(expected)) == len(PICTURES)
    for client in both():
        model = client.get(f"/v2/models/{NAME}").expect(200).json
        (image,) = model["inputs"]
        assert (image["name"], image["datatype"], image["shape"]) == ("image", "BYTES", [-1]), model
        pixels = [-1, -1, -1, 3]
        assert image["parameters"]["other_forms"] == [
            {"datatype": "UINT8", "shape": pixels}, {"datatype": "FP32", "shape": pixels}], model  # fmt: skip
        check(client.post(files(map_all(png))), expected)
        check(client.post(files(map_all(ppm), [len(PICTURES), 1])), expected)
        check(client.post(tensor("UINT8", SHAPE, PIXELS.tolist())), expected)
        check(client.post(tensor("UINT8", SHAPE, PIXELS.ravel().tolist())), expected)
        check(client.post(tensor("FP32", SHAPE, (PIXELS / 255).tolist())), expected)
        check(binary(client, "BYTES", [len(PICTURES)], binary_strings(map_all(png))), expected)
        check(binary(client, "UINT8", SHAPE, PIXELS.tobytes()), expected)
        check(binary(client, "FP32", SHAPE, (PIXELS / 255).astype("<f4").tobytes()), expected)


def map_all(encode):
    return [encode(pixels) for pixels in PICTURES]


def test_pictures_of_any_size(folder):
    """Resized as a file's are; JPEG; and one larger than a body of texts may be."""
    big = picture(3, 900, 1200)
    name = write(folder, "big.ppm", ppm(big))
    jpeg = subprocess.run([PPM_TO_JPEG, "90"], input=ppm(big), capture_output=True, check=True).stdout
    expected = answers(records_of("--policy", "final", stdin=f"{name}\n{write(folder, 'big.jpg', jpeg)}\n"))
    for client in both():
        check(binary(client, "UINT8", [1, 900, 1200, 3], big.tobytes()), expected[:1])
        check(client.post(files([ppm(big)])), expected[:1])
        check(client.post(files([jpeg])), expected[1:])


def test_what_is_wrong(folder):
    good, whole = expected_of(folder), png(PICTURES[0])
    huge = whole[:16] + struct.pack(">II", 60000, 60000) + whole[24:]
    for client in both():
        for content, words in ((b"", "neither PNG nor JPEG"), (b"words", "neither PNG nor JPEG"), (whole[:-20], "PNG is broken"),
                               (ppm(PICTURES[0])[:-1], "ends early"), (b"P6 60000 60000 255\n", "60000 x 60000"),
                               (huge, "P")):  # fmt: skip
            client.post(files([whole, content])).expect(400, words)
        for request, words in (
            (tensor("BYTES", [1], ["!!!!"]), "not base64"), (tensor("BYTES", [1], ["abc"]), "not base64"),
            (tensor("BYTES", [1], ["QQ==QQ=="]), "not base64"), (tensor("BYTES", [1], ["QR=="]), "not base64"),
            (tensor("BYTES", [1], [3]), "no string"), (tensor("INT32", [1], [3]), "BYTES or UINT8 or FP32, not INT32"),
            (tensor("UINT8", [1, 2, 2], [0] * 4), "[n, height, width, 3]"), (tensor("UINT8", [1, 2, 2, 4], [0] * 16), "[n, height, width, 3]"),
            (tensor("UINT8", [1, 0, 2, 3], []), "[n, height, width, 3]"), (tensor("UINT8", [1, 70000, 1, 3], []), "65536"),
            (tensor("UINT8", [1, 1, 1, 3], [0, 1, 256]), "from 0 to 255"), (tensor("UINT8", [1, 1, 1, 3], [0, 1, -1]), "from 0 to 255"),
            (tensor("UINT8", [1, 1, 1, 3], [0, 1, 1.5]), "from 0 to 255"), (tensor("UINT8", [1, 1, 1, 3], [0, 1]), "2 values"),
            (tensor("FP32", [1, 1, 1, 3], [0, 1, 1.1]), "from 0 to 1"), (tensor("FP32", [1, 1, 1, 3], [0, 1, "a"]), "no number"),
            (tensor("UINT8", [1, 65536, 65536, 3], [1]), "shape says"), ({"inputs": [{"name": "text"}]}, "the model takes 'image'"),
        ):  # fmt: skip
            client.post(request).expect(400, words)
        binary(client, "UINT8", [1, 2, 2, 3], bytes(11)).expect(400, "11 values")
        client.ask("POST", INFER, b'{"inputs": [' + b"0," * (1 << 21), JSON).expect(400, "binary data")
        check(client.post(files(map_all(png))), good)


if __name__ == "__main__":
    main(globals())
