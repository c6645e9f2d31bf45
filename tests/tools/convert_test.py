#!/usr/bin/env python3
"""Tests of tools/convert_hf.py (the first argument) on tiny random checkpoints.

Most runs call its main() in this process, some start it. The GGUF file is read back by the small
reader of convert_data.py, which shares nothing with the converter. Exit 77 (skipped) where numpy
is missing.
"""

import io
import json
import os
import stat
import struct
import zipfile

from convert_folder import Folder, main

import gguf_writer  # noqa: E402  (found beside the converter)
import numpy as np  # noqa: E402
from convert_data import (
    HIDDEN, LAYERS, POSITIONS, FFN, HEADS, SEED, STORED, TYPES, VOCAB, WRITERS, bf16_bits,
    pickle_tensor, pickle_text, random_tensors, read_gguf, safetensors_bytes, slow_hash,
    torch_bytes, torch_zip,
)  # fmt: skip  # noqa: E402

# --- the names that the format prescribes, written out independently ---


def expected_names(family, exits, layers=LAYERS):
    """GGUF name -> checkpoint name."""
    prefix = "elasticbert" if family == "elasticbert" else "bert"
    names = {
        "token_embd.weight": f"{prefix}.embeddings.word_embeddings.weight",
        "token_types.weight": f"{prefix}.embeddings.token_type_embeddings.weight",
        "position_embd.weight": f"{prefix}.embeddings.position_embeddings.weight",
    }
    pairs = [("token_embd_norm", f"{prefix}.embeddings.LayerNorm")]
    for i in range(layers):
        old, new = f"{prefix}.encoder.layer.{i}", f"blk.{i}"
        pairs += [
            (f"{new}.attn_q", f"{old}.attention.self.query"),
            (f"{new}.attn_k", f"{old}.attention.self.key"),
            (f"{new}.attn_v", f"{old}.attention.self.value"),
            (f"{new}.attn_output", f"{old}.attention.output.dense"),
            (f"{new}.attn_output_norm", f"{old}.attention.output.LayerNorm"),
            (f"{new}.ffn_up", f"{old}.intermediate.dense"),
            (f"{new}.ffn_down", f"{old}.output.dense"),
            (f"{new}.layer_output_norm", f"{old}.output.LayerNorm"),
        ]
    for layer in exits:
        if family == "elasticbert":
            pooler = f"elasticbert.encoder.pooler.{layer - 1}.dense"
            classifier = f"classifiers.{exits.index(layer)}"
        elif layer == layers:
            pooler, classifier = "bert.pooler.dense", "classifier"
        else:
            pooler = f"bert.encoder.highway.{layer - 1}.pooler.dense"
            classifier = f"bert.encoder.highway.{layer - 1}.classifier"
        pairs += [(f"splitee.exit.{layer}.pooler", pooler)]
        pairs += [(f"splitee.exit.{layer}.classifier", classifier)]
    for new, old in pairs:
        names.update({f"{new}.{part}": f"{old}.{part}" for part in ("weight", "bias")})
    return names


def compare(gguf, tensors, family, exits, dtype="f32"):
    pairs, written, _, kinds = gguf
    assert pairs["splitee.exit_layers"] == exits, pairs["splitee.exit_layers"]
    names = expected_names(family, exits)
    scales = {name for name in written if name.endswith(".scale")}
    assert set(written) - scales == set(names), set(written) ^ set(names)
    for name, source in names.items():
        values, got = tensors[source].astype(np.float64), written[name]
        if values.ndim == 1:
            assert kinds[name] == 0, name
            assert (got == values).all(), name
        elif dtype == "i8" and ".classifier." not in name and kinds[name] != 1:
            scale = written[name + ".scale"]
            assert kinds[name] == 24 and kinds[name + ".scale"] == 0
            largest = np.abs(values).max(axis=1)
            assert np.allclose(scale, largest / 127, rtol=1e-6, atol=0), name
            error = np.abs(got * scale[:, None] - values)
            assert (error <= scale[:, None] * 0.5001).all(), name
            assert np.abs(got).max() == 127, name
        elif dtype == "f32" or ".classifier." in name and dtype == "i8":
            assert kinds[name] == 0 and (got == values).all(), name
        elif dtype == "bf16":
            expected = (bf16_bits(values).astype(np.uint32) << 16).view(np.float32)
            assert kinds[name] == 30 and (got == expected).all(), name
        else:
            assert kinds[name] == 1, name
            assert (got == values.astype(np.float16).astype(np.float64)).all(), name
    half = {name for name, kind in kinds.items() if kind == 1}
    if dtype == "i8":
        assert half == {"token_types.weight", "position_embd.weight"}, half


