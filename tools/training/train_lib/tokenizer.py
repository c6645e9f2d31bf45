"""BERT's basic tokenizer and greedy WordPiece, as the C++ runtime does them."""

import json
import os
import re
import unicodedata

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNK, CLS, SEP, MASK = range(len(SPECIAL_TOKENS))
MAX_WORD_CHARS = 100

ASCII_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
ASCII_WORD = re.compile(r"[A-Za-z0-9]+|[!-/:-@\[-`{-~]")
CJK_RANGES = [
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
]


def is_punctuation(char):
    """ASCII symbols count as punctuation, as do all Unicode P* categories."""
    code = ord(char)
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return True
    return unicodedata.category(char).startswith("P")


def clean_char(char):
    """The text that BERT's clean-up and CJK steps leave of one character."""
    code = ord(char)
    if char in " \t\n\r" or unicodedata.category(char) == "Zs":
        return " "
    if code in (0, 0xFFFD) or unicodedata.category(char).startswith("C"):
        return ""
    if any(low <= code <= high for low, high in CJK_RANGES):
        return f" {char} "
    return char


def split_punctuation(word):
    """Cuts a word at its punctuation characters, each a token of its own."""
    pieces = [""]
    for char in word:
        if is_punctuation(char):
            pieces += [char, ""]
        else:
            pieces[-1] += char
    return [piece for piece in pieces if piece]


def basic_tokenize(text, lower_case=True):
    """Words and punctuation marks; lower-cased and accent-free, or as they are."""
    if text.isascii():
        clean = ASCII_CONTROL.sub("", text)
        return ASCII_WORD.findall(clean.lower() if lower_case else clean)
    words = []
    for word in "".join(map(clean_char, text)).split():
        if lower_case:
            decomposed = unicodedata.normalize("NFD", word.lower())
            word = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
        words += split_punctuation(word)
    return " ".join(words).split()


class Tokenizer:
    """WordPiece over a vocabulary; remembers the pieces of every word it has met."""

    def __init__(self, tokens, lower_case=True):
        self.tokens, self.lower_case = tokens, lower_case
        self.ids = {token: i for i, token in enumerate(tokens)}
        self.known_words = {}
        if tokens[: len(SPECIAL_TOKENS)] != SPECIAL_TOKENS:
            raise ValueError(f"vocabulary must begin with {' '.join(SPECIAL_TOKENS)}")

    @classmethod
    def from_file(cls, path, lower_case=True):
        with open(path, encoding="utf-8") as file:
            return cls(file.read().rstrip("\n").split("\n"), lower_case)

    @classmethod
    def from_folder(cls, path):
        """Of a Hugging Face folder, cased where its tokenizer_config.json says so."""
        config, lower_case = os.path.join(path, "tokenizer_config.json"), True
        if os.path.exists(config):
            with open(config, encoding="utf-8") as file:
                lower_case = json.load(file).get("do_lower_case", True)
        return cls.from_file(os.path.join(path, "vocab.txt"), lower_case)

    def word_ids(self, word):
        ids = self.known_words.get(word)
        if ids is None:
            ids = self.known_words[word] = self._split_word(word)
        return ids

    def _split_word(self, word):
        if len(word) > MAX_WORD_CHARS:
            return [UNK]
        ids, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                piece = self.ids.get(prefix + word[start:end])
                if piece is not None:
                    break
            else:
                return [UNK]
            ids.append(piece)
            start = end
        return ids

    def encode(self, text):
        """Token ids of a text, without [CLS] and [SEP]."""
        return [i for word in basic_tokenize(text, self.lower_case) for i in self.word_ids(word)]
