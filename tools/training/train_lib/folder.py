"""Checkpoint folders in Hugging Face's ElasticBERT layout, and word vectors."""

import json
import os
import struct
from dataclasses import asdict, fields

import torch

from .data import DataError, open_text, read_lines
from .model import MultiExitEncoder, Shape
from .tensors import read_safetensors, write_safetensors
from .tokenizer import Tokenizer

VECTOR_STD = 0.05
OPTIONAL = {"exit_pooling"}  # of config.json: other programs do not write it


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def save_folder(folder, model, tokenizer, label_names, word_head=True):
    """Writes config.json, vocab.txt, tokenizer_config.json and model.safetensors;
    the masked-word head is left out where word_head is false."""
    os.makedirs(folder, exist_ok=True)
    layers = model.shape.num_hidden_layers
    write_json(os.path.join(folder, "config.json"), {
        "model_type": "elasticbert",
        "architectures": ["ElasticBertForSequenceClassification"],
        "num_output_layers": layers,
        "hidden_act": "gelu",
        "pad_token_id": 0,
        **asdict(model.shape),
        "id2label": {str(i): name for i, name in enumerate(label_names)},
        "label2id": {name: i for i, name in enumerate(label_names)},
    })
    write_json(os.path.join(folder, "tokenizer_config.json"), {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": tokenizer.lower_case,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "model_max_length": model.shape.max_position_embeddings,
    })
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(tokenizer.tokens) + "\n")
    tensors = {name: tensor for name, tensor in model.state_dict().items()
               if word_head or not name.startswith("cls.")}
    write_safetensors(os.path.join(folder, "model.safetensors"),
                      {name: tensor.detach().numpy() for name, tensor in tensors.items()})


def load_folder(folder, dropout=0.0, num_labels=None, pooling=None):
    """Model, tokenizer and label names; other num_labels starts new classifiers, other pooling new
    exits."""
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        tokenizer = Tokenizer.from_folder(folder)
        arrays = read_safetensors(os.path.join(folder, "model.safetensors"))
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        shape = Shape(**{field.name: config[field.name] for field in fields(Shape)
                         if field.name in config or field.name not in OPTIONAL})
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise DataError(f"{folder}: not a usable model folder: {error!r}") from error
    names = [config["id2label"][str(i)] for i in range(shape.num_labels)]
    if num_labels not in (None, shape.num_labels):
        shape.num_labels, names = num_labels, default_label_names(num_labels)
        tensors = {k: v for k, v in tensors.items() if not k.startswith("classifiers.")}
    if pooling not in (None, shape.exit_pooling):
        shape.exit_pooling = pooling
        tensors = {k: v for k, v in tensors.items()
                   if not k.startswith("classifiers.") and ".pooler." not in k}
    model = MultiExitEncoder(shape, dropout)
    model.load_state_dict(tensors, strict=False)
    return model, tokenizer, names


def default_label_names(count):
    return ["negative", "positive"] if count == 2 else [f"LABEL_{i}" for i in range(count)]


def read_vectors(path):
    """Word vectors: GloVe's text format, or the JSON of wink-embeddings packages."""
    if path.endswith(".json"):
        with open_text(path) as file:
            content = json.load(file)
        size = content["dimensions"]
        return {word: values[:size] for word, values in content["vectors"].items()}
    rows = (line.rstrip().split(" ") for line in read_lines(path))
    return {row[0]: [float(value) for value in row[1:]] for row in rows}


def start_embedding(model, tokenizer, path):
    """Puts word vectors into the first columns of whole words' embeddings."""
    vectors = read_vectors(path)
    found = [(i, vectors[token]) for i, token in enumerate(tokenizer.tokens) if token in vectors]
    if not found:
        raise DataError(f"{path}: holds none of the vocabulary's words")
    rows, values = zip(*found)
    values = torch.tensor(values)[:, : model.shape.hidden_size]
    values = (values - values.mean(0)) / values.std() * VECTOR_STD
    weight = model.elasticbert["embeddings"].word_embeddings.weight.data
    weight[torch.tensor(rows), : values.shape[1]] = values
    return len(found)