# --- tests ---


def test_families(root):
    for file in WRITERS:
        for family, exits in (("elasticbert", [1, 2, 3]), ("bert", [3]), ("deebert", [1, 2, 3])):
            tensors = random_tensors(family)
            for dtype in ("f32", "f16", "bf16", "i8"):
                folder = Folder(root, tensors, file)
                gguf = folder.convert("--dtype", dtype)
                assert folder.stderr == "", folder.stderr
                compare(gguf, tensors, family, exits, dtype)


def test_metadata(root):
    folder = Folder(root, random_tensors("elasticbert"))
    folder.write("t.json", "[1, 0.5, 2.25]")
    temperatures = os.path.join(folder.path, "t.json")
    flags = ("--alpha", "0.75", "--temperatures", temperatures)
    pairs, _, _, _ = folder.convert(*flags)
    expected = {
        "general.architecture": "bert", "general.alignment": 32, "bert.block_count": LAYERS,
        "bert.context_length": POSITIONS, "bert.embedding_length": HIDDEN,
        "bert.feed_forward_length": FFN, "bert.attention.head_count": HEADS,
        "bert.attention.causal": False, "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.token_type_count": TYPES,
        "tokenizer.ggml.tokens": [
            "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
            "\u2581good", "ing", "\u2581bad", "\u2581é", "##\u2581x", "##",
        ],
        "tokenizer.ggml.token_type": [3, 3, 3, 3, 3, 1, 1, 1, 1, 4, 4],
        "tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.cls_token_id": 2, "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.mask_token_id": 4,
        "splitee.labels": ["class 0", "class 1", "class 2"], "splitee.lower_case": False,
        "splitee.exit_temperatures": [1, 0.5, 2.25], "splitee.alpha": 0.75,
    }  # fmt: skip
    for key, value in expected.items():
        assert pairs[key] == value, (key, pairs[key])
    epsilon = struct.unpack("<f", struct.pack("<f", 1e-12))[0]
    assert pairs["bert.attention.layer_norm_epsilon"] == epsilon
    for text in ('{"temperatures": [1, 0.5, 2.25]}',
                 '{"dev": 1, "calibration": {"rows": 9, "temperatures": [1, 0.5, 2.25]}}'):  # fmt: skip
        folder.write("t.json", text)
        assert folder.convert(*flags)[0]["splitee.exit_temperatures"] == [1, 0.5, 2.25]
    folder.remove("tokenizer_config.json")
    pairs, _, _, _ = folder.convert("--labels", "no,maybe,yes")
    assert pairs["splitee.labels"] == ["no", "maybe", "yes"]
    assert pairs["splitee.lower_case"] is True and "tokenizer_config.json" in folder.stderr
    assert "splitee.alpha" not in pairs and "splitee.exit_temperatures" not in pairs


def test_stored_types(root):
    for file in WRITERS:
        for kind in ("F64", "F16", "BF16"):
            tensors = random_tensors("bert")
            stored = {name: STORED[kind](values) for name, values in tensors.items()}
            if kind == "BF16":
                back = {n: (v.astype(np.uint32) << 16).view(np.float32) for n, v in stored.items()}
            else:
                back = {n: v.astype(np.float32) for n, v in stored.items()}
            compare(Folder(root, tensors, file, kind).convert(), back, "bert", [LAYERS])


