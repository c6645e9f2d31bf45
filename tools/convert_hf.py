#!/usr/bin/env python3
"""Converts a Hugging Face checkpoint folder into the GGUF file that the runtime reads.

The folder holds config.json, vocab.txt, tokenizer_config.json (optional) and model.safetensors or
pytorch_model.bin. Three families are known by their tensors' names:
  ElasticBERT  elasticbert.*, exits on the last num_output_layers layers (classifiers.N)
  DeeBERT      bert.* with bert.encoder.highway.N; the last layer answers with bert.pooler and
               classifier, as DeeBERT itself does
  BERT         bert.*, one exit: bert.pooler and classifier
The file format is described in runtime/model_format.h.
"""

import argparse
import json
import math
import os
import re
import sys

try:
    import numpy as np
except ImportError:
    sys.exit(
        f"convert_hf.py: {sys.executable} has no numpy: apt-get install python3-numpy, then run "
        "this script with /usr/bin/python3"
    )

import gguf_writer as gguf
from hf_checkpoint import CheckpointError, read_checkpoint, unique_keys

MAX_CONFIG_BYTES = 16 << 20
WORD_MARK = "\u2581"
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # tokenizer.ggml.token_type
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

LAYER_TENSORS = (
    ("attention.self.query", "attn_q", "hidden", "hidden"),
    ("attention.self.key", "attn_k", "hidden", "hidden"),
    ("attention.self.value", "attn_v", "hidden", "hidden"),
    ("attention.output.dense", "attn_output", "hidden", "hidden"),
    ("attention.output.LayerNorm", "attn_output_norm", "hidden", None),
    ("intermediate.dense", "ffn_up", "ffn", "hidden"),
    ("output.dense", "ffn_down", "hidden", "ffn"),
    ("output.LayerNorm", "layer_output_norm", "hidden", None),
)

# Tensors of a checkpoint that say nothing about the model's answers.
IGNORED = re.compile(r"(.*\.)?(position_ids|token_type_ids|num_batches_tracked)")


def say(message):
    """One line on standard error, whatever names a hostile file brings into it."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
    print(f"convert_hf.py: {line}", file=sys.stderr)


def warn(message):
    say(f"warning: {message}")


# --- config.json, tokenizer_config.json, vocab.txt ---


def read_text(path):
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    if len(data) > MAX_CONFIG_BYTES:
        raise CheckpointError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: not UTF-8 at byte {error.start}") from error


def read_json(path):
    try:
        return json.loads(read_text(path), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from error


def read_json_object(path):
    value = read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return value


class Config:
    """The numbers of config.json that shape the model, checked."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "config.json")
        self.json = read_json_object(self.path)
        self.layers = self.integer("num_hidden_layers", 1, 1024)
        self.hidden = self.integer("hidden_size", 1, 16384)
        self.heads = self.integer("num_attention_heads", 1, self.hidden)
        self.ffn = self.integer("intermediate_size", 1, 65536)
        self.positions = self.integer("max_position_embeddings", 3, 8192)
        self.types = self.integer("type_vocab_size", 1, 65536, default=2)
        self.vocab = self.integer("vocab_size", 5, 2**31 - 1)
        self.exits = self.integer("num_output_layers", 1, self.layers, default=self.layers)
        if self.hidden % self.heads:
            raise CheckpointError(f"{self.path}: hidden_size is no multiple of num_attention_heads")
        self.epsilon = self.json.get("layer_norm_eps", 1e-12)
        if type(self.epsilon) not in (int, float) or not 1e-30 < self.epsilon < 1:
            raise CheckpointError(f"{self.path}: bad layer_norm_eps")
        self.only("hidden_act", "gelu")
        self.only("position_embedding_type", "absolute")
        self.only("is_decoder", False)
        self.only("problem_type", None, "single_label_classification")

    def integer(self, key, low, high, default=None):
        value = self.json.get(key, default)
        if type(value) is not int or not low <= value <= high:
            raise CheckpointError(f"{self.path}: {key} must be an integer from {low} to {high}")
        return value

    def only(self, key, *allowed):
        value = self.json.get(key, allowed[0])
        if value not in allowed:
            raise CheckpointError(f"{self.path}: {key} = {value!r} is not supported")

    def labels(self, classes):
        """Names from id2label, or LABEL_0, LABEL_1, ... as Hugging Face does."""
        if self.json.get("num_labels", classes) != classes:
            raise CheckpointError(f"{self.path}: num_labels is not the {classes} of the classifier")
        names = self.json.get("id2label")
        if names is None:
            return [f"LABEL_{i}" for i in range(classes)]
        if not isinstance(names, dict) or set(names) != {str(i) for i in range(classes)}:
            raise CheckpointError(f"{self.path}: id2label does not name classes 0 to {classes - 1}")
        return check_labels([names[str(i)] for i in range(classes)], f"{self.path}: id2label")


