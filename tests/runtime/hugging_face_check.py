#!/usr/bin/env python3
"""Development check, run by hand: folders written by the real `transformers` and `tokenizers`
packages are converted, and ids and answers compared with theirs.

usage: hugging_face_check.py SPLITEE RUN_MODEL CONVERT_HF [--lines N] [--only ids|answers] [TSV...]
SPLITEE is the program with the command tokenize, RUN_MODEL tests/runtime/run_model. Texts are drawn
from all of Unicode (N lines, 20,000), and taken from the column `text` (and `text2`) of the TSV files
(.xz too). Run it with a Python that has transformers, tokenizers, torch and numpy. Tokenizers are
compared one after the other, and texts in blocks: the vocabulary of all those characters is large.

Not compared: the spelling of a special token in a text, which this project's tokenizer does not know by
intention (runtime/text/tokenizer.h).
"""

import argparse
import contextlib
import gc
import itertools
import json
import lzma
import os
import random
import re
import resource
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers as hf  # noqa: E402
from tokenizers import AddedToken, Tokenizer  # noqa: E402

hf.utils.logging.disable_progress_bar()

SEED = 20230919
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SPELLED = re.compile(r"\[(PAD|UNK|CLS|SEP|MASK)\]")
TOLERANCE = 1e-4
BLOCK = 32  # texts; of one that is cut the package makes encodings of all that was cut off as well


class Programs:
    def __init__(self, arguments):
        self.splitee, self.run_model, self.convert_hf = arguments.programs

    def convert(self, folder):
        path = os.path.join(folder, "model.gguf")
        done = subprocess.run([sys.executable, self.convert_hf, folder, "--output", path, "--sample", "none"], text=True,
                              capture_output=True, check=False)  # fmt: skip
        if done.returncode:
            raise AssertionError(f"{folder}: {done.stderr}")
        return path

    def ids(self, model, samples, limit=None):
        """(ids, types) of each text, or of each pair of texts."""
        pairs = isinstance(samples[0], tuple)
        command = [self.splitee, "tokenize", "--model", model, "--json"]
        command += ["--input-format", "tsv"] if pairs else []
        command += ["--max-tokens", str(limit)] if limit else []
        with tempfile.TemporaryFile() as file:
            file.write(b"text\ttext2\n" if pairs else b"")
            file.writelines(("\t".join(sample) if pairs else sample).encode() + b"\n" for sample in samples)
            file.seek(0)
            with subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE) as process:
                for line in process.stdout:
                    row = json.loads(line)
                    yield row["ids"], row["types"]
        assert process.returncode == 0, (command, process.returncode)

    def answers(self, model, inputs):
        lines = "".join(f"{' '.join(map(str, i))}|{' '.join(map(str, t))}\n" for i, t in inputs)
        target = subprocess.run([self.run_model, "--targets"], capture_output=True, text=True, check=True)
        done = subprocess.run([self.run_model, model, target.stdout.split()[0], "1"], input=lines, text=True,
                              capture_output=True, check=True)  # fmt: skip
        return [np.array(json.loads(line)) for line in done.stdout.splitlines()]


# --- texts ---


def one_line(text):
    return re.sub("[\r\n\t]", " ", SPELLED.sub(" ", text))


def random_lines(rng, count):
    """All of Unicode, in parts: whole planes, single blocks, and letters with marks between them."""
    def char():
        kind = rng.random()
        if kind < 0.3:
            return chr(rng.randrange(0x20, 0x7F))
        if kind < 0.6:
            return chr(rng.randrange(0xA0, 0x3000))
        if kind < 0.95:
            code = rng.randrange(0x3000, 0x20000)
            return chr(code) if not 0xD800 <= code < 0xE000 else "x"
        return chr(rng.choice([0x20000, 0x2A700, 0x2B800, 0x2F800, 0xE0000, 0xF0000, 0x100000]) + rng.randrange(0x400))

    lines = []
    for number in range(count):
        chars = [char() for _ in range(rng.randrange(1, 40))]
        if number % 3 == 0:
            block = rng.randrange(0x20, 0x20000) & ~0x7F
            chars = [chr(block + rng.randrange(128)) for _ in chars if not 0xD800 <= block < 0xE000]
            chars += ["Σ", "İ", "é", "\u0301"] * (number % 2)
        if number % 5 == 0:
            chars = [c for a in chars for c in (a, chr(rng.randrange(0x300, 0x370)))]
        lines.append(one_line("".join(chars)))
    return lines


def file_texts(path, most=20000):
    opener = lzma.open if path.endswith(".xz") else open
    with opener(path, "rt", encoding="utf-8", newline="\n") as file:
        header = file.readline().rstrip("\r\n").split("\t")
        rows = [dict(zip(header, line.rstrip("\r\n").split("\t"))) for line in itertools.islice(file, most)]
    texts = [one_line(row["text"]) for row in rows if "text" in row]
    pairs = [(one_line(row["text"]), one_line(row["text2"])) for row in rows if "text2" in row]
    return texts, pairs


