"""Divides labelled rows into training, calibration and held-out rows that share no text.

No text, nor a phrase of it, is on two sides: where a row's text occurs within another row's as a run
of whole words (SST-2's rows are phrases of its sentences), both go to the same side. Case and
punctuation do not count. Of a pair, both texts count.

How: distinct texts are documents. A document that lies within others is united with them, longest
first, as long as the group stays small (GROUP_SHARE): "the film" lies within too many to unite them
all. Whole groups are dealt to the sides, at random, so that each side has its share of every class.
A document that was in too many groups goes where all that hold it went; where those are on
different sides, it is set aside, and its rows are not used at all. The same goes for a pair whose
texts are on different sides. A class with fewer than four rows is for training alone.

Runs are found with rolling hashes over all words at once: documents below ANCHOR words by a pass for
each length, longer ones by their first ANCHOR words: eight passes whatever the lengths.
200,000 rows take seconds to a minute.
"""

import re
import unicodedata

import numpy as np

from .data import DataError

ANCHOR = 8  # words
GROUP_SHARE, SMALLEST_LIMIT = 1 / 500, 64  # rows of a group of different texts, at most
TRAIN, CALIBRATION, HELD_OUT, ASIDE = range(4)
SHARE, MOST = 0.1, 2500  # rows of calibration and of held-out rows, each
FEWEST_OF_CLASS = 4

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
_BASE = 0x9E3779B97F4A7C15
_FILTER_BITS = 24


def words_of(text):
    """Lower-case words without punctuation; a text of punctuation alone is one word."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _WORD.findall(text.lower()) or text.split()


class Documents:
    """Distinct texts as word numbers, one after the other; `of_text[i]` is the i-th text's."""

    def __init__(self, texts):
        numbers, known, words, self.of_text = {}, {}, [], np.empty(len(texts), np.int64)
        lengths = []
        for i, text in enumerate(texts):
            row = tuple(numbers.setdefault(word, len(numbers)) for word in words_of(text))
            place = known.setdefault(row, len(known))
            self.of_text[i] = place
            if place == len(lengths):
                lengths.append(len(row))
                words.extend(row)
        self.lengths = np.array(lengths, np.int64)
        self.ends = np.cumsum(self.lengths)
        self.starts = self.ends - self.lengths
        self.owner = np.repeat(np.arange(len(lengths)), self.lengths)
        self._prepare_hashes(np.array(words, np.int64), len(numbers))

    def __len__(self):
        return len(self.lengths)

    def _prepare_hashes(self, words, count):
        """Sums of word * base ** place, modulo 2 ** 64, before every place."""
        table = np.random.default_rng(1).integers(0, 2**64, count, np.uint64)
        inverse = pow(_BASE, -1, 2**64)
        powers = np.cumprod(np.full(len(words), _BASE, np.uint64))
        self.shift = np.cumprod(np.full(len(words) + 1, inverse, np.uint64))
        sums = np.cumsum(table[words] * powers if len(words) else np.zeros(0, np.uint64))
        self.sums = np.concatenate([np.zeros(1, np.uint64), sums])

    def hashes(self, places, lengths):
        """Of the `lengths` words from `places` on."""
        return (self.sums[places + lengths] - self.sums[places]) * self.shift[places]

    def places(self, length):
        """Where a run of so many words begins that lies within one document."""
        places = np.arange(len(self.owner) - length + 1) if len(self.owner) >= length else np.arange(0)
        return places[places + length <= self.ends[self.owner[places]]]


def lookup(values, keys):
    """(indices into values, indices into keys) of equal ones; keys are distinct."""
    order = np.argsort(keys)
    keys = keys[order]
    shift = np.uint64(64 - _FILTER_BITS)
    present = np.zeros(1 << _FILTER_BITS, bool)
    present[keys >> shift] = True
    likely = np.flatnonzero(present[values >> shift])
    found = np.minimum(np.searchsorted(keys, values[likely]), len(keys) - 1)
    same = keys[found] == values[likely]
    return likely[same], order[found[same]]


def contained(documents):
    """Pairs (inner, outer) of different documents of which one lies within the other, once each."""
    pairs = [np.zeros((0, 2), np.int64)]
    for length in range(1, ANCHOR):
        inner = np.flatnonzero(documents.lengths == length)
        if len(inner):
            places = documents.places(length)
            at, which = lookup(documents.hashes(places, length),
                               documents.hashes(documents.starts[inner], length))
            pairs.append(np.stack([inner[which], documents.owner[places[at]]], 1))
    pairs.append(contained_long(documents))
    pairs = np.concatenate(pairs)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return np.unique(pairs, axis=0)


