#!/usr/bin/env python3
"""Tests tools/train.py and tools/training/vocab.py on a tiny model. Exits with 77 without PyTorch."""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

try:
    import torch
except ImportError:
    print("SKIP: PyTorch is not installed")
    sys.exit(77)

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "training")
sys.path.insert(0, TOOLS)
import train  # noqa: E402
from train_lib import data, folder, metrics, model, recipes, tokenizer  # noqa: E402
from train_lib import run as training  # noqa: E402
from train_lib.tensors import read_safetensors  # noqa: E402

GOOD = ["a fine and moving film", "great food , great people", "the best phone i had"]
BAD = ["a dull and empty film", "cold food , rude people", "the worst phone i had"]
LAYERS, HIDDEN, INTERMEDIATE, POSITIONS = 2, 16, 32, 24
SIZES = ["--layers", LAYERS, "--hidden", HIDDEN, "--heads", 2, "--intermediate", INTERMEDIATE,
         "--max-seq", POSITIONS, "--batch-tokens", 64, "--warmup", 5, "--cores", 1]


def command(*arguments):
    return [sys.executable, os.path.join(TOOLS, arguments[0])] + list(map(str, arguments[1:]))


def run(*arguments, status=0):
    result = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300)
    assert result.returncode == status, f"{arguments}: {result.returncode}\n{result.stderr}"
    return result


def read_tensors(path):
    return {name: torch.from_numpy(values) for name, values in read_safetensors(path).items()}


def write(name, text):
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)
    return name


def make_data():
    rows = [(text, 1) for text in GOOD] + [(text, 0) for text in BAD]
    write("train.tsv", "text\tlabel\n" + "".join(f"{t}\t{y}\n" for t, y in rows * 4))
    pairs = [(a, b, (i + j) % 3) for i, a in enumerate(GOOD) for j, b in enumerate(BAD)]
    write("pairs.tsv", "label\ttext\ttext2\n" + "".join(f"{y}\t{a}\t{b}\n" for a, b, y in pairs))
    run("vocab.py", "--text", "train.tsv", "--size", 150, "--output", "vocab.txt")


def test_tokenizer():
    basic = tokenizer.basic_tokenize
    assert basic("Isn't it\tFUN?\x00") == ["isn", "'", "t", "it", "fun", "?"]
    assert basic("Caf\u00e9\u00a0na\u00efve \u201cx\u201d \u4e2d\u6587") == [
        "cafe", "naive", "\u201c", "x", "\u201d", "\u4e2d", "\u6587"]
    pieces = tokenizer.Tokenizer(tokenizer.SPECIAL_TOKENS + ["un", "##able", "##a", "##b"])
    assert pieces.encode("Unable unab unx") == [5, 6, 5, 7, 8, tokenizer.UNK]
    assert pieces.encode("un" + "a" * 99) == [tokenizer.UNK]
    entries = tokenizer.Tokenizer.from_file("vocab.txt")
    assert len(set(entries.tokens)) == len(entries.tokens) <= 150
    assert tokenizer.UNK not in entries.encode("Words, never seen: zyx 42!")


def test_rows():
    assert data.encode_row([7, 8], [], 8) == ([2, 7, 8, 3], [0] * 4)
    assert data.encode_row([7, 8, 9, 9], [5, 6], 7) == ([2, 7, 8, 3, 5, 6, 3], [0] * 4 + [1] * 3)
    assert data.parse_spec("a[b].tsv[-5:]") == ("a[b].tsv", slice(-5, None))


def test_padding_changes_nothing():
    for pooling in model.POOLINGS:
        check_padding(model.MultiExitEncoder(model.Shape(
            50, 2, HIDDEN, LAYERS, 2, INTERMEDIATE, POSITIONS, exit_pooling=pooling)))
    rows = [([2, 7, 3], [0] * 3), ([2, 7, 8, 9, 9, 9, 3], [0] * 7)]
    assert data.pad_rows(rows, POSITIONS)[0].shape == (2, 8)
    assert data.pad_rows(rows, 7)[0].shape == (2, 7)


def check_padding(net):
    ids = torch.randint(5, 50, (1, 9))
    padded = torch.cat([ids, torch.zeros(1, 4, dtype=torch.long)], 1)
    plain = net.exit_logits(ids, torch.zeros_like(ids), torch.tensor([9]))
    masked = net.exit_logits(padded, torch.zeros_like(padded), torch.tensor([9]))
    assert torch.allclose(plain, masked, atol=1e-5)


