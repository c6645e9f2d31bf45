#!/usr/bin/env python3
"""Tests of tools/convert_hf.py (the first argument): families and heads beyond BERT's own, wrappers'
names, checkpoints in several files, and what is refused by file and key."""

import json
import os
import re

from convert_folder import Folder, main

import numpy as np  # noqa: E402
from convert_data import (
    CLASSES, FFN, HIDDEN, LAYERS, POSITIONS, VOCAB, WRITERS, random_tensors, safetensors_bytes,
)  # fmt: skip  # noqa: E402


def same(folder, expected, rename=lambda name: name):
    """The folder gives the tensors that `expected`, another folder, gives."""
    _, tensors, _, _ = folder.convert()
    _, wanted, _, _ = expected.convert()
    assert set(tensors) == set(wanted)
    for name, values in wanted.items():
        assert (tensors[name] == values).all(), name


def renamed(tensors, *pairs):
    result = {}
    for name, values in tensors.items():
        for pattern, new in pairs:
            name = re.sub(pattern, new, name)
        result[name] = values
    return result


def test_distilbert(root):
    bert = random_tensors("bert")
    tensors = renamed(bert, (r"^bert\.encoder\.layer", "distilbert.transformer.layer"), (r"^bert\.pooler\.dense", "pre_classifier"),
                      (r"^bert\.", "distilbert."), ("attention.self.query", "attention.q_lin"),
                      ("attention.self.key", "attention.k_lin"), ("attention.self.value", "attention.v_lin"),
                      ("attention.output.dense", "attention.out_lin"), ("attention.output.LayerNorm", "sa_layer_norm"),
                      ("intermediate.dense", "ffn.lin1"), (r"layer\.(\d)\.output\.dense", r"layer.\1.ffn.lin2"),
                      (r"layer\.(\d)\.output\.LayerNorm", r"layer.\1.output_layer_norm"))  # fmt: skip
    del tensors["distilbert.embeddings.token_type_embeddings.weight"]
    folder = Folder(root, tensors, model_type="distilbert", architectures=["DistilBertForSequenceClassification"],
                    n_layers=LAYERS, dim=HIDDEN, n_heads=2, hidden_dim=FFN, activation="relu")  # fmt: skip
    for key in ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "hidden_act"):
        del folder.config[key]
    folder.write("config.json", json.dumps(folder.config))
    pairs, written, _, _ = folder.convert()
    assert (pairs["splitee.activation"], pairs["splitee.pooler_activation"]) == ("relu", "relu")
    assert pairs["splitee.exit_layers"] == [LAYERS]
    _, wanted, _, _ = Folder(root, bert).convert()
    wanted["token_types.weight"] *= 0
    assert set(written) == set(wanted)
    assert all((written[name] == values).all() for name, values in wanted.items())


def test_electra(root):
    bert = random_tensors("bert")
    tensors = renamed(bert, (r"^classifier", "classifier.out_proj"), (r"^bert\.pooler\.dense", "classifier.dense"), (r"^bert\.", "electra."))
    config = {"model_type": "electra", "architectures": ["ElectraForSequenceClassification"]}
    folder = Folder(root, tensors, embedding_size=HIDDEN, **config)
    assert folder.convert()[0]["splitee.pooler_activation"] == "gelu"
    same(folder, Folder(root, bert))
    Folder(root, tensors, embedding_size=4, **config).refused("config.json", "embedding_size", "hidden_size")
    Folder(root, tensors, **config).refused("config.json", "embedding_size = 128")


def test_pabee(root):
    bert = random_tensors("bert")
    tensors = {name: values for name, values in bert.items() if not name.startswith("classifier")}
    rng = np.random.default_rng(4)
    for i in range(LAYERS):
        tensors[f"classifiers.{i}.weight"] = rng.normal(0, 1, (CLASSES, HIDDEN)).astype(np.float32)
        tensors[f"classifiers.{i}.bias"] = rng.normal(0, 1, CLASSES).astype(np.float32)
    name = "BertForSequenceClassificationWithPabee"
    pairs, written, _, _ = Folder(root, tensors, model_type="bert", architectures=[name]).convert()
    assert pairs["splitee.exit_layers"] == [1, 2, 3] and "splitee.pooler_activation" not in pairs
    for layer in range(1, LAYERS + 1):
        for part in ("weight", "bias"):
            exit_ = f"splitee.exit.{layer}"
            assert (written[f"{exit_}.pooler.{part}"] == tensors[f"bert.pooler.dense.{part}"]).all()
            assert (written[f"{exit_}.classifier.{part}"] == tensors[f"classifiers.{layer - 1}.{part}"]).all()
    del tensors["classifiers.1.bias"]
    Folder(root, tensors).refused("model.safetensors", "classifiers.1.bias", "missing")


