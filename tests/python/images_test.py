#!/usr/bin/env python3
"""Pictures in the Python package: paths, bytes, arrays and Pillow's images answer as the program does, alone and with a
server; what is no picture is named. Arguments and environment as package_test.py, without a model on numbers."""

import os
import pathlib
import sys

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))

import numpy as np  # noqa: E402

import splitee  # noqa: E402
from binaries import MODEL, TIMES, Server, main, records_of, write  # noqa: E402
from random_images import LABELS, picture, png, ppm  # noqa: E402

PICTURES = [picture(i, 20, 30) for i in range(8)]
MODEL_HERE = splitee.Model(MODEL)


def raises(kind, call, *words):
    try:
        call()
    except kind as problem:
        assert all(word in str(problem) for word in words), str(problem)
        return
    raise AssertionError(f"no {kind.__name__}")


def files_of(folder):
    return [write(folder, f"{i}.png", png(pixels)) for i, pixels in enumerate(PICTURES)]


def test_every_exit(folder):
    paths = files_of(folder)
    stream = records_of("--policy", "final", "--exits", "--input", write(folder, "list", "\n".join(paths)))
    expected = np.array([[exit["probabilities"] for exit in record["exits"]] for record in stream], np.float32)
    assert expected.std(axis=0).max() > 0.01 and MODEL_HERE.input == "images"
    for samples in (paths, map(pathlib.Path, paths), [png(pixels) for pixels in PICTURES], [bytearray(ppm(pixels)) for pixels in PICTURES],
                    PICTURES, np.stack(PICTURES), [{"image": path} for path in paths], [pixels[:, ::-1][:, ::-1] for pixels in PICTURES]):  # fmt: skip
        assert np.array_equal(MODEL_HERE.run(samples), expected)
    grey = [pixels[:, :, 0] for pixels in PICTURES]
    assert np.array_equal(MODEL_HERE.run(grey), MODEL_HERE.run([np.repeat(pixels[:, :, None], 3, axis=2) for pixels in grey]))
    assert MODEL_HERE.run([]).shape == (0, MODEL_HERE.exits, MODEL_HERE.classes)
    assert MODEL_HERE.predict(np.stack(PICTURES)).tolist() == [record["class"] for record in stream]
    try:
        import PIL.Image
    except ImportError:
        return print("  without Pillow")
    images = [PIL.Image.fromarray(pixels) for pixels in PICTURES]
    assert np.array_equal(MODEL_HERE.run(images), expected)
    assert np.array_equal(MODEL_HERE.run([image.convert("RGBA") for image in images]), expected)


def test_edge(folder):
    paths = files_of(folder)
    table = write(folder, "t.tsv", "path\tlabel\n" + "".join(f"{path}\tcat\n" for path in paths))
    plain = lambda records: [{k: v for k, v in record.items() if k not in (*TIMES, "path")} for record in records]  # noqa: E731
    flags = ("--policy", "splitee", "--alpha", "0.9", "--input", table)
    samples = [{"image": path, "label": LABELS[1]} for path in paths]
    with splitee.Edge(MODEL_HERE, policy="splitee", alpha=0.9) as edge:
        assert plain(edge.run(samples)) == plain(records_of(*flags))
        assert edge.classify(PICTURES[0])["label"] in LABELS
    with Server() as server, splitee.Edge(MODEL_HERE, server=server.endpoint, policy="offload", deadline_ms=60000) as edge:
        records = list(edge.run(np.stack(PICTURES)))
        assert {record["route"] for record in records} == {"offload"} and {record["payload"] for record in records} == {"input"}
        assert [record["class"] for record in records] == MODEL_HERE.predict(PICTURES).tolist()


def test_what_is_wrong(folder):
    good = png(PICTURES[0])
    broken = write(folder, "broken.png", good[:-20])
    text = write(folder, "notes.txt", "no picture")
    edge = splitee.Edge(MODEL_HERE, policy="final")
    for call in (lambda sample: MODEL_HERE.run([sample]), edge.classify):
        raises(splitee.CorruptError, lambda: call(broken), "broken.png", "PNG is broken")
        raises(splitee.UnsupportedError, lambda: call(text), "notes.txt", "neither PNG")
        raises(FileNotFoundError, lambda: call("/nowhere/cat.png"), "/nowhere/cat.png")
        raises(splitee.CorruptError, lambda: call(good[:-20]), "PNG is broken")
        for odd in (PICTURES[0].astype(np.float32), PICTURES[0][:, :, :2], PICTURES[0][None], np.zeros((0, 3, 3), np.uint8)):
            raises(ValueError, lambda: call(odd), "(height, width, 3)")
        for odd in (None, {"text": "a"}):
            raises(TypeError, lambda: call(odd), "a picture is wanted")
        assert call(good) is not None
    raises(ValueError, lambda: MODEL_HERE.run(PICTURES[0]), "(samples, height, width, 3)")
    raises(TypeError, lambda: MODEL_HERE.run("cat.png"), "a list of samples")


if __name__ == "__main__":
    main(globals())
