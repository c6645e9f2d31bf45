#!/usr/bin/env python3
"""Changed checkpoints and model files, read by the readers of tools/python in this process.

usage: fuzz_converter.py CONVERTER [--reader NAME] [--seed S] [--cases N | --seconds S]

Each case is a good file, or folder, with a few changes drawn from its seed (converter_changes.py). A
reader takes it or refuses it with an error of its own that names a file, within bounds of memory and
time; any other exception is a fault, and is shown with the command that repeats it. Readers:
safetensors, pytorch, shards, config, tokenizer, gguf, convert (the whole of convert_hf.py on a folder).
Exit 77 (skipped) where numpy is missing.
"""

import argparse
import contextlib
import functools
import io
import json
import os
import random as random_module
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
    print(__doc__.strip())
    sys.exit(0 if len(sys.argv) > 1 else 2)
import convert_folder  # noqa: E402  (leaves with 77 where numpy is missing)
import numpy as np  # noqa: E402
import converter_changes as changes  # noqa: E402
import convert_data as good  # noqa: E402
import gguf_reader  # noqa: E402
import hf_checkpoint  # noqa: E402
from hf_config import Config  # noqa: E402
from hf_files import CheckpointError  # noqa: E402
from hf_tokenizer import Tokenizer  # noqa: E402

MEMORY_BYTES = 512 << 20  # of addresses, beyond what is taken before the first case
CPU_S = 10  # of one case: only what does not end takes as long
SAFETENSORS, PYTORCH = "model.safetensors", "pytorch_model.bin"


def few_tensors():
    """Of several forms: a matrix, a vector, one row, one number, none."""
    draw = np.random.default_rng(1)
    return {name: draw.normal(0, 1, shape).astype(np.float32)
            for name, shape in {"a": (2, 3), "b": (4,), "c": (1, 5), "d": (1,), "e": (0, 3), "f.weight": (3, 2)}.items()}  # fmt: skip


def json_bytes(value):
    return json.dumps(value).encode()


# --- good folders: file name -> (content, how it is changed) ---


def safetensors_folder():
    return {SAFETENSORS: (good.safetensors_bytes(few_tensors(), "BF16"), changes.safetensors)}


def pytorch_folder():
    return {PYTORCH: (good.torch_bytes(few_tensors()), changes.torch_zip)}


def changed_json(random, content):
    return changes.json_text(random, json.loads(content))


def shards_folder():
    tensors = few_tensors()
    parts = {"one.safetensors": ("a", "b"), "two.safetensors": ("c", "d", "e", "f.weight")}
    folder = {name: (good.safetensors_bytes({key: tensors[key] for key in keys}), changes.safetensors)
              for name, keys in parts.items()}  # fmt: skip
    index = {"metadata": {"total_size": 1}, "weight_map": {key: name for name, keys in parts.items() for key in keys}}
    return folder | {SAFETENSORS + ".index.json": (json_bytes(index), changed_json)}


def config_folder():
    config = {
        "architectures": ["BertForSequenceClassification"], "model_type": "bert", "num_hidden_layers": 3,
        "hidden_size": 6, "num_attention_heads": 2, "intermediate_size": 10, "max_position_embeddings": 7,
        "type_vocab_size": 2, "vocab_size": len(good.VOCAB) + 2, "num_output_layers": 3, "layer_norm_eps": 1e-12,
        "hidden_act": "gelu", "problem_type": "single_label_classification", "num_labels": 3,
        "id2label": {"0": "a", "1": "b", "2": "c"}, "pruned_heads": {}, "is_decoder": False,
        "position_embedding_type": "absolute", "embedding_size": 6, "exit_pooling": "first",
    }  # fmt: skip
    return {"config.json": (json_bytes(config), changed_json)}


def tokenizer_json():
    special = lambda number, text: {"id": number, "content": text, "special": True, "normalized": False}  # noqa: E731
    piece = lambda text, kind=0: {"SpecialToken": {"id": text, "type_id": kind}}  # noqa: E731
    sequence = lambda name, kind=0: {"Sequence": {"id": name, "type_id": kind}}  # noqa: E731
    return {
        "added_tokens": [special(i, text) for i, text in enumerate(good.VOCAB[:5])] + [special(11, "[NEW]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": False},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing", "single": [piece("[CLS]"), sequence("A"), piece("[SEP]")],
            "pair": [piece("[CLS]"), sequence("A"), piece("[SEP]"), sequence("B", 1), piece("[SEP]", 1)]},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {text: i for i, text in enumerate(good.VOCAB)}},
    }  # fmt: skip


