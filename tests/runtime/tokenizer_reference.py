#!/usr/bin/env python3
"""Compares the C++ tokenizer with a plain one in Python's own Unicode, on thousands of texts.

usage: tokenizer_reference.py TOKENIZER_DUMP [TSV...]
The vocabulary is made here; a real one named by SPLITEE_BERT_VOCAB is used as well, on the same
texts and on the `text` and `text2` columns of TSV files (.xz too; at most 20,000 lines each).

Python and the tokenizer (which follows the `tokenizers` package) know different versions of Unicode.
A code point on whose kind or mapping the two differ is left out, and so is one that Python has as
unassigned (Cn); their number is printed and bounded.
"""

import lzma
import os
import random
import struct
import subprocess
import sys
import tempfile
import unicodedata

SEED = 20230919
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

# --- the reference, after the published description of BERT's tokenizer ---

IDEOGRAPHS = [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
              (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)]  # fmt: skip


def is_space(char):
    return char in " \t\n\r" or unicodedata.category(char) in ("Zs", "Zl", "Zp")


def is_dropped(char):
    return char in "\0\ufffd" or unicodedata.category(char) in ("Cc", "Cf", "Co", "Cs")


def is_punctuation(char):
    code = ord(char)
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return True
    return unicodedata.category(char).startswith("P")


def is_ideograph(char):
    return any(first <= ord(char) <= last for first, last in IDEOGRAPHS)


def kind_of(char):
    if unicodedata.category(char) == "Mn":
        return "M"
    if is_space(char):
        return "S"
    kinds = ((is_dropped, "D"), (is_ideograph, "I"), (is_punctuation, "P"))
    return next((kind for is_kind, kind in kinds if is_kind(char)), "T")


def words_of(text, lower_case):
    cleaned = []
    for char in text:
        if is_space(char):
            cleaned.append(" ")
        elif not is_dropped(char):
            cleaned.append(f" {char} " if is_ideograph(char) else char)
    for chunk in "".join(cleaned).split():
        if lower_case:
            chunk = unicodedata.normalize("NFD", chunk)
            # Character by character: no sigma is final.
            chunk = "".join(c.lower() for c in chunk if unicodedata.category(c) != "Mn")
        word = ""
        for char in chunk:
            if is_punctuation(char):
                if word:
                    yield word
                yield char
                word = ""
            else:
                word += char
        if word:
            yield word