def test_fewer_exits(root):
    tensors = random_tensors("elasticbert", exits=2)
    compare(Folder(root, tensors, num_output_layers=2).convert(), tensors, "elasticbert", [2, 3])
    # A static model: one exit, whose head is called classifier; a pooler of another layer is left.
    tensors = random_tensors("elasticbert", exits=1)
    static = {name.replace("classifiers.0", "classifier"): v for name, v in tensors.items()}
    static["elasticbert.encoder.pooler.0.dense.bias"] = np.zeros(HIDDEN, np.float32)
    compare(Folder(root, static, num_output_layers=1).convert(), tensors, "elasticbert", [3])


def test_old_names_and_extras(root):
    tensors = random_tensors("bert")
    old = {}
    for name, values in tensors.items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        old[name.replace("LayerNorm.bias", "LayerNorm.beta")] = values
    old["bert.embeddings.position_ids"] = np.arange(POSITIONS, dtype=np.int64)[None]
    old["cls.predictions.bias"] = np.zeros(3, np.float32)
    for file in WRITERS:
        folder = Folder(root, old, file)
        compare(folder.convert(), tensors, "bert", [LAYERS])
        assert "not used: cls.predictions.bias\n" in folder.stderr, folder.stderr
        assert folder.stderr.count("\n") == 1, folder.stderr
    many = dict(tensors) | {f"cls.{i}": np.zeros(1, np.float32) for i in range(9)}
    folder = Folder(root, many)
    folder.convert()
    assert folder.stderr.endswith("not used: cls.0, cls.1, cls.2, cls.3, cls.4 and 4 more\n")
    both = dict(tensors) | {"bert.embeddings.LayerNorm.beta": np.zeros(HIDDEN, np.float32)}
    Folder(root, both).refused("model.safetensors", "bert.embeddings.LayerNorm.bias", "twice")


def test_padded_embeddings(root):
    tensors = random_tensors("bert")
    name = "bert.embeddings.word_embeddings.weight"
    padded = dict(tensors)
    padded[name] = np.concatenate([tensors[name], np.ones((5, HIDDEN), np.float32)])
    folder = Folder(root, padded, vocab_size=len(VOCAB) + 5)
    for dtype in ("f32", "i8"):
        compare(folder.convert("--dtype", dtype), tensors, "bert", [LAYERS], dtype)
        assert "last 5 embeddings" in folder.stderr


def test_i8_special_rows(root):
    tensors = random_tensors("bert")
    weight = tensors["bert.encoder.layer.0.output.dense.weight"]
    weight[0] = 0
    weight[1] = [-2, 1, 0, 0.5, -1, 0, 0, 0, 0, 2]
    _, written, _, _ = Folder(root, tensors).convert("--dtype", "i8")
    got, scale = written["blk.0.ffn_down.weight"], written["blk.0.ffn_down.weight.scale"]
    assert (got[0] == 0).all() and scale[0] == 0
    assert list(got[1]) == [-127, 64, 0, 32, -64, 0, 0, 0, 0, 127], got[1]


def test_bf16_ties(root):
    tensors = random_tensors("bert")
    row = np.array([1 + 1 / 256, 1 + 3 / 256, 1 + 1 / 256 + 2**-20, -1 - 1 / 256, 2**-133, 0])
    tensors["bert.pooler.dense.weight"][0] = row
    gguf = Folder(root, tensors).convert("--dtype", "bf16")
    got = gguf[1]["splitee.exit.3.pooler.weight"][0]
    assert list(got[:4]) == [1, 1 + 4 / 256, 1 + 2 / 256, -1], got
    compare(gguf, tensors, "bert", [LAYERS], "bf16")


def test_hash_in_parts(_):
    data = bytes(np.random.default_rng(SEED).integers(0, 256, 1003, np.uint8))
    before = gguf_writer.BLOCK_BYTES, gguf_writer._CHUNK_BLOCKS
    gguf_writer.BLOCK_BYTES, gguf_writer._CHUNK_BLOCKS = 64, 3
    try:
        for size in (0, 1, 8, 63, 64, 65, 128, 1000, 1003):
            assert gguf_writer.content_hash(io.BytesIO(data[:size])) == slow_hash(data[:size])
    finally:
        gguf_writer.BLOCK_BYTES, gguf_writer._CHUNK_BLOCKS = before