def tokenizer_folder():
    older = tokenizer_json() | {"post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 2], "sep": ["[SEP]", 3]}}
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "model_max_length": 7,
              "strip_accents": False, "tokenize_chinese_chars": True, "unk_token": "[UNK]",
              "added_tokens_decoder": {"11": {"content": "[NEW]", "special": True, "normalized": False}},
              "additional_special_tokens": ["[NEW]"]}  # fmt: skip
    names = {"cls_token": {"content": "[CLS]"}, "sep_token": "[SEP]", "additional_special_tokens": ["[NEW]"]}
    either = lambda random, _: changes.json_text(random, random.choice((tokenizer_json(), older)))  # noqa: E731
    return config_folder() | {
        "tokenizer.json": (json_bytes(tokenizer_json()), either),
        "tokenizer_config.json": (json_bytes(config), changed_json),
        "special_tokens_map.json": (json_bytes(names), changed_json),
        "added_tokens.json": (json_bytes({"[NEW]": 11}), changed_json),
        "vocab.txt": ("".join(text + "\n" for text in good.VOCAB).encode(), changes.blocks),
    }


def gguf_folder():
    """A file of a few keys and tensors of every type, as the converter's own writer makes it."""
    w = gguf_reader.gguf
    pairs = [("general.architecture", w.STRING, "bert"), ("general.alignment", w.U32, 32),
             ("splitee.labels", w.ARRAY, (w.STRING, ["a", "b"])), ("a.numbers", w.ARRAY, (w.F32, [1.0, 2.0])),
             ("a.flag", w.BOOL, True), ("a.large", w.U64, 7)]  # fmt: skip
    kinds = ((w.TENSOR_F32, "<f4"), (w.TENSOR_F16, "<f2"), (w.TENSOR_BF16, "<u2"), (w.TENSOR_I8, "i1"))
    tensors = [w.Tensor(f"t{kind}", (3, 2), kind, functools.partial(np.ones, (3, 2), form)) for kind, form in kinds]
    tensors.append(w.Tensor(f"t{w.TENSOR_I8}.scale", (3,), w.TENSOR_F32, functools.partial(np.ones, 3, "<f4")))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.gguf")
        w.write_gguf(path, pairs, tensors)
        with open(path, "rb") as file:
            return {"model.gguf": (file.read(), changes.gguf)}


def whole_folder():
    tensors = good.random_tensors("bert")
    config = json.loads(config_folder()["config.json"][0]) | {"vocab_size": len(good.VOCAB)}
    folder = {name: value for name, value in tokenizer_folder().items() if name in ("vocab.txt", "tokenizer_config.json")}
    folder["tokenizer_config.json"] = (json_bytes({"do_lower_case": False, "model_max_length": 7}), changed_json)
    return folder | {"config.json": (json_bytes(config), changed_json),
                     SAFETENSORS: (good.safetensors_bytes(tensors), changes.safetensors)}  # fmt: skip


# --- what reads them ---


def load_all(tensors):
    for tensor in tensors.values():
        values = tensor.load()
        assert values.shape == tensor.shape and np.isfinite(values).all(), tensor.name


def read_folder(folder):
    for path in hf_checkpoint.checkpoint_files(folder):
        assert os.path.dirname(path) == folder, path
    tensors, _ = hf_checkpoint.read_checkpoint(folder)
    try:
        load_all(tensors)
    except CheckpointError as error:
        # Numbers that are no weights, or not finite: of a tensor, so of a file.
        named(error, folder)


def read_config(folder):
    config = Config(folder)
    for classes in (1, 3):
        with contextlib.suppress(CheckpointError):
            config.output(classes)
            config.labels(classes)


def read_tokenizer(folder):
    tokenizer = Tokenizer(folder, Config(folder), lambda message: None)
    assert len(set(tokenizer.vocab)) == len(tokenizer.vocab)
    for number in tokenizer.added:
        tokenizer.flags(number)