def test_families_are_refused_by_name(root):
    tensors = random_tensors("bert")
    for family in ("megatron-bert", "roberta", "albert", "mpnet", "xlm-roberta", "bert2", 7, ["bert"]):
        Folder(root, tensors, model_type=family).refused("config.json", "model_type", str(family))
    for name in ("BertForTokenClassification", "BertForMaskedLM", "BertForQuestionAnswering", "BertLMHeadModel",
                 "RobertaForSequenceClassification", "BertForMultipleChoice", "XForSequenceClassification", 3):  # fmt: skip
        Folder(root, tensors, architectures=[name]).refused("config.json", "architectures", str(name))
        Folder(root, tensors, model_type="bert", architectures=[name]).refused("architectures", str(name))
    Folder(root, tensors, architectures="Bert").refused("config.json", "architectures")
    for good in (["BertForSequenceClassification"], ["BertModel"], [], None):
        Folder(root, tensors, model_type="bert", architectures=good).convert()
    for key, value in (("is_decoder", True), ("add_cross_attention", True), ("pruned_heads", {"0": [1]}),
                       ("quantization_config", {"bits": 4}), ("auto_map", {"AutoModel": "x.Y"}),
                       ("is_decoder", 0), ("problem_type", "what"), ("problem_type", ["x"]),
                       ("tokenizer_class", "BertJapaneseTokenizer"), ("tokenizer_class", 3)):  # fmt: skip
        Folder(root, tensors, **{key: value}).refused("config.json", key)


def test_activations(root):
    for name, written in (("gelu", None), ("gelu_python", None), ("gelu_new", "gelu_tanh"), ("relu", "relu"),
                          ("gelu_pytorch_tanh", "gelu_tanh"), ("silu", "silu"), ("swish", "silu")):  # fmt: skip
        assert Folder(root, random_tensors("bert"), hidden_act=name).convert()[0].get("splitee.activation") == written


def test_outputs(root):
    def head(classes, **config):
        tensors = random_tensors("bert")
        tensors["classifier.weight"] = np.ones((classes, HIDDEN), np.float32)
        tensors["classifier.bias"] = np.ones(classes, np.float32)
        return Folder(root, tensors, id2label=None, **config)

    several, single = "multi_label_classification", "single_label_classification"
    for classes, kind, written in ((1, None, "value"), (1, "regression", "value"), (1, several, "sigmoid"),
                                   (3, several, "sigmoid"), (3, single, None), (2, None, None)):  # fmt: skip
        pairs = head(classes, problem_type=kind).convert()[0]
        assert pairs.get("splitee.output") == written, (classes, kind)
        assert pairs["splitee.labels"] == [f"LABEL_{i}" for i in range(classes)]
    head(2, problem_type="regression").refused("config.json", "problem_type", "2 labels")
    head(1, problem_type=single).refused("config.json", "problem_type", "1 labels")


def test_wrappers_names(root):
    bert = random_tensors("bert")
    for prefix in ("module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module."):
        same(Folder(root, {prefix + name: v for name, v in bert.items()}), Folder(root, bert))
    inner = renamed(bert, (r"^bert\.encoder", "bert.module.encoder"), (r"layer\.1\.", "layer.1._orig_mod."))
    same(Folder(root, inner), Folder(root, bert))
    both = dict(bert) | {"module.classifier.bias": bert["classifier.bias"]}
    Folder(root, both).refused("classifier.bias", "twice")


def test_git_lfs_pointers(root):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    for name in ("model.safetensors", "pytorch_model.bin", "config.json", "vocab.txt", "tokenizer.json",
                 "tokenizer_config.json"):  # fmt: skip
        folder = Folder(root, random_tensors("bert"), "pytorch_model.bin" if name.startswith("py") else "model.safetensors")
        folder.write(name, pointer).refused(name, "git-lfs", "git lfs pull")


def test_what_is_no_file(root):
    for name in ("config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors", "tokenizer.json"):
        folder = Folder(root, random_tensors("bert"))
        path = os.path.join(folder.path, name)
        if os.path.exists(path):
            folder.remove(name)
        os.mkfifo(path)
        folder.refused(name, "not a regular file")
        folder.remove(name)
        os.symlink("/no/such/file", path)
        folder.refused(name)


# --- checkpoints in several files ---


def in_parts(root, file, tensors, parts=3, **changes):
    """A folder with the tensors in several files, and what its index says, changed."""
    folder = Folder(root, None)
    stem, end = os.path.splitext(file)
    names = [f"{stem}-{i + 1:05}-of-{parts:05}{end}" for i in range(parts)]
    weight_map = {name: names[i % parts] for i, name in enumerate(tensors)}
    for part in names:
        folder.write(part, WRITERS[file]({n: v for n, v in tensors.items() if weight_map[n] == part}))
    weight_map.update(changes)
    index = {"metadata": {"total_size": 1}, "weight_map": {n: p for n, p in weight_map.items() if p is not None}}
    folder.write(file + ".index.json", json.dumps(index))
    return folder, names


