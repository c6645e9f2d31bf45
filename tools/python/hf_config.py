"""config.json: what kind of network a folder holds, and its sizes."""

import os

from hf_files import CheckpointError, check_text, read_json_object

# model_type -> the prefixes of architectures that are understood.
FAMILIES = {
    "bert": ("Bert", "DeeBert", "ElasticBert"),
    "elasticbert": ("ElasticBert",),
    "distilbert": ("DistilBert",),
    "electra": ("Electra",),
}
HEADS = ("ForSequenceClassification", "ForSequenceClassificationWithPabee", "Model")

# What config.json calls an activation -> splitee.activation of the model file.
ACTIVATIONS = {
    "gelu": "gelu", "gelu_python": "gelu",
    "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh", "gelu_python_tanh": "gelu_tanh",
    "relu": "relu", "silu": "silu", "swish": "silu",
}  # fmt: skip

# Other names of config.json's keys.
_DISTILBERT_KEYS = {
    "num_hidden_layers": "n_layers", "hidden_size": "dim", "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim", "hidden_act": "activation",
}  # fmt: skip

# What a multi-label or a one-label head says: splitee.output of the model file.
OUTPUTS = {
    None: "softmax", "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid", "regression": "value",
}  # fmt: skip


class Config:
    """The parts of config.json that shape the model, checked."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "config.json")
        self.json = read_json_object(self.path)
        self.family = self.read_family()
        keys = _DISTILBERT_KEYS if self.family == "distilbert" else {}
        self.keys = {key: old for key, old in keys.items() if old in self.json}
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
        self.epsilon = 1e-12 if self.family == "distilbert" else self.json.get("layer_norm_eps", 1e-12)
        if type(self.epsilon) not in (int, float) or not 1e-30 < self.epsilon < 1:
            raise CheckpointError(f"{self.path}: bad layer_norm_eps")
        self.pooling = self.json.get("exit_pooling", "first")
        self.only("exit_pooling", "first", "mean")
        self.activation = self.word("hidden_act", ACTIVATIONS, "gelu")
        self.refuse_what_is_not_known()

    def read_family(self):
        """By model_type; None where only the tensors' names can say."""
        architectures = self.json.get("architectures") or []
        if not isinstance(architectures, list) or len(architectures) > 100:
            raise CheckpointError(f"{self.path}: architectures is not a list of names")
        family = self.json.get("model_type")
        if family is not None and (type(family) is not str or family not in FAMILIES):
            named = f" ({architectures[0]!r})" if architectures else ""
            raise CheckpointError(f"{self.path}: model_type = {family!r}{named} is not supported, "
                                  f"only {', '.join(FAMILIES)}")  # fmt: skip
        prefixes = FAMILIES.get(family) or sorted({p for f in FAMILIES.values() for p in f})
        known = {prefix + head for prefix in prefixes for head in HEADS}
        for name in architectures:
            if type(name) is not str or name not in known:
                raise CheckpointError(f"{self.path}: architectures = {name!r} is not supported, only "
                                      "...ForSequenceClassification")  # fmt: skip
        return family

    def refuse_what_is_not_known(self):
        self.only("position_embedding_type", "absolute")
        self.only("is_decoder", False)
        self.only("add_cross_attention", False)
        self.only("quantization_config", None)
        self.only("pruned_heads", {}, None, [])
        self.only("auto_map", None, {})
        if self.family == "electra":
            size = self.json.get("embedding_size", 128)
            if size != self.hidden:
                raise CheckpointError(f"{self.path}: embedding_size = {size!r} apart from hidden_size = "
                                      f"{self.hidden} is not supported")  # fmt: skip

    def name(self, key):
        return self.keys.get(key, key)

    def integer(self, key, low, high, default=None):
        key = self.name(key)
        value = self.json.get(key, default)
        if type(value) is not int or not low <= value <= high:
            raise CheckpointError(f"{self.path}: {key} must be an integer from {low} to {high}")
        return value

    def word(self, key, words, default):
        """What `words` has for the value of a key."""
        key = self.name(key)
        value = self.json.get(key, default)
        if value is not None and type(value) is not str or value not in words:
            known = ", ".join(word for word in words if word)
            raise CheckpointError(f"{self.path}: {key} = {value!r} is not supported, only {known}")
        return words[value]

    def only(self, key, *allowed):
        value = self.json.get(key, allowed[0])
        if not any(type(value) is type(one) and value == one for one in allowed):
            text = repr(value)
            raise CheckpointError(f"{self.path}: {key} = {text[:200]} is not supported")

    def output(self, classes):
        """What the answers are: softmax, sigmoid (of each label) or value."""
        output = self.word("problem_type", OUTPUTS, None)
        if self.json.get("problem_type") is None and classes == 1:
            return "value"
        if output == "value" and classes > 1 or output == "softmax" and classes == 1:
            kind = self.json["problem_type"]
            raise CheckpointError(f"{self.path}: problem_type = {kind!r} with {classes} labels is not "
                                  "supported")  # fmt: skip
        return output

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
        check_text(label, where)
    if len(set(labels)) != len(labels):
        raise CheckpointError(f"{where}: a label comes twice")
    return labels