def test_values_refused(root):
    name = "bert.encoder.layer.1.output.dense.weight"
    for value, dtype in ((np.nan, "f32"), (-np.inf, "i8"), (70000, "f16"), (3.4e38, "bf16")):
        tensors = random_tensors("bert")
        tensors[name][0, 0] = value
        for file in WRITERS:
            Folder(root, tensors, file).refused(file, name, flags=("--dtype", dtype))


def test_wrong_tensors(root):
    for family in ("elasticbert", "bert", "deebert"):
        tensors = random_tensors(family)
        used = expected_names(family, [LAYERS] if family == "bert" else [1, 2, 3]).values()
        for name in sorted(used)[::9]:
            without = {n: v for n, v in tensors.items() if n != name}
            Folder(root, without).refused("model.safetensors", name, "missing")
            bent = dict(tensors) | {name: np.zeros((HIDDEN + 1,), np.float32)}
            Folder(root, bent).refused("model.safetensors", name)
    tensors = random_tensors("bert", layers=LAYERS + 1)
    Folder(root, tensors).refused("bert.encoder.layer.3.", "config.json")
    Folder(root, {"x.x": np.zeros(2, np.float32)}).refused("neither")
    for family in ("roberta", "albert", "mpnet", "distilbert", "electra"):
        Folder(root, {f"{family}.x": np.zeros(2, np.float32)}).refused("model.safetensors", family)
    bare = {n.removeprefix("bert."): v for n, v in random_tensors("bert").items()}
    Folder(root, bare).refused("backbone alone", "no classification head")
    Folder(root, random_tensors("elasticbert"), num_output_layers=2).refused("classifiers.2")
    headless = {n: v for n, v in random_tensors("bert").items() if not n.startswith("classifier")}
    Folder(root, headless).refused("classifier.weight", "no classification head")
    for classes in (0, 4097):
        wrong = random_tensors("bert")
        wrong |= {"classifier.weight": np.zeros((classes, HIDDEN), np.float32)}
        Folder(root, wrong).refused("classifier.weight", f"{classes} classes, not 1 to 4096")


def test_wrong_texts(root):
    tensors = random_tensors("bert")

    def folder(**config):
        return Folder(root, tensors, **config)

    for key in ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size",
                "max_position_embeddings", "type_vocab_size", "vocab_size"):  # fmt: skip
        for value in (0, -1, 2**40, "12", True, 1.5, None):
            folder(**{key: value}).refused("config.json", key)
    folder(num_attention_heads=4).refused("config.json", "num_attention_heads")
    for activation in ("quick_gelu", "gelu_10", "mish", None, 7, ["gelu"], {"a": 1}):
        folder(hidden_act=activation).refused("config.json", "hidden_act")
    folder(position_embedding_type="relative_key").refused("position_embedding_type")
    folder(layer_norm_eps=-1).refused("layer_norm_eps")
    folder(id2label={"0": "a", "1": "b"}).refused("id2label")
    folder(id2label={"0": "a", "1": "b", "2": "a"}).refused("id2label", "twice")
    folder(id2label={"0": "a", "1": "b", "2": "\n"}).refused("id2label")
    folder(num_labels=2).refused("num_labels")
    for name in ("config.json", "vocab.txt"):
        folder().remove(name).refused(name)
        folder().write(name, b"\xff\xfe").refused(name, "UTF-8")
    for text in ("", "[]", "{", "1" * 9, "[" * 100000, '{"a": 1, "a": 2}'):
        folder().write("config.json", text).refused("config.json")
        folder().write("tokenizer_config.json", text).refused("tokenizer_config.json")
    for key, value in (("strip_accents", 1), ("tokenize_chinese_chars", "no"),
                       ("do_lower_case", "yes"), ("cls_token", "<s>")):  # fmt: skip
        config = {"do_lower_case": False, key: value}
        folder().write("tokenizer_config.json", json.dumps(config)).refused(key)
    config = {"do_lower_case": True, "strip_accents": None, "cls_token": {"content": "[CLS]"}}
    pairs = folder().write("tokenizer_config.json", json.dumps(config)).convert()[0]
    assert pairs["splitee.lower_case"] is True
    vocab = "".join(token + "\n" for token in VOCAB)
    folder().write("vocab.txt", vocab + "more\n").refused("vocab.txt", "vocab_size")
    folder().write("vocab.txt", vocab.replace("bad", "good")).refused("line 8", "good")
    folder().write("vocab.txt", vocab.replace("bad", "")).refused("line 8", "empty")
    folder().write("vocab.txt", vocab.replace("[SEP]", "[EOS]")).refused("[SEP]")
    pairs = folder().write("vocab.txt", vocab.replace("\n", "\r\n")[:-2]).convert()[0]
    assert pairs["tokenizer.ggml.tokens"][5] == "\u2581good"


