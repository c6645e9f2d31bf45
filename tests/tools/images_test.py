#!/usr/bin/env python3
"""Images through the programs: against numpy, in every kind of file and of network, over the link in
every form, with states, traces and the other commands, raw frames, and files that are wrong.

Arguments: EDGE SERVER TOOL MODEL OTHER_MODEL CONVERTER PPM_TO_JPEG [test names]; the models are
those of random_images.py.
"""

import fcntl
import importlib.util
import json
import os
import select
import subprocess
import sys
import termios

import numpy as np

PPM_TO_JPEG = os.path.abspath(sys.argv.pop(7))
CONVERTER = os.path.abspath(sys.argv.pop(6))
TRAINER = os.path.join(os.path.dirname(CONVERTER), "train.py")

from binaries import (  # noqa: E402
    EDGE, MODEL, OTHER_MODEL, TIMEOUT_S, TOOL, Server, answers, edge, main, patiently, read, records_of, run, without_times, write)  # fmt: skip
from random_images import (  # noqa: E402
    HEIGHT, LABELS, WIDTH, Reference, about_of, mobilenet, picture, png, ppm, resnet, small, write_checkpoint)  # fmt: skip

SEED = 4  # of MODEL
COUNT = 30
IMAGES = ("--input-format", "images")
TARGETS = [target for target in ("avx512amx", "avx512bf16", "avx512vnni", "avx512", "avx2vnni", "avx2", "sse4.2",
                                 "neon-i8mm", "neon-dotprod", "neon", "scalar")
           if run(EDGE, "--model", MODEL, "--target", target, "--quiet", status=None).status == 0]  # fmt: skip
# name: (state, about); every stride, odd sizes, every stem, shortcut, activation and exit.
NETWORKS = {
    "small": small(SEED),
    "pad": (resnet(5, ((8, 2), (12, 2)), pad=True), about_of(9, 16, [1, 1, 2, 1])),
    "stem7": (resnet(6, ((16, 1), (24, 1)), stem=7, exits=(1,)), about_of(37, 33, [1, 2])),
    "exit conv": (resnet(7, ((8, 1), (8, 1)), exits=(1,), conv_exit=1), about_of(8, 8, [1, 2], activation="hardswish")),
    "mobile": (mobilenet(8, ((8, 1), (12, 6), (12, 6), (20, 3))), about_of(15, 18, [1, 2, 1, 2])),
    "mobile small": (mobilenet(9, ((5, 1), (9, 2)), stem=5, exits=(1,)), about_of(7, 7, [2, 1], stem_stride=1)),
}  # fmt: skip


def tool(*flags, **more):
    return run(TOOL, *flags, **more)


def jpeg(pixels, *flags):
    return subprocess.run([PPM_TO_JPEG, *map(str, flags)], input=ppm(pixels), capture_output=True, check=True).stdout


def pictures(count=COUNT, first=0):
    return [picture(first + i) for i in range(count)]


def write_table(folder, images, labels=None, encode=ppm, name="data.tsv"):
    """A table of files; its path."""
    rows = ["path\tlabel" if labels else "path"]
    for i, pixels in enumerate(images):
        file = f"{name}.{i}"
        write(folder, file, encode(pixels))
        rows.append(f"{file}\t{labels[i]}" if labels else file)
    return write(folder, name, "\n".join(rows) + "\n")


def exits_of(*flags, **more):
    records = records_of("--policy", "final", "--exits", *flags, **more)
    return np.array([[exit["probabilities"] for exit in record["exits"]] for record in records])


def convert(folder, state, about, *flags):
    source, output = os.path.join(folder, "source"), os.path.join(folder, "made.gguf")
    write_checkpoint(source, state, about)
    subprocess.run([sys.executable, CONVERTER, source, "--output", output, *flags], check=True, capture_output=True)
    return output


