#!/usr/bin/env python3
"""Converts a Hugging Face checkpoint folder into the GGUF file that the runtime reads.

The folder holds config.json, vocab.txt or tokenizer.json (tokenizer_config.json, added_tokens.json and
special_tokens_map.json are read where they are there), and model.safetensors or pytorch_model.bin, in
one file or in several with an index. Networks for sequence classification are known by config.json
and their tensors' names:
  ElasticBERT  elasticbert.*, exits on the last num_output_layers layers (classifiers.N)
  DeeBERT      bert.* with bert.encoder.highway.N; the last layer answers with bert.pooler and
               classifier, as DeeBERT itself does
  PABEE        bert.* with classifiers.N: an exit on every layer, one pooler for all
  BERT         bert.*, one exit: bert.pooler and classifier
  DistilBERT   distilbert.*, one exit: pre_classifier and classifier
  ELECTRA      electra.*, one exit: classifier.dense and classifier.out_proj
Activations: gelu, gelu_new (gelu_pytorch_tanh), relu, silu. A head with one label gives a value, one
with problem_type multi_label_classification an answer per label. Whatever else a folder asks for is
refused by file and key.
The file format is described in runtime/bert/model_format.h.
"""

import argparse
import functools
import math
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from interpreter import need  # noqa: E402

need("numpy")
import gguf_writer as gguf  # noqa: E402
import numpy as np  # noqa: E402
import quantise  # noqa: E402
from hf_checkpoint import checkpoint_files, read_checkpoint  # noqa: E402
from hf_config import Config, check_labels  # noqa: E402
from hf_files import CheckpointError, exit_status, folder_parser, read_json, read_text, say  # noqa: E402
from hf_tokenizer import SPECIAL_TOKENS, Tokenizer  # noqa: E402

MAX_CLASSES = 4096  # kMaxClasses of base/limits.h
WORD_MARK = "\u2581"
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # tokenizer.ggml.token_type

# Where a family keeps its backbone, and its names of what BERT calls otherwise.
RENAMED = {
    "distilbert": (
        (r"^distilbert\.transformer\.layer\.(\d+)\.", r"bert.encoder.layer.\1."),
        (r"^distilbert\.", "bert."),
        (r"\.attention\.q_lin\.", ".attention.self.query."),
        (r"\.attention\.k_lin\.", ".attention.self.key."),
        (r"\.attention\.v_lin\.", ".attention.self.value."),
        (r"\.attention\.out_lin\.", ".attention.output.dense."),
        (r"\.sa_layer_norm\.", ".attention.output.LayerNorm."),
        (r"\.ffn\.lin1\.", ".intermediate.dense."),
        (r"\.ffn\.lin2\.", ".output.dense."),
        (r"\.output_layer_norm\.", ".output.LayerNorm."),
        (r"^pre_classifier\.", "bert.pooler.dense."),
    ),
    "electra": (
        (r"^electra\.", "bert."),
        (r"^classifier\.dense\.", "bert.pooler.dense."),
        (r"^classifier\.out_proj\.", "classifier."),
    ),
}
# Between a pooler and its classifier.
POOLER_ACTIVATIONS = {"distilbert": "relu", "electra": "gelu"}  # the others: tanh

# What wrappers put before names: DataParallel, torch.compile, training frameworks.
WRAPPERS = re.compile(r"^(?:model\.|module\.|_orig_mod\.)+|(?<=\.)(?:module\.|_orig_mod\.)+")

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

POOLING_TYPES = {"mean": 1, "first": 2}  # what exits read of their layer, in llama.cpp's numbers

PROGRAM = "convert_hf.py"
# Tensors of a checkpoint that say nothing about the model's answers.
IGNORED = re.compile(r"(.*\.)?(position_ids|token_type_ids|num_batches_tracked)")


def warn(message):
    say(PROGRAM, f"warning: {message}")


def rewrite_token(token, added):
    """llama.cpp's spelling and kind of a token; `added`: one that is looked for in the text itself."""
    if token in SPECIAL_TOKENS:
        return token, CONTROL
    if added:
        return token, USER_DEFINED
    if token.startswith("##"):
        rest = token[2:]
        carried = rest and not rest.startswith(WORD_MARK)
        return (rest, NORMAL) if carried else (token, USER_DEFINED)
    return WORD_MARK + token, NORMAL


# --- the tensors ---


