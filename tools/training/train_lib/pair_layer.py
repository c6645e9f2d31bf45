"""A first layer that compares the two sentences of a pair from the start.

A small encoder trained from scratch on some 10,000 pairs does not find out by itself that a word is
to be looked for in the other sentence. pair_encoder() puts a layer with such weights before the
layers of a pretrained encoder. Two of its heads attend to like words of the other sentence, or to
[SEP] where there are none, and subtract what they find: words that both sentences share fade, the
others stay. It is an ordinary layer that training goes on with, and nothing in the runtime knows
of it. The idea is the soft alignment of Parikh et al. 2016 (arXiv 1606.01933).
"""

import copy

import torch

from .data import DataError
from .model import MultiExitEncoder
from .tokenizer import CLS, SEP, SPECIAL_TOKENS

HEADS = 2  # heads that compare
SHARPNESS = (10.0, 8.0)  # attention score of a word with itself, per head
OTHER_SENTENCE = 6.0  # added in the other sentence, subtracted in the own one
NO_MATCH = 3.0  # score of [SEP], above the other sentence's unlike words
SUBTRACTED = 0.7  # share of the like word's vector
TYPE_SHARE = 0.35  # of a word vector's length, in which the two sentences differ
SAMPLED_WORDS = 2000
POSITIONS = 48
POSITION_DIRECTIONS = 6  # left out of the comparison
REMOVED = POSITION_DIRECTIONS + 3  # and those of the sentences, [CLS] and [SEP]


def principal(vectors, removed, count):
    """The strongest orthonormal directions [count, hidden] outside of those removed."""
    basis = torch.linalg.qr(removed.T)[0]
    rest = vectors - vectors @ basis @ basis.T
    values, directions = torch.linalg.eigh(rest.T @ rest / len(rest))
    return directions[:, -count:].flip(1).T, values[-count:].flip(0)


def separate_types(embeddings):
    """Makes the second sentence's type vector differ in a direction that words hardly use."""
    words = embeddings.word_embeddings.weight
    ones = torch.ones(1, words.shape[1])
    direction = principal(words - words.mean(0), ones, words.shape[1] - 1)[0][-1]
    types = embeddings.token_type_embeddings.weight
    shift = TYPE_SHARE * words.norm(dim=1).mean() * direction
    base = types[0].clone()
    types[0], types[1] = base - shift, base + shift


class WordSpace:
    """Directions of the embedding's output: words, the two sentences, the special tokens."""

    def __init__(self, embeddings):
        count, hidden = embeddings.word_embeddings.weight.shape
        words = torch.arange(len(SPECIAL_TOKENS), count, max(1, count // SAMPLED_WORDS))
        positions = min(POSITIONS, len(embeddings.position_embeddings.weight))
        ids = words[:, None].expand(-1, positions)
        states = [embeddings(ids, torch.full_like(ids, kind)) for kind in (0, 1)]
        both = torch.stack(states)  # [type, word, position, hidden]
        self.centre = both.mean((0, 1, 2))
        between = states[1].mean((0, 1)) - states[0].mean((0, 1))
        self.kind = 2 * between / (between @ between)
        ends = torch.full((1, positions), SEP)
        ends[0, 0] = CLS
        special = torch.cat([embeddings(ends, torch.full_like(ends, kind)) for kind in (0, 1)])
        special = special.mean(0) - self.centre
        special = torch.stack([special[0], special[1:].mean(0)])
        places = both.mean((0, 1)) - self.centre
        removed = torch.cat([between[None], special, principal(
            places, between[None], POSITION_DIRECTIONS)[0]])
        vectors = both.mean((0, 2)) - self.centre
        self.words, self.strengths = principal(vectors, removed, hidden - len(removed))
        self.vectors = vectors @ self.words.T
        # 1 on the special tokens, 0 on average over the words
        gram = vectors.T @ vectors / len(vectors) + special.T @ special
        target = special.sum(0)
        self.special = torch.linalg.solve(gram + 1e-3 * gram.trace() / len(gram) *
                                          torch.eye(len(gram)), target)


def set_head(layer, head, size, space, sharpness):
    """Query, key and value of one comparing head, and its part of the output matrix."""
    attention, output = layer.attention["self"], layer.attention["output"].dense
    rows = slice(head * size, (head + 1) * size)
    scale = size**0.5
    count = size - 2
    compare = space.words[:count] * space.strengths[:count, None] ** -0.25
    likeness = (space.vectors[:, :count] * space.strengths[:count] ** -0.25).square().sum(1)
    compare = compare * (sharpness * scale / likeness.mean()) ** 0.5
    kind = space.kind * (OTHER_SENTENCE * scale) ** 0.5
    query = torch.cat([compare, kind[None], torch.zeros_like(kind)[None]])
    key = torch.cat([compare, -kind[None], space.special[None] * NO_MATCH * scale])
    value = space.words[head * size : (head + 1) * size]
    for linear, weight in ((attention.query, query), (attention.key, key),
                           (attention.value, value)):
        linear.weight[rows] = weight
        linear.bias[rows] = -weight @ space.centre
    attention.query.bias[rows.stop - 1] = 1.0
    output.weight[:, rows] = -SUBTRACTED * value.T


@torch.no_grad()
def pair_encoder(pretrained, layers, dropout):
    """A new model: the comparing layer, then the pretrained one's first layers - 1."""
    shape = copy.copy(pretrained.shape)
    shape.num_hidden_layers = layers
    size = shape.hidden_size // shape.num_attention_heads
    too_shallow = layers - 1 > pretrained.shape.num_hidden_layers
    if too_shallow or HEADS * size > shape.hidden_size - REMOVED:
        raise DataError(f"--pair-layers {layers} needs a pretrained encoder of {layers - 1} layers "
                        f"at least, with more than {HEADS} heads")
    model = MultiExitEncoder(shape, dropout)
    embeddings = model.elasticbert["embeddings"]
    embeddings.load_state_dict(pretrained.elasticbert["embeddings"].state_dict())
    separate_types(embeddings)
    model.eval()
    space = WordSpace(embeddings)
    model.train()
    encoder = model.elasticbert["encoder"]["layer"]
    for head in range(HEADS):
        set_head(encoder[0], head, size, space, SHARPNESS[head])
    for new, old in zip(encoder[1:], pretrained.elasticbert["encoder"]["layer"]):
        new.load_state_dict(old.state_dict())
    return model


@torch.no_grad()
def deepened(model, layers):
    """A new model of so many layers: those of the given one, then layers that begin by passing on
    what they get, with the last exit's weights. (The LayerNorms keep it from being exact.)"""
    shape = copy.copy(model.shape)
    shape.num_hidden_layers = layers
    deep = MultiExitEncoder(shape, model.dropout.rate)
    deep.load_state_dict(model.state_dict(), strict=False)
    body = deep.elasticbert["encoder"]
    last = model.shape.num_hidden_layers - 1
    for i in range(last + 1, layers):
        for norm in (body["layer"][i].attention["output"], body["layer"][i].output):
            norm.dense.weight.zero_()
            norm.LayerNorm.load_state_dict(body["layer"][last].output.LayerNorm.state_dict())
        body["pooler"][i].load_state_dict(body["pooler"][last].state_dict())
        deep.classifiers[i].load_state_dict(deep.classifiers[last].state_dict())
    return deep
