"""The models of models.py in the layouts of peers that take no ONNX graph. They end with the encoder; head.npz
beside them has the last exit and the norm before it."""

import os
import struct

import numpy as np

import models

EMBEDDINGS = "elasticbert.embeddings."


def layer_name(i):
    return f"elasticbert.encoder.layer.{i}."


def words():
    """Of the vocabulary that models.py writes."""
    return models.SPECIAL + [f"w{i}" for i in range(models.VOCAB - len(models.SPECIAL))]


def write_head(folder, tensors):
    last = models.LAYERS - 1
    names = {"pooler": f"elasticbert.encoder.pooler.{last}.dense", "classifier": f"classifiers.{last}",
             "norm": layer_name(last) + "output.LayerNorm"}  # fmt: skip
    np.savez(os.path.join(folder, "head.npz"), **{
        f"{part}.{kind}": tensors[f"{name}.{kind}"] for part, name in names.items() for kind in ("weight", "bias")})


# --- CTranslate2 ---


def write_ctranslate2(folder, hidden, ffn, heads):
    """As its own converter makes a BERT encoder; in fp32, which it rounds to other formats when it loads."""
    from ctranslate2.converters.utils import fuse_linear
    from ctranslate2.specs import common_spec, transformer_spec

    tensors = models.random_tensors(hidden, ffn)

    def linear(spec, name):
        spec.weight, spec.bias = tensors[name + ".weight"], tensors[name + ".bias"]

    def norm(spec, name):
        spec.gamma, spec.beta = tensors[name + ".weight"], tensors[name + ".bias"]

    encoder = transformer_spec.TransformerEncoderSpec(
        models.LAYERS, heads, pre_norm=False, activation=common_spec.Activation.GELU, layernorm_embedding=True,
        num_source_embeddings=2, embeddings_merge=common_spec.EmbeddingsMerge.ADD)  # fmt: skip
    encoder.scale_embeddings = False
    for spec, part in zip(encoder.embeddings, ("word", "token_type")):
        spec.weight = tensors[f"{EMBEDDINGS}{part}_embeddings.weight"]
    encoder.position_encodings.encodings = tensors[EMBEDDINGS + "position_embeddings.weight"]
    norm(encoder.layernorm_embedding, EMBEDDINGS + "LayerNorm")
    for i, layer in enumerate(encoder.layer):
        name, attention = layer_name(i), layer.self_attention
        parts = [common_spec.LinearSpec() for _ in range(3)]
        for part, kind in zip(parts, ("query", "key", "value")):
            linear(part, f"{name}attention.self.{kind}")
        fuse_linear(attention.linear[0], parts)
        linear(attention.linear[1], name + "attention.output.dense")
        norm(attention.layer_norm, name + "attention.output.LayerNorm")
        linear(layer.ffn.linear_0, name + "intermediate.dense")
        linear(layer.ffn.linear_1, name + "output.dense")
        norm(layer.ffn.layer_norm, name + "output.LayerNorm")

    spec = transformer_spec.TransformerEncoderModelSpec(encoder)
    spec.register_vocabulary(words())
    spec.config.unk_token, spec.config.layer_norm_epsilon = "[UNK]", 1e-12
    spec.validate()
    spec.optimize()
    os.makedirs(folder, exist_ok=True)
    spec.save(folder)
    write_head(folder, tensors)


# --- fasttextembed ---

FTE_SHAPE = (384, 1536, 12)  # the only one that it runs
FTE_ALIGNMENT = 64


def fasttextembed_tensors():
    """By its names for them, which are those of an exported graph: matrices in f16, (in, out)."""
    hidden, ffn, _ = FTE_SHAPE
    tensors = models.random_tensors(hidden, ffn)
    result = {}

    def matrix(name, *sources):
        result[name] = np.float16(np.concatenate([tensors[s + ".weight"] for s in sources]).T)

    for part in ("word", "position", "token_type"):
        name = f"embeddings.{part}_embeddings.weight"
        result[name] = np.float16(tensors["elasticbert." + name])
    for kind in ("weight", "bias"):
        result[f"embeddings.LayerNorm.{kind}"] = tensors[f"{EMBEDDINGS}LayerNorm.{kind}"]
    for i in range(models.LAYERS):
        ours, its = layer_name(i), f"encoder.layer.{i}."
        projections = [f"{ours}attention.self.{part}" for part in ("query", "key", "value")]
        matrix(f"Attention_{i}_qkv_weight", *projections)
        result[f"Attention_{i}_qkv_bias"] = np.concatenate([tensors[p + ".bias"] for p in projections])
        for k, part in enumerate(("attention.output", "intermediate", "output")):
            matrix(f"onnx::MatMul_{1536 + 13 * i + k}", f"{ours}{part}.dense")
            result[f"{its}{part}.dense.bias"] = tensors[f"{ours}{part}.dense.bias"]
        for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
            for kind in ("weight", "bias"):
                result[f"{its}{norm}.{kind}"] = tensors[f"{ours}{norm}.{kind}"]
    return result, tensors


def aligned(offset):
    return -(-offset // FTE_ALIGNMENT) * FTE_ALIGNMENT


def write_fasttextembed(folder):
    """model.fte: a header, an entry per tensor (offset, bytes, name, dimensions, type), the values."""
    tensors, source = fasttextembed_tensors()
    header, entry = struct.Struct("<QQ4s10I"), struct.Struct("<QQ64s6i")
    table = aligned(header.size)
    first = offset = aligned(table + entry.size * len(tensors))
    entries = []
    for name, values in tensors.items():
        shape = values.shape + (0,) * (4 - values.ndim)
        entries.append(entry.pack(offset, values.nbytes, name.encode(), values.ndim, *shape, values.dtype == np.float16))
        offset = aligned(offset + values.nbytes)
    hidden, ffn, heads = FTE_SHAPE
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "model.fte"), "wb") as file:
        file.write(header.pack(table, first, b"FTE1", 2, hidden, models.LAYERS, heads, ffn, models.VOCAB,
                               models.POSITIONS, 2, len(tensors), 0))  # fmt: skip
        file.write(b"\0" * (table - header.size) + b"".join(entries))
        for values in tensors.values():
            file.write(b"\0" * (aligned(file.tell()) - file.tell()) + np.ascontiguousarray(values).tobytes())
    with open(os.path.join(folder, "vocab.tsv"), "w", encoding="utf-8") as file:
        file.write("".join(f"{word}\t{i}\n" for i, word in enumerate(words())))
    write_head(folder, source)