class Weights:
    """A checkpoint's tensors under today's names; remembers which were used and which lack."""

    def __init__(self, tensors, path, family):
        self.path, self.tensors, self.used, self.missing = path, {}, set(), []
        for old, tensor in tensors.items():
            name = WRAPPERS.sub("", old)
            for pattern, new in RENAMED.get(family, ()):
                name = re.sub(pattern, new, name)
            name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
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
        raise CheckpointError(f"{weights.path}: {foreign_tensors(weights)}")
    exits = [(layers, "bert.pooler.dense", "classifier")]
    if weights.has(r"classifiers\.\d+\."):
        pabee = [(i + 1, "bert.pooler.dense", f"classifiers.{i}") for i in range(layers)]
        return "bert.", pabee, re.compile("(?!)")
    if not weights.has(r"bert\.encoder\.highway\."):
        return "bert.", exits, re.compile("(?!)")
    highway = "bert.encoder.highway"
    early = [
        (layer + 1, f"{highway}.{layer}.pooler.dense", f"{highway}.{layer}.classifier")
        for layer in range(last)
    ]
    # DeeBERT creates a highway on the last layer as well, and neither trains nor asks it.
    return "bert.", early + exits, re.compile(re.escape(f"{highway}.{last}.") + ".*")


FOREIGN = ("albert", "roberta", "xlm_roberta", "mpnet", "deberta", "distilbert", "electra", "longformer",
           "camembert", "ernie", "mobilebert", "funnel", "xlnet", "transformer")  # fmt: skip


def foreign_tensors(weights):
    for family in FOREIGN:
        if weights.has(rf"{family}\."):
            return f"the tensors are {family}'s: not supported, or not what config.json says"
    if weights.has(r"embeddings\.word_embeddings\."):
        return "the backbone alone, its tensors without a prefix: no classification head"
    return "neither elasticbert.* nor bert.* tensors are there"


