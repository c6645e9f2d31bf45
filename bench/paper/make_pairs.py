#!/usr/bin/env python3
"""Writes sentence pairs made from single sentences, for an intermediate task before MNLI.

  make_pairs.py --text FILE.tsv.xz [--text ...] --wordnet DIR --count 100000 --output pairs.tsv

Every pair begins with a sentence of 6 to 26 words; its second text is a part of it, in which
  0  words may be replaced by synonyms or by what they are a kind of (a man -> a person);
  1  something is added: words of another sentence, or a kind of what is named (dog -> poodle);
  2  a word is replaced by its opposite or a sister (man -> woman, dog -> cat), the sentence is
     negated, or goes on as another one does.
No label of any data set is used, and no pair: each text column gives single sentences. WordNet 3.0
is the Debian package wordnet-base (DIR: /usr/share/wordnet). The same files give the same pairs.
"""

import argparse
import collections
import lzma
import os
import random
import re
import sys

SEED = 20240917
FREQUENT = 100  # the most frequent words are never replaced
LEAST_COUNT = 4  # words put in occur this often in the sentences
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[0-9]+")
SUFFIXES = ("", "s", "es", "ing", "ed", "d")
VERBS = {"is", "was", "are", "were", "can", "will", "has", "had", "does", "did"}
PREPOSITIONS = {"in", "on", "at", "with", "for", "from", "near", "to", "by", "because", "while",
                "after", "before", "about", "through", "under", "into"}
ARTICLES = {"a", "an", "the", "some"}
TOO_GENERAL = {"entity", "thing", "object", "unit", "whole", "abstraction", "matter", "act",
               "state", "group", "be", "get", "do", "make", "change", "move", "have", "relation"}


def read_sentences(path):
    """Lower-cased words of the sentences of all text columns."""
    with lzma.open(path, "rt", encoding="utf-8", newline="\n") as file:
        header = file.readline().rstrip("\n").split("\t")
        columns = [i for i, name in enumerate(header) if name.startswith("text")]
        for line in file:
            fields = line.rstrip("\n").split("\t")
            for column in columns:
                for sentence in SENTENCE_END.split(fields[column]):
                    words = WORD.findall(sentence.lower())
                    if 6 <= len(words) <= 26:
                        yield tuple(words)


class WordNet:
    """First senses: a lemma's synonyms, what it is a kind of, its kinds, sisters, opposites."""

    def __init__(self, folder):
        self.first, self.words, self.links = {}, {}, {}
        best = collections.Counter()
        for part in ("noun", "verb", "adj"):
            self.read_synsets(os.path.join(folder, "data." + part), part[0])
            with open(os.path.join(folder, "index." + part), encoding="ascii") as file:
                for line in file:
                    if line.startswith(" ") or "_" in line.split(" ", 1)[0]:
                        continue
                    fields = line.split()
                    senses = int(fields[2])
                    tagged = int(fields[-senses - 1])
                    if fields[0] not in self.first or tagged > best[fields[0]]:
                        best[fields[0]] = tagged
                        self.first[fields[0]] = (part[0], fields[-senses])

    def read_synsets(self, path, part):
        with open(path, encoding="ascii") as file:
            for line in file:
                if line.startswith(" "):
                    continue
                fields = line.split(" | ")[0].split()
                key, count = (part, fields[0]), int(fields[3], 16)
                self.words[key] = [w.lower().split("(")[0] for w in fields[4 : 4 + 2 * count : 2]]
                rest = fields[5 + 2 * count :]
                self.links[key] = [(rest[i], (rest[i + 2].replace("s", "a"), rest[i + 1]))
                                   for i in range(0, 4 * int(fields[4 + 2 * count]), 4)]

    def follow(self, keys, kinds):
        return [target for key in keys for kind, target in self.links.get(key, ())
                if kind in kinds and target in self.links]

    def relatives(self, lemma):
        """(as true, narrower, contrary) lemmas."""
        key = self.first[lemma]
        above = self.follow([key], ("@",))
        higher = above + self.follow(above, ("@",))
        below = self.follow([key], ("~",))
        sisters = [k for k in self.follow(above, ("~",)) if k != key]
        names = lambda keys: {w for k in keys for w in self.words[k]} - {lemma} - TOO_GENERAL
        true = names([key] + higher[:3])
        opposite = names(self.follow([key], ("!",)))
        return true, names(below) - true, opposite or names(sisters) - true