def contained_long(documents):
    inner = np.flatnonzero(documents.lengths >= ANCHOR)
    if not len(inner):
        return np.zeros((0, 2), np.int64)
    starts, lengths = documents.starts[inner], documents.lengths[inner]
    anchors, group = np.unique(documents.hashes(starts, ANCHOR), return_inverse=True)
    places = documents.places(ANCHOR)
    at, which = lookup(documents.hashes(places, ANCHOR), anchors)
    places = places[at]
    # Per anchor the lengths that documents with it have: each is tried at every place.
    kinds = np.unique(np.stack([group.reshape(-1), lengths], 1), axis=0)
    first = np.searchsorted(kinds[:, 0], np.arange(len(anchors) + 1))
    count = (first[1:] - first[:-1])[which]
    place = np.repeat(places, count)
    kind = np.repeat(first[which] - np.cumsum(count) + count, count) + np.arange(count.sum())
    length = kinds[kind, 1]
    fits = place + length <= documents.ends[documents.owner[place]]
    place, length = place[fits], length[fits]
    at, which = lookup(documents.hashes(place, length), documents.hashes(starts, lengths))
    return np.stack([inner[which], documents.owner[place[at]]], 1)


class Groups:
    """Documents united into groups; `root[i]` is the same number for all of a group."""

    def __init__(self, weights, limit):
        self.root = np.arange(len(weights))
        self.members = {i: [i] for i in range(len(weights))}
        self.weight = weights.copy()
        self.limit = limit

    def unite(self, documents):
        """Whether they are of one group now; they stay apart if that grew above the limit."""
        roots = np.unique(self.root[documents])
        if len(roots) == 1:
            return True
        if self.weight[roots].sum() > self.limit:
            return False
        largest = max(roots, key=lambda root: len(self.members[root]))
        for root in roots:
            if root != largest:
                moved = self.members.pop(root)
                self.root[moved] = largest
                self.members[largest] += moved
                self.weight[largest] += self.weight[root]
        return True


def unite_contained(documents, pairs, groups):
    """Returns, longest first, (inner, outers) of the documents that could not be united."""
    inner, first = np.unique(pairs[:, 0], return_index=True)
    bounds = np.append(first, len(pairs))
    apart = []
    for i in np.argsort(-documents.lengths[inner], kind="stable"):
        outers = pairs[bounds[i] : bounds[i + 1], 1]
        if not groups.unite(np.append(outers, inner[i])):
            apart.append((inner[i], outers))
    return apart


def unite_pairs(first, second, groups, weights):
    """Both texts of every row, rare ones first."""
    order = np.argsort(np.maximum(weights[first], weights[second]), kind="stable")
    for row in order:
        groups.unite(np.array([first[row], second[row]]))


def targets(labels, classes):
    """Rows of each class that calibration and held-out rows should have, each."""
    counts = np.bincount(labels, minlength=classes)
    share = min(SHARE, MOST / len(labels))
    wanted = np.maximum(1, np.round(share * counts)).astype(int)
    return np.minimum(wanted, counts // FEWEST_OF_CLASS)


def deal(groups_of_rows, labels, classes, rng):
    """A side for every group: dict root -> side, training where it is not named."""
    wanted = {side: targets(labels, classes) for side in (CALIBRATION, HELD_OUT)}
    order = np.argsort(groups_of_rows, kind="stable")
    roots, first = np.unique(groups_of_rows[order], return_index=True)
    bounds = np.append(first, len(order))
    sides = {}
    for i in rng.permutation(len(roots)):
        own, counts = np.unique(labels[order[bounds[i] : bounds[i + 1]]], return_counts=True)
        gains = []
        for side, left in wanted.items():
            useful = np.minimum(counts, np.maximum(left[own], 0)).sum()
            gains.append((2 * useful - counts.sum(), side))
        gain, side = max(gains)
        if gain > 0 and all(left[own].min() >= 0 for left in wanted.values()):
            sides[roots[i]] = side
            wanted[side][own] -= counts
        if max(left.max() for left in wanted.values()) <= 0:
            break
    return sides


def side_of_documents(groups, sides, apart):
    result = np.array([sides.get(root, TRAIN) for root in groups.root], np.int64)
    for inner, outers in apart:
        held = np.unique(result[outers])
        held = held[held != ASIDE]
        result[inner] = held[0] if len(held) == 1 else ASIDE if len(held) else TRAIN
    return result


def split(texts, seconds, labels, classes, seed):
    """The side of every row: TRAIN, CALIBRATION, HELD_OUT or ASIDE. `seconds` may be None."""
    rows = len(texts)
    documents = Documents(texts + (seconds or []))
    first, second = documents.of_text[:rows], documents.of_text[rows:]
    weights = np.bincount(documents.of_text, minlength=len(documents))
    groups = Groups(weights, max(SMALLEST_LIMIT, int(rows * GROUP_SHARE)))
    apart = unite_contained(documents, contained(documents), groups)
    if seconds:
        unite_pairs(first, second, groups, weights)
    shared = np.array([inner for inner, _ in apart], np.int64)
    dealt = ~np.isin(first, shared)
    sides = deal(groups.root[first[dealt]], labels[dealt], classes, np.random.default_rng(seed))
    of_document = side_of_documents(groups, sides, apart)
    result = of_document[first]
    if seconds:
        result = np.where(of_document[second] == result, result, ASIDE)
    check_sides(result, labels)
    return result


def check_sides(sides, labels):
    for side, name in ((TRAIN, "training"), (CALIBRATION, "calibration"), (HELD_OUT, "validation")):
        if len(np.unique(labels[sides == side])) < 2:
            raise DataError(f"too few rows, or too many that share their texts: of {len(labels)} "
                            f"rows {np.sum(sides == side)} can be had for {name}, and they are not "
                            "of two classes")