def check_labels(labels, where):
    for label in labels:
        if not isinstance(label, str) or not label or any(ord(c) < 32 or ord(c) == 127 for c in label):
            raise CheckpointError(f"{where}: {label!r} is not a label")
        if any(0xD800 <= ord(c) < 0xE000 for c in label):
            raise CheckpointError(f"{where}: {label!r} is not Unicode")
    if len(set(labels)) != len(labels):
        raise CheckpointError(f"{where}: a label comes twice")
    return labels


def read_lower_case(folder):
    """Whether the tokenizer lower-cases (and strips accents: BERT ties the two)."""
    path = os.path.join(folder, "tokenizer_config.json")
    if not os.path.exists(path):
        warn(f"{path} is not there: taking do_lower_case = true, BERT's default")
        return True
    config = read_json_object(path)
    lower_case = config.get("do_lower_case", True)
    if type(lower_case) is not bool:
        raise CheckpointError(f"{path}: do_lower_case is not a boolean")
    if config.get("strip_accents") not in (None, lower_case):
        raise CheckpointError(f"{path}: strip_accents apart from do_lower_case is not supported")
    for key in ("tokenize_chinese_chars", "do_basic_tokenize"):
        if config.get(key, True) is not True:
            raise CheckpointError(f"{path}: {key} = {config[key]!r} is not supported")
    for token in SPECIAL_TOKENS:
        key = f"{token[1:-1].lower()}_token"
        value = config.get(key, token)
        value = value.get("content") if isinstance(value, dict) else value
        if value not in (None, token):
            raise CheckpointError(f"{path}: {key} = {value!r} is not supported, only {token}")
    return lower_case


def read_vocab(folder, rows):
    """vocab.txt, one token a line, at most `rows`."""
    path = os.path.join(folder, "vocab.txt")
    lines = read_text(path).replace("\r\n", "\n").split("\n")
    if lines[-1] == "":
        lines.pop()
    seen = {}
    for number, token in enumerate(lines, 1):
        if not token:
            raise CheckpointError(f"{path}: line {number} is empty")
        if token in seen:
            raise CheckpointError(f"{path}: line {number} repeats line {seen[token]}: {token!r}")
        seen[token] = number
    for token in SPECIAL_TOKENS[:4]:
        if token not in seen:
            raise CheckpointError(f"{path}: {token} is missing")
    if len(lines) > rows:
        raise CheckpointError(f"{path}: {len(lines)} tokens, but vocab_size is {rows}")
    if len(lines) < rows:
        warn(f"{path}: {len(lines)} tokens: the last {rows - len(lines)} embeddings are dropped")
    return lines


def rewrite_token(token):
    """llama.cpp's spelling and kind of a token of vocab.txt."""
    if token in SPECIAL_TOKENS:
        return token, CONTROL
    if token.startswith("##"):
        rest = token[2:]
        carried = rest and not rest.startswith(WORD_MARK)
        return (rest, NORMAL) if carried else (token, USER_DEFINED)
    return WORD_MARK + token, NORMAL


# --- the tensors ---


class Weights:
    """A checkpoint's tensors under today's names; remembers which were used and which lack."""

    def __init__(self, tensors, path):
        self.path, self.tensors, self.used, self.missing = path, {}, set(), []
        for old, tensor in tensors.items():
            name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", old)
            name = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
            if name in self.tensors:
                raise CheckpointError(f"{path}: {name} comes twice, under its old and its new name")
            self.tensors[name] = tensor

    def has(self, pattern):
        return any(re.match(pattern, name) for name in self.tensors)

    def take(self, name, shape):
        """The tensor `name`, or None where it is missing (see check_complete)."""
        tensor = self.tensors.get(name)
        if tensor is None:
            self.missing.append(name)
            return None
        if tensor.shape != shape:
            raise CheckpointError(
                f"{self.path}: {tensor.name}: shape {tensor.shape}, expected {shape}"
            )
        self.used.add(name)
        return tensor

    def check_complete(self, backbone, needless):
        if self.missing:
            more = f" (and {len(self.missing) - 1} more)" if len(self.missing) > 1 else ""
            raise CheckpointError(f"{self.path}: {self.missing[0]} is missing{more}")
        extra = [n for n in self.tensors if n not in self.used and not IGNORED.fullmatch(n)]
        extra = [n for n in extra if not needless.fullmatch(n)]
        for name in extra:
            if name.startswith(backbone):
                raise CheckpointError(
                    f"{self.path}: {name} does not belong to the model of config.json"
                )
        if extra:
            more = f" and {len(extra) - 5} more" if len(extra) > 5 else ""
            warn(f"{self.path}: not used: {', '.join(extra[:5])}{more}")


