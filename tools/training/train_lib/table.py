"""Reads a table of labelled texts, and says what is wrong with one.

A TSV of UTF-8 with a header naming the columns text, label and, for pairs, text2; other columns are
ignored, fields are not quoted; .xz is unpacked on the fly. A label is any word or number; classes
are in numeric order where all labels are whole numbers, else in that of their names. Needs NumPy
only.
"""

import collections
import hashlib
import lzma
import os
import re

import numpy as np

from .data import DataError

MAX_CLASSES = 4096  # of a model file and of the wire (kMaxClasses)
MAX_CELL = 60  # of a cell quoted in a message
NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?%?")
WHOLE = re.compile(r"-?\d{1,18}")
NUMERIC_SHARE = 0.95
DELIMITERS = {",": "commas", ";": "semicolons", "|": "bars"}


class Table:
    """Rows of texts and class numbers. `seconds` is None where there is no column text2."""

    digest = ""  # of the file's bytes, unpacked

    def __init__(self, path, texts, seconds, labels, names, warnings):
        self.path, self.texts, self.seconds = path, texts, seconds
        self.labels, self.names, self.warnings = labels, names, warnings

    def __len__(self):
        return len(self.labels)

    def counts(self):
        """Rows of each class."""
        return np.bincount(self.labels, minlength=len(self.names))

    def renamed(self, names):
        """The same rows with classes numbered as in `names`, which may have more."""
        missing = sorted(set(self.names) - set(names))
        if missing:
            raise DataError(f"{self.path}: label {shorten(missing[0])} is no class of the model, "
                            f"which has {', '.join(map(shorten, names[:10]))}")
        order = np.array([names.index(name) for name in self.names])
        return Table(self.path, self.texts, self.seconds, order[self.labels], names, self.warnings)


def shorten(cell):
    return repr(cell if len(cell) <= MAX_CELL else cell[:MAX_CELL] + "...")


def read_bytes(path):
    try:
        if path.endswith(".xz"):
            with lzma.open(path) as file:
                return file.read()
        with open(path, "rb") as file:
            return file.read()
    except (OSError, lzma.LZMAError, EOFError) as error:
        raise DataError(f"{path}: cannot read: {getattr(error, 'strerror', None) or error}") from error