def pretrained_net(layers=3, heads=4):
    torch.manual_seed(3)
    net = model.MultiExitEncoder(model.Shape(200, 3, 64, layers, heads, 64, POSITIONS))
    net.elasticbert["embeddings"].word_embeddings.weight.data.normal_(std=0.1)
    return net.eval()


def test_last_layer_of_the_first_token_alone():
    net = pretrained_net()
    ids = torch.randint(5, 200, (2, 9))
    arguments = (ids, torch.zeros_like(ids), torch.tensor([9, 6]))
    whole, first = net.hidden_states(*arguments), net.hidden_states(*arguments, exits_only=True)
    assert first[-1].shape[1] == 1 and whole[-1].shape[1] == 9
    assert torch.allclose(first[-1][:, 0], whole[-1][:, 0], atol=1e-6)


def test_mean_of_the_tokens():
    net = pretrained_net()
    net.shape.exit_pooling = "mean"
    ids = torch.randint(5, 200, (2, 9))
    arguments = (ids, torch.zeros_like(ids), torch.tensor([9, 6]))
    states = net.hidden_states(*arguments, exits_only=True)
    read = net.exit_input(states[-1], arguments[2])
    expected = torch.stack([states[-1][0].mean(0), states[-1][1, :6].mean(0)])
    assert torch.allclose(read, expected, atol=1e-6)
    assert not torch.allclose(read, states[-1][:, 0], atol=1e-2)


