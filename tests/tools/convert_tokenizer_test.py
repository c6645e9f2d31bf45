#!/usr/bin/env python3
"""Tests of tools/convert_hf.py (the first argument): what it reads of a folder's tokenizer, and what it
refuses by file and key."""

import copy
import json

from convert_folder import Folder, main

import numpy as np  # noqa: E402
from convert_data import HIDDEN, VOCAB, random_tensors  # noqa: E402

TOKENS = VOCAB[:5] + ["good", "##ing", "bad", "é", "[URL]", "Foo"]  # VOCAB's size
WORDS = TOKENS[:9]
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False}


def token(number, content, special=True, **flags):
    return {"id": number, "content": content, **FLAGS, "normalized": not special, "special": special} | flags


def tokenizer_json(**changes):
    """As the packages write it, for WORDS and two added tokens."""
    sides = [("[CLS]", 0), ("A", 0), ("[SEP]", 0)]
    part = lambda name, kind: {("Sequence" if name in "AB" else "SpecialToken"): {"id": name, "type_id": kind}}  # noqa: E731
    value = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [*(token(i, WORDS[i]) for i in range(5)), token(9, "[URL]"),
                         token(10, "Foo", special=False, single_word=True)],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": False},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": [part(*s) for s in sides],
                           "pair": [part(*s) for s in sides] + [part("B", 1), part("[SEP]", 1)],
                           "special_tokens": {}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {w: i for i, w in enumerate(WORDS)}},
    }  # fmt: skip
    for path, change in changes.items():
        at = value
        *first, last = path.split("__")
        for key in first:
            at = at[key]
        at[last] = change
    return value


CONFIG = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "backend": "tokenizers"}


class TokenizerFolder(Folder):
    def __init__(self, root, json_=True, vocab=None, config=CONFIG, **files):
        super().__init__(root, random_tensors("bert"))
        self.remove("vocab.txt").remove("tokenizer_config.json")
        if json_:
            self.set("tokenizer.json", tokenizer_json() if json_ is True else json_)
        if vocab is not None:
            self.write("vocab.txt", "".join(word + "\n" for word in vocab))
        if config is not None:
            self.set("tokenizer_config.json", config)
        for name, value in files.items():
            self.set(f"{name}.json", value)

    def set(self, name, value):
        return self.write(name, json.dumps(value))


def added(pairs):
    return dict(zip(pairs.get("splitee.added_tokens", []), pairs.get("splitee.added_token_flags", []), strict=True))


def spelled(pairs):
    return [t.removeprefix("\u2581") if kind == 1 and t[0] == "\u2581" else "##" + t if kind == 1 else t
            for t, kind in zip(pairs["tokenizer.ggml.tokens"], pairs["tokenizer.ggml.token_type"], strict=True)]  # fmt: skip


def test_tokenizer_json(root):
    folder = TokenizerFolder(root)
    pairs, _, _, _ = folder.convert()
    assert folder.stderr == "", folder.stderr
    assert spelled(pairs) == TOKENS and pairs["tokenizer.ggml.token_type"] == [3] * 5 + [1] * 4 + [4] * 2
    assert pairs["splitee.lower_case"] is False and "splitee.strip_accents" not in pairs
    assert added(pairs) == {9: 0, 10: 3}
    # With the old files beside it, and the words in another order.
    old = TokenizerFolder(root, vocab=WORDS)
    assert old.convert()[0] == pairs
    words = dict(reversed(tokenizer_json()["model"]["vocab"].items()))
    assert TokenizerFolder(root, tokenizer_json(model__vocab=words)).convert()[0] == pairs