def read_gguf(folder):
    path = os.path.join(folder, "model.gguf")
    file = gguf_reader.GgufFile(path)
    for name in file.tensors:
        try:
            values = file.values(name)
        except gguf_reader.GgufError as error:
            named(error, folder)
        else:
            assert values.shape == file.tensors[name].shape, name


def convert(folder):
    """The program itself: ends with 0 or 1, says why in one line, and then leaves no file."""
    out, err = io.StringIO(), io.StringIO()
    output = os.path.join(folder, "out.gguf")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = convert_folder.converter.main([folder, "--output", output, "--sample", "none"])
    if status == 0:
        file = gguf_reader.GgufFile(output)
        for name in file.tensors:
            assert np.isfinite(file.values(name)).all(), name
        return
    lines = [line for line in err.getvalue().splitlines() if ": warning: " not in line]
    assert status == 1 and len(lines) == 1 and not os.path.exists(output), err.getvalue()
    raise CheckpointError(lines[0])


READERS = {
    "safetensors": (safetensors_folder, read_folder), "pytorch": (pytorch_folder, read_folder),
    "shards": (shards_folder, read_folder), "config": (config_folder, read_config),
    "tokenizer": (tokenizer_folder, read_tokenizer), "gguf": (gguf_folder, read_gguf),
    "convert": (whole_folder, convert),
}  # fmt: skip


# --- cases ---


def named(error, folder):
    text = str(error)
    assert folder in text, f"names no file: {text[:500]}"
    assert len(text) < 400_000, f"a message of {len(text)} bytes"


def changed_files(random, files):
    """Some files, mostly one, with changes; rarely one is left out."""
    wanted = random.sample(sorted(files), min(len(files), random.choice((1, 1, 1, 2))))
    result = {name: content for name, (content, _) in files.items()}
    for name in wanted:
        content, change = files[name]
        result[name] = change(random, content)
        if random.random() < 0.02:
            del result[name]
    return result


def run_case(name, seed, files, root):
    """Whether the reader took it; raises on a fault."""
    folder = tempfile.mkdtemp(dir=root)
    for file, content in changed_files(random_module.Random(f"{name} {seed}"), files).items():
        with open(os.path.join(folder, file), "wb") as opened:
            opened.write(content)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S)
    try:
        READERS[name][1](folder)
    except (CheckpointError, gguf_reader.GgufError) as error:
        named(error, folder)
        return False
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        shutil.rmtree(folder)
    return True


class Endless(BaseException):
    """No handler takes it for an error of the file."""


def too_long(*_):
    raise Endless(f"more than {CPU_S} s of processor time")


def bound():
    with open("/proc/self/statm", encoding="ascii") as sizes:
        taken = int(sizes.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_BYTES, resource.RLIM_INFINITY))
    signal.signal(signal.SIGVTALRM, too_long)


def run_reader(name, arguments, root):
    """Cases until one is wrong, or the number or the time is used up."""
    files, taken, seed, start = READERS[name][0](), 0, arguments.seed, time.monotonic()
    while True:
        done = seed - arguments.seed
        if done >= arguments.cases if arguments.seconds is None else time.monotonic() - start >= arguments.seconds:
            break
        try:
            taken += run_case(name, seed, files, root)
        except (Exception, Endless):
            traceback.print_exc(limit=-12)
            print(f"{name} is wrong with --reader {name} --seed {seed} --cases 1", flush=True)
            return False
        seed += 1
    print(f"{name}: {done} cases from seed {arguments.seed}, {taken} of them taken, "
          f"{time.monotonic() - start:.1f} s", flush=True)  # fmt: skip
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("converter")
    parser.add_argument("--reader", choices=READERS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=250)
    parser.add_argument("--seconds", type=float)
    arguments = parser.parse_args()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    bound()
    warnings.simplefilter("error", RuntimeWarning)  # numpy's, of numbers that are none
    with tempfile.TemporaryDirectory(prefix="fuzz_converter_", dir=memory) as root:
        wrong = [name for name in READERS
                 if arguments.reader in (None, name) and not run_reader(name, arguments, root)]  # fmt: skip
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
