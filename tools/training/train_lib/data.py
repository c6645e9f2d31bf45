"""Text files, tokenised data sets with an on-disk cache, and batches."""

import hashlib
import lzma
import os
import re

import numpy as np

from .tokenizer import CLS, MASK, PAD, SEP, SPECIAL_TOKENS

FILE_SLICE = re.compile(r"(.*)\[(-?\d*):(-?\d*)\]")
IGNORED_LABEL = -100
PRETRAIN_LENGTHS, PRETRAIN_LENGTH_ODDS = (64, 128, 256), (0.5, 0.3, 0.2)
GOLDEN_RATIO = 0.6180339887498949
TEACHER = "teacher"  # column of another model's probabilities, which training follows


class DataError(Exception):
    """Bad input, with a message for the user."""


def open_text(path):
    if path.endswith(".xz"):
        return lzma.open(path, "rt", encoding="utf-8", newline="\n")
    return open(path, encoding="utf-8", newline="\n")


def parse_spec(spec):
    """'FILE' or 'FILE[a:b]' (a Python slice over the data rows) -> path, slice."""
    match = FILE_SLICE.fullmatch(spec)
    if not match:
        return spec, slice(None)
    path, start, stop = match.groups()
    return path, slice(int(start) if start else None, int(stop) if stop else None)


