"""The tokenizer of a checkpoint folder, from vocab.txt or tokenizer.json and the files beside them.

What they say has to be BERT's tokenizer with one of its options, and they must not contradict each
other; everything else is refused by file and key.
"""

import os
import unicodedata

from hf_files import (CheckpointError, check_text, read_json_object, read_optional_object,
                      read_text)  # fmt: skip

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_WORD_CHARS = 100
MAX_GAPS = 1 << 18  # numbers without a token, which get names
CLASSES = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer")
GENERIC_CLASSES = ("PreTrainedTokenizer", "TokenizersBackend")  # tokenizer.json alone counts


class Added:
    """A token that is looked for in the text itself."""

    def __init__(self, content, where, single_word=False, normalized=True):
        self.content, self.where = content, where
        self.single_word, self.normalized = single_word, normalized

    @classmethod
    def read(cls, value, where):
        """From an entry of tokenizer.json or tokenizer_config.json: an object, or the text alone of
        a special token."""
        if isinstance(value, str):
            return cls(check_text(value, where), where, normalized=False)
        if not isinstance(value, dict) or not isinstance(value.get("content"), str):
            raise CheckpointError(f"{where}: not a token")
        flags = {}
        # Spaces around a token are no tokens, so that lstrip and rstrip change nothing.
        for key in ("special", "single_word", "normalized", "lstrip", "rstrip"):
            default = not flags["special"] if key == "normalized" else False
            flags[key] = value.get(key, default)
            if type(flags[key]) is not bool:
                raise CheckpointError(f"{where}: {key} is not a boolean")
        content = check_text(value["content"], where)
        return cls(content, where, flags["single_word"], flags["normalized"])

    def same(self, other):
        return (self.single_word, self.normalized) == (other.single_word, other.normalized)


class TokenizerFiles:
    """The JSON files of a folder; {} for one that is not there."""

    def __init__(self, folder):
        at = lambda name: os.path.join(folder, name)  # noqa: E731
        self.config_path, self.json_path = at("tokenizer_config.json"), at("tokenizer.json")
        self.map_path, self.added_path = at("special_tokens_map.json"), at("added_tokens.json")
        self.vocab_path = at("vocab.txt")
        self.config = read_optional_object(self.config_path)
        self.map = read_optional_object(self.map_path)
        self.added = read_optional_object(self.added_path)
        self.has_json = os.path.lexists(self.json_path)
        self.json = read_json_object(self.json_path) if self.has_json else {}

    def part(self, key):
        """An object within tokenizer.json; None where it is not there, or null."""
        value = self.json.get(key)
        if value is not None and not isinstance(value, dict):
            raise CheckpointError(f"{self.json_path}: {key} is not an object")
        return value