def test_options(root):
    """From either file, and from both where they say the same."""
    for lower, strip, chinese in ((True, None, True), (False, None, False), (True, False, True), (False, True, True),
                                  (True, True, True), (False, False, False)):  # fmt: skip
        config = CONFIG | {"do_lower_case": lower, "strip_accents": strip, "tokenize_chinese_chars": chinese}
        file = tokenizer_json(normalizer__lowercase=lower, normalizer__strip_accents=strip,
                              normalizer__handle_chinese_chars=chinese)  # fmt: skip
        generic = {"tokenizer_class": "PreTrainedTokenizerFast"}
        for folder in (TokenizerFolder(root, file, config=config), TokenizerFolder(root, file, config=generic),
                       TokenizerFolder(root, False, WORDS, config)):  # fmt: skip
            pairs = folder.convert()[0]
            assert pairs["splitee.lower_case"] is lower
            assert pairs.get("splitee.strip_accents", lower) is (lower if strip is None else strip)
            assert pairs.get("splitee.split_ideographs", True) is chinese
        for key, where in (("do_lower_case", "lowercase"), ("tokenize_chinese_chars", "handle_chinese_chars")):
            wrong = config | {key: not config[key]}
            TokenizerFolder(root, file, config=wrong).refused("tokenizer_config.json", key, where, "tokenizer.json")
    wrong = CONFIG | {"strip_accents": True}
    TokenizerFolder(root, config=wrong).refused("tokenizer_config.json", "strip_accents", "tokenizer.json")


def test_cased_by_tokenizer_json_alone(root):
    for config in (None, {}, {"tokenizer_class": "BertTokenizer"}):
        folder = TokenizerFolder(root, config=config)
        assert folder.convert()[0]["splitee.lower_case"] is False
        assert "tokenizer.json" in folder.stderr and "cased" in folder.stderr
    folder = TokenizerFolder(root, config={"tokenizer_class": "PreTrainedTokenizerFast"})
    assert folder.convert()[0]["splitee.lower_case"] is False and folder.stderr == ""


def test_other_tokenizers(root):
    for name in ("BertJapaneseTokenizer", "RobertaTokenizerFast", "AlbertTokenizer", "MPNetTokenizer", 5, ["x"]):
        TokenizerFolder(root, config=CONFIG | {"tokenizer_class": name}).refused("tokenizer_config.json", "tokenizer_class", str(name))
    for name in ("BertTokenizerFast", "DistilBertTokenizer", "ElectraTokenizerFast", None):
        TokenizerFolder(root, config=CONFIG | {"tokenizer_class": name}).convert()
    TokenizerFolder(root, False, WORDS, {"tokenizer_class": "PreTrainedTokenizerFast"}).refused("tokenizer.json", "missing")
    for key, value in (("do_basic_tokenize", False), ("never_split", ["c++"]), ("word_tokenizer_type", "mecab"),
                       ("subword_tokenizer_type", "character"), ("truncation_side", "left"), ("auto_map", {"a": "b"}),
                       ("split_special_tokens", True), ("do_basic_tokenize", 1), ("never_split", "c++")):  # fmt: skip
        TokenizerFolder(root, config=CONFIG | {key: value}).refused("tokenizer_config.json", key)
    for key, value in (("do_basic_tokenize", True), ("never_split", []), ("never_split", None),
                       ("word_tokenizer_type", "basic"), ("truncation_side", "right")):  # fmt: skip
        TokenizerFolder(root, config=CONFIG | {key: value}).convert()