def test_against_numpy(folder):
    for name, (state, about) in NETWORKS.items():
        reference = Reference(state, about)
        images = [picture(i, *about["input"]) for i in range(6)]
        expected = np.array([reference.run(pixels.astype(np.float64)) for pixels in images])
        assert expected.std(axis=0).max() > 0.02, f"{name}: the pictures are all alike"
        table = write_table(folder, images)
        # What the rounding of products may move a probability by.
        for dtype, tolerance in (("f32", 1e-5), ("f16", 0.01), ("bf16", 0.06), ("i8", 0.12)):
            model = convert(folder, state, about, "--dtype", dtype)
            assert json.loads(tool("inspect", model, "--json").out)["dtype"] == dtype
            for target in TARGETS:
                found = exits_of("--input", table, "--target", target, model=model)
                error = np.abs(found - expected).max()
                assert error < tolerance, f"{name} {dtype} {target}: {error}"
        if name == "mobile":  # exact at any number of threads
            alone = edge("--policy", "final", "--exits", "--quiet", "--input", table, model=model)
            both = edge("--policy", "final", "--exits", "--quiet", "--input", table, "--threads", "3", model=model)
            assert without_times(alone.records) == without_times(both.records)


def test_kinds_of_files(folder):
    images = pictures(5)
    plain = exits_of("--input", write_table(folder, images))
    same = lambda **more: np.array_equal(exits_of("--input", write_table(folder, images, **more)), plain)  # noqa: E731
    assert same(encode=png)
    assert same(encode=lambda pixels: png(np.dstack([pixels, np.full(pixels.shape[:2], 7, np.uint8)])))
    assert same(encode=lambda pixels: ppm(pixels, "# a comment\n"))
    near = exits_of("--input", write_table(folder, images, encode=lambda pixels: jpeg(pixels, 100)))
    assert 0 < np.abs(near - plain).max() < 0.5
    progressive = exits_of("--input", write_table(folder, images, encode=lambda pixels: jpeg(pixels, 100, "progressive")))
    assert np.array_equal(progressive, near)
    grey = [pixels[:, :, :1] for pixels in images]
    pgm = lambda pixels: b"P5 %d %d 255\n" % (WIDTH, HEIGHT) + pixels.tobytes()  # noqa: E731
    expected = exits_of("--input", write_table(folder, [np.repeat(pixels, 3, axis=2) for pixels in grey]))
    assert np.array_equal(exits_of("--input", write_table(folder, grey, encode=png)), expected)
    assert np.array_equal(exits_of("--input", write_table(folder, grey, encode=pgm)), expected)


def test_resize(folder):
    """Against the definition: a triangle as wide as the step, in float64."""

    def weights(size, to):
        step = size / to
        support = max(step, 1)
        rows = np.zeros((to, size))
        for i in range(to):
            centre = (i + 0.5) * step
            rows[i] = np.maximum(0, 1 - np.abs(np.arange(size) + 0.5 - centre) / support)
        return rows / rows.sum(axis=1, keepdims=True)

    state, about = small(SEED)
    for resize, (height, width) in ((0, (30, 45)), (0, (7, 5)), (0, (40, 6)), (20, (31, 50)), (20, (64, 21)), (14, (14, 30))):
        pixels = picture(3, height, width)
        scale = min(height, width) if resize else 1
        whole = (int(resize * height / scale), int(resize * width / scale)) if resize else (HEIGHT, WIDTH)
        expected = np.einsum("yh,xw,hwc->yxc", weights(height, whole[0]), weights(width, whole[1]), pixels.astype(np.float64))
        top, left = (round((whole[0] - HEIGHT) / 2), round((whole[1] - WIDTH) / 2)) if resize else (0, 0)
        expected = Reference(state, about).run(expected[top:top + HEIGHT, left:left + WIDTH])
        model = convert(folder, state, about | {"resize": resize})
        found = exits_of("--input", write_table(folder, [pixels]), model=model)[0]
        assert np.abs(found - expected).max() < 1e-4, (resize, height, width)


def test_lists_and_labels(folder):
    images = pictures(4)
    plain = answers(records_of("--policy", "final", "--input", write_table(folder, images)))
    names = "".join(f"{os.path.join(folder, f'data.tsv.{i}')}\n" for i in range(4))
    assert answers(records_of("--policy", "final", *IMAGES, stdin=names)) == plain
    labels = [LABELS[i % 3] for i in range(4)]
    records = records_of("--policy", "final", *IMAGES, "--input", write_table(folder, images, labels))
    assert answers(records) == plain and [record["truth"] for record in records] == [0, 1, 2, 0]
    edge("--input-format", "tsv", stdin="text\na\n", status=None).expect(2, "takes images")