# --- tokenizers ---


def vocabulary(lines):
    """Every character as a word and as a piece, and some longer ones: nothing hides behind [UNK]."""
    normal = set()
    for options in itertools.product((True, False), repeat=2):
        normalizer = hf.BertTokenizer(do_lower_case=options[0], strip_accents=options[1]).backend_tokenizer.normalizer
        for line in lines:
            normal.update(normalizer.normalize_str(line))
    chars = sorted(c for c in normal if not c.isspace())
    words = ["the", "##ing", "un", "##able", "unable", "foo", "bar", "##oo", "good", "Good"]
    return SPECIAL + chars + ["##" + c for c in chars] + words


ADDED = {
    "none": [],
    "special": [AddedToken("[URL]", special=True), AddedToken("<user>", special=True, single_word=True)],
    "normal": [AddedToken("Foo Bár"), AddedToken("the", single_word=True), AddedToken("漢é", lstrip=True, rstrip=True)],
}


def tokenizers():
    """(name, settings, added tokens)."""
    for lower, strip, chinese in itertools.product((True, False), (None, True, False), (True, False)):
        for name, tokens in ADDED.items():
            settings = {"do_lower_case": lower, "strip_accents": strip, "tokenize_chinese_chars": chinese}
            yield f"lower {lower}, accents {strip}, ideographs {chinese}, added {name}", settings, tokens


def real_tokenizer(vocab, settings=None, tokens=()):
    tokenizer = hf.BertTokenizer(vocab={word: i for i, word in enumerate(vocab)}, **(settings or {}))
    special = [token for token in tokens if token.special]
    tokenizer.add_tokens([token for token in tokens if not token.special])
    tokenizer.add_tokens(special, special_tokens=True)
    return tokenizer


def with_added(rng, lines):
    """Half of the lines with added tokens in them, next to letters and not."""
    spelled = ["[URL]", "<user>", "Foo Bár", "foo bar", "FOO BAR", "the", "漢é", "[url]", "x[URL]y", "a<user>", "<user> "]
    result = []
    for line in lines:
        at = rng.randrange(len(line) + 1)
        result.append(line[:at] + rng.choice(spelled) + line[at:] if rng.random() < 0.5 else line)
    return result


def config_of(size, **more):
    return {"vocab_size": size, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 40, "max_position_embeddings": 40, **more}  # fmt: skip


def randomized(model):
    """Sharp attention and answers that differ."""
    torch.manual_seed(SEED)
    for name, parameter in model.named_parameters():
        scale = 1.3 / parameter.shape[-1] ** 0.5 if parameter.ndim == 2 else 0.2
        scale = 1.0 if "embeddings" in name and parameter.ndim == 2 else scale
        torch.nn.init.normal_(parameter, mean=float("LayerNorm.weight" in name), std=scale)
    return model.eval()


def check_ids(programs, vocab, lines, real):
    """Ids of every tokenizer, saved by the package and converted."""
    counts = {"tokenizers": 0, "texts": 0, "pairs": 0, "different": 0}
    size = len(vocab) + 8
    model = randomized(hf.BertForSequenceClassification(hf.BertConfig(**config_of(size, num_labels=2))))
    for number, (name, settings, tokens) in enumerate(tokenizers()):
        rng = random.Random(SEED + number)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            real_tokenizer(vocab, settings, tokens).save_pretrained(folder)
            gc.collect()
            if number % 2:  # as a package of before: tokenizer.json alone counts
                path = os.path.join(folder, "tokenizer_config.json")
                with open(path, encoding="utf-8") as file:
                    config = json.load(file) | {"tokenizer_class": "PreTrainedTokenizerFast"}
                with open(path, "w", encoding="utf-8") as file:
                    json.dump(config, file)
            path = programs.convert(folder)
            loaded = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
            part = lines[number % 4 :: 4] if "none" not in name or number else lines
            samples = with_added(rng, part)
            for texts, limit in ((samples, 400), (samples[::3], 9), (real[number % 6 :: 6], 128)):
                compare_texts(programs, path, name, loaded, texts, limit, counts)
        counts["tokenizers"] += 1
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{name}: {counts}, {most:.1f} GiB at most", flush=True)
    return counts


def expected_ids(tokenizer, texts):
    for at in range(0, len(texts), BLOCK):
        for encoding in tokenizer.encode_batch(texts[at : at + BLOCK]):
            yield list(encoding.ids), list(encoding.type_ids)


def compare_texts(programs, path, name, tokenizer, texts, limit, counts):
    if not texts:
        return
    tokenizer.enable_truncation(limit, strategy="longest_first")
    kind = "pairs" if isinstance(texts[0], tuple) else "texts"
    counts[kind] += len(texts)
    with contextlib.closing(programs.ids(path, texts, limit)) as all_found:
        for text, found, right in zip(texts, all_found, expected_ids(tokenizer, texts), strict=True):
            if found != right:
                counts["different"] += 1
                if counts["different"] <= 10:
                    print(f"{name}, limit {limit}: {text!r}\n  {found[0]}\n  {right[0]}", flush=True)