def test_other_parts_of_tokenizer_json(root):
    for path, value, *words in (
        ("model__type", "BPE", "model.type", "BPE"), ("model", None, "model.type"), ("model", [], "model"),
        ("model__unk_token", "<unk>", "model.unk_token"), ("model__continuing_subword_prefix", "@@", "prefix"),
        ("model__max_input_chars_per_word", 50, "max_input_chars_per_word"), ("model__vocab", [], "model.vocab"),
        ("model__vocab", {"a": "b"}, "model.vocab"), ("model__vocab", {"a": -1}, "model.vocab"),
        ("model__vocab", {"a": True}, "model.vocab"), ("model__vocab", {"a": 2**40}, "model.vocab"),
        ("model__vocab", {"[PAD]": 0, "x": 0}, "one number"), ("model__vocab", {"": 0}, "empty"),
        ("model__vocab", {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2}, "[SEP]"), ("model__vocab", {"\ud800": 0}, "Unicode"),
        ("normalizer", None, "normalizer"), ("normalizer__type", "NFC", "normalizer", "NFC"), ("normalizer", 3, "normalizer"),
        ("normalizer", {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}]}, "Sequence"),
        ("normalizer__clean_text", False, "clean_text"), ("normalizer__lowercase", 1, "lowercase"),
        ("normalizer__strip_accents", "x", "strip_accents"), ("pre_tokenizer__type", "Whitespace", "pre_tokenizer"),
        ("post_processor__type", "RobertaProcessing", "post_processor"), ("post_processor__single", [], "post_processor"),
        ("post_processor__pair", None, "post_processor"), ("post_processor__pair", [{"a": 1}, 3], "post_processor"),
        ("added_tokens", {}, "added_tokens"), ("added_tokens", [7], "added_tokens"), ("added_tokens", [{"id": 1}], "added_tokens"),
        ("added_tokens", [token(-1, "x")], "added_tokens"), ("added_tokens", [token(9, "x", lstrip=1)], "lstrip"),
    ):  # fmt: skip
        TokenizerFolder(root, tokenizer_json(**{path: value})).refused("tokenizer.json", *words)
    generic = {"tokenizer_class": "PreTrainedTokenizerFast"}
    TokenizerFolder(root, tokenizer_json(post_processor=None), config=generic).refused("post_processor", "null")
    TokenizerFolder(root, tokenizer_json(post_processor=None)).convert()
    bert = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    TokenizerFolder(root, tokenizer_json(post_processor=bert), config=generic).convert()
    sequence = {"type": "Sequence", "normalizers": [tokenizer_json()["normalizer"]]}
    TokenizerFolder(root, tokenizer_json(normalizer=sequence)).convert()
    for text in ("", "[]", "{", "[" * 100000, '{"a": 1, "a": 2}', b"\xff"):
        TokenizerFolder(root).write("tokenizer.json", text).refused("tokenizer.json")
    bare = tokenizer_json()
    for key in ("post_processor", "pre_tokenizer", "decoder", "added_tokens"):
        del bare[key]
    folder = TokenizerFolder(root, bare, config=generic)
    folder.convert()
    assert "no post_processor" in folder.stderr


def test_vocabularies_that_contradict_each_other(root):
    for vocab, word in ((WORDS[:5] + ["good", "##ing", "é", "bad"], "é"), (WORDS[:-1], "é"), (WORDS + ["more"], "more")):
        TokenizerFolder(root, vocab=vocab).refused("tokenizer.json", "vocab.txt", word)
    TokenizerFolder(root, vocab=TOKENS).convert()  # added tokens may be listed
    TokenizerFolder(root, False, None).refused("vocab.txt", "tokenizer.json")


def test_added_tokens(root):
    flags = FLAGS | {"normalized": False, "special": True}
    decoder = {"9": {"content": "[URL]", **flags}, "10": {"content": "Foo", **flags, "single_word": True}}
    expected = {9: 0, 10: 1}
    old = lambda **config: TokenizerFolder(root, False, WORDS, CONFIG | config)  # noqa: E731
    pairs = old(added_tokens_decoder=decoder).convert()[0]
    assert added(pairs) == expected and spelled(pairs) == TOKENS
    both = old(added_tokens_decoder=decoder, additional_special_tokens=["[URL]"])
    both.set("added_tokens.json", {"[URL]": 9, "Foo": 10}).set("special_tokens_map.json", {"additional_special_tokens": ["[URL]"]})
    assert added(both.convert()[0]) == expected
    # Names alone: tokens that were added by hand are looked for in the normalized text.
    assert added(old().set("added_tokens.json", {"[URL]": 9, "Foo": 10}).convert()[0]) == {9: 2, 10: 2}
    named = old(additional_special_tokens=["[URL]"]).set("added_tokens.json", {"[URL]": 9, "Foo": 10})
    assert added(named.convert()[0]) == {9: 0, 10: 2}
    # Words of the vocabulary that are looked for in the text.
    for key in ("additional_special_tokens", "extra_special_tokens"):
        assert added(old(**{key: ["bad"]}).convert()[0]) == {7: 4}
    assert added(old(extra_special_tokens={"x_token": "bad"}).convert()[0]) == {7: 4}
    assert added(old(added_tokens_decoder={"0": {"content": "[PAD]", **flags}}).convert()[0]) == {}
    # A number between is nobody's.
    gap = old(added_tokens_decoder={"10": {"content": "Foo", **flags}}).convert()[0]
    assert spelled(gap)[9:] == ["[PAD9]", "Foo"] and added(gap) == {10: 0}