def test_usage(root):
    folder = Folder(root, random_tensors("bert"))
    folder.refused("--dtype", flags=("--dtype", "q4"), status=2)
    for alpha in ("0", "1.5", "nan", "x"):
        folder.refused("--alpha", flags=("--alpha", alpha), status=2)
    folder.refused("--labels", flags=("--labels", "a,,b"), status=2)
    folder.refused("--labels", flags=("--labels", "a,b"))
    folder.refused("unrecognized", flags=("--what",), status=2)
    for text in ("{}", '{"temperatures": 1}', '{"calibration": []}', "[1, 2]", "[0]", "[-1]", '["1"]', "[true]", "[NaN]", "x"):
        folder.write("t.json", text)
        folder.refused("t.json", flags=("--temperatures", os.path.join(folder.path, "t.json")))
    folder.refused("no.json", flags=("--temperatures", os.path.join(folder.path, "no.json")))
    folder.output = os.path.join(folder.path, "no", "out.gguf")
    folder.refused("out.gguf")
    folder.remove("model.safetensors").refused("model.safetensors", "pytorch_model.bin")
    result = folder.start("--help")
    assert result.returncode == 0
    for flag in ("--output", "--dtype", "--alpha", "--labels", "--temperatures"):
        assert flag in result.stdout


def test_processes(root):
    folder = Folder(root, random_tensors("bert"))
    result = folder.start()
    assert result.returncode == 0 and result.stderr == "", result.stderr
    compare(read_gguf(folder.output), random_tensors("bert"), "bert", [LAYERS])
    folder.write("config.json", "{")
    result = folder.start()
    assert result.returncode == 1 and "config.json: not JSON" in result.stderr, result.stderr
    assert folder.start("--alpha", "2").returncode == 2


def test_atomic(root):
    folder = Folder(root, random_tensors("bert"))
    folder.convert()
    with open(folder.output, "rb") as file:
        before = file.read()
    bad = random_tensors("bert")
    bad["classifier.weight"][0, 0] = np.nan  # found while the last tensors are written
    folder.write("model.safetensors", safetensors_bytes(bad)).refused("classifier.weight")
    with open(folder.output, "rb") as file:
        assert file.read() == before


def test_output_that_is_no_output(root):
    """Nothing but a regular file is replaced, and no file that is read."""
    folder = Folder(root, random_tensors("bert"))
    kept = os.path.join(folder.path, "kept")
    folder.write("kept", "kept")
    pipe = os.path.join(folder.path, "pipe")
    os.mkfifo(pipe)
    link = os.path.join(folder.path, "link")
    os.symlink(kept, link)
    for folder.output in (pipe, link, folder.path):
        folder.refused(folder.output, "not a regular file")
    for folder.output in ("", "-"):
        folder.refused("--output", "names no file")
    assert stat.S_ISFIFO(os.lstat(pipe).st_mode) and os.path.islink(link)
    for name in ("config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors"):
        folder.output = os.path.join(folder.path, name)
        with open(folder.output, "rb") as file:
            before = file.read()
        folder.refused(name, "overwritten")
        with open(folder.output, "rb") as file:
            assert file.read() == before