def decode(data, path):
    """The text of a file, without a byte order mark."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: UTF-16, not UTF-8 (iconv -f UTF-16 -t UTF-8 mends it)")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8: byte 0x{data[error.start]:02x} "
                        "(iconv -f WINDOWS-1252 -t UTF-8 may mend it)") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}:{line}: a NUL character: is this a text file?")
    return text


def read_header(line, path):
    """Column numbers by name."""
    header = [name.strip() for name in line.rstrip("\r").split("\t")]
    known = ("text", "label")
    if all(header.count(name) == 1 for name in known) and header.count("text2") <= 1:
        return {name: i for i, name in enumerate(header)}, len(header)
    for mark, name in DELIMITERS.items():
        cells = [cell.strip().strip('"') for cell in line.rstrip("\r").split(mark)]
        if "\t" not in line and all(column in cells for column in known):
            raise DataError(f"{path}:1: columns are separated by {name}; they must be by tabs (TSV, "
                            "without quoting)")
    for name in known + ("text2",):
        if header.count(name) > 1:
            raise DataError(f"{path}:1: column '{name}' comes twice")
    missing = next(name for name in known if name not in header)
    found = ", ".join(shorten(name) for name in header[:10])
    raise DataError(f"{path}:1: no column '{missing}'; the first line must name the columns text, "
                    f"label and, for pairs, text2, separated by tabs; it has {found}")


def check_texts(texts, lines, name, path):
    written = [(text, line) for text, line in zip(texts, lines) if text.strip()]
    if not written:
        raise DataError(f"{path}: column '{name}' is empty in all rows")
    numeric = [(text, line) for text, line in written if NUMBER.fullmatch(text.strip())]
    if len(numeric) >= NUMERIC_SHARE * len(written):
        raise DataError(f"{path}:{numeric[0][1]}: column '{name}' holds numbers, such as "
                        f"{shorten(numeric[0][0])}, not texts")


def class_names(labels, path):
    """Distinct labels in the order of their class numbers."""
    names = set(labels)
    if len(names) == 1:
        raise DataError(f"{path}: one class only: every label is {shorten(labels[0])}")
    if len(names) > MAX_CLASSES:
        fractions = sum(bool(NUMBER.fullmatch(n)) and not WHOLE.fullmatch(n) for n in names)
        hint = ": they look like measurements, not classes" if 2 * fractions > len(names) else ""
        raise DataError(f"{path}: {len(names)} different labels, at most {MAX_CLASSES} are "
                        f"possible{hint}")
    for name in names:
        if any(ord(char) < 32 or ord(char) == 127 for char in name):
            raise DataError(f"{path}: label {shorten(name)} has a control character")
    if all(WHOLE.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def row_warnings(texts, seconds, labels, names):
    warnings = []
    counts = collections.Counter(labels)
    once = [name for name in names if counts[name] == 1]
    if once:
        warnings.append(f"{len(once)} labels appear once ({', '.join(map(shorten, once[:5]))}): "
                        "they are trained on, and cannot be measured")
    folded = collections.Counter(name.casefold() for name in names)
    alike = [name for name in names if folded[name.casefold()] > 1]
    if alike:
        warnings.append(f"labels that differ in case only are different classes: "
                        f"{', '.join(map(shorten, alike[:6]))}")
    empty = sum(not text.strip() for text in texts)
    empty += sum(not text.strip() for text in seconds or [])
    if empty:
        warnings.append(f"{empty} empty texts: they are kept, as the stream may have some")
    quoted = sum(text[:1] == '"' == text[-1:] for text in texts if len(text) > 1)
    if 2 * quoted > len(texts):
        warnings.append("most texts stand in quotation marks, which are taken as part of the text: "
                        "fields are not quoted in a TSV")
    return warnings


def read_table(path):
    """The Table of a file. Raises DataError with the path and the line."""
    if not os.path.exists(path):
        raise DataError(f"{path}: no such file")
    data = read_bytes(path)
    lines = decode(data, path).split("\n")
    column, fields = read_header(lines[0], path)
    texts, seconds, labels, numbers = [], [], [], []
    for number, line in enumerate(lines[1:], 2):
        line = line.rstrip("\r")
        if not line:
            continue
        cells = line.split("\t")
        if len(cells) != fields:
            raise DataError(f"{path}:{number}: {len(cells)} fields, the header has {fields}")
        label = cells[column["label"]].strip()
        if not label:
            raise DataError(f"{path}:{number}: no label")
        texts.append(cells[column["text"]])
        labels.append(label)
        numbers.append(number)
        if "text2" in column:
            seconds.append(cells[column["text2"]])
    if not texts:
        raise DataError(f"{path}: no rows")
    check_texts(texts, numbers, "text", path)
    if "text2" in column:
        check_texts(seconds, numbers, "text2", path)
    names = class_names(labels, path)
    place = {name: i for i, name in enumerate(names)}
    table = Table(path, texts, seconds if "text2" in column else None,
                  np.array([place[label] for label in labels], np.int64), names,
                  row_warnings(texts, seconds, labels, names))
    table.digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return table


def write_rows(path, table, rows):
    """Rows of a table with class numbers, as the trainer and `splitee trace` read them."""
    pair = table.seconds is not None
    with open(path + ".tmp", "w", encoding="utf-8", newline="\n") as file:
        file.write("text\ttext2\tlabel\n" if pair else "text\tlabel\n")
        for row in rows:
            second = [table.seconds[row]] if pair else []
            file.write("\t".join([table.texts[row], *second, str(table.labels[row])]) + "\n")
    os.replace(path + ".tmp", path)