def find_exits(weights, config):
    """(prefix of the backbone, [(layer, pooler, classifier)], pattern of needless tensors)."""
    layers, last = config.layers, config.layers - 1
    if weights.has(r"elasticbert\."):
        first = layers - config.exits
        exits = [
            (layer + 1, f"elasticbert.encoder.pooler.{layer}.dense", f"classifiers.{layer - first}")
            for layer in range(first, layers)
        ]
        if config.exits == 1 and weights.has(r"classifier\."):
            exits = [(layers, exits[0][1], "classifier")]
        # A pretrained body has a pooler for every layer, whatever is fine-tuned.
        needless = r"elasticbert\.encoder\.pooler\.\d+\.dense\.(weight|bias)"
        return "elasticbert.", exits, re.compile(needless)
    if not weights.has(r"bert\."):
        raise CheckpointError(f"{weights.path}: neither elasticbert.* nor bert.* tensors are there")
    exits = [(layers, "bert.pooler.dense", "classifier")]
    if not weights.has(r"bert\.encoder\.highway\."):
        return "bert.", exits, re.compile("(?!)")
    highway = "bert.encoder.highway"
    early = [
        (layer + 1, f"{highway}.{layer}.pooler.dense", f"{highway}.{layer}.classifier")
        for layer in range(last)
    ]
    # DeeBERT creates a highway on the last layer as well, and neither trains nor asks it.
    return "bert.", early + exits, re.compile(re.escape(f"{highway}.{last}.") + ".*")


class Converter:
    """Collects the tensors to write, in file order."""

    def __init__(self, weights, config, dtype):
        self.weights, self.config, self.dtype = weights, config, dtype
        self.tensors = []

    def linear(self, source, target, out, columns):
        self.matrix(f"{source}.weight", f"{target}.weight", (out, columns), self.dtype)
        self.vector(f"{source}.bias", f"{target}.bias", out)

    def norm(self, source, target, size):
        for part in ("weight", "bias"):
            self.vector(f"{source}.{part}", f"{target}.{part}", size)

    def vector(self, source, target, size):
        self.matrix(source, target, (size,), "f32")

    def matrix(self, source, target, shape, dtype, rows=None):
        """Adds a tensor; of its rows the first `rows` only, where given."""
        tensor = self.weights.take(source, shape)
        if tensor is None:
            return
        shape = (rows or shape[0], *shape[1:])

        def produce(part=None):
            return encode(tensor, tensor.load()[: shape[0]], dtype, part)

        self.tensors.append(gguf.Tensor(target, shape, TENSOR_KINDS[dtype], produce))
        if dtype == "i8":
            scales = gguf.Tensor(f"{target}.scale", shape[:1], gguf.TENSOR_F32,
                                 lambda: produce("scale"))  # fmt: skip
            self.tensors.append(scales)

    def add_backbone(self, prefix, tokens):
        config, small = self.config, "f16" if self.dtype == "i8" else self.dtype
        embeddings = f"{prefix}embeddings"
        self.matrix(f"{embeddings}.word_embeddings.weight", "token_embd.weight",
                    (config.vocab, config.hidden), self.dtype, tokens)  # fmt: skip
        self.matrix(f"{embeddings}.token_type_embeddings.weight", "token_types.weight",
                    (config.types, config.hidden), small)  # fmt: skip
        self.matrix(f"{embeddings}.position_embeddings.weight", "position_embd.weight",
                    (config.positions, config.hidden), small)  # fmt: skip
        self.norm(f"{embeddings}.LayerNorm", "token_embd_norm", config.hidden)
        for layer in range(config.layers):
            for source, target, rows, columns in LAYER_TENSORS:
                source = f"{prefix}encoder.layer.{layer}.{source}"
                target = f"blk.{layer}.{target}"
                if columns is None:
                    self.norm(source, target, config.hidden)
                else:
                    self.linear(
                        source, target, getattr(config, rows), getattr(config, columns)
                    )

    def add_exits(self, exits):
        """Adds the heads; returns the number of classes."""
        classifier = self.weights.tensors.get(f"{exits[-1][2]}.weight")
        if classifier is None:
            raise CheckpointError(
                f"{self.weights.path}: {exits[-1][2]}.weight is missing: no classification head"
            )
        classes = classifier.shape[0] if classifier.shape else 0
        if not 2 <= classes <= 65536:
            raise CheckpointError(
                f"{self.weights.path}: {classifier.name}: {classes} classes, at least 2 needed"
            )
        for layer, pooler, head in exits:
            name = f"splitee.exit.{layer}"
            self.linear(pooler, f"{name}.pooler", self.config.hidden, self.config.hidden)
            # As small as it is decisive: rounding it to bytes would save next to nothing.
            head_dtype = "f32" if self.dtype == "i8" else self.dtype
            self.matrix(f"{head}.weight", f"{name}.classifier.weight",
                        (classes, self.config.hidden), head_dtype)  # fmt: skip
            self.vector(f"{head}.bias", f"{name}.classifier.bias", classes)
        return classes


