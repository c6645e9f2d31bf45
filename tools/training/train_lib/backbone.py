"""Any encoder to start from, as a folder that the trainer takes: ElasticBERT's names, no heads.

A Hugging Face folder (ElasticBERT, DeeBERT, BERT, or a bare BERT encoder without "bert." before its
names), or a GGUF file of ours, whose weights become floats again. The vocabulary is reordered so
that the special tokens come first, and [MASK] is added where there is none: the trainer wants both,
and to a network the order means nothing. Needs NumPy only.
"""

import hashlib
import json
import os
import re

import numpy as np

from . import paths  # noqa: F401
import convert_hf as converter  # noqa: E402
import gguf_reader
from hf_checkpoint import CheckpointError, read_checkpoint

from .data import DataError
from .tensors import write_safetensors
from .tokenizer import SPECIAL_TOKENS

PREFIXES = ("elasticbert.", "bert.", "")
SETS_KEY = "splitee_training_sets"  # in config.json
SKETCH_KEY = "splitee_training_sketch"
EMBEDDINGS = (("word_embeddings.weight", "token_embd.weight"),
              ("token_type_embeddings.weight", "token_types.weight"),
              ("position_embeddings.weight", "position_embd.weight"),
              ("LayerNorm.weight", "token_embd_norm.weight"),
              ("LayerNorm.bias", "token_embd_norm.bias"))  # fmt: skip


class Backbone:
    """An encoder: `tensors` are float32 arrays under ElasticBERT's names."""

    def __init__(self, path, sizes, vocab, lower_case, tensors, training_sets, sketch):
        self.path, self.sizes, self.vocab, self.lower_case = path, sizes, vocab, lower_case
        self.tensors, self.training_sets, self.sketch = tensors, training_sets, sketch

    def digest(self):
        """Of what training starts from: another one under the same name has another one."""
        digest = hashlib.blake2b(json.dumps([self.sizes, self.vocab, self.lower_case]).encode(),
                                 digest_size=16)
        for name in sorted(self.tensors):
            values = np.ascontiguousarray(self.tensors[name])
            digest.update(f"\n{name} {values.shape}".encode())
            digest.update(values)
        return digest.hexdigest()


def open_backbone(path):
    try:
        if os.path.isdir(path):
            result = from_folder(path)
        elif os.path.isfile(path):
            result = from_gguf(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    except (CheckpointError, gguf_reader.GgufError) as error:
        raise DataError(str(error)) from error
    reorder(result)
    return result


def tensor_names(layers):
    """(name behind the prefix, name in a GGUF) of all tensors of an encoder."""
    names = [("embeddings." + ours, theirs) for ours, theirs in EMBEDDINGS]
    for layer in range(layers):
        for source, target, _, _ in converter.LAYER_TENSORS:
            for part in ("weight", "bias"):
                names.append((f"encoder.layer.{layer}.{source}.{part}",
                              f"blk.{layer}.{target}.{part}"))
    return names


def from_folder(folder):
    config = converter.Config(folder)
    stored, path = read_checkpoint(folder)
    modern = {re.sub(r"LayerNorm\.(gamma|beta)$", _modern_norm, name): tensor
              for name, tensor in stored.items()}
    probe = "embeddings.word_embeddings.weight"
    prefix = next((p for p in PREFIXES if p + probe in modern), None)
    if prefix is None:
        raise DataError(f"{path}: no tensor {probe}, with or without bert.: not an encoder that is "
                        "known here")
    tensors = {}
    for name, _ in tensor_names(config.layers):
        if prefix + name not in modern:
            raise DataError(f"{path}: {prefix}{name} is missing")
        tensors["elasticbert." + name] = modern[prefix + name].load()
    tokenizer = converter.Tokenizer(folder, config, converter.warn)
    sizes = {"hidden_size": config.hidden, "num_hidden_layers": config.layers,
             "num_attention_heads": config.heads, "intermediate_size": config.ffn,
             "max_position_embeddings": config.positions, "type_vocab_size": config.types,
             "layer_norm_eps": config.epsilon}
    return Backbone(folder, sizes, tokenizer.vocab, tokenizer.lower_case, tensors,
                    config.json.get(SETS_KEY, []), config.json.get(SKETCH_KEY, []))


def _modern_norm(match):
    return "LayerNorm." + {"gamma": "weight", "beta": "bias"}[match.group(1)]


def from_gguf(path):
    file = gguf_reader.GgufFile(path)
    if file.keys.get("general.architecture") != "bert":
        raise DataError(f"{path}: general.architecture is "
                        f"{file.keys.get('general.architecture')!r}, not bert")
    names = {"hidden_size": "embedding_length", "num_hidden_layers": "block_count",
             "num_attention_heads": "attention.head_count",
             "intermediate_size": "feed_forward_length",
             "max_position_embeddings": "context_length",
             "layer_norm_eps": "attention.layer_norm_epsilon"}
    try:
        sizes = {ours: file.keys["bert." + theirs] for ours, theirs in names.items()}
        vocab = [spelled(token, kind) for token, kind in
                 zip(file.keys["tokenizer.ggml.tokens"], file.keys["tokenizer.ggml.token_type"])]
    except KeyError as error:
        raise DataError(f"{path}: no key {error.args[0]}") from error
    sizes["layer_norm_eps"] = float(np.format_float_positional(np.float32(sizes["layer_norm_eps"])))
    tensors = {"elasticbert." + name: file.values(stored)
               for name, stored in tensor_names(sizes["num_hidden_layers"])}
    sizes["type_vocab_size"] = len(tensors["elasticbert.embeddings.token_type_embeddings.weight"])
    return Backbone(path, sizes, vocab, file.keys.get("splitee.lower_case", True), tensors,
                    file.keys.get("splitee.training_sets", []),
                    file.keys.get("splitee.training_sketch", []))


def spelled(token, kind):
    """vocab.txt's spelling of a token of a GGUF: the inverse of the converter's rewrite_token."""
    if kind != converter.NORMAL:
        return token
    mark = converter.WORD_MARK
    return token[len(mark):] if token.startswith(mark) else "##" + token


def reorder(backbone):
    """Special tokens first, in the trainer's order."""
    name = "elasticbert.embeddings.word_embeddings.weight"
    words, vocab = backbone.tensors[name], list(backbone.vocab)
    words = words[: len(vocab)]
    for token in SPECIAL_TOKENS:
        if token not in vocab:
            vocab.append(token)
            words = np.concatenate([words, words.mean(0, keepdims=True)])
    first = [vocab.index(token) for token in SPECIAL_TOKENS]
    order = first + [i for i in range(len(vocab)) if i not in set(first)]
    backbone.vocab = [vocab[i] for i in order]
    backbone.tensors[name] = words[order]


def write_folder(backbone, folder, labels):
    """The folder to start training from, for classes of these names."""
    os.makedirs(folder, exist_ok=True)
    config = {"model_type": "elasticbert", "hidden_act": "gelu", "pad_token_id": 0,
              "num_output_layers": backbone.sizes["num_hidden_layers"],
              **backbone.sizes, "vocab_size": len(backbone.vocab), "num_labels": len(labels),
              "id2label": {str(i): name for i, name in enumerate(labels)}}
    for name, value in (("config.json", config),
                        ("tokenizer_config.json", {"do_lower_case": backbone.lower_case,
                                                   "tokenizer_class": "BertTokenizer"})):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            json.dump(value, file, indent=2)
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as file:
        file.write("".join(token + "\n" for token in backbone.vocab))
    write_safetensors(os.path.join(folder, "model.safetensors"), backbone.tensors)