class Replacements:
    """Inflected words of the sentences -> words that keep, narrow or contradict them."""

    def __init__(self, wordnet, counts):
        frequent = {w for w, _ in counts.most_common(FREQUENT)}
        known = [w for w, n in counts.items() if n >= LEAST_COUNT and w.isalpha() and len(w) > 2]
        forms, lemma_of = {}, {}
        for word in known:
            for suffix in SUFFIXES:
                stem = word[: len(word) - len(suffix)]
                if not word.endswith(suffix) or len(stem) < 2:
                    continue
                lemma = next((s for s in (stem, stem + "e", stem[:-1]) if s in wordnet.first
                              and (s == stem or suffix in ("ing", "ed"))), None)
                if lemma:
                    kind = "s" if suffix == "es" else "ed" if suffix == "d" else suffix
                    forms.setdefault((lemma, kind), word)
                    lemma_of.setdefault(word, (lemma, kind))
        self.true, self.narrow, self.contrary = {}, {}, {}
        for word, (lemma, kind) in lemma_of.items():
            if word in frequent:
                continue
            tables = (self.true, self.narrow, self.contrary)
            for table, lemmas in zip(tables, wordnet.relatives(lemma)):
                words = sorted(forms[(o, kind)] for o in lemmas if (o, kind) in forms)
                words = [w for w in words if w != word]
                if words:
                    table[word] = (words, [counts[w] ** 0.5 for w in words])

    @staticmethod
    def replace(words, table, rng, count=1):
        """The words with up to count of them replaced; None where none can be."""
        places = [i for i, w in enumerate(words) if w in table]
        if not places:
            return None
        result = list(words)
        for place in rng.sample(places, min(count, len(places))):
            result[place] = rng.choices(*table[words[place]])[0]
        return result


def part(words, rng):
    """One stretch of 40 to 100 % of the words, less a few of them."""
    size = max(4, round(len(words) * rng.uniform(0.4, 1.0)))
    start = 0 if rng.random() < 0.5 else rng.randint(0, len(words) - size)
    stretch = list(words[start : start + size])
    kept = [w for w in stretch if rng.random() > 0.1]
    return kept if len(kept) >= 3 else stretch


def phrase(words, rng):
    """A few words of a sentence, from a preposition on where it has one."""
    starts = [i for i, w in enumerate(words[:-2]) if w in PREPOSITIONS]
    start = rng.choice(starts) if starts else rng.randint(0, len(words) - 3)
    return list(words[start : start + rng.randint(2, 6)])


def entailed(words, other, swap, rng):
    return swap.replace(words, swap.true, rng, rng.randint(1, 2)) if rng.random() < 0.6 else words


def neutral(words, other, swap, rng):
    if rng.random() < 0.3:
        return swap.replace(words, swap.narrow, rng)
    if rng.random() < 0.3:
        words = swap.replace(words, swap.true, rng) or words
    place = len(words) if rng.random() < 0.7 else rng.randint(1, len(words))
    return words[:place] + phrase(other, rng) + words[place:]


def negated(words):
    for i, word in enumerate(words):
        if word in VERBS:
            return words[: i + 1] + ["not"] + words[i + 1 :]
        if word in ARTICLES:
            return words[:i] + ["no"] + words[i + 1 :]
    return None


def contradicted(words, other, swap, rng):
    way = rng.random()
    if way < 0.12:
        return negated(words)
    if way < 0.35:
        keep = rng.randint(2, 3)
        return words[:keep] + list(other[keep : keep + rng.randint(3, 8)])
    return swap.replace(words, swap.contrary, rng, rng.choice((1, 1, 2)))


def make_pair(sentences, swap, rng):
    while True:
        first, other = rng.choice(sentences), rng.choice(sentences)
        label = rng.randrange(3)
        make = (entailed, neutral, contradicted)[label]
        second = make(part(first, rng), other, swap, rng)
        if second:
            return " ".join(first), " ".join(second), label


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", action="append", required=True, metavar="FILE")
    parser.add_argument("--wordnet", default="/usr/share/wordnet", metavar="DIR")
    parser.add_argument("--count", type=int, default=100000, metavar="N")
    parser.add_argument("--output", required=True, metavar="FILE")
    args = parser.parse_args()
    rng = random.Random(SEED)
    sentences = []
    for path in args.text:
        found = sorted(set(read_sentences(path)))
        sentences += rng.sample(found, min(len(found), args.count // len(args.text)))
    counts = collections.Counter(w for words in sentences for w in words)
    swap = Replacements(WordNet(args.wordnet), counts)
    with open(args.output, "w", encoding="utf-8") as file:
        file.write("text\ttext2\tlabel\n")
        for _ in range(args.count):
            file.write("%s\t%s\t%d\n" % make_pair(sentences, swap, rng))
    print(f"{args.count} pairs from {len(sentences)} sentences", file=sys.stderr)


if __name__ == "__main__":
    main()