def test_folders(folder):
    """A folder is the table of its pictures, sorted by path; folders in it that are called as classes are labels."""
    images = pictures(5)
    plain = answers(records_of("--policy", "final", "--input", write_table(folder, images)))
    root = os.path.join(folder, "root")
    places = ("ship/a.ppm", "ship/b/z.PNG", "cat/c.jpeg", "bird/.hidden.ppm", "bird/notes.txt", "2/d.ppm", "e.ppm", ".git/f.ppm")
    for place in places:
        os.makedirs(os.path.join(root, os.path.dirname(place)), exist_ok=True)
    for place, pixels, encode in (("ship/a.ppm", 0, ppm), ("ship/b/z.PNG", 1, png), ("2/d.ppm", 3, ppm), ("e.ppm", 4, ppm),
                                  ("cat/c.jpeg", 2, ppm), (".git/f.ppm", 0, ppm), ("bird/.hidden.ppm", 0, ppm)):  # fmt: skip
        write(root, place, encode(images[pixels]))
    write(root, "bird/notes.txt", "no picture")
    order = [3, 2, 4, 0, 1]  # by path
    for flags in (("--input", root), ("--input", root + "/", *IMAGES)):
        records = records_of("--policy", "final", *flags)
        assert answers(records) == [plain[i] for i in order]
        assert [record.get("truth") for record in records] == [2, 1, None, 2, 2]
        assert [record["path"] for record in records] == [
            f"{root}/{name}" for name in ("2/d.ppm", "cat/c.jpeg", "e.ppm", "ship/a.ppm", "ship/b/z.PNG")]  # fmt: skip
    trace = os.path.join(folder, "t.csv")
    tool("trace", "--model", MODEL, "--input", root, "--output", trace)
    assert [line.split(",")[0] for line in read(trace).decode().splitlines()[1:]] == ["2", "1", "", "2", "2"]
    os.symlink("nowhere", os.path.join(root, "cat/gone.png"))
    gone = edge("--policy", "final", "--input", root, status=None).expect(1, "cat/gone.png: cannot open: No such file", "1 row(s)")
    assert answers(gone.records) == [plain[i] for i in order]
    os.remove(os.path.join(root, "cat/gone.png"))
    write(root, "cat/broken.png", b"\x89PNG\r\n\x1a\n")
    broken = edge("--policy", "final", "--input", root, status=None).expect(1, "cat/broken.png: the PNG is broken", "1 row(s)")
    assert answers(broken.records) == [plain[i] for i in order]
    # One picture is a table of one.
    for name, number in (("ship/b/z.PNG", 1), ("cat/c.jpeg", 2)):
        alone = records_of("--policy", "final", "--input", os.path.join(root, name))
        assert [(record["id"], record["path"]) for record in alone] == [(0, f"{root}/{name}")]
        assert answers(alone) == [plain[number]]
    for command in (("trace", "--output", trace), ("load", "--server", "tcp://127.0.0.1:1")):
        tool(*command, "--model", MODEL, "--input", root, status=None).expect(1, "cat/broken.png: the PNG is broken")
    # Folders that are no classes are only folders, unless some are.
    os.makedirs(os.path.join(root, "holidays"))
    write(root, "holidays/x.ppm", ppm(images[0]))
    edge("--input", root, status=None).expect(1, "'holidays' is not", "bird, cat, ship")
    assert "truth" not in records_of("--input", os.path.join(root, "holidays"))[0]
    for name in ("empty", "only"):
        os.makedirs(os.path.join(folder, name))
    write(folder, "only/notes.txt", "x")
    for name in ("empty", "only"):
        edge("--input", os.path.join(folder, name), status=None).expect(1, f"{name}/: holds no pictures", ".jpeg")
    edge("--frame", "2x2", "--input", root, status=None).expect(1, "is a folder")
    write(folder, "only/a\tb.ppm", ppm(images[0]))
    edge("--input", os.path.join(folder, "only"), status=None).expect(1, "a tab")


