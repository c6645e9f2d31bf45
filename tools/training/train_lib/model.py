"""Multi-exit BERT encoder with ElasticBERT's parameter names."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .recipes import Recipe

INIT_STD = 0.02
MIXED_LAYER_NORM = int(torch.__version__.split(".")[0]) >= 2
POOLINGS = ("first", "mean")


@dataclass
class Shape:
    """Sizes of a model, under Hugging Face's configuration names."""

    vocab_size: int
    num_labels: int = 2
    hidden_size: int = 192
    num_hidden_layers: int = 12
    num_attention_heads: int = 3
    intermediate_size: int = 768
    max_position_embeddings: int = 256
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    exit_pooling: str = "first"  # what exits read of their layer: "first" token, "mean" of all


class Dropout(nn.Module):
    """Dropout with NumPy's generator: on a CPU several times as fast as torch's own."""

    generator = np.random.default_rng(0)

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training or not self.rate:
            return x
        noise = Dropout.generator.integers(0, 256, x.numel(), dtype=np.uint8)
        keep = torch.from_numpy(noise).view(x.shape) >= round(256 * self.rate)
        return x * keep.to(x.dtype).div_(1 - self.rate)


def as_computed(x):
    """x in the type that products are computed in: elsewhere autocast would convert it every time.
    Old releases cannot normalise bfloat16."""
    narrow = torch.is_autocast_cpu_enabled() and MIXED_LAYER_NORM
    return x.to(torch.bfloat16) if narrow else x


class RoundedRows(torch.autograd.Function):
    """Rows rounded as the engine's int8 products round them: to 1/127 of their largest value. The
    gradient passes as if they were not."""

    @staticmethod
    def forward(context, x):
        step = x.detach().float().abs().amax(-1, keepdim=True).clamp_min(1e-6) / 127
        return ((x.float() / step).round_() * step).to(x.dtype)

    @staticmethod
    def backward(context, gradient):
        return gradient


class Operand:
    """What products read. With `rounded`, training learns to live with int8 arithmetic."""

    rounded = False

    @staticmethod
    def of(x):
        return RoundedRows.apply(x) if Operand.rounded else x


class Embeddings(nn.Module):
    def __init__(self, shape, dropout):
        super().__init__()
        self.word_embeddings = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.position_embeddings = nn.Embedding(shape.max_position_embeddings, shape.hidden_size)
        self.token_type_embeddings = nn.Embedding(shape.type_vocab_size, shape.hidden_size)
        self.LayerNorm = nn.LayerNorm(shape.hidden_size, shape.layer_norm_eps)
        self.dropout = Dropout(dropout)

    def forward(self, ids, types):
        positions = self.position_embeddings.weight[: ids.shape[1]]
        total = self.word_embeddings(ids) + positions + self.token_type_embeddings(types)
        return self.dropout(as_computed(self.LayerNorm(total)))


class SelfAttention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.heads = shape.num_attention_heads
        self.query = nn.Linear(shape.hidden_size, shape.hidden_size)
        self.key = nn.Linear(shape.hidden_size, shape.hidden_size)
        self.value = nn.Linear(shape.hidden_size, shape.hidden_size)

    def forward(self, x, mask, asking):
        """asking: the rows of x that attend, [batch, rows, hidden]."""
        batch, length, hidden = x.shape
        size = hidden // self.heads
        x, asking = Operand.of(x), Operand.of(asking)
        weight = torch.cat([self.key.weight, self.value.weight])
        bias = torch.cat([self.key.bias, self.value.bias])
        fused = F.linear(x, weight, bias).view(batch, length, 2, self.heads, size)
        key, value = fused.permute(2, 0, 3, 1, 4)
        query = self.query(asking).view(batch, -1, self.heads, size).transpose(1, 2)
        scores = (query * size**-0.5) @ key.transpose(-1, -2)
        if mask is not None:
            scores = scores + mask.to(scores.dtype)
        return (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, -1, hidden)


class AddNorm(nn.Module):
    """Dense layer, dropout, residual sum and LayerNorm."""

    def __init__(self, width, shape, dropout):
        super().__init__()
        self.dense = nn.Linear(width, shape.hidden_size)
        self.LayerNorm = nn.LayerNorm(shape.hidden_size, shape.layer_norm_eps)
        self.dropout = Dropout(dropout)

    def forward(self, x, residual):
        return as_computed(self.LayerNorm(residual + self.dropout(self.dense(Operand.of(x)))))


class Layer(nn.Module):
    def __init__(self, shape, dropout):
        super().__init__()
        self.attention = nn.ModuleDict({
            "self": SelfAttention(shape),
            "output": AddNorm(shape.hidden_size, shape, dropout),
        })
        dense = nn.Linear(shape.hidden_size, shape.intermediate_size)
        self.intermediate = nn.ModuleDict({"dense": dense})
        self.output = AddNorm(shape.intermediate_size, shape, dropout)

    def forward(self, x, mask, first_only=False):
        """The layer's output, or that of each sequence's first token alone."""
        asking = x[:, :1] if first_only else x
        x = self.attention["output"](self.attention["self"](x, mask, asking), asking)
        return self.output(F.gelu(self.intermediate["dense"](Operand.of(x))), x)