class Reference:
    def __init__(self, vocab, lower_case):
        self.ids = {token: i for i, token in enumerate(vocab)}
        self.lower_case = lower_case
        self.cache = {}

    def pieces(self, word):
        if len(word) > 100:
            return [self.ids["[UNK]"]]
        start, result = 0, []
        while start < len(word):
            for end in range(len(word), start, -1):
                token = self.ids.get(("##" if start else "") + word[start:end])
                if token is not None:
                    break
            else:
                return [self.ids["[UNK]"]]
            result.append(token)
            start = end
        return result

    def tokens(self, text):
        result = []
        for word in words_of(text, self.lower_case):
            if word not in self.cache:
                self.cache[word] = self.pieces(word)
            result += self.cache[word]
        return result

    def encode(self, text, text2, max_tokens):
        text = text.decode("utf-8", errors="replace")
        first, cls, sep = self.tokens(text), self.ids["[CLS]"], self.ids["[SEP]"]
        if text2 is None:
            first = first[: max_tokens - 2]
            return [cls] + first + [sep] + [0] * (len(first) + 2)
        second = self.tokens(text2.decode("utf-8", errors="replace"))
        budget = max_tokens - 3
        if len(first) + len(second) > budget:
            shorter, longer = sorted((first, second), key=len)  # stable: the second of equals
            del shorter[budget // 2 :]
            del longer[budget - len(shorter) :]
        ids = [cls] + first + [sep] + second + [sep]
        return ids + [0] * (len(first) + 2) + [1] * (len(second) + 1)


# --- running the C++ ---


def run_tool(tool, vocab, lower_case, samples):
    """The tool's lines for samples (text, text2 or None, max_tokens)."""
    requests = []
    for text, text2, max_tokens in samples:
        second = text2 or b""
        requests += [struct.pack("<4I", max_tokens, text2 is not None, len(text), len(second))]
        requests += [text, second]
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        file.write("".join(token + "\n" for token in vocab).encode("utf-8"))
        file.flush()
        command = [tool, file.name, "uncased" if lower_case else "cased"]
        result = subprocess.run(command, input=b"".join(requests), stdout=subprocess.PIPE,
                                check=True)  # fmt: skip
    return result.stdout.splitlines()


def compare(name, tool, vocab, samples):
    for lower_case in (True, False):
        reference = Reference(vocab, lower_case)
        answers = run_tool(tool, vocab, lower_case, samples)
        assert len(answers) == len(samples), (name, len(answers), len(samples))
        wrong = 0
        for (text, text2, max_tokens), answer in zip(samples, answers):
            expected = reference.encode(text, text2, max_tokens)
            got = [int(value) for value in answer.split()]
            if got != expected:
                wrong += 1
                if wrong <= 5:
                    print(f"{name}: {text!r} {text2!r} {max_tokens} lower_case={lower_case}")
                    half, half2 = len(expected) // 2, len(got) // 2
                    print(f"  expected {[vocab[i] for i in expected[:half]]}")
                    print(f"  got      {[vocab[i] for i in got[:half2]]}")
        assert wrong == 0, f"{name}: {wrong} of {len(samples)} differ (seed {SEED})"
    print(f"{name}: {len(samples)} texts equal, cased and uncased", flush=True)


# --- the texts ---


def shared_code_points(tool):
    """Code points that both Unicode libraries know alike."""
    lines = subprocess.run([tool, "--unicode"], stdout=subprocess.PIPE, check=True).stdout
    shared, different = [], 0
    for code, line in enumerate(lines.decode().splitlines()):
        kind, lower, *parts = line.split()
        char = chr(code)
        if unicodedata.category(char) in ("Cn", "Cs"):
            continue
        if unicodedata.category(char) == "Co" and code % 64:  # private use: 137,000 of a kind
            continue
        # The one character whose lower case is longer.
        same_lower = code == 0x130 or char.lower() == chr(int(lower))
        decomposed = "".join(chr(int(part)) for part in parts)
        same_parts = decomposed == unicodedata.normalize("NFD", char)
        if kind == kind_of(char) and same_lower and same_parts:
            shared.append(char)
        else:
            different += 1
    print(f"Python: Unicode {unicodedata.unidata_version}; {len(shared)} code points compared, "
          f"{different} known differently")  # fmt: skip
    assert len(shared) > 140000 and different < 800, (len(shared), different)
    return shared


def character_vocab(chars):
    """Every character as a word and as a piece: nothing is hidden behind [UNK]."""
    visible = set()
    for char in chars:
        if not is_dropped(char) and not char.isspace():
            visible.update(char, char.lower(), unicodedata.normalize("NFD", char.lower()))
    pieces = sorted(visible)
    words = ["the", "##ing", "un", "##able", "unable", "ab", "abc", "##bc", "##cab", "the#"]
    return SPECIAL + pieces + ["##" + piece for piece in pieces] + words


def isolated_texts(chars):
    """Every code point alone, and between letters; 16 to a text. Of the 100,000 letters without
    case (Lo) a part is enough between letters."""
    between = [c for c in chars if unicodedata.category(c) != "Lo" or ord(c) % 16 == 0]
    texts = [" ".join(chars[start : start + 16]) for start in range(0, len(chars), 16)]
    for start in range(0, len(between), 16):
        part = between[start : start + 16]
        texts.append(" ".join(f"aΣ{c}b" for c in part))
        texts.append(" ".join(f"A{c}Σ{c}" for c in part))
    return texts


ALPHABETS = {
    "ascii": [chr(i) for i in range(128)],
    "letters": list("abcdefghijABCDEFGH  "),
    "accents": list("éèêñçåøßÉÈÑÇÅØÆŒǅİıſKÅ aeo"),
    "marks": [chr(i) for i in range(0x300, 0x370)] + list("aeiou \u0915\u093c\u094d\u302e\u302f"),
    "orders": list("a\U0001d165\U0001d16d\U0001d16e\U0001d166\u302e\u16ff0\u0327\u0301\u034f\u1b44"),
    "cjk": list("漢字仮名交じり文ひらがなカタカナ한국어각힣ｶﾞ豈\U0002f800\u3000 。、ab"),
    "cyrillic": list("приветЙЁїЇМИР ёй̆И"),
    "greek": list("ΑΣΊΣςσάΆΰϊ ΣΣ'.:·’ͺᾳᾼὨ\u0345aA^´ᵃªⅣⓐ\u00ad-,1漢"),
    "emoji": list("😀👨‍👩‍👧🏽❤️🇩🇪 ok\u200d\ufe0f\u20e3"),
    "controls": [chr(i) for i in range(32)] + list("\x7f\x80\x85\xa0\xad\u200b\u200e\u2028\u2029"
                 "\u202f\u205f\u2060\ufeff\ufff9\ufffd\ue000\U000f0000ab"),  # fmt: skip
    "punctuation": list("!¡‐–—‘’“”…‹›⁅⁆。「」﹏＿()[]{}<>«»§¶$+^`|~№a "),
}


def random_texts(rng, chars):
    texts = []
    for alphabet in ALPHABETS.values():
        for _ in range(400):
            texts.append("".join(rng.choices(alphabet, k=rng.randrange(40))))
    mixed = [char for alphabet in ALPHABETS.values() for char in alphabet]
    for _ in range(1500):
        texts.append("".join(rng.choices(mixed, k=rng.randrange(60))))
        texts.append("".join(rng.choices(chars, k=rng.randrange(40))))
    for size in (99, 100, 101, 102, 200, 5000):
        for char in "aéİ漢.\u0301":
            texts += [char * size, f"a{char * size} b", char * size + "é"]
    texts += ["[CLS] a [SEP]", "[sep][PAD][UNK][MASK]", "", " ", "\0", "the#", "##ing ing"]
    texts += [word * 3 for word in ("unable ", "abcabc", "the", "abcab ", "ΌΔΟΣ ", "ΣΑΣ")]
    return texts


def random_bytes(rng):
    """Ill-formed UTF-8: random bytes, and good text with bytes cut out, added and changed."""
    leads = [0x20, 0x61, 0x80, 0xBF, 0xC0, 0xC2, 0xE0, 0xA0, 0xED, 0x9F, 0xEF, 0xF0, 0x90, 0xF4,
             0x8F, 0xF5, 0xFF]  # fmt: skip
    texts = [bytes(rng.choices(leads, k=rng.randrange(24))) for _ in range(3000)]
    texts += [bytes([i]) + b"a" for i in range(256)]
    for _ in range(2000):
        data = bytearray("añ漢😀İΣ b".encode() * 2)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = bytes(rng.choices(range(256), k=rng.randrange(3)))
        texts.append(bytes(data))
    return texts


def pairs(rng, texts):
    """Every text once alone with a limit, once in a pair."""
    samples = []
    for text in texts:
        samples.append((text, None, rng.choice([3, 4, 7, 16, 64])))
        samples.append((text, rng.choice(texts), rng.choice([3, 4, 5, 8, 9, 33, 128])))
    return samples


def file_texts(path, lines=20000):
    """The texts of a TSV file, as samples."""
    opener = lzma.open if path.endswith(".xz") else open
    with opener(path, "rb") as file:
        header = file.readline().rstrip(b"\r\n").split(b"\t")
        samples = []
        for line in file:
            fields = dict(zip(header, line.rstrip(b"\r\n").split(b"\t")))
            samples.append((fields[b"text"], fields.get(b"text2"), 128 if len(samples) % 2 else 512))
            if len(samples) == lines:
                break
    return samples


def main():
    tool, files = sys.argv[1], sys.argv[2:]
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    chars = shared_code_points(tool)
    vocabs = {"own": character_vocab(chars)}
    if path := os.environ.get("SPLITEE_BERT_VOCAB"):
        with open(path, encoding="utf-8", newline="\n") as file:
            vocabs["bert"] = file.read().rstrip("\n").split("\n")
    isolated = [(text.encode(), None, 1000) for text in isolated_texts(chars)]
    drawn = [text.encode() for text in random_texts(rng, chars)] + random_bytes(rng)
    whole = [(text, None, 2**31) for text in drawn]
    for name, vocab in vocabs.items():
        compare(f"{name} vocabulary, code points", tool, vocab, isolated)
        compare(f"{name} vocabulary, drawn texts", tool, vocab, whole)
        compare(f"{name} vocabulary, limits and pairs", tool, vocab, pairs(rng, drawn))
        for path in files:
            compare(f"{name} vocabulary, {path}", tool, vocab, file_texts(path))


if __name__ == "__main__":
    main()