def test_several_files(root):
    for file in WRITERS:
        tensors = random_tensors("deebert")
        for parts in (1, 3):
            folder, _ = in_parts(root, file, tensors, parts)
            same(folder, Folder(root, tensors, file))
        # One file is preferred to several.
        folder.write(file, WRITERS[file](random_tensors("bert")))
        assert folder.convert()[0]["splitee.exit_layers"] == [LAYERS]


def test_several_files_that_do_not_fit(root):
    name = "classifier.bias"
    for file in WRITERS:
        tensors, index = random_tensors("bert"), file + ".index.json"
        folder, names = in_parts(root, file, tensors)
        folder.remove(names[1]).refused(names[1], "missing", index)
        folder, names = in_parts(root, file, tensors)
        folder.write(names[2], b"PK").refused(names[2])
        # The index names a tensor that is nowhere, another file for one, or one not at all.
        in_parts(root, file, tensors, extra=names[0])[0].refused(index, "extra is not in")
        others = dict.fromkeys(tensors, None)
        for place in names:
            folder, _ = in_parts(root, file, tensors, **{name: place})
            if json.loads(open(os.path.join(folder.path, index)).read())["weight_map"] != \
                    {n: names[i % 3] for i, n in enumerate(tensors)}:  # fmt: skip
                folder.refused(name, "according to", index)
        in_parts(root, file, tensors, **{name: None})[0].refused(name, "does not exist according to")
        in_parts(root, file, tensors, **others)[0].refused(index, "weight_map")
        for bad in ("../" + names[0], "/etc/passwd", "a/b", "", ".", "..", "a\0b", 7, None, [], "\ud800"):
            folder, _ = in_parts(root, file, tensors)
            folder.write(index, json.dumps({"weight_map": {name: bad}})).refused(index, "weight_map")
        for text in ("{}", "[]", "{", '{"weight_map": []}', '{"weight_map": {}}', "[" * 99999,
                     '{"weight_map": {"a": "b", "a": "c"}}'):  # fmt: skip
            folder.write(index, text).refused(index)
        # A part is an input too.
        folder, names = in_parts(root, file, tensors)
        folder.output = os.path.join(folder.path, names[1])
        folder.refused(names[1], "overwritten")


def test_model_max_length(root):
    tensors = random_tensors("bert")
    folder = Folder(root, tensors)
    for value, length in ((4, 4), (4.0, 4), (POSITIONS, POSITIONS), (512, POSITIONS), (1e30, POSITIONS),
                          (10**30, POSITIONS), (None, POSITIONS)):  # fmt: skip
        folder.write("tokenizer_config.json", json.dumps({"model_max_length": value}))
        pairs, written, _, _ = folder.convert()
        assert pairs["bert.context_length"] == length
        expected = tensors["bert.embeddings.position_embeddings.weight"][:length]
        assert (written["position_embd.weight"] == expected).all()
    for value in (2, 0, -1, "512", True, [], float("nan")):
        folder.write("tokenizer_config.json", json.dumps({"model_max_length": value}))
        if os.path.exists(folder.output):
            folder.remove("out.gguf")
        folder.refused("tokenizer_config.json", "model_max_length")


def test_bent_configurations(root):
    """Values of every kind in every key: converted or refused with one line, never an exception."""
    tensors = random_tensors("bert", layers=1)
    values = (None, True, 0, -1, 2**70, 1e308, "", "x", "\ud800", [], [[]], [None], {}, {"0": None}, {"": {"a": []}})
    keys = ("model_type", "architectures", "num_hidden_layers", "hidden_size", "num_attention_heads",
            "intermediate_size", "max_position_embeddings", "type_vocab_size", "vocab_size", "layer_norm_eps",
            "hidden_act", "id2label", "num_labels", "num_output_layers", "position_embedding_type", "is_decoder",
            "problem_type", "tokenizer_class", "pruned_heads", "auto_map", "quantization_config")  # fmt: skip
    folder = Folder(root, tensors, num_hidden_layers=1)
    data = safetensors_bytes(tensors)
    folder.write("model.safetensors", data)
    for key in keys:
        for value in values:
            folder.write("config.json", json.dumps(folder.config | {key: value}))
            result = folder.run()
            assert result.returncode in (0, 1), (key, value, result.stderr)
            assert result.returncode == 0 or key in result.stderr or "model.safetensors" in result.stderr, (key, value, result.stderr)


if __name__ == "__main__":
    assert len(VOCAB) > 5
    main(globals())