class MaskedWordHead(nn.Module):
    """BERT's masked-word head; its output matrix is the word embedding."""

    def __init__(self, shape):
        super().__init__()
        self.transform = nn.ModuleDict({
            "dense": nn.Linear(shape.hidden_size, shape.hidden_size),
            "LayerNorm": nn.LayerNorm(shape.hidden_size, shape.layer_norm_eps),
        })
        self.bias = nn.Parameter(torch.zeros(shape.vocab_size))

    def forward(self, x, word_embeddings):
        x = self.transform["LayerNorm"](F.gelu(self.transform["dense"](x)).float())
        return F.linear(x, word_embeddings, self.bias)


class MultiExitEncoder(nn.Module):
    """Post-LN encoder; every layer has a pooler and a classifier.

    Layers above `depth` are skipped: pretraining starts shallow and grows.
    """

    def __init__(self, shape, dropout=0.0):
        super().__init__()
        self.shape, self.depth = shape, shape.num_hidden_layers
        self.layer_count = shape.num_hidden_layers
        layers = range(shape.num_hidden_layers)
        hidden = shape.hidden_size
        poolers = [nn.ModuleDict({"dense": nn.Linear(hidden, hidden)}) for _ in layers]
        self.elasticbert = nn.ModuleDict({
            "embeddings": Embeddings(shape, dropout),
            "encoder": nn.ModuleDict({
                "layer": nn.ModuleList(Layer(shape, dropout) for _ in layers),
                "pooler": nn.ModuleList(poolers),
            }),
        })
        self.classifiers = nn.ModuleList(nn.Linear(hidden, shape.num_labels) for _ in layers)
        self.cls = nn.ModuleDict({"predictions": MaskedWordHead(shape)})
        self.dropout = Dropout(dropout)
        self.recipe = Recipe()
        self.apply(initialise)
        positions = self.elasticbert["embeddings"].position_embeddings.weight
        positions.data.copy_(sinusoids(*positions.shape))

    def hidden_states(self, ids, types, lengths=None, exits_only=False):
        """Outputs of the active layers; lengths are needed only where rows are padded. With
        exits_only the last layer computes the first token alone where exits read no more."""
        mask = None
        first_only = exits_only and self.shape.exit_pooling == "first"
        if lengths is not None and int(lengths.min()) < ids.shape[1]:
            padding = torch.arange(ids.shape[1]) >= lengths[:, None]
            mask = torch.zeros(padding.shape).masked_fill(padding, -10000.0)[:, None, None, :]
        x = self.elasticbert["embeddings"](ids, types)
        states = []
        for i, layer in enumerate(self.elasticbert["encoder"]["layer"][: self.depth]):
            x = layer(x, mask, first_only=first_only and i == self.depth - 1)
            state, x = self.recipe.branch(x, self.depth - 1 - i)
            states.append(state)
        return states

    def exit_logits(self, ids, types, lengths):
        """Logits of all exits: [exits, batch, labels], float32."""
        logits = []
        for i, state in enumerate(self.hidden_states(ids, types, lengths, exits_only=True)):
            read = Operand.of(self.exit_input(state, lengths))
            pooled = torch.tanh(self.elasticbert["encoder"]["pooler"][i]["dense"](read))
            logits.append(self.classifiers[i](self.dropout(pooled)).float())
        return torch.stack(logits)

    def exit_input(self, state, lengths):
        """What an exit reads of its layer's output."""
        if self.shape.exit_pooling == "first":
            return state[:, 0]
        inside = torch.arange(state.shape[1]) < lengths[:, None]
        return ((inside / lengths[:, None]).to(state.dtype)[:, None] @ state).squeeze(1)

    def masked_word_loss(self, state, labels, ignored):
        chosen = labels != ignored
        weight = self.elasticbert["embeddings"].word_embeddings.weight
        scores = self.cls["predictions"](state[chosen], weight)
        return F.cross_entropy(scores.float(), labels[chosen])

    def grow(self, depth, optimizer):
        """Doubles the active depth: new layers copy the old ones, Adam's moments too."""
        layers = self.elasticbert["encoder"]["layer"]
        while self.depth < depth:
            for old, new in zip(layers[: self.depth], layers[self.depth : 2 * self.depth]):
                new.load_state_dict(old.state_dict())
                for source, target in zip(old.parameters(), new.parameters()):
                    state = optimizer.state.get(source, {})
                    optimizer.state[target] = {k: v.clone() for k, v in state.items()}
            self.depth = min(2 * self.depth, len(layers))


def initialise(module):
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=INIT_STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def sinusoids(count, size):
    """Start of the position embeddings: smooth, at the scale of the other weights."""
    angles = torch.arange(count)[:, None] / 10000 ** (torch.arange(0, size, 2) / size)
    return torch.cat([angles.sin(), angles.cos()], 1)[:, :size] * INIT_STD
