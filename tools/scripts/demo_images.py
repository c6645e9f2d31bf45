#!/usr/bin/env python3
"""What the demo does with pictures: the stream of a folder, and a contact sheet of what became of them, a page
that needs no other file. Needs the standard library only.

Usage: demo_images.py cifar-10-binary.tar.gz FOLDER
Lays the 10,000 test pictures of CIFAR-10 out as FOLDER/CLASS/NUMBER.png."""

import base64
import html
import pathlib
import random
import struct
import sys
import tarfile
import zlib

# What browsers show; the runtime reads PGM and PPM as well.
TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
ENDINGS = (*TYPES, ".pgm", ".ppm")
MOST_SHOWN = 60  # pictures of a group
MOST_BYTES = 4 << 20  # of the files of a group
MOST_FILE_BYTES = 1 << 20

WANTED = """tools/demo --images FOLDER needs a folder of pictures (PNG, JPEG, PGM, PPM). Folders in it that are
called as the model's classes are (of models/images.gguf: airplane, automobile, bird, cat, deer, dog, frog,
horse, ship, truck) are the labels:
  FOLDER/cat/any_name.png
  FOLDER/ship/another.jpg
The pictures that models/images.gguf was trained and tested with are CIFAR-10, to be had at
https://www.cs.toronto.edu/~kriz/cifar.html (the binary version, 162 MB). Then
  python3 tools/scripts/demo_images.py cifar-10-binary.tar.gz FOLDER
lays its test pictures out. Your own photographs do as well, with or without labels."""

CIFAR_SIDE = 32
CIFAR_TEST, CIFAR_NAMES = "test_batch.bin", "batches.meta.txt"


def pictures_of(folder):
    """(path, name of the folder right in `folder` or ""), sorted by path; as the edge lists a folder."""
    found = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.suffix.lower() in ENDINGS and path.is_file() and not any(part.startswith(".") for part in parts):
            found.append((str(path), parts[0] if len(parts) > 1 else ""))
    return sorted(found)


def check_names(names, labels, source):
    """Whether folders are labels: all of them, or none."""
    classes = {*labels, *map(str, range(len(labels)))}
    known, others = sorted(names & classes), sorted(names - classes)
    if known and others:
        sys.exit(f"error: {source}: the folder {known[0]!r} is called as a class of the model is, but {others[0]!r} is "
                 f"not; classes: {', '.join(labels)}")  # fmt: skip
    return bool(known)


def make_stream(source, labels, samples, seed, folder):
    """Shuffles `samples` pictures of the folder `source`, repeated where there are fewer, into a table in `folder`;
    (its path, names of the pictures)."""
    source = source.resolve()
    pictures = pictures_of(source)
    if not pictures:
        sys.exit(f"error: {source}: holds no pictures ({', '.join(ENDINGS)})")
    labelled = check_names({name for _, name in pictures if name}, labels, source)
    generator, order = random.Random(seed), []
    while len(order) < samples:
        order += generator.sample(pictures, min(len(pictures), samples - len(order)))
    rows = [f"{path}\t{name}" if labelled else path for path, name in order]
    stream = folder / "stream"
    header = "path\tlabel" if labelled else "path"
    stream.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8", errors="surrogateescape")
    return stream, [str(pathlib.Path(path).relative_to(source)) for path, _ in order]


def groups_of(records):
    """(title, records) by what answered, the deepest last; each picture once, as it was answered first."""
    first = {}
    for record in records:
        first.setdefault(record["path"], record)
    groups = {}
    for record in first.values():
        sent = record["route"] == "offload"
        groups.setdefault((sent, 0 if sent else record["exit_layer"]), []).append(record)
    for (sent, layer), members in sorted(groups.items()):
        yield ("sent to the server" if sent else f"exit at layer {layer}"), members


def shown_of(members):
    """Those that can be shown, spread over all, within what a page may hold."""
    able = [record for record in members if pathlib.Path(record["path"]).suffix.lower() in TYPES]
    step = max(1, len(able) / MOST_SHOWN)
    size = 0
    for index in range(min(len(able), MOST_SHOWN)):
        record = able[int(index * step)]
        data = pathlib.Path(record["path"]).read_bytes()
        if len(data) <= MOST_FILE_BYTES and size + len(data) <= MOST_BYTES:
            size += len(data)
            yield record, data