def test_bad_safetensors(root):
    tensors = random_tensors("bert")
    good = safetensors_bytes(tensors)
    name = "model.safetensors"
    folder = Folder(root, tensors)
    length = struct.unpack("<Q", good[:8])[0]
    header, data = json.loads(good[8 : 8 + length]), good[8 + length :]
    for cut in (0, 1, 7, 8, 9, length // 2, 8 + length, 8 + length + 1, len(good) - 1):
        folder.write(name, good[:cut]).refused(name)
    folder.write(name, good[:-1]).refused("truncated")
    for size in (2**63, 2**64 - 1, len(good) - 7, 0):
        folder.write(name, struct.pack("<Q", size) + good[8:]).refused(name)
    folder.write(name, good + b"\0").refused(name, "after the last tensor")

    def with_header(changed):
        text = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
        return folder.write(name, struct.pack("<Q", len(text)) + text + data)

    for text in (b"{", b"[]", b"\xff", b"[" * 100000, b'{"a": {}, "a": {}}'):
        with_header(text).refused(name)
    key = "bert.pooler.dense.bias"
    begin, end = header[key]["data_offsets"]
    for change in (
        {"data_offsets": [begin, 2**62]}, {"data_offsets": [end, begin]}, {"shape": [-6]},
        {"data_offsets": [begin - 24, end - 24]}, {"data_offsets": [begin, end + 1]},
        {"data_offsets": [begin]}, {"data_offsets": None}, {"data_offsets": [-1, 23]},
        {"shape": [2**62, 16]}, {"shape": [7]}, {"shape": "6"}, {"shape": [1] * 9 + [6]},
        {"shape": [True]}, {"shape": [2**31, 2**31, 2**31]}, {"dtype": "F8"}, {"dtype": 1},
        {"dtype": "I64", "shape": [3]}, {"dtype": "I32"}, {"shape": [1, 6]}, {"dtype": None},
    ):  # fmt: skip
        with_header(header | {key: header[key] | change}).refused(name, key)
    with_header(header | {key: 7}).refused(name, key)
    with_header(header | {"a\n\x1b[31mb": 7}).refused(name, "a\\n\\x1b[31mb")


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_bad_pytorch(root):
    import pickle

    tensors = random_tensors("bert")
    good = torch_bytes(tensors)
    name = "pytorch_model.bin"
    folder = Folder(root, tensors, name)
    trap = os.path.join(folder.path, "trap")
    for protocol in range(6):
        for evil in (Evil(os.system, f"touch {trap}"), Evil(eval, f"open({trap!r}, 'w')"),
                     Evil(getattr, "a", "b"), {"a": Evil(os.mkdir, trap)}):  # fmt: skip
            stream = pickle.dumps(evil, protocol)
            folder.write(name, torch_zip(stream, {})).refused(name, "data.pkl", "not allowed")
    assert not os.path.exists(trap)
    for stream in (b"", b".", b"garbage", b"\x80\x02]q\x00.", b"\x80\x02K\x01.", b"\x80\x02",
                   b"\x80\x02}q\x00(K\x01K\x02u.", b"\x80\x02}(K\x01u.", b"\x80\x02h\x05.",
                   b"\x80\x02}" + pickle_text("a") + b"K\x01s.", b"\x80\x02)R.", b"\x80\x02}b.",
                   b"\x80\x02)Q.", b"\x80\x02ctorch\nload\n.", b"\x80\x02X\xff\xff\xff\x7fa.",
                   b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", b"\x80\x04\x95" + b"\xff" * 8,
                   b"\x80\x02" + b"((" * 100000, b"\x80\x02r\xff\xff\xff\x7f."):  # fmt: skip
        folder.write(name, torch_zip(stream, {})).refused(name)

    def one(*arguments, storage=bytes(24), **more):
        tensor = pickle_tensor(*arguments, **more)
        stream = b"\x80\x02}" + pickle_text("bert.a") + tensor + b"s."
        return folder.write(name, torch_zip(stream, {"0": storage}))

    one("F32", "1", 6, [6], [1]).refused(name, "bert.a", "missing")
    one("F32", "0", 7, [6], [1]).refused(name, "bert.a", "24 bytes")
    one("F32", "0", 6, [6], [1], offset=1).refused(name, "bert.a", "beyond")
    one("F32", "0", 6, [2, 3], [4, 1]).refused(name, "bert.a", "beyond")
    one("F32", "0", 6, [2**30, 2**30], [0, 0]).refused(name, "bert.a", "beyond")
    for shape, strides, offset in (([-6], [1], 0), ([6], [-1], 5), ([6], [1], -1), ([6], [], 0),
                                   ([1] * 9, [1] * 9, 0)):  # fmt: skip
        one("F32", "0", 6, shape, strides, offset=offset).refused(name, "data.pkl")
    for cut in (0, 3, 30, len(good) // 2, len(good) - 1, len(good) - 30):
        folder.write(name, good[:cut]).refused(name)
    at = good.index(b"archive/data/0") + 20
    flipped = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
    folder.write(name, flipped).refused(name)
    folder.write(name, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.").refused(name, "1.6")
    bomb = torch_zip(b"\x80\x02}.", {"0": bytes(10**6)}, zipfile.ZIP_DEFLATED)
    folder.write(name, bomb).refused(name, "compressed")
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").writestr("a", "b")
    folder.write(name, empty.getvalue()).refused(name)


def test_damaged_files(root):
    """Bytes changed at random: converted or refused with one line, never an exception."""
    rng = np.random.default_rng(SEED)
    for file, write in WRITERS.items():
        good = write(random_tensors("bert", layers=1))
        folder = Folder(root, None, num_hidden_layers=1)
        for number in range(int(os.environ.get("SPLITEE_FUZZ_RUNS", 150))):
            data = bytearray(good)
            # The structures at the front (and for a zip at the end) matter more than the weights.
            span = min(len(data), 4000)
            start = len(data) - span if number % 3 == 2 else 0
            for at in start + rng.integers(0, span, 1 + number % 4):
                data[at] = rng.choice([0, 1, 0x2E, 0x7F, 0x80, 0xFF, rng.integers(256)])
            folder.write(file, bytes(data[: rng.integers(len(data))] if number % 10 == 9 else data))
            result = folder.run()
            assert result.returncode in (0, 1), (file, number, result)
            assert result.returncode == 0 or result.stderr.count("convert_hf.py: ") >= 1


def test_real_torch(root):
    """The same through torch.save(), where there is a torch."""
    try:
        import torch
    except ImportError:
        print("  no torch: only hand-made pickles")
        return
    tensors = random_tensors("deebert")
    state = {name: torch.from_numpy(values) for name, values in tensors.items()}
    state["classifier.weight"] = torch.nn.Parameter(state["classifier.weight"])
    state["bert.pooler.dense.weight"] = state["bert.pooler.dense.weight"].t().contiguous().t()
    for kind, cast in ((torch.float32, np.float32), (torch.float16, np.float16)):
        folder = Folder(root, None)
        torch.save({n: v.detach().to(kind) for n, v in state.items()},
                   os.path.join(folder.path, "pytorch_model.bin"))  # fmt: skip
        stored = {n: v.astype(cast).astype(np.float32) for n, v in tensors.items()}
        compare(folder.convert(), stored, "deebert", [1, 2, 3])
    module = torch.nn.Linear(2, 2)  # its state_dict() carries _metadata
    folder = Folder(root, None)
    path = os.path.join(folder.path, "pytorch_model.bin")
    torch.save(module.state_dict(), path)
    folder.refused("pytorch_model.bin", "neither")
    folder = Folder(root, None)
    path = os.path.join(folder.path, "pytorch_model.bin")
    torch.save(state, path)
    compare(folder.convert(), tensors, "deebert", [1, 2, 3])
    torch.save(state, path, _use_new_zipfile_serialization=False)
    folder.remove("out.gguf").refused("pytorch_model.bin", "1.6")


if __name__ == "__main__":
    main(globals())
