#!/usr/bin/env python3
"""tools/scripts/demo_run.py --images (the first argument) with the programs of the build folder (the second) and a small
network (the third): its table and its contact sheet; what it says without pictures; CIFAR-10's archive laid out."""

import base64
import html.parser
import io
import os
import pathlib
import subprocess
import sys
import tarfile

DEMO, BUILD, MODEL = map(os.path.abspath, sys.argv[1:4])
TIMEOUT_S = 120

from random_images import LABELS, picture, png, ppm  # noqa: E402
from run_tests import run_tests  # noqa: E402


def demo(*flags):
    return subprocess.run([sys.executable, DEMO, "--build", BUILD, *map(str, flags)], capture_output=True, text=True,
                          timeout=TIMEOUT_S, check=False)  # fmt: skip


def make_pictures(folder, count=12):
    """A folder for each class; the PNG files."""
    files = {}
    for number in range(count):
        path = folder / LABELS[number % 3] / f'<{number}>"&.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        files[path] = png(picture(number))
        path.write_bytes(files[path])
    return files


class Sheet(html.parser.HTMLParser):
    """What a contact sheet holds; nothing in it may come from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.images, self.groups, self.captions, self.open, self.tags = [], [], [], None, []
        self.feed(text)
        assert not self.tags, self.tags

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        assert tag not in ("script", "link", "iframe") and "href" not in found, (tag, found)
        if tag not in ("img", "meta"):
            self.tags.append(tag)
        if tag == "img":
            kind, _, data = found["src"].partition(";base64,")
            assert kind == "data:image/png" and found["alt"], found
            self.images.append((base64.b64decode(data, validate=True), found["alt"]))
        if tag == "li":
            assert found["tabindex"] == "0"

    def handle_endtag(self, tag):
        assert self.tags.pop() == tag

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "summary":
            self.groups.append(data.strip())
        if self.tags and self.tags[-1] == "figcaption":
            self.captions.append(data)


def test_table_and_sheet(folder):
    files = make_pictures(folder / "pictures")
    (folder / "pictures" / "ship" / "x.ppm").write_bytes(ppm(picture(40)))  # which no browser shows
    sheet = folder / "sheet.html"
    result = demo("--images", folder / "pictures", "--model", MODEL, "--samples", 40, "--sheet", sheet)
    assert result.returncode == 0, result
    for step in ("default: 40 samples", "all layers here: ", "SplitEE-S: ", "offload everything: "):
        assert step in result.stderr, result.stderr
    stdout = result.stdout
    assert str(sheet) in stdout and max(map(len, stdout.partition("\ncontact")[0].splitlines())) <= 80, stdout
    rows = stdout[stdout.index("---"):].splitlines()[1:7]
    cells = [row[18:].split() for row in rows]
    assert all(len(row) == 10 for row in cells) and "-" not in cells[0], rows
    assert cells[4][0] == "100.0" and cells[5][3] == "100.0", rows
    text = sheet.read_text(encoding="utf-8")
    assert "prefers-color-scheme" in text and "http" not in text
    found = Sheet(text)
    assert sorted(data for data, _ in found.images) == sorted(files.values())
    for data, alt in found.images:
        path = next(path for path, content in files.items() if content == data)
        assert alt.startswith(f"{path.relative_to(folder / 'pictures')}: answered "), alt
        said = alt.partition(": answered ")[2].split(", is ")
        assert said[0] in LABELS and said[-1] == path.parent.name, alt
    assert len(found.captions) == len(files) and all(caption.endswith(" %") for caption in found.captions)
    assert any("exit at layer" in group or "sent" in group for group in found.groups), found.groups


def test_a_changed_picture_is_run_again(folder):
    files = make_pictures(folder / "pictures", 4)
    (folder / "build").mkdir()
    (folder / "build" / "tools").symlink_to(os.path.join(BUILD, "tools"))
    again = lambda: demo("--images", folder / "pictures", "--model", MODEL, "--samples", 8, "--build", folder / "build")  # noqa: E731
    for kept in (0, 5):
        result = again()
        assert result.returncode == 0 and result.stderr.count(": kept from ") == kept, result
        assert (folder / "build" / "images.html").exists()
    next(iter(files)).write_bytes(png(picture(77)))
    assert again().stderr.count(": kept from ") == 0


def test_without_labels(folder):
    for path, data in make_pictures(folder / "pictures", 4).items():
        (folder / "pictures" / f"{data[50]}{path.name}").write_bytes(data)
        path.unlink()
    result = demo("--images", folder / "pictures", "--model", MODEL, "--samples", 3, "--sheet", folder / "s.html")
    assert result.returncode == 0 and " - " in result.stdout, result
    assert len(Sheet((folder / "s.html").read_text(encoding="utf-8")).images) == 3


def test_what_it_needs(folder):
    result = demo("--images")
    assert result.returncode == 2 and "https://www.cs.toronto.edu/~kriz/cifar.html" in result.stderr, result
    assert "FOLDER/cat/" in result.stderr and "Traceback" not in result.stderr, result
    result = demo("--images", folder, "--model", MODEL)
    assert result.returncode == 1 and "holds no pictures" in result.stderr and result.stderr.count("\n") == 1, result
    make_pictures(folder / "mixed", 1)
    (folder / "mixed" / "dragon").mkdir()
    (folder / "mixed" / "dragon" / "x.png").write_bytes(png(picture(1)))
    result = demo("--images", folder / "mixed", "--model", MODEL)
    assert result.returncode == 1 and "'dragon' is not; classes: bird, cat, ship" in result.stderr, result
    result = demo("--images", folder / "none", "--model", MODEL)
    assert result.returncode == 2 and "none: no such folder" in result.stderr, result
    result = demo("--images", folder, "--model", folder / "none.gguf")
    assert result.returncode == 2 and "none.gguf: no such file" in result.stderr, result


def write_archive(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo("cifar-10-batches-bin/" + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def test_cifar(folder):
    """The archive's bytes come out as pictures: decoded by the engine they answer as their pixels in a PPM do."""
    script = os.path.join(os.path.dirname(DEMO), "demo_images.py")
    pixels = [picture(i, 32, 32) for i in range(3)]
    data = b"".join(bytes([i]) + values.transpose(2, 0, 1).tobytes() for i, values in enumerate(pixels))
    archive, names = folder / "a.tar.gz", "\n".join([*LABELS, ""]).encode()
    lay_out = lambda: subprocess.run([sys.executable, script, archive, folder / "out"], capture_output=True, text=True, check=False)  # noqa: E731
    write_archive(archive, {"test_batch.bin": data, "batches.meta.txt": names, "data_batch_1.bin": b"x"})
    done = lay_out()
    assert done.returncode == 0 and "3 pictures of 3 classes" in done.stdout, done
    for number, values in enumerate(pixels):
        assert (folder / "out" / LABELS[number] / f"0000{number}.png").read_bytes() == png(values)
    for files, words in (({"test_batch.bin": data[:-1], "batches.meta.txt": names}, "9218 bytes"),
                         ({"test_batch.bin": data}, "batches.meta.txt"),
                         ({"test_batch.bin": b"\x07" + data[1:], "batches.meta.txt": names}, "class 7")):  # fmt: skip
        write_archive(archive, files)
        done = lay_out()
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done
    archive.write_bytes(b"no archive")
    assert lay_out().returncode == 1


if __name__ == "__main__":
    run_tests(globals(), path=pathlib.Path)