def test_bad_files(folder):
    """An error of the file's own row; the run goes on."""
    good = ppm(picture(0))
    whole_png, whole_jpeg = png(picture(0)), jpeg(picture(0))
    huge = b"\x89PNG\r\n\x1a\n" + png(picture(0))[8:16] + b"\x7f\xff\xff\xff" * 2 + png(picture(0))[24:]
    files = {"good": good, "empty": b"", "text": b"hello", "cut.ppm": good[:-1], "cut.png": whole_png[:-30],
             "cut.jpg": whole_jpeg[: len(whole_jpeg) // 2], "flipped.png": whole_png[:60] + b"\xff" + whole_png[61:],
             "big.ppm": b"P6 60000 60000 255\n", "big.png": huge, "overflow.ppm": b"P6 99999999999999999999 1 255\n",
             "deep.ppm": b"P6 1 1 65535\n123456", "none.ppm": b"P6 0 4 255\n", "good2": good}  # fmt: skip
    for name, content in files.items():
        write(folder, name, content)
    os.mkdir(os.path.join(folder, "folder"))
    names = [*files, "missing", "folder", "good"]
    table = write(folder, "table.tsv", "path\tlabel\n" + "".join(f"{name}\tcat\n" for name in names) + "good\nx\ty\tz\ngood\tdog\n")
    result = edge("--policy", "final", "--input", table, status=1)
    assert [record["id"] for record in result.records] == [0, 1, 2], result
    for words in ("line 3", "line 4", "empty: neither PNG nor JPEG", "cut.ppm: the PGM or PPM ends early", "cut.png: the PNG is broken",
                  "cut.jpg: the JPEG is broken", "flipped.png: the PNG is broken", "big.ppm: a picture of 60000 x 60000 pixels",
                  "row(s) could not be read"):  # fmt: skip
        assert words in result.err, f"{words}\n{result}"
    tool("trace", "--model", MODEL, "--input", table, "--output", os.path.join(folder, "t.csv"), status=1).expect(1, "line 3")


def test_offload(folder):
    """Every form of payload, and policies that learn, over a real link; the answers are those of the whole network."""
    files = write_table(folder, pictures(), encode=jpeg)
    sizes = [os.path.getsize(f"{files}.{i}") for i in range(COUNT)]
    whole = answers(records_of("--policy", "final", "--input", files))
    with Server() as server:
        link = ("--server", server.endpoint, "--deadline-ms", "60000", "--input", files)
        # Outputs of blocks 1 to 3: pixels, channels.
        for split, (pixels, channels) in ((1, (154, 8)), (2, (154, 8)), (3, (42, 12))):
            for activation, tolerance in (("f32", 0), ("f16", 0.02), ("i8", 0.1)):
                flags = ("--policy", "fixed", "--split", split, "--alpha", "1", "--activation", activation, *link)
                records = records_of(*flags)
                assert {record["route"] for record in records} == {"offload"}
                assert {record["payload"] for record in records} == {activation}
                size = {"f32": 4 * channels, "f16": 2 * channels, "i8": 4 + channels}[activation] * pixels
                assert {record["bytes_sent"] for record in records} == {72 + size}, (split, activation, records[0])
                for record, (_, confidence) in zip(records, whole):
                    assert abs(record["confidence"] - confidence) <= tolerance, record
        # The file as it is, whatever block was run before.
        for policy in (("--policy", "offload"), ("--policy", "fixed", "--split", "2", "--alpha", "1", "--payload", "input")):
            records = records_of(*policy, *link)
            assert answers(records) == whole
            assert [record["bytes_sent"] for record in records] == [72 + size for size in sizes]
            assert {record["payload"] for record in records} == {"input"}
        for policy in ("splitee", "splitee-s", "adaptive", "threshold"):
            flags = ("--policy", policy, "--alpha", "0.9", "--seed", "3", *link)
            first = without_times(records_of(*flags))
            assert first == without_times(records_of(*flags)), policy
        # An early block's output is larger than the file: it is not what is chosen.
        live = records_of("--costs", "live", "--policy", "fixed", "--split", "1", "--alpha", "1", *link)
        assert len(live) == COUNT and {record["route"] for record in live} == {"offload"}
    with Server(model=OTHER_MODEL) as server:
        result = edge("--server", server.endpoint, "--policy", "offload", "--input", files)
        assert {record["route"] for record in result.records} == {"fallback"} and answers(result.records) == whole


def test_states(folder):
    images, flags = pictures(), ("--policy", "splitee-s", "--alpha", "0.9", "--window", "1", "--seed", "4")
    whole, part = os.path.join(folder, "whole"), os.path.join(folder, "part")
    expected = without_times(records_of(*flags, "--state", whole, "--input", write_table(folder, images)))
    found = records_of(*flags, "--state", part, "--input", write_table(folder, images[:11]))
    found += records_of(*flags, "--state", part, "--input", write_table(folder, images[11:]))
    for record, wanted in zip(without_times(found), expected):
        assert record | {"id": 0, "path": ""} == wanted | {"id": 0, "path": ""}
    assert read(whole) == read(part)


def test_commands(folder):
    info = json.loads(tool("inspect", MODEL, "--json").out)
    assert (info["layers"], info["exits"], info["classes"]) == (4, [1, 2, 3, 4], 3)
    assert info["metadata"]["general.architecture"] == '"splitee-conv"' and info["input_height"] == HEIGHT
    costs = os.path.join(folder, "costs.json")
    profile = json.loads(tool("profile", "--model", MODEL, "--repeats", "5", "--json", "--output", costs).out)
    assert len(profile["layers_us"]) == 4
    images = pictures(120)
    reference = Reference(*small(SEED))
    truth = [int(reference.run(pixels.astype(np.float64))[-1].argmax()) for pixels in images]
    assert len(set(truth)) > 1
    data = write_table(folder, images, [LABELS[k] for k in truth])
    assert len(records_of("--costs", costs, "--input", data)) == 120
    trace = os.path.join(folder, "trace.csv")
    tool("trace", "--model", MODEL, "--input", data, "--output", trace)
    replay = json.loads(tool("replay", "--trace", trace, "--policy", "splitee", "--alpha", "0.9", "--runs", "2", "--json").out)
    assert replay["samples"] == 120 and replay["final_accuracy"] > 0.99
    calibrated = os.path.join(folder, "calibrated.gguf")
    report = json.loads(tool("calibrate", "--model", MODEL, "--input", data, "--output", calibrated, "--max-loss", "0.2", "--json").out)
    assert len(report["exits"]) == 4 and json.loads(tool("inspect", calibrated, "--json").out)["alpha"] > 0
    compared = json.loads(tool("compare", MODEL, calibrated, "--input", data, "--json").out)
    assert len(compared["exits"]) == 4
    with Server() as server:
        for layer in ("0", "2"):
            load = json.loads(tool("load", "--model", MODEL, "--server", server.endpoint, "--rate", "50", "--seconds", "0.5",
                                   "--warm-up", "0", "--layer", layer, "--deadline-ms", "60000", "--json").out)  # fmt: skip
            assert load[0]["good"] > 0


def test_frames(folder):
    images = pictures(6)
    plain = answers(records_of("--policy", "final", "--input", write_table(folder, images)))
    raw = b"".join(pixels.tobytes() for pixels in images)
    size = ("--policy", "final", "--frame", f"{WIDTH}x{HEIGHT}")
    assert answers(records_of(*size, stdin=raw)) == plain
    # All of a file are there when the first one is read: the last one is the newest.
    path, summary = write(folder, "frames", raw), os.path.join(folder, "summary.json")
    records = records_of(*size, "--drop-late", "--input", path, "--summary-json", summary)
    assert records[:5] == [{"id": i, "dropped": True} for i in range(5)] and answers(records[5:]) == plain[5:]
    found = json.loads(read(summary))
    assert (found["dropped"], found["samples"]) == (5, 1)
    # A camera that waits for each answer is never too fast.
    command = [EDGE, "--model", MODEL, "--quiet", *size, "--drop-late"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for number, pixels in enumerate(images):
            process.stdin.write(pixels.tobytes())
            process.stdin.flush()
            record = json.loads(process.stdout.readline())
            assert record["id"] == number and (record["class"], record["confidence"]) == plain[number]
        process.stdin.close()
        assert process.wait(TIMEOUT_S) == 0
    edge(*size, stdin=raw[:-1], status=None).expect(1, "frame 6: ends after")
    for flags, word in ((("--frame", "0x4"), "0x4"), (("--frame", "9999x1"), "size of a frame"), (("--drop-late",), "--frame"),
                        (("--frame", "2x2", *IMAGES), "--input-format")):  # fmt: skip
        edge(*flags, status=None).expect(2, word)


def write_to(pipe, data):
    """Fails where nobody takes it."""
    os.set_blocking(pipe, False)
    while data:
        assert select.select([], [pipe], [], TIMEOUT_S)[1], f"{len(data)} bytes of the frames are left"
        data = data[os.write(pipe, data):]


def waits_with_nothing_to_read(process):
    left = fcntl.ioctl(process.stdin.fileno(), termios.FIONREAD, b"\0" * 4)
    with open(f"/proc/{process.pid}/stat", encoding="utf-8") as file:
        return left == b"\0" * 4 and file.read().rpartition(")")[2].split()[0] == "S"


def test_late_frames(folder):
    """A camera that does not wait, before a network that does nothing for a while: whatever the pipe holds, only the newest
    frame is run then. Frames are larger than a pipe."""
    frames = [picture(i, 200, 300) for i in range(20)]
    plain = answers(records_of("--policy", "final", "--input", write_table(folder, frames)))
    page = 4096
    records_in, records_out = os.pipe()
    fcntl.fcntl(records_out, fcntl.F_SETPIPE_SZ, page)
    os.write(records_out, b"x" * page)  # the first record has to wait
    command = [EDGE, "--model", MODEL, "--quiet", "--policy", "final", "--frame", "300x200", "--drop-late"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=records_out) as process:
        os.close(records_out)
        try:
            write_to(process.stdin.fileno(), frames[0].tobytes())
            patiently(lambda: waits_with_nothing_to_read(process))
            for pixels in frames[1:]:
                write_to(process.stdin.fileno(), pixels.tobytes())
        except BaseException:
            process.kill()
            raise
        process.stdin.close()
        with os.fdopen(records_in, "rb") as found:
            assert found.read(page) == b"x" * page
            records = [json.loads(line) for line in found]
        assert process.wait(TIMEOUT_S) == 0
    assert [record["id"] for record in records] == list(range(20))
    ran = [record for record in records if "dropped" not in record]
    # The one that waits for its reader, the newest, and perhaps the one before that if its bytes came late.
    assert ran[-1]["id"] == 19 and len(ran) <= 3, ran
    assert answers(ran) == [plain[record["id"]] for record in ran]
    assert all(isinstance(record["age_us"], int) and record["age_us"] >= 0 for record in ran)


def test_late_frames_end(folder):
    """A camera that never stops: after a signal every frame that was read has its record."""
    output = os.path.join(folder, "records")
    flags = ["--policy", "final", "--frame", "300x200", "--drop-late", "--output", output]
    with subprocess.Popen(["cat", "/dev/zero"], stdout=subprocess.PIPE) as camera:
        with subprocess.Popen([EDGE, "--model", MODEL, "--quiet", *flags], stdin=camera.stdout) as process:
            camera.stdout.close()
            patiently(lambda: os.path.exists(output) and read(output).count(b"\n") > 20)
            process.terminate()
            assert process.wait(TIMEOUT_S) == 0
        camera.kill()
    records = [json.loads(line) for line in read(output).splitlines()]
    assert [record["id"] for record in records] == list(range(len(records)))
    assert any("dropped" in record for record in records) and any("class" in record for record in records)


def test_converter_refuses(folder):
    state, about = small(SEED)

    def problem(change=None, without=(), tensors=None, **more):
        found = {key: value for key, value in (tensors or state).items() if key not in without}
        if change:
            change(found)
        write_checkpoint(folder, found, {key: value for key, value in (about | more).items() if value is not None})
        output = os.path.join(folder, "m.gguf")
        done = subprocess.run([sys.executable, CONVERTER, folder, "--output", output], capture_output=True, text=True, check=False)
        assert done.returncode == 1 and not os.path.exists(output) and "Traceback" not in done.stderr, done
        return done.stderr

    assert "key colour is not known" in problem(colour="red")
    assert "input is not a list of 2" in problem(input=[8])
    assert "input: 0 is not a whole number" in problem(input=[0, 8])
    assert "mean is not a list of 3" in problem(mean=[0.5])
    assert "std: 0 is not a number" in problem(std=[0, 1, 1])
    assert "labels is not" in problem(labels=["one"])
    assert "activation is none of" in problem(activation="gelu")
    assert "resize 9 is below" in problem(resize=9)
    assert "strides is not a list of 4" in problem(strides=[1])
    assert "temperatures is not a list of 4" in problem(temperatures=[1.0])
    assert "alpha 2" in problem(alpha=2)
    assert "layer2.0.downsample.0.weight is missing" in problem(without=("layer2.0.downsample.0.weight",))
    assert "not expected" in problem(strides=[1, 1, 1, 1], tensors=resnet(1, ((8, 2), (8, 1), (8, 1)), exits=(1,)))
    assert "layer1.1.bn2.running_var is missing" in problem(without=("layer1.1.bn2.running_var",))
    assert "the last one must be behind block 4" in problem(without=("fc.weight",))
    assert "expected (2, 8)" in problem(labels=["a", "b"])
    assert "neither layer1" in problem(tensors={"a": np.zeros(2, np.float32)})
    assert "below 0" in problem(lambda found: found.update({"bn1.running_var": -found["bn1.running_var"]}))
    assert "does not belong" in problem(lambda found: found.update({"layer1.0.other": np.zeros(2, np.float32)}))


def train(*flags, status=0):
    done = subprocess.run([sys.executable, TRAINER, "images", *map(str, flags)], capture_output=True, text=True, check=False)
    assert done.returncode == status and "Traceback" not in done.stderr, done.stderr
    return done.stderr


def striped(number, side=16):
    """A picture whose class is the direction of its stripes, and the class."""
    rng, (y, x) = np.random.default_rng(number), np.mgrid[0:side, 0:side]
    label = number % 3
    wave = np.sin((x, y, x + y)[label] * rng.uniform(0.9, 1.3) + rng.uniform(0, 6))[:, :, None]
    return np.clip(128 + 90 * wave * rng.uniform(0.5, 1, 3) + rng.normal(0, 12, (side, side, 3)), 0, 255).astype(np.uint8), label


def test_train(folder):
    """Each family learns a small task, goes on from its checkpoint, and comes through the converter."""
    if any(importlib.util.find_spec(name) is None for name in ("torch", "PIL")):
        return print("  skipped: PyTorch or Pillow is not installed")
    made = [striped(i) for i in range(240)]
    table = write_table(folder, [pixels for pixels, _ in made], [LABELS[label] for _, label in made], png)
    other = [striped(i) for i in range(1000, 1060)]
    test = write_table(folder, [pixels for pixels, _ in other], [LABELS[label] for _, label in other], png, "test.tsv")
    sgd = ("--width", "0.5", "--optimizer", "sgd", "--lr", 0.1, "--weight-decay", "5e-4", "--clip", 5)
    for network, more in (("resnet20", ()), ("resnet14", sgd), ("mobilenetv2", ("--width", "0.35"))):
        work, output, model = (os.path.join(folder, f"{network}.{part}") for part in ("work", "folder", "gguf"))
        flags = ("--train", table, "--work", work, "--output", output, "--network", network, "--side", 16, "--cores", 1,
                 "--precision", "fp32", "--batch-rows", 24, "--warmup", 5, "--ema", 0.9, *more)  # fmt: skip
        train(*flags, "--steps", 30)
        assert "resumed from" in train(*flags, "--steps", 60, "--test", test)
        subprocess.run([sys.executable, CONVERTER, output, "--output", model], check=True, capture_output=True)
        records = records_of("--policy", "final", "--exits", "--input", test, model=model)
        right = [np.mean([np.argmax(record["exits"][exit]["probabilities"]) == record["truth"] for record in records])
                 for exit in range(6)]  # fmt: skip
        report = json.loads(read(os.path.join(output, "report.json")))["test"]
        # Temperatures leave the order of the classes: the engine is as right as PyTorch says.
        assert np.abs(np.array([exit["accuracy"] for exit in report]) - right).max() < 0.02, (report, right)
        assert right[-1] > 0.8, (network, right)
        held = records_of("--policy", "final", "--input", os.path.join(output, "held_back.tsv"), model=model)
        assert len(held) == 24 and np.mean([record["class"] == record["truth"] for record in held]) > 0.7, held
    assert "other --lr" in train(*flags, "--steps", 60, "--lr", 1, status=1)
    for name, text, word in (("a", "path\n", "columns 'path' and 'label'"), ("b", "path\tlabel\n", "no pictures"),
                             ("c", "path\tlabel\nmissing.png\tcat\nmissing.png\tdog\n", "missing.png"),
                             ("d", "path\tlabel\nx\n", ":2: 1 fields")):  # fmt: skip
        path = write(folder, name, text)
        assert word in train("--train", path, "--work", folder, "--output", folder, "--steps", 1, status=1), name


if __name__ == "__main__":
    main(globals())