class Tokenizer:
    """vocab (a list), lower_case, strip_accents, split_ideographs, added (by id), max_length."""

    def __init__(self, folder, config, warn):
        self.files, self.warn = TokenizerFiles(folder), warn
        self.generic = self.read_class(config)
        self.refuse_options()
        words = self.read_words()
        self.read_normalizer()
        self.check_post_processor(config)
        self.max_length = self.read_max_length()
        self.check_special(words)
        self.added = self.read_added(words)
        self.words = words  # text -> id, of WordPiece alone
        self.check_added_texts()
        self.vocab = self.make_vocab(config)

    # --- which tokenizer ---

    def read_class(self, config):
        """Whether tokenizer.json alone counts. Refuses other tokenizers than BERT's."""
        files = self.files
        names = {config.path: config.json.get("tokenizer_class"),
                 files.config_path: files.config.get("tokenizer_class")}  # fmt: skip
        generic = False
        for path, name in names.items():
            if name is None:
                continue
            base = name.removesuffix("Fast") if isinstance(name, str) else name
            generic = base in GENERIC_CLASSES
            if base not in CLASSES and not generic:
                raise CheckpointError(f"{path}: tokenizer_class = {name!r} is not supported")
        if generic and not files.has_json:
            raise CheckpointError(f"{files.json_path}: missing, and tokenizer_class is {name!r}")
        return generic

    def refuse_options(self):
        config, path = self.files.config, self.files.config_path
        for key, *allowed in (
            ("do_basic_tokenize", None, True), ("never_split", None, []), ("auto_map", None),
            ("word_tokenizer_type", None, "basic"), ("subword_tokenizer_type", None, "wordpiece"),
            ("truncation_side", None, "right"), ("split_special_tokens", None, False),
        ):  # fmt: skip
            if not any(type(config.get(key)) is type(one) and config.get(key) == one for one in allowed):
                raise CheckpointError(f"{path}: {key} = {config[key]!r} is not supported")

    # --- the vocabulary ---

    def read_words(self):
        files = self.files
        if not files.has_json:
            return read_vocab(files.vocab_path)
        words = self.read_json_words()
        if os.path.lexists(files.vocab_path):
            listed = read_vocab(files.vocab_path)
            # Tokens that were added may be in the list as well.
            for token, number in (*listed.items(), *words.items()):
                if words.get(token, number) != number or listed.get(token, number) != number:
                    raise CheckpointError(f"{files.json_path}: model.vocab: {token!r} has not the id that "
                                          f"{files.vocab_path} gives it")  # fmt: skip
            for token in words:
                if token not in listed:
                    raise CheckpointError(f"{files.json_path}: model.vocab: {token!r} is not in "
                                          f"{files.vocab_path}")  # fmt: skip
            extra = set(listed) - set(words) - self.json_added_contents()
            if extra:
                raise CheckpointError(f"{files.vocab_path}: {min(extra)!r} is not in {files.json_path}")
        return words

    def json_added_contents(self):
        tokens = self.files.json.get("added_tokens")
        tokens = tokens if isinstance(tokens, list) else []  # what is none is refused by listed_added()
        return {t.get("content") for t in tokens if isinstance(t, dict) and isinstance(t.get("content"), str)}

    def read_json_words(self):
        path, model = self.files.json_path, self.files.part("model")
        if model is None or model.get("type", "WordPiece") != "WordPiece":
            kind = model.get("type") if model else None
            raise CheckpointError(f"{path}: model.type = {kind!r} is not supported, only WordPiece")
        for key, default, only in (("unk_token", "[UNK]", "[UNK]"), ("continuing_subword_prefix", "##", "##"),
                                   ("max_input_chars_per_word", MAX_WORD_CHARS, MAX_WORD_CHARS)):  # fmt: skip
            if model.get(key, default) != only:
                raise CheckpointError(f"{path}: model.{key} = {model[key]!r} is not supported, only {only!r}")
        words = model.get("vocab")
        if not isinstance(words, dict) or not all(type(n) is int and 0 <= n < 2**31 for n in words.values()):
            raise CheckpointError(f"{path}: model.vocab does not give every token a number")
        seen = {}
        for token, number in words.items():
            if not check_text(token, f"{path}: model.vocab"):
                raise CheckpointError(f"{path}: model.vocab: token {number} is empty")
            if number in seen:
                raise CheckpointError(f"{path}: model.vocab: {token!r} and {seen[number]!r} have one number")
            seen[number] = token
        return words

    def check_special(self, words):
        files = self.files
        where = files.json_path if files.has_json else files.vocab_path
        for token in SPECIAL_TOKENS[:4]:
            if token not in words:
                raise CheckpointError(f"{where}: {token} is missing")
        for path, values in ((files.config_path, files.config), (files.map_path, files.map)):
            for token in SPECIAL_TOKENS:
                key = f"{token[1:-1].lower()}_token"
                value = values.get(key, token)
                value = value.get("content") if isinstance(value, dict) else value
                if value not in (None, token):
                    raise CheckpointError(f"{path}: {key} = {value!r} is not supported, only {token}")

    def make_vocab(self, config):
        by_id = {number: token for token, number in self.words.items()}
        by_id.update((number, added.content) for number, added in self.added.items())
        count = max(by_id) + 1
        path = self.files.json_path if self.files.has_json else self.files.vocab_path
        if count > config.vocab:
            raise CheckpointError(f"{path}: {count} tokens, but vocab_size is {config.vocab}")
        if count - len(by_id) > MAX_GAPS:
            raise CheckpointError(f"{path}: token {count - 1} is one of {len(by_id)}: too many numbers have none")
        if count < config.vocab:
            self.warn(f"{path}: {count} tokens: the last {config.vocab - count} embeddings are dropped")
        taken = set(by_id.values())
        for number in range(count):
            name = f"[PAD{number}]"  # no text has it: brackets are words of their own
            while number not in by_id:
                if name not in taken:
                    by_id[number] = name
                name += "]"
        return [by_id[number] for number in range(count)]

    # --- what is done to a text ---

    def read_normalizer(self):
        stated = self.stated_options()
        told = self.json_options() if self.files.has_json else {}
        for key, (name, where) in {
            "lower_case": ("do_lower_case", "lowercase"), "strip_accents": ("strip_accents",) * 2,
            "split_ideographs": ("tokenize_chinese_chars", "handle_chinese_chars"),
        }.items():  # fmt: skip
            if key in stated and key in told and stated[key] != told[key]:
                raise CheckpointError(f"{self.files.config_path}: {name} = {stated[key]} contradicts "
                                      f"{where} in {self.files.json_path}")  # fmt: skip
        options = {"lower_case": True, "split_ideographs": True} | stated | told
        if not stated and not told and not os.path.lexists(self.files.config_path):
            self.warn(f"{self.files.config_path} is not there: taking do_lower_case = true, BERT's default")
        if not self.generic and "lower_case" not in stated and told.get("lower_case") is False:
            self.warn(f"{self.files.json_path}: lowercase is false and do_lower_case is not stated in "
                      f"{self.files.config_path}: cased is taken, where transformers may lower-case")  # fmt: skip
        self.lower_case, self.split_ideographs = options["lower_case"], options["split_ideographs"]
        self.strip_accents = options.get("strip_accents", self.lower_case)

    def stated_options(self):
        stated = {}
        for key, option in (("do_lower_case", "lower_case"), ("strip_accents", "strip_accents"),
                            ("tokenize_chinese_chars", "split_ideographs")):  # fmt: skip
            value = self.files.config.get(key)
            if value is None:
                continue
            if type(value) is not bool:
                raise CheckpointError(f"{self.files.config_path}: {key} is not a boolean")
            stated[option] = value
        if "lower_case" in stated:  # BERT ties the two
            stated.setdefault("strip_accents", stated["lower_case"])
        return stated

    def json_options(self):
        path, normalizer = self.files.json_path, self.files.part("normalizer")
        if normalizer and normalizer.get("type") == "Sequence":
            parts = normalizer.get("normalizers")
            if isinstance(parts, list) and len(parts) == 1 and isinstance(parts[0], dict):
                normalizer = parts[0]
        kind = normalizer.get("type") if normalizer else None
        if kind != "BertNormalizer":
            raise CheckpointError(f"{path}: normalizer = {kind!r} is not supported, only BertNormalizer")
        splitter = self.files.part("pre_tokenizer") or {}
        if splitter.get("type", "BertPreTokenizer") != "BertPreTokenizer":
            raise CheckpointError(f"{path}: pre_tokenizer = {splitter['type']!r} is not supported, "
                                  "only BertPreTokenizer")  # fmt: skip
        told = {}
        for key, option in (("clean_text", "clean"), ("lowercase", "lower_case"),
                            ("handle_chinese_chars", "split_ideographs"), ("strip_accents", "strip_accents")):  # fmt: skip
            value = normalizer.get(key, None if key == "strip_accents" else True)
            if type(value) is not bool and not (value is None and key == "strip_accents"):
                raise CheckpointError(f"{path}: normalizer.{key} is not a boolean")
            told[option] = value
        if not told.pop("clean"):
            raise CheckpointError(f"{path}: normalizer.clean_text = False is not supported")
        if told["strip_accents"] is None:
            told["strip_accents"] = told["lower_case"]
        return told

    def check_post_processor(self, config):
        """[CLS] A [SEP] and [CLS] A [SEP] B [SEP]."""
        path, processor = self.files.json_path, self.files.part("post_processor")
        if processor is None:
            if self.generic and "post_processor" in self.files.json:
                raise CheckpointError(f"{path}: post_processor = null is not supported: BERT puts [CLS] "
                                      "and [SEP] around a text")  # fmt: skip
            if self.generic:
                self.warn(f"{path}: no post_processor: taking BERT's, [CLS] and [SEP]")
            return
        kind = processor.get("type")
        if kind == "BertProcessing":
            named = [processor.get(key) for key in ("cls", "sep")]
            known = all(isinstance(pair, list) for pair in named)
            known = known and [pair[:1] for pair in named] == [["[CLS]"], ["[SEP]"]]
        else:
            types = config.family != "distilbert"
            known = kind == "TemplateProcessing" and all(
                template(processor.get(key), types) == expected for key, expected in TEMPLATES(types).items()
            )
        if not known:
            raise CheckpointError(f"{path}: post_processor = {kind!r} is not BERT's [CLS] A [SEP] B [SEP]")

    def read_max_length(self):
        path, value = self.files.config_path, self.files.config.get("model_max_length")
        if value is None:
            return None
        if type(value) not in (int, float) or not value >= 3:
            raise CheckpointError(f"{path}: model_max_length = {value!r} is not a number from 3 on")
        return None if value >= 2**31 else int(value)

    # --- added tokens ---

    def read_added(self, words):
        """id -> Added, of all files, without the five special tokens."""
        found = {}
        for number, token in self.listed_added():
            have = found.get(number)
            if have is not None and (have.content != token.content or not have.same(token)):
                raise CheckpointError(f"{token.where}: token {number} is {token.content!r} and not as in "
                                      f"{have.where}")  # fmt: skip
            found[number] = token
        ids = {token.content: number for number, token in found.items()}
        for token, number in self.files.added.items():
            where = self.files.added_path
            if type(number) is not int or not 0 <= number < 2**31:
                raise CheckpointError(f"{where}: {token!r} has no number")
            if ids.get(token, number) != number or found.get(number, Added(token, where)).content != token:
                raise CheckpointError(f"{where}: {token!r} has not the number that other files give it")
            if number not in found:
                special = token in {named.content for named in self.named_special()}
                found[number] = Added(check_text(token, where), where, normalized=not special)
                ids[token] = number
        for token in self.named_special():
            number = ids.get(token.content, words.get(token.content))
            if number is None:
                raise CheckpointError(f"{token.where}: {token.content!r} has no number in the vocabulary")
            if number not in found:
                found[number] = token
                ids[token.content] = number
        self.check_added_numbers(found, words)
        return {number: token for number, token in found.items() if token.content not in SPECIAL_TOKENS}

    def listed_added(self):
        files = self.files
        where = f"{files.json_path}: added_tokens"
        listed = [] if files.json.get("added_tokens") is None else files.json["added_tokens"]
        if not isinstance(listed, list):
            raise CheckpointError(f"{where} is not a list")
        for value in listed:
            number = value.get("id") if isinstance(value, dict) else None
            if type(number) is not int or not 0 <= number < 2**31:
                raise CheckpointError(f"{where}: an entry has no id")
            yield number, Added.read(value, where)
        where = f"{files.config_path}: added_tokens_decoder"
        decoder = files.config.get("added_tokens_decoder")
        decoder = {} if decoder is None else decoder
        if not isinstance(decoder, dict):
            raise CheckpointError(f"{where} is not an object")
        for key, value in decoder.items():
            if not (key.isascii() and key.isdigit() and len(key) < 10):
                raise CheckpointError(f"{where}: {key!r} is not a token's number")
            yield int(key), Added.read(value, where)

    def named_special(self):
        """Further special tokens that are named without a number."""
        for path, values in ((self.files.config_path, self.files.config), (self.files.map_path, self.files.map)):
            for key in ("additional_special_tokens", "extra_special_tokens"):
                named = values.get(key) or []
                if isinstance(named, dict):
                    named = list(named.values())
                if not isinstance(named, list):
                    raise CheckpointError(f"{path}: {key} is not a list")
                for value in named:
                    yield Added.read(value, f"{path}: {key}")

    def check_added_numbers(self, found, words):
        by_id = {number: token for token, number in words.items()}
        contents = {}
        for number, token in found.items():
            if not token.content:
                raise CheckpointError(f"{token.where}: token {number} is empty")
            if by_id.get(number, token.content) != token.content or words.get(token.content, number) != number:
                raise CheckpointError(f"{token.where}: token {number} is {token.content!r}, but the "
                                      f"vocabulary has {by_id.get(number, token.content)!r}")  # fmt: skip
            if contents.setdefault(token.content, number) != number:
                raise CheckpointError(f"{token.where}: {token.content!r} has two numbers")

    def check_added_texts(self):
        """No two tokens are looked for as the same text, and none as nothing."""
        texts = {}
        for number, token in sorted(self.added.items()):
            text = token.content
            if token.normalized:
                text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Co"))
                if self.strip_accents:
                    parts = unicodedata.normalize("NFD", text)
                    text = "".join(c for c in parts if unicodedata.category(c) != "Mn")
                text = text.lower() if self.lower_case else text
            if not text or text in texts.get(token.normalized, {}):
                raise CheckpointError(f"{token.where}: token {number} ({token.content!r}) is looked for as "
                                      f"{text!r}, which is {'another one' if text else 'nothing'}")  # fmt: skip
            texts.setdefault(token.normalized, {})[text] = number

    def flags(self, number):
        """splitee.added_token_flags of the model file."""
        token = self.added[number]
        return token.single_word + 2 * token.normalized + 4 * (token.content in self.words)