def read_lines(path):
    try:
        with open_text(path) as file:
            return file.read().rstrip("\n").split("\n")
    except (OSError, lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read: {error}") from error


def parse_label(value, path, number):
    if not (value.isascii() and value.isdigit()):
        raise DataError(f"{path}:{number}: label '{value}' is not a class number (0, 1, ...)")
    return int(value)


def parse_probabilities(value, path, number):
    try:
        found = [float(word) for word in value.split(" ")]
    except ValueError:
        found = []
    if len(found) < 2 or not all(0 <= x <= 1 for x in found) or abs(sum(found) - 1) > 0.01:
        raise DataError(f"{path}:{number}: teacher '{value[:80]}' is not a probability for each class, which "
                        "sum to 1, with blanks between them")
    return found


def read_tsv(spec, labelled):
    """Rows (text, text2 or None, label) of a TSV; its header names the columns."""
    return [row[:3] for row in read_taught_tsv(spec, labelled)]


def read_taught_tsv(spec, labelled):
    """Rows (text, text2 or None, label, teacher's probabilities or None)."""
    path, rows = parse_spec(spec)
    lines = read_lines(path)
    header = lines[0].rstrip("\r").split("\t")
    for name in ["text"] + (["label"] if labelled else []):
        if name not in header:
            raise DataError(f"{path}:1: no column '{name}' in the header {header}")
    column = {name: i for i, name in enumerate(header)}
    result = []
    for number, line in list(enumerate(lines, 1))[1:][rows]:
        fields = line.rstrip("\r").split("\t")
        if len(fields) != len(header):
            raise DataError(f"{path}:{number}: {len(fields)} fields, header has {len(header)}")
        label = parse_label(fields[column["label"]], path, number) if labelled else -1
        pair = fields[column["text2"]] if "text2" in column else None
        teacher = None
        if labelled and TEACHER in column:
            teacher = parse_probabilities(fields[column[TEACHER]], path, number)
            if result and len(result[0][3]) != len(teacher):
                raise DataError(f"{path}:{number}: {len(teacher)} probabilities, the first row has "
                                f"{len(result[0][3])}")
        result.append((fields[column["text"]], pair, label, teacher))
    if not result:
        raise DataError(f"{spec}: no rows")
    return result


def read_texts(spec):
    """Texts for pretraining: a .tsv[.xz] with a text column, or one text a line."""
    path, rows = parse_spec(spec)
    if not re.search(r"\.tsv(\.xz)?$", path):
        return [line for line in read_lines(path)[rows] if line]
    pairs = read_tsv(spec, labelled=False)
    return [text for a, b, _ in pairs for text in (a, b) if text]


def cached(work, spec, kind, tokenizer, build):
    """Arrays that build() makes, kept in the work folder until file or vocabulary change."""
    path = parse_spec(spec)[0]
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file")
    status = os.stat(path)
    key = "\0".join([kind, spec, str(status.st_size), str(status.st_mtime_ns),
                     str(tokenizer.lower_case)] + tokenizer.tokens)
    name = os.path.join(work, f"cache-{hashlib.sha256(key.encode()).hexdigest()[:20]}.npz")
    if not os.path.exists(name):
        own = f"{name}.{os.getpid()}.tmp.npz"
        np.savez(own, **build())
        os.replace(own, name)
    with np.load(name) as arrays:
        return dict(arrays)


def load_stream(work, specs, tokenizer):
    """All texts of all files as one stream of ids, a [SEP] after each text."""

    def build(spec):
        ids = (i for text in read_texts(spec) for i in tokenizer.encode(text) + [SEP])
        return {"ids": np.fromiter(ids, np.int32)}

    parts = [cached(work, s, "stream", tokenizer, lambda s=s: build(s))["ids"] for s in specs]
    return np.concatenate(parts)


class Examples:
    """Tokenised labelled rows; second sentences are empty where there are none. `teacher`: another
    model's probabilities, (rows, classes), or None."""

    def __init__(self, ids, lengths, labels, teacher=None):
        self.ids, self.lengths, self.labels, self.teacher = ids, lengths, labels, teacher
        self.starts = np.concatenate([[0], np.cumsum(lengths.sum(1))[:-1]])

    def __len__(self):
        return len(self.labels)

    def arrays(self):
        return [a for a in (self.ids, self.lengths, self.labels, self.teacher) if a is not None]

    @classmethod
    def load(cls, work, spec, tokenizer):
        def build():
            ids, lengths, labels, teacher = [], [], [], []
            for text, pair, label, probabilities in read_taught_tsv(spec, labelled=True):
                first = tokenizer.encode(text)
                second = tokenizer.encode(pair) if pair is not None else []
                ids += first + second
                lengths.append((len(first), len(second)))
                labels.append(label)
                teacher += [probabilities] if probabilities else []
            arrays = {"ids": np.array(ids, np.int32), "lengths": np.array(lengths, np.int64),
                      "labels": np.array(labels, np.int64)}
            return arrays | ({"teacher": np.array(teacher, np.float32)} if teacher else {})

        return cls(**cached(work, spec, "taught examples", tokenizer, build))

    @classmethod
    def load_all(cls, work, specs, tokenizer):
        parts = [cls.load(work, spec, tokenizer) for spec in specs]
        for part, spec in zip(parts, specs):
            shape, first = (np.shape(p.teacher)[1:] for p in (part, parts[0]))
            if shape != first:
                raise DataError(f"{spec}: its column {TEACHER} has {shape[0] if shape else 'no'} classes, that of "
                                f"{specs[0]} {first[0] if first else 'none'}")
        names = ["ids", "lengths", "labels"] + ["teacher"] * (parts[0].teacher is not None)
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def head(self, count):
        """The first rows."""
        return Examples(self.ids, self.lengths[:count], self.labels[:count])

    def sentences(self, row):
        start, (first, second) = self.starts[row], self.lengths[row]
        ids = self.ids[start : start + first + second]
        return ids[:first], ids[first:]

    def encoded_lengths(self, limit):
        """Lengths with [CLS] and [SEP], cut to the limit."""
        special = 2 + (self.lengths[:, 1] > 0)
        return np.minimum(self.lengths.sum(1) + special, limit)


def window(ids, size, rng):
    """A window of a long text: its beginning, its end, or anywhere."""
    last = len(ids) - size
    start = (0, last, rng.integers(0, last + 1))[rng.integers(3)]
    return ids[start : start + size]


def encode_row(first, second, limit, rng=None):
    """[CLS] a [SEP] or [CLS] a [SEP] b [SEP] within limit ids, and the token types.

    Pairs are cut longest first. Single texts keep their beginning, or a random
    window where rng is given.
    """
    if not len(second):
        room = limit - 2
        if len(first) > room:
            first = window(first, room, rng) if rng else first[:room]
        return [CLS, *first, SEP], [0] * (len(first) + 2)
    keep_first, keep_second = len(first), len(second)
    while keep_first + keep_second > limit - 3:
        if keep_first > keep_second:
            keep_first -= 1
        else:
            keep_second -= 1
    ids = [CLS, *first[:keep_first], SEP, *second[:keep_second], SEP]
    return ids, [0] * (keep_first + 2) + [1] * (keep_second + 1)


def padded_length(length):
    """Lengths are rounded up to few different ones: kernels are made anew for every shape."""
    step = 4 if length <= 32 else 8 if length <= 128 else 32
    return -(-length // step) * step


def pad_rows(rows, limit):
    """Rows of (ids, types) as two arrays; padding is [PAD], type 0."""
    longest = min(limit, padded_length(max(len(ids) for ids, _ in rows)))
    ids = np.full((len(rows), longest), PAD, np.int64)
    types = np.zeros_like(ids)
    for i, (row_ids, row_types) in enumerate(rows):
        ids[i, : len(row_ids)] = row_ids
        types[i, : len(row_types)] = row_types
    return ids, types


def group_by_length(order, lengths, batch_tokens):
    """Cuts a list of rows, sorted by length, into batches of at most batch_tokens ids."""
    batches, batch, longest = [], [], 0
    for row in order:
        longest = max(longest, lengths[row])
        if batch and longest * (len(batch) + 1) > batch_tokens:
            batches.append((batch, int(lengths[batch].max())))
            batch, longest = [], lengths[row]
        batch.append(row)
    batches.append((batch, int(lengths[batch].max())))
    return batches


def plan_epoch(examples, epoch, seed, batch_tokens, max_seq, crop):
    """Shuffled batches (rows, length limit); rows of similar length go together.

    With crop, a single text longer than that is cut to a random length in [crop, max_seq].
    """
    rng = np.random.default_rng([seed, epoch])
    lengths = examples.encoded_lengths(max_seq)
    if crop:
        drawn = rng.integers(min(crop, max_seq), max_seq + 1, len(lengths))
        lengths = np.where(examples.lengths[:, 1] > 0, lengths, np.minimum(lengths, drawn))
    order = np.argsort(lengths + rng.random(len(lengths)))
    batches = group_by_length(order, lengths, batch_tokens)
    return [batches[i] for i in rng.permutation(len(batches))]


def masked_batch(stream, step, tokens, vocab_size, max_seq, rate, rng):
    """Windows of the stream with BERT's 80/10/10 masking -> ids, labels.

    The windows' places follow a golden-ratio sequence: even cover without a state.
    """
    length = min(max_seq, int(rng.choice(PRETRAIN_LENGTHS, p=PRETRAIN_LENGTH_ODDS)))
    count = max(1, tokens // length)
    places = (step * tokens + np.arange(count)) * GOLDEN_RATIO % 1.0
    starts = (places * max(1, len(stream) - length)).astype(np.int64)
    ids = stream[(starts[:, None] + np.arange(length - 2)) % len(stream)]
    ids = np.pad(ids, ((0, 0), (1, 1)), constant_values=((0, 0), (CLS, SEP))).astype(np.int64)
    chosen = (rng.random(ids.shape) < rate) & (ids >= len(SPECIAL_TOKENS))
    labels = np.where(chosen, ids, IGNORED_LABEL)
    kind = rng.random(ids.shape)
    ids[chosen & (kind < 0.8)] = MASK
    swapped = chosen & (kind >= 0.9)
    ids[swapped] = rng.integers(len(SPECIAL_TOKENS), vocab_size, int(swapped.sum()))
    return ids, labels