def figure(record, data, name, labels):
    kind = TYPES[pathlib.Path(record["path"]).suffix.lower()]
    wrong = "truth" in record and record["truth"] != record["class"]
    said = f"{record['label']} {100 * record['confidence']:.0f} %"
    note = f"<span class=truth>is {html.escape(labels[record['truth']])}</span>" if wrong else ""
    alt = f"{name}: answered {record['label']}" + (f", is {labels[record['truth']]}" if wrong else "")
    return (f'<li tabindex=0{" class=wrong" if wrong else ""}><figure>'
            f'<img alt="{html.escape(alt)}" src="data:{kind};base64,{base64.b64encode(data).decode()}">'
            f"<figcaption>{html.escape(said)}{note}</figcaption></figure></li>")  # fmt: skip


STYLE = """
:root{color-scheme:light dark;--back:#fff;--text:#1c2430;--soft:#5a6675;--line:#ccd3dc;--wrong:#b3261e}
@media(prefers-color-scheme:dark){:root{--back:#14181e;--text:#e6eaf0;--soft:#9aa6b5;--line:#333c48;--wrong:#ff8a80}}
body{background:var(--back);color:var(--text);font:15px/1.45 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem;margin:0 0 .3rem}p,summary small{color:var(--soft)}
details{border-top:1px solid var(--line);padding:.6rem 0}summary{cursor:pointer;font-weight:600}
ul{display:grid;grid-template-columns:repeat(auto-fill,minmax(7rem,1fr));gap:.7rem;list-style:none;padding:0;margin:.8rem 0}
li{border:2px solid transparent;border-radius:.4rem;padding:.2rem}li.wrong{border-color:var(--wrong)}
figure{margin:0}img{width:100%;aspect-ratio:1;object-fit:contain;image-rendering:pixelated}
figcaption{font-size:.8rem;text-align:center}.truth{display:block;color:var(--wrong)}
:focus-visible{outline:3px solid #4a8cff;outline-offset:2px}
"""


def contact_sheet(title, records, root, labels):
    """The page: pictures grouped by what answered them."""
    parts = []
    total = len({record["path"] for record in records})
    for name, members in groups_of(records):
        shown = [figure(record, data, pathlib.Path(record["path"]).relative_to(root), labels)
                 for record, data in shown_of(members)]  # fmt: skip
        some = "" if len(shown) == len(members) else f", {len(shown)} of them here"
        share = 100 * len(members) / total
        parts.append(f"<details open><summary>{name} <small>{len(members)} pictures, {share:.1f} %{some}</small></summary>"
                     f"<ul>{''.join(shown)}</ul></details>")  # fmt: skip
    wrong = any("truth" in record for record in records)
    legend = " A red border: not what its folder says." if wrong else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>splitee: {html.escape(title)}</title><style>{STYLE}</style></head>
<body><h1>What answered which picture</h1>
<p>{total} pictures, policy {html.escape(title)}: class and confidence of each, grouped by the exit that
answered, or sent.{legend} Tab goes from picture to picture, Enter opens and closes a group.</p>
<main>{''.join(parts)}</main></body></html>
"""


def png(rgb, width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b"".join(b"\0" + rgb[3 * width * y:3 * width * (y + 1)] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines))
            + chunk(b"IEND", b""))  # fmt: skip


def read_cifar(archive):
    """(bytes of the test pictures, names of the classes)."""
    found = {}
    with tarfile.open(archive) as members:
        for member in members:
            name = pathlib.PurePosixPath(member.name).name
            if name in (CIFAR_TEST, CIFAR_NAMES) and member.isfile():
                found[name] = members.extractfile(member).read()
    missing = {CIFAR_TEST, CIFAR_NAMES} - set(found)
    if missing:
        sys.exit(f"error: {archive}: holds no {' and no '.join(sorted(missing))}: is it CIFAR-10's binary version?")
    return found[CIFAR_TEST], found[CIFAR_NAMES].decode().split()


def lay_out_cifar(archive, folder):
    """A record is the class, then all red values, all green ones, all blue ones."""
    data, names = read_cifar(archive)
    values = CIFAR_SIDE * CIFAR_SIDE
    size = 1 + 3 * values
    if not data or len(data) % size != 0:
        sys.exit(f"error: {archive}: {CIFAR_TEST} has {len(data)} bytes, not so many times {size}")
    for number, at in enumerate(range(0, len(data), size)):
        label, planes = data[at], data[at + 1:at + size]
        if label >= len(names):
            sys.exit(f"error: {archive}: {CIFAR_TEST}: picture {number} is of class {label}, of {len(names)}")
        rgb = bytearray(3 * values)
        for colour in range(3):
            rgb[colour::3] = planes[values * colour:values * (colour + 1)]
        place = folder / names[label]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:05}.png").write_bytes(png(bytes(rgb), CIFAR_SIDE, CIFAR_SIDE))
    print(f"{len(data) // size} pictures of {len(names)} classes in {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        lay_out_cifar(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
    except (OSError, tarfile.TarError) as error:
        sys.exit(f"error: {error}")