TENSOR_KINDS = {
    "f32": gguf.TENSOR_F32,
    "f16": gguf.TENSOR_F16,
    "bf16": gguf.TENSOR_BF16,
    "i8": gguf.TENSOR_I8,
}


def encode(tensor, values, dtype, part):
    """`values` (float32) as `dtype`; for i8 either the bytes or, with part "scale", the scales."""
    if dtype == "f32":
        return values
    if dtype == "f16":
        with np.errstate(over="ignore"):
            halves = values.astype("<f2")
        if not np.isfinite(halves).all():
            raise CheckpointError(f"{tensor.path}: {tensor.name}: a value is too large for f16")
        return halves
    if dtype == "bf16":
        bits = values.view(np.uint32)
        rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16  # to nearest, ties to even
        if ((rounded & 0x7F80) == 0x7F80).any():
            raise CheckpointError(f"{tensor.path}: {tensor.name}: a value is too large for bf16")
        return rounded.astype("<u2")
    scales = np.abs(values).max(axis=1) / np.float32(127)
    if part == "scale":
        return scales
    divisors = np.where(scales > 0, scales, 1).astype(np.float32)[:, None]
    return np.clip(np.rint(values / divisors), -127, 127).astype(np.int8)


# --- the command ---


def metadata(config, vocab, lower_case, exits, labels, arguments):
    rewritten = [rewrite_token(token) for token in vocab]
    pairs = [
        ("general.architecture", gguf.STRING, "bert"),
        ("general.alignment", gguf.U32, gguf.ALIGNMENT),
        ("bert.block_count", gguf.U32, config.layers),
        ("bert.context_length", gguf.U32, config.positions),
        ("bert.embedding_length", gguf.U32, config.hidden),
        ("bert.feed_forward_length", gguf.U32, config.ffn),
        ("bert.attention.head_count", gguf.U32, config.heads),
        ("bert.attention.layer_norm_epsilon", gguf.F32, config.epsilon),
        ("bert.attention.causal", gguf.BOOL, False),
        ("bert.pooling_type", gguf.U32, 2),  # the first token's vector, in llama.cpp's numbers
        ("tokenizer.ggml.model", gguf.STRING, "bert"),
        ("tokenizer.ggml.tokens", gguf.ARRAY, (gguf.STRING, [t for t, _ in rewritten])),
        ("tokenizer.ggml.token_type", gguf.ARRAY, (gguf.I32, [kind for _, kind in rewritten])),
        ("tokenizer.ggml.token_type_count", gguf.U32, config.types),
    ]
    keys = ("padding", "unknown", "cls", "seperator", "mask")  # llama.cpp spells it so
    for key, token in zip(keys, SPECIAL_TOKENS):
        if token in vocab:
            pairs.append((f"tokenizer.ggml.{key}_token_id", gguf.U32, vocab.index(token)))
    pairs += [
        ("splitee.exit_layers", gguf.ARRAY, (gguf.U32, [layer for layer, _, _ in exits])),
        ("splitee.labels", gguf.ARRAY, (gguf.STRING, labels)),
        ("splitee.lower_case", gguf.BOOL, lower_case),
    ]
    if arguments.temperatures is not None:
        values = read_temperatures(arguments.temperatures, len(exits))
        pairs.append(("splitee.exit_temperatures", gguf.ARRAY, (gguf.F32, values)))
    if arguments.alpha is not None:
        pairs.append(("splitee.alpha", gguf.F32, arguments.alpha))
    return pairs