def test_rounded_operands():
    """To the int8 engine's steps, and only where asked for; the gradient is as if they were not."""
    x = torch.tensor([[1.0, -0.5, 0.004, 127 / 254], [0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    assert model.Operand.of(x) is x
    model.Operand.rounded = True
    try:
        rounded = model.Operand.of(x)
        net = pretrained_net()
        ids = torch.arange(5, 23).view(2, 9)
        arguments = (ids, torch.zeros_like(ids), torch.tensor([9, 9]))
        coarse = net.exit_logits(*arguments)
    finally:
        model.Operand.rounded = False
    steps = torch.tensor([[127.0, -64, 1, 64], [0, 0, 0, 0]]) / 127
    assert torch.allclose(rounded, steps, atol=1e-6), rounded
    (rounded * torch.arange(4.0)).sum().backward()
    assert torch.equal(x.grad, torch.arange(4.0).expand(2, -1))
    difference = (net.exit_logits(*arguments) - coarse).abs().max()
    assert 1e-4 < difference < 0.2, difference


def layer_gradient(recipe, exits, layer=0):
    """Gradient that the losses of some exits leave in a layer."""
    net = pretrained_net(layers=4)
    net.recipe = recipe
    ids = torch.arange(5, 23).view(2, 9)
    logits = net.exit_logits(ids, torch.zeros_like(ids), torch.tensor([9, 9]))
    logits[exits].sum().backward()
    return net.elasticbert["encoder"]["layer"][layer].output.dense.weight.grad.clone()


def test_whose_gradient_reaches_which_layer():
    plain, limited, equal, two = (recipes.Recipe(kind, reach=0.5) for kind in recipes.KINDS)
    for exit in range(4):
        full = layer_gradient(plain, [exit])
        assert torch.allclose(layer_gradient(limited, [exit]), 0.5**exit * full, atol=1e-6)
        assert torch.allclose(layer_gradient(equal, [exit]), full / 4, atol=1e-6)
    own = layer_gradient(plain, [3], 3)
    assert torch.allclose(layer_gradient(limited, [3], 3), own, atol=1e-6)
    assert torch.allclose(layer_gradient(equal, [3], 3), own, atol=1e-6)
    assert float(layer_gradient(recipes.Recipe("limited"), [1, 2, 3]).abs().max()) == 0
    two.enter(0.4)
    assert torch.allclose(layer_gradient(two, [3]), layer_gradient(plain, [3]))


def test_two_stages():
    """First the last exit alone trains the layers, then the exits' own weights alone change."""
    shape = model.Shape(vocab_size=30, num_labels=2, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=24)  # fmt: skip
    net = model.MultiExitEncoder(shape)
    net.recipe = recipes.Recipe("two-stage", distill=0.5)
    ids = torch.arange(5, 23).view(2, 9)
    moved = []
    for progress in (0.0, 0.5):
        net.recipe.enter(progress)
        net.zero_grad(set_to_none=True)
        net.recipe.loss(net.exit_logits(ids, torch.zeros_like(ids), torch.tensor([9, 9])), torch.tensor([0, 1])).backward()
        moved.append({name for name, p in net.named_parameters() if p.grad is not None and float(p.grad.abs().max()) > 0})
    heads = [{f"classifiers.{i}.weight", f"elasticbert.encoder.pooler.{i}.dense.weight"} for i in range(3)]
    assert heads[2] < moved[0] and not (heads[0] | heads[1]) & moved[0]
    assert any(".layer.0." in name for name in moved[0])
    assert heads[0] | heads[1] | heads[2] < moved[1]
    assert not any(".layer." in name or "embeddings" in name for name in moved[1])


def test_learning_rates_of_layers():
    args = argparse.Namespace(head_lr=5.0, layer_lr=0.5)
    for name, rate in (("classifiers.1.weight", 5.0), ("elasticbert.encoder.pooler.0.dense.bias", 5.0),
                       ("elasticbert.encoder.layer.2.output.dense.weight", 1.0),
                       ("elasticbert.encoder.layer.0.output.dense.weight", 0.25),
                       ("elasticbert.embeddings.word_embeddings.weight", 0.125)):  # fmt: skip
        assert training.learning_rate_of(name, 3, args) == rate, name
    assert training.learning_rate_of("elasticbert.encoder.layer.0.x", 3, argparse.Namespace()) == 1.0


def test_loss_of_a_recipe():
    logits = torch.tensor([[[0.0, 0.0]], [[2.0, -1.0]]])
    labels = torch.tensor([1])
    last, first = math.log(1 + math.exp(3)), math.log(2)
    assert abs(float(recipes.Recipe().loss(logits, labels)) - (first + last) / 2) < 1e-6
    weighted = recipes.Recipe(first_exit_weight=0.5).loss(logits, labels)
    assert abs(float(weighted) - (0.5 * first + last) / 1.5) < 1e-6
    # The first exit follows the last one's probabilities alone; those are not trained by it.
    logits = torch.tensor([[[0.0, 1.0]], [[2.0, -1.0]]], requires_grad=True)
    follow = recipes.Recipe(distill=1.0)
    follow.loss(logits, labels).backward()
    wanted = torch.softmax(torch.tensor([0.0, 1.0]), -1) - torch.softmax(torch.tensor([2.0, -1.0]), -1)
    assert torch.allclose(logits.grad[0, 0], wanted / 2, atol=1e-6)
    own = torch.softmax(torch.tensor([2.0, -1.0]), -1) - torch.tensor([0.0, 1.0])
    assert torch.allclose(logits.grad[1, 0], own / 2, atol=1e-6)
    # All exits follow a teacher, the last one too.
    teacher = torch.tensor([[0.25, 0.75]])
    logits.grad = None
    follow.loss(logits, labels, teacher=teacher).backward()
    for exit in (0, 1):
        assert torch.allclose(logits.grad[exit], (logits[exit].softmax(-1) - teacher).detach() / 2, atol=1e-6)


def test_teacher():
    """Labels that say nothing beside a teacher that does: the network learns what it says."""
    rows = [(text, "0.05 0.95") for text in GOOD] + [(text, "0.95 0.05") for text in BAD]
    lines = [f"{text}\t{i % 2}\t{p}\n" for i, (text, p) in enumerate(rows * 4)]
    write("taught.tsv", "text\tlabel\tteacher\n" + "".join(lines))
    run("train.py", "finetune", "--work", "taught", "--train", "taught.tsv", "--vocab", "vocab.txt", "--output",
        "taught_model", "--steps", 200, "--distill", 1, "--lr", 5e-3, "--ema", 0, "--dropout", 0, "--token-dropout", 0,
        *SIZES)  # fmt: skip
    net, words, _ = folder.load_folder("taught_model")
    examples = data.Examples.load("taught", "train.tsv", words)
    for logits in metrics.all_logits(net, examples):
        assert np.abs(metrics.softmax(logits)[:, 1] - np.where(examples.labels == 1, 0.95, 0.05)).max() < 0.1
    for taught, message in (("text\tlabel\tteacher\na b\t0\t0.5 0.6\n", "odd.tsv:2: teacher '0.5 0.6'"),
                            ("text\tlabel\tteacher\na b\t0\tx\n", "odd.tsv:2: teacher 'x'"),
                            ("text\tlabel\tteacher\na\t0\t0.5 0.5\nb\t1\t0 0 1\n", "odd.tsv:3: 3 probabilities"),
                            ("text\tlabel\tteacher\na\t0\t0 0 1\nb\t1\t0 0 1\n", "the teacher has 3 classes"),
                            ):  # fmt: skip
        write("odd.tsv", taught)
        said = run("train.py", "finetune", "--work", "taught", "--train", "odd.tsv", "--vocab", "vocab.txt", "--output",
                   "odd_model", "--steps", 1, *SIZES, status=1).stderr  # fmt: skip
        assert message in said, said
    said = run("train.py", "finetune", "--work", "taught", "--train", "taught.tsv", "--train", "train.tsv", "--vocab",
               "vocab.txt", "--output", "odd_model", "--steps", 1, *SIZES, status=1).stderr  # fmt: skip
    assert "train.tsv: its column teacher has no classes, that of taught.tsv 2" in said, said


def expected_shapes(vocab, labels):
    norm = {"LayerNorm.weight": [HIDDEN], "LayerNorm.bias": [HIDDEN]}
    square = {"weight": [HIDDEN, HIDDEN], "bias": [HIDDEN]}
    shapes = {"word_embeddings.weight": [vocab, HIDDEN],
              "position_embeddings.weight": [POSITIONS, HIDDEN],
              "token_type_embeddings.weight": [2, HIDDEN], **norm}
    shapes = {f"elasticbert.embeddings.{name}": shape for name, shape in shapes.items()}
    for i in range(LAYERS):
        layer = f"elasticbert.encoder.layer.{i}."
        for part, shape in square.items():
            for name in ("self.query", "self.key", "self.value", "output.dense"):
                shapes[f"{layer}attention.{name}.{part}"] = shape
            shapes[f"elasticbert.encoder.pooler.{i}.dense.{part}"] = shape
        for part, shape in norm.items():
            shapes[f"{layer}attention.output.{part}"] = shape
            shapes[f"{layer}output.{part}"] = shape
        shapes[f"{layer}intermediate.dense.weight"] = [INTERMEDIATE, HIDDEN]
        shapes[f"{layer}intermediate.dense.bias"] = [INTERMEDIATE]
        shapes[f"{layer}output.dense.weight"] = [HIDDEN, INTERMEDIATE]
        shapes[f"{layer}output.dense.bias"] = [HIDDEN]
        shapes[f"classifiers.{i}.weight"] = [labels, HIDDEN]
        shapes[f"classifiers.{i}.bias"] = [labels]
    return shapes


def check_folder(path, labels):
    with open(os.path.join(path, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    assert config["model_type"] == "elasticbert" and config["num_labels"] == labels
    assert config["num_hidden_layers"] == config["num_output_layers"] == LAYERS
    assert len(config["id2label"]) == labels
    with open(os.path.join(path, "tokenizer_config.json"), encoding="utf-8") as file:
        assert json.load(file)["do_lower_case"] is True
    tensors = read_tensors(os.path.join(path, "model.safetensors"))
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    assert shapes == expected_shapes(config["vocab_size"], labels)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


def test_pretrain_then_finetune():
    run("train.py", "pretrain", "--work", "work", "--vocab", "vocab.txt", "--text", "train.tsv",
        "--grow", 0.5, "--steps", 10, "--output", "pretrained", *SIZES)
    run("train.py", "finetune", "--work", "work", "--start", "pretrained",
        "--steps", 200, "--lr", 3e-3, "--ema", 0, "--dropout", 0, "--token-dropout", 0,
        "--train", "train.tsv[:-4]", "--dev", "own=train.tsv", "--calibrate", "train.tsv[-4:]",
        "--crop", 8, "--output", "tuned", *SIZES)
    check_folder("tuned", 2)
    result = run("train.py", "eval", "--work", "work", "--model", "tuned", "--cores", 1,
                 "--dev", "own=train.tsv", "--output", "tuned")
    assert "own acc" in result.stdout
    with open("tuned/report.json", encoding="utf-8") as file:
        exits = json.load(file)["dev"]["own"]
    assert len(exits) == LAYERS and exits[-1]["accuracy"] > 0.9, exits


def test_pairs_of_three_classes_on_two_cores():
    run("train.py", "finetune", "--work", "pairs", "--vocab", "vocab.txt", "--steps", 4,
        "--train", "pairs.tsv", "--dev", "own=pairs.tsv", "--labels", "yes,maybe,no", "--grow", 0.5,
        "--output", "pairs", *SIZES[:-1], 2)
    check_folder("pairs", 3)
    layers = read_tensors("pairs/model.safetensors")
    name = "elasticbert.encoder.layer.%d.attention.self.query.weight"
    apart = (layers[name % 0] - layers[name % 1]).abs().max()
    assert 0 < apart < 0.02, f"layer 2 began as a copy of layer 1, now they differ by {apart}"


def test_frozen_words():
    run("train.py", "finetune", "--work", "frozen", "--start", "pairs", "--steps", 3, "--train", "pairs.tsv",
        "--freeze-words", "--output", "frozen")
    name = "elasticbert.embeddings.word_embeddings.weight"
    one, other = (read_tensors(f"{path}/model.safetensors") for path in ("pairs", "frozen"))
    assert torch.equal(one[name], other[name])
    name = "elasticbert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(one[name], other[name])


def test_mean_exits_in_the_folder():
    run("train.py", "finetune", "--work", "mean", "--vocab", "vocab.txt", "--steps", 5,
        "--pooling", "mean", "--recipe", "equilibrium", "--head-lr", 3, "--round-from", 0.5, "--train", "train.tsv",
        "--output", "mean", *SIZES)
    assert folder.load_folder("mean")[0].shape.exit_pooling == "mean"
    again, _, _ = folder.load_folder("mean", pooling="first")
    assert again.shape.exit_pooling == "first"
    name = "classifiers.0.weight"
    kept = read_tensors("mean/model.safetensors")[name]
    assert not torch.equal(again.state_dict()[name], kept)  # made for other inputs
    with open("mean/config.json", encoding="utf-8") as file:
        config = json.load(file)
    del config["exit_pooling"]
    write("mean/config.json", json.dumps(config))
    assert folder.load_folder("mean")[0].shape.exit_pooling == "first"


def test_class_weights():
    weights = train.class_weights(np.array([0] * 9 + [1]), 3, 0.5)
    assert abs(float(weights[1] / weights[0]) - 3) < 1e-6
    assert abs(float(9 * weights[0] + weights[1]) / 10 - 1) < 1e-6
    assert train.class_weights(np.array([0, 1]), 2, 0) is None


def test_epochs_end_it():
    result = run("train.py", "finetune", "--work", "epochs", "--vocab", "vocab.txt", "--train",
                 "train.tsv", "--epochs", 2, "--minutes", 100, "--output", "epochs",
                 "--labels-file", write("labels.json", '["a, b", "c"]'), *SIZES)
    assert "wrote epochs" in result.stderr
    with open("epochs/config.json", encoding="utf-8") as file:
        assert json.load(file)["id2label"] == {"0": "a, b", "1": "c"}


def test_cased_tokenizer():
    tokens = tokenizer.SPECIAL_TOKENS + ["Film", "film", "##s"]
    assert tokenizer.Tokenizer(tokens, False).encode("Film films FILM") == [5, 6, 7, tokenizer.UNK]
    assert tokenizer.Tokenizer(tokens).encode("Film films FILM") == [6, 6, 7, 6]
    assert tokenizer.basic_tokenize("Caf\u00e9!", False) == ["Caf\u00e9", "!"]


def finetune_arguments(name):
    return ["train.py", "finetune", "--work", f"work-{name}", "--vocab", "vocab.txt",
            "--train", "train.tsv", "--steps", 120, "--checkpoint-minutes", 0,
            "--output", name, *SIZES]


def test_resume_equals_uninterrupted():
    run(*finetune_arguments("whole"))
    process = subprocess.Popen(command(*finetune_arguments("cut")), stderr=subprocess.DEVNULL)
    while not os.path.exists("work-cut/finetune.pt"):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert "resumed from" in run(*finetune_arguments("cut")).stderr
    whole = read_tensors("whole/model.safetensors")
    cut = read_tensors("cut/model.safetensors")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    changed = finetune_arguments("cut") + ["--lr", 1]
    assert "other --lr" in run(*changed, status=1).stderr
    # Another file under the same name is noticed.
    with open("train.tsv", encoding="utf-8") as file:
        text = file.read()
    write("train.tsv", text + "one more row\t1\n")
    assert "other training data" in run(*finetune_arguments("cut"), status=1).stderr
    write("train.tsv", text)


def test_bad_input():
    cases = [
        ("text\tlabel\ngood\t1\nbad\n", "bad.tsv:3: 1 fields"),
        ("text\tlabel\ngood\tyes\n", "bad.tsv:2: label 'yes'"),
        ("sentence\tlabel\ngood\t1\n", "bad.tsv:1: no column 'text'"),
        ("text\tlabel\n", "bad.tsv: no rows"),
    ]
    for text, message in cases:
        write("bad.tsv", text)
        error = run("train.py", "finetune", "--work", "bad", "--vocab", "vocab.txt",
                    "--train", "bad.tsv", "--output", "bad", status=1).stderr
        assert message in error and "Traceback" not in error, error
    error = run("train.py", "eval", "--work", "bad", "--model", "missing", status=1).stderr
    assert "missing: not a usable model folder" in error


def test_numbers_out_of_bounds():
    """Refused by name before anything is read; nan minutes would never be over."""
    finetune = ("train.py", "finetune", "--work", "odd", "--vocab", "vocab.txt", "--train", "train.tsv", "--output", "o")
    for flag, value in (("--minutes", "nan"), ("--minutes", 0), ("--minutes", "inf"), ("--steps", 0), ("--warmup", 0),
                        ("--cores", 0), ("--lr", "nan"), ("--ema", 1), ("--batch-tokens", -1), ("--hidden", 0),
                        ("--dropout", 1.5), ("--grow", "nan"), ("--seed", -1), ("--epochs", "nan"),
                        ("--output", ""), ("--work", "")):  # fmt: skip
        try:
            train.run_command(train.parse([str(word) for word in (*finetune[1:], flag, value)]))
        except data.DataError as error:
            assert str(error).startswith((flag + " ", flag + ":")), error
        else:
            raise AssertionError(f"{flag} {value} is taken")
        assert not os.path.exists("odd")
    error = run(*finetune, "--minutes", "nan", status=1).stderr
    assert "train.py: error: --minutes nan: not a number above 0" in error and "Traceback" not in error, error
    error = run("vocab.py", "--text", "train.tsv", "--output", "v.txt", "--size", -1, status=1).stderr
    assert "--size -1" in error and not os.path.exists("v.txt"), error


def test_one_training_at_a_time_in_a_work_folder():
    arguments = finetune_arguments("busy")
    # What was begun in the background of a shell ignores Ctrl-C, and so does what it begins.
    process = subprocess.Popen(command(*arguments, "--steps", 10**6), stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    while not os.path.exists("work-busy/finetune.pt"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    assert "work-busy/finetune.lock: another train.py finetune is at work" in run(*arguments, status=1).stderr
    # Ctrl-C ends it with a word, and what it has written is good.
    process.send_signal(signal.SIGINT)
    error = process.communicate()[1]
    assert process.returncode == 130 and "interrupted; the same command goes on" in error, error
    assert "Traceback" not in error
    assert "resumed from" in run(*arguments, "--steps", 1).stderr


def test_metrics():
    logits = torch.tensor([[[4.0, 0.0], [0.0, 0.2]], [[3.0, 0.0], [2.0, 0.0]]]).numpy()
    labels = torch.tensor([0, 0]).numpy()
    accuracy, mean_layer = metrics.early_exit(logits, labels, 0.9)
    assert (accuracy, mean_layer) == (1.0, 1.5)
    assert metrics.early_exit(logits, labels, 0.5) == (0.5, 1.0)
    assert metrics.fit_temperature(logits[1], labels) < 1.0


def main():
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        make_data()
        tests = [value for name, value in globals().items() if name.startswith("test_")]
        for test in tests:
            test()
            print(f"ok {test.__name__}", flush=True)
        os.chdir("/")
    print(f"{len(tests)} passed, 0 failed")


if __name__ == "__main__":
    main()
