#!/usr/bin/env python3
"""Builds an uncased WordPiece vocabulary (BERT's vocab.txt) from text files.

Pieces are found as byte-pair encoding does it: starting from single characters,
the most frequent adjacent pair is merged again and again. Every character seen
often enough is kept in both forms, initial and "##", so ordinary words never
become [UNK].
"""

import argparse
import collections
import heapq
import string
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))
from interpreter import need  # noqa: E402

need("numpy")
from train_lib.bounds import check_numbers  # noqa: E402
from train_lib.data import DataError, read_texts  # noqa: E402
from train_lib.tokenizer import (  # noqa: E402
    MAX_WORD_CHARS, SPECIAL_TOKENS, basic_tokenize, is_punctuation)


def count_words(specs):
    counts = collections.Counter()
    for spec in specs:
        for text in read_texts(spec):
            counts.update(basic_tokenize(text))
    return counts


def alphabet(counts, min_char_count):
    """Characters to keep: letters, digits, ASCII punctuation and all seen often."""
    chars = collections.Counter()
    for word, count in counts.items():
        for char in word:
            chars[char] += count
    frequent = {char for char, count in chars.items() if count >= min_char_count}
    return sorted(frequent | set(string.ascii_lowercase + string.digits + string.punctuation))


def split_word(word):
    return [word[0]] + ["##" + char for char in word[1:]]


def join(left, right):
    return left + right[2:]


class PairIndex:
    """Counts of adjacent pieces over all words, kept up to date merge by merge."""

    def __init__(self, counts, allowed):
        self.words, self.weights = [], []
        for word, count in counts.items():
            if len(word) <= MAX_WORD_CHARS and allowed.issuperset(word):
                self.words.append(split_word(word))
                self.weights.append(count)
        self.counts = collections.Counter()
        self.places = collections.defaultdict(set)
        for index in range(len(self.words)):
            self._add(index, 1)
        self.heap = [(-count, pair) for pair, count in self.counts.items()]
        heapq.heapify(self.heap)

    def _add(self, index, sign):
        pieces = self.words[index]
        for pair in zip(pieces, pieces[1:]):
            self.counts[pair] += sign * self.weights[index]
            if sign > 0:
                self.places[pair].add(index)

    def most_frequent(self):
        while self.heap:
            count, pair = heapq.heappop(self.heap)
            if self.counts[pair] == -count:
                return pair, -count
        return None, 0

    def merge(self, pair):
        touched = set()
        for index in self.places.pop(pair):
            self._add(index, -1)
            self.words[index] = merge_pair(self.words[index], pair)
            self._add(index, 1)
            touched.update(zip(self.words[index], self.words[index][1:]))
        for changed in touched:
            heapq.heappush(self.heap, (-self.counts[changed], changed))
        self.counts.pop(pair, None)


def merge_pair(pieces, pair):
    merged, i = [], 0
    while i < len(pieces):
        if tuple(pieces[i : i + 2]) == pair:
            merged.append(join(*pair))
            i += 2
        else:
            merged.append(pieces[i])
            i += 1
    return merged


def build_vocabulary(counts, size, min_char_count=100, min_pair_count=2):
    """The tokens of a vocabulary of at most `size` entries."""
    chars = alphabet(counts, min_char_count)
    inner = ["##" + char for char in chars if not is_punctuation(char)]
    tokens = dict.fromkeys(SPECIAL_TOKENS + chars + inner)
    if len(tokens) > size:
        raise DataError(f"{size} entries cannot hold the {len(tokens)} special and single pieces")
    index = PairIndex(counts, set(chars))
    while len(tokens) < size:
        pair, count = index.most_frequent()
        if count < min_pair_count:
            break
        tokens[join(*pair)] = None
        index.merge(pair)
    return list(tokens)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--text", action="append", required=True, metavar="FILE[a:b]",
                        help=".tsv[.xz] with a text column, or one text a line; repeatable")
    parser.add_argument("--size", type=int, default=8000, help="entries (default %(default)s)")
    parser.add_argument("--min-char-count", type=int, default=100, metavar="N",
                        help="keep characters seen N times (default %(default)s)")
    parser.add_argument("--output", required=True, metavar="VOCAB.TXT")
    args = parser.parse_args()
    try:
        check_numbers(args)
        tokens = build_vocabulary(count_words(args.text), args.size, args.min_char_count)
        with open(args.output, "w", encoding="utf-8") as file:
            file.write("\n".join(tokens) + "\n")
    except (DataError, OSError) as error:
        sys.exit(f"vocab.py: {error}")


if __name__ == "__main__":
    main()