def read_temperatures(path, exits):
    """A list, alone or where tools/train.py's report.json has it: calibration.temperatures."""
    values = read_json(path)
    for key in ("calibration", "temperatures"):
        if isinstance(values, dict):
            values = values.get(key, values)
    if not isinstance(values, list) or len(values) != exits:
        raise CheckpointError(f"{path}: not a list of {exits} temperatures, one per exit")
    for value in values:
        if type(value) not in (int, float) or not 1e-6 <= value <= 1e6:
            raise CheckpointError(f"{path}: {value!r} is not a temperature (1e-6 to 1e6)")
    return values


def check_output(output, inputs):
    """Refuses to replace what is no file, a device for instance, and what is read."""
    if os.path.lexists(output) and (os.path.islink(output) or not os.path.isfile(output)):
        raise CheckpointError(f"{output}: not a regular file")
    for path in inputs:
        if path and os.path.exists(path) and os.path.exists(output) and os.path.samefile(path, output):
            raise CheckpointError(f"{output}: is an input too; it would be overwritten")


def convert(arguments):
    folder = arguments.checkpoint
    names = ("config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors", "pytorch_model.bin")
    inputs = [os.path.join(folder, name) for name in names]
    check_output(arguments.output, [*inputs, arguments.temperatures])
    config = Config(folder)
    tensors, path = read_checkpoint(folder)
    vocab = read_vocab(folder, config.vocab)
    lower_case = read_lower_case(folder)
    weights = Weights(tensors, path)
    prefix, exits, needless = find_exits(weights, config)
    converter = Converter(weights, config, arguments.dtype)
    converter.add_backbone(prefix, len(vocab))
    classes = converter.add_exits(exits)
    weights.check_complete((prefix, "classifier"), needless)
    labels = arguments.labels or config.labels(classes)
    if len(labels) != classes:
        raise CheckpointError(f"--labels names {len(labels)} classes, the model has {classes}")
    pairs = metadata(config, vocab, lower_case, exits, labels, arguments)
    value = gguf.write_gguf(arguments.output, pairs, converter.tensors)
    print(
        f"{arguments.output}: {config.layers} layers, hidden {config.hidden}, {len(vocab)} tokens, "
        f"exits on {', '.join(str(layer) for layer, _, _ in exits)}, {arguments.dtype}, "
        f"{os.path.getsize(arguments.output)} bytes, hash {value:016x}"
    )


def parse_alpha(text):
    value = float(text)
    if not (math.isfinite(value) and 0 < value <= 1):
        raise ValueError(text)
    return value


def parse_labels(text):
    try:
        return check_labels(text.split(","), "--labels")
    except CheckpointError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parse_arguments(argv):
    summary, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT_DIR", help="Hugging Face folder")
    parser.add_argument("--output", required=True, metavar="M.gguf", help="file to write; replaced "
                        "as a whole or not at all")  # fmt: skip
    parser.add_argument("--dtype", choices=list(TENSOR_KINDS), default="f32", help="type of the "
                        "matrices (default: %(default)s). i8: one scale per row; position and "
                        "token type embeddings are then f16, classifiers f32. Vectors are always "
                        "f32.")  # fmt: skip
    parser.add_argument("--alpha", type=parse_alpha, metavar="X", help="suggested exit threshold, "
                        "in (0, 1] (default: none)")  # fmt: skip
    parser.add_argument("--labels", type=parse_labels, metavar="A,B,...", help="names of the "
                        "classes in order (default: id2label of config.json)")  # fmt: skip
    parser.add_argument("--temperatures", metavar="FILE.json", help="JSON list with one number "
                        "per exit, from the first to the last, or train.py's report.json: "
                        "the logits are divided by it (default: 1)")  # fmt: skip
    return parser.parse_args(argv)


def main(argv=None):
    arguments = parse_arguments(argv)
    try:
        convert(arguments)
    except CheckpointError as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"{arguments.output}: {error.strerror or error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