class Converter:
    """Collects the tensors to write, in file order."""

    def __init__(self, weights, config, dtype, positions):
        self.weights, self.config, self.dtype, self.positions = weights, config, dtype, positions
        self.tensors = []
        self.sources = {}  # by the names written
        self.input_scales = {}

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
            values = tensor.load()[: shape[0]]
            if dtype == "i8":
                values = values / self.columns_of(target)
            return encode(tensor, values, dtype, part)

        self.sources[target] = (tensor, shape[0])
        self.tensors.append(gguf.Tensor(target, shape, TENSOR_KINDS[dtype], produce))
        if dtype == "i8":
            scales = gguf.Tensor(f"{target}.scale", shape[:1], gguf.TENSOR_F32,
                                 lambda: produce("scale"))  # fmt: skip
            self.tensors.append(scales)

    def load(self, target):
        tensor, rows = self.sources[target]
        return tensor.load()[:rows]

    def columns_of(self, target):
        name = target.removesuffix(".weight")
        qkv = re.sub(r"attn_[qkv]$", "attn_qkv", name)
        return self.input_scales.get(qkv, np.float32(1))

    def fit_format(self, exits, tokenizer, texts):
        """Chooses input scales for int8, and says what the format does to a sample."""
        config = self.config
        encoder = quantise.Encoder(
            functools.cache(self.load), config.layers, config.heads, config.epsilon,
            [layer for layer, _, _ in exits], config.pooling == "mean", config.activation,
        )  # fmt: skip
        sample = quantise.random_sample(tokenizer.vocab, self.positions)
        if texts is not None:
            sample = quantise.tokenize(texts, tokenizer.vocab, tokenizer.lower_case, self.positions)
        if self.dtype == "i8":
            self.input_scales = quantise.input_scales(encoder, sample)
            for name, scales in self.input_scales.items():
                self.tensors.append(
                    gguf.Tensor(f"{name}.input_scale", scales.shape, gguf.TENSOR_F32,
                                functools.partial(np.copy, scales))
                )  # fmt: skip
        with np.errstate(over="ignore", invalid="ignore"):  # refused when it is written
            return quantise.measure(encoder, sample, self.dtype, self.input_scales)

    def add_backbone(self, prefix, tokens):
        config, small = self.config, "f16" if self.dtype == "i8" else self.dtype
        embeddings = f"{prefix}embeddings"
        self.matrix(f"{embeddings}.word_embeddings.weight", "token_embd.weight",
                    (config.vocab, config.hidden), self.dtype, tokens)  # fmt: skip
        if config.family == "distilbert":  # it cannot tell the texts of a pair apart
            zeros = np.zeros((config.types, config.hidden), np.float32)
            self.tensors.append(gguf.Tensor("token_types.weight", zeros.shape, gguf.TENSOR_F32, lambda: zeros))
        else:
            self.matrix(f"{embeddings}.token_type_embeddings.weight", "token_types.weight",
                        (config.types, config.hidden), small)  # fmt: skip
        self.matrix(f"{embeddings}.position_embeddings.weight", "position_embd.weight",
                    (config.positions, config.hidden), small, self.positions)  # fmt: skip
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
        if not 1 <= classes <= MAX_CLASSES:
            raise CheckpointError(
                f"{self.weights.path}: {classifier.name}: {classes} classes, not 1 to {MAX_CLASSES}"
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


def metadata(config, tokenizer, positions, exits, labels, arguments):
    vocab, added = tokenizer.vocab, sorted(tokenizer.added)
    rewritten = [rewrite_token(token, number in tokenizer.added) for number, token in enumerate(vocab)]
    pairs = [
        ("general.architecture", gguf.STRING, "bert"),
        ("general.alignment", gguf.U32, gguf.ALIGNMENT),
        ("bert.block_count", gguf.U32, config.layers),
        ("bert.context_length", gguf.U32, positions),
        ("bert.embedding_length", gguf.U32, config.hidden),
        ("bert.feed_forward_length", gguf.U32, config.ffn),
        ("bert.attention.head_count", gguf.U32, config.heads),
        ("bert.attention.layer_norm_epsilon", gguf.F32, config.epsilon),
        ("bert.attention.causal", gguf.BOOL, False),
        ("bert.pooling_type", gguf.U32, POOLING_TYPES[config.pooling]),
        ("tokenizer.ggml.model", gguf.STRING, "bert"),
        ("tokenizer.ggml.tokens", gguf.ARRAY, (gguf.STRING, [t for t, _ in rewritten])),
        ("tokenizer.ggml.token_type", gguf.ARRAY, (gguf.I32, [kind for _, kind in rewritten])),
        ("tokenizer.ggml.token_type_count", gguf.U32, config.types),
    ]
    keys = ("padding", "unknown", "cls", "seperator", "mask")  # llama.cpp spells it so
    for key, token in zip(keys, SPECIAL_TOKENS):
        if token in tokenizer.words:
            pairs.append((f"tokenizer.ggml.{key}_token_id", gguf.U32, tokenizer.words[token]))
    pairs += [
        ("splitee.exit_layers", gguf.ARRAY, (gguf.U32, [layer for layer, _, _ in exits])),
        ("splitee.labels", gguf.ARRAY, (gguf.STRING, labels)),
        ("splitee.lower_case", gguf.BOOL, tokenizer.lower_case),
    ]
    # What most networks have alike is not written: it is what the keys' absence means.
    for key, kind, value, usual in (
        ("strip_accents", gguf.BOOL, tokenizer.strip_accents, tokenizer.lower_case),
        ("split_ideographs", gguf.BOOL, tokenizer.split_ideographs, True),
        ("added_tokens", gguf.ARRAY, (gguf.U32, added), (gguf.U32, [])),
        ("added_token_flags", gguf.ARRAY, (gguf.U32, [tokenizer.flags(n) for n in added]), (gguf.U32, [])),
        ("activation", gguf.STRING, config.activation, "gelu"),
        ("pooler_activation", gguf.STRING, POOLER_ACTIVATIONS.get(config.family, "tanh"), "tanh"),
        ("output", gguf.STRING, config.output(len(labels)), "softmax"),
    ):  # fmt: skip
        if value != usual:
            pairs.append((f"splitee.{key}", kind, value))
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
    if output in ("", "-"):
        raise CheckpointError(f"--output '{output}': names no file (./- is one)")
    if os.path.lexists(output) and (os.path.islink(output) or not os.path.isfile(output)):
        raise CheckpointError(f"{output}: not a regular file")
    for path in inputs:
        if path and os.path.exists(path) and os.path.exists(output) and os.path.samefile(path, output):
            raise CheckpointError(f"{output}: is an input too; it would be overwritten")


TEXT_FILES = ("config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json", "added_tokens.json",
              "special_tokens_map.json")  # fmt: skip


def convert(arguments):
    folder = arguments.checkpoint
    inputs = [os.path.join(folder, name) for name in TEXT_FILES]
    check_output(arguments.output, [*inputs, *checkpoint_files(folder), arguments.temperatures])
    config = Config(folder)
    tokenizer = Tokenizer(folder, config, warn)
    positions = min(config.positions, tokenizer.max_length or config.positions)
    tensors, path = read_checkpoint(folder)
    weights = Weights(tensors, path, config.family)
    prefix, exits, needless = find_exits(weights, config)
    converter = Converter(weights, config, arguments.dtype, positions)
    converter.add_backbone(prefix, len(tokenizer.vocab))
    classes = converter.add_exits(exits)
    weights.check_complete((prefix, "classifier"), needless)
    if arguments.dtype != "f32" and arguments.sample != "none":
        if config.family in POOLER_ACTIVATIONS:
            warn(f"{arguments.dtype} is not measured on {config.family}: compare (splitee compare)")
        else:
            texts = read_sample(arguments.sample)
            report(converter.fit_format(exits, tokenizer, texts), exits, arguments)
    labels = arguments.labels or config.labels(classes)
    if len(labels) != classes:
        raise CheckpointError(f"--labels names {len(labels)} classes, the model has {classes}")
    pairs = metadata(config, tokenizer, positions, exits, labels, arguments)
    value = gguf.write_gguf(arguments.output, pairs, converter.tensors)
    print(
        f"{arguments.output}: {config.layers} layers, hidden {config.hidden}, "
        f"{len(tokenizer.vocab)} tokens, texts up to {positions}, "
        f"exits on {', '.join(str(layer) for layer, _, _ in exits)}, {arguments.dtype}, "
        f"{os.path.getsize(arguments.output)} bytes, hash {value:016x}"
    )


def read_sample(path):
    """The texts of a file, one a line; of a TSV its column `text`. None: no file."""
    if path is None:
        return None
    lines = read_text(path).splitlines()
    head = lines[0].split("\t") if lines else []
    if "text" in head:
        column = head.index("text")
        rows = (line.split("\t") for line in lines[1:])
        lines = [row[column] for row in rows if len(row) > column]
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise CheckpointError(f"{path}: no text")
    return lines[:: max(1, len(lines) // quantise.SEQUENCES)]


def report(rows, exits, arguments):
    sample = arguments.sample or "random words"
    print(f"{arguments.dtype} against f32 on {sample}:\n"
          f" exit  same class  where probabilities were {quantise.DECIDED} apart  change of confidence")
    for (layer, _, _), (same, decided, change) in zip(exits, rows):
        print(f" {layer:4}  {same:10.1%}  {decided:33.1%}  {change:20.4f}")
    bad = [layer for (layer, _, _), row in zip(exits, rows) if row[1] < 0.99 or row[2] > 0.01]
    if bad:
        warn(
            f"{arguments.dtype} changes the answers of the exits on "
            f"{', '.join(map(str, bad))}: compare on your own texts (splitee compare), or take "
            "bf16"
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


DTYPE_HELP = (
    "type of the matrices (default: %(default)s). i8: one scale per row; position and token type embeddings are "
    "then f16, classifiers f32. Vectors are always f32."
)


def parse_arguments(argv):
    parser = folder_parser(__doc__, list(TENSOR_KINDS), DTYPE_HELP, "CHECKPOINT_DIR", "Hugging Face folder")
    parser.add_argument("--sample", metavar="FILE", help="texts, one a line, or a TSV with a column "
                        "text, to fit a narrower dtype to and to measure it on (default: random "
                        "words of the vocabulary; none: neither)")  # fmt: skip
    parser.add_argument("--alpha", type=parse_alpha, metavar="X", help="suggested exit threshold, "
                        "in (0, 1] (default: none)")  # fmt: skip
    parser.add_argument("--labels", type=parse_labels, metavar="A,B,...", help="names of the "
                        "classes in order (default: id2label of config.json)")  # fmt: skip
    parser.add_argument("--temperatures", metavar="FILE.json", help="JSON list with one number "
                        "per exit, from the first to the last, or train.py's report.json: "
                        "the logits are divided by it (default: 1)")  # fmt: skip
    return parser.parse_args(argv)


def main(argv=None):
    return exit_status(PROGRAM, convert, parse_arguments(argv))


if __name__ == "__main__":
    sys.exit(main())