def test_added_tokens_that_do_not_fit(root):
    flags = FLAGS | {"normalized": False, "special": True}
    url = {"content": "[URL]", **flags}
    for decoder, *words in (
        ({"x": url}, "added_tokens_decoder", "'x'"), ({"9": 3}, "added_tokens_decoder"), ([], "added_tokens_decoder"),
        ({"9": {"content": ""}}, "empty"), ({"5": url}, "token 5", "good"), ({"99": url}, "vocab_size"),
        ({"9": url, "10": url}, "two numbers"), ({"9": {"content": "good"}}, "good"),
        ({"9": {**url, "lstrip": "no"}}, "lstrip"), ({"9": {"content": "\ud800"}}, "Unicode"),
        ({"9": {"content": "Foo", "normalized": True}, "10": {"content": "fo\u0301o", "normalized": True}}, "another one"),
        ({"9": {"content": "\u0301", "normalized": True}}, "nothing"),
    ):  # fmt: skip
        config = CONFIG | {"do_lower_case": True, "added_tokens_decoder": decoder or 7}
        TokenizerFolder(root, False, WORDS, config).refused(*words)
    TokenizerFolder(root, config=CONFIG | {"added_tokens_decoder": {"9": {**url, "single_word": True}}}).refused("[URL]", "tokenizer.json")
    for names in ({"[URL]": 10}, {"x": 9}, {"[URL]": "9"}, {"[URL]": -1}, {"\ud800": 8}):
        TokenizerFolder(root).set("added_tokens.json", names).refused("added_tokens.json")
    for key in ("additional_special_tokens", "extra_special_tokens"):
        for value in (["unheard"], "x", [3], [None], {"a": 3}):
            TokenizerFolder(root, config=CONFIG | {key: value}).refused("tokenizer_config.json", key)
    TokenizerFolder(root).set("special_tokens_map.json", {"cls_token": "<s>"}).refused("special_tokens_map.json", "cls_token")


def test_byte_order_mark(root):
    folder = TokenizerFolder(root, False, ["\ufeff[PAD]"] + WORDS[1:])
    assert spelled(folder.convert()[0]) == WORDS
    folder.write("config.json", "\ufeff" + json.dumps(folder.config)).convert()


def test_bent_files(root):
    """Values of every kind at every place of tokenizer.json and tokenizer_config.json."""
    values = (None, True, -1, 2**70, 1e308, "", "\ud800", [], [[]], {}, {"a": None}, {"type": []})

    def places(value, path=()):
        yield path
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, child in list(children)[:8]:
            yield from places(child, (*path, key))

    def changed(value, path, new):
        if not path:
            return new
        value = copy.copy(value)
        value[path[0]] = changed(value[path[0]], path[1:], new)
        return value

    config = CONFIG | {"model_max_length": 7, "added_tokens_decoder": {"9": token(9, "[URL]")}, "never_split": [],
                       "additional_special_tokens": ["[URL]"], "strip_accents": None, "cls_token": {"content": "[CLS]"}}  # fmt: skip
    folder, count = TokenizerFolder(root, config=config), 0
    folder.convert()
    for name, good in (("tokenizer.json", tokenizer_json()), ("tokenizer_config.json", config)):
        for path in places(good):
            for new in values[:: 1 + count % 2]:
                folder.set(name, changed(good, path, new))
                result = folder.run("--sample", "none")
                assert result.returncode in (0, 1), (name, path, new, result.stderr)
                assert result.returncode == 0 or ".json" in result.stderr, result.stderr
                count += 1
        folder.set(name, good)
    assert count > 500 and HIDDEN and np, count


if __name__ == "__main__":
    main(globals())