def check_pairs(programs, vocab, pairs):
    counts = {"texts": 0, "pairs": 0, "different": 0}
    model = randomized(hf.BertForSequenceClassification(hf.BertConfig(**config_of(len(vocab) + 8, num_labels=2))))
    tokenizer = real_tokenizer(vocab)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        path = programs.convert(folder)
        loaded = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        for limit in (3, 4, 5, 8, 9, 16, 33, 64, 129):
            compare_texts(programs, path, "pairs", loaded, pairs[limit % 7 :: 7], limit, counts)
    return counts


# --- answers ---

FAMILIES = {
    "bert": (hf.BertForSequenceClassification, hf.BertConfig, {}),
    "distilbert": (hf.DistilBertForSequenceClassification, hf.DistilBertConfig, {}),
    "electra": (hf.ElectraForSequenceClassification, hf.ElectraConfig, {"embedding_size": 24}),
}
HEADS = {
    "two classes": {"num_labels": 2},
    "five classes": {"num_labels": 5, "problem_type": "single_label_classification"},
    "one value": {"num_labels": 1},
    "four labels": {"num_labels": 4, "problem_type": "multi_label_classification"},
}


def answer_of(logits, more):
    if more["num_labels"] == 1:
        return logits
    if more.get("problem_type") == "multi_label_classification":
        return torch.sigmoid(logits)
    return torch.softmax(logits, -1)


def check_answers(programs, vocab, lines):
    tokenizer = real_tokenizer(vocab)
    worst, models, samples = 0.0, 0, 0
    activations = ("gelu", "gelu_python", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "relu", "silu", "swish")
    for (family, (kind, config, extra)), activation, (head, more) in itertools.product(
        FAMILIES.items(), activations, HEADS.items()
    ):
        settings = config_of(len(vocab), **extra, **more)
        if family == "distilbert":
            for old, new in (("hidden_size", "dim"), ("num_hidden_layers", "n_layers"), ("num_attention_heads", "n_heads"),
                             ("intermediate_size", "hidden_dim")):  # fmt: skip
                settings[new] = settings.pop(old)
        settings["activation" if family == "distilbert" else "hidden_act"] = activation
        model = randomized(kind(config(**settings)).double())
        with tempfile.TemporaryDirectory() as folder:
            model.float().save_pretrained(folder, max_shard_size="30KB" if models % 3 == 0 else "5GB")
            tokenizer.save_pretrained(folder)
            path = programs.convert(folder)
            part = lines[models % 50 : models % 50 + 12]
            inputs = [*programs.ids(path, part), *programs.ids(path, list(zip(part, part[::-1])))]
            found = programs.answers(path, inputs)
        model.double()
        for (ids, types), answer in zip(inputs, found, strict=True):
            given = {"input_ids": torch.tensor([ids])}
            if family != "distilbert":
                given["token_type_ids"] = torch.tensor([types])
            with torch.no_grad():
                right = answer_of(model(**given).logits, more).numpy()
            error = float(np.abs(answer - right).max() / max(1, np.abs(right).max()))
            if error > TOLERANCE:
                print(f"{family}, {activation}, {head}: {error:.2e} for {len(ids)} tokens")
            worst = max(worst, error)
            samples += 1
        models += 1
    return models, samples, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("programs", nargs=3, metavar="PROGRAM")
    parser.add_argument("--lines", type=int, default=20000)
    parser.add_argument("--only", choices=("ids", "answers"))
    parser.add_argument("files", nargs="*")
    arguments = parser.parse_intermixed_args()
    programs, rng = Programs(arguments), random.Random(SEED)
    print(f"transformers {hf.__version__}, seed {SEED}")
    lines, real, pairs = random_lines(rng, arguments.lines), [], []
    for path in arguments.files:
        texts, two = file_texts(path)
        real, pairs = real + texts, pairs + two
    pairs += list(zip(lines[::40], lines[1::40]))
    rng.shuffle(pairs)
    vocab = vocabulary(lines + real)
    failed = False
    if arguments.only != "ids":
        models, samples, worst = check_answers(programs, vocab, lines + real[:1000])
        print(f"answers: {models} models, {samples} samples, largest difference {worst:.1e}", flush=True)
        failed = worst > TOLERANCE
    if arguments.only != "answers":
        for name, check in (("pairs", lambda: check_pairs(programs, vocab, pairs)),
                            ("tokenizers", lambda: check_ids(programs, vocab, lines, real))):  # fmt: skip
            counts = check()
            print(f"{name}: {counts}", flush=True)
            failed = failed or counts["different"] > 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