def TEMPLATES(types):
    cls, sep = ("[CLS]", 0), ("[SEP]", 0)
    pair = [cls, ("A", 0), sep, ("B", int(types)), ("[SEP]", int(types))]
    return {"single": [cls, ("A", 0), sep], "pair": pair}


def template(parts, types):
    """[(token or sequence, type), ...]; without types they are all 0. None where it is none."""
    if not isinstance(parts, list):
        return None
    result = []
    for part in parts:
        body = next(iter(part.values()), None) if isinstance(part, dict) and len(part) == 1 else None
        if not isinstance(body, dict):
            return None
        result.append((body.get("id"), body.get("type_id") if types else 0))
    return result


def read_vocab(path):
    """vocab.txt, one token a line: token -> line, from 0."""
    if not os.path.lexists(path):
        raise CheckpointError(f"{path}: missing, and there is no tokenizer.json")
    lines = read_text(path).replace("\r\n", "\n").split("\n")
    if lines[-1] == "":
        lines.pop()
    seen = {}
    for number, token in enumerate(lines, 1):
        if not token:
            raise CheckpointError(f"{path}: line {number} is empty")
        if token in seen:
            raise CheckpointError(f"{path}: line {number} repeats line {seen[token] + 1}: {token!r}")
        seen[token] = number - 1
    return seen
