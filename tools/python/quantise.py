"""What a narrower number format does to a model, and scales that keep int8 from doing it.

int8 products round each row of their input with one scale. Trained encoders have a few columns with
large values, which leave the others few of the 255 steps. input_scales() makes such columns smaller
and their weights larger, by as much as costs least on a sample (Xiao et al. 2022, "SmoothQuant"):
exact but for the rounding. measure() runs the sample through the model with its products as they
were and rounded as the format rounds them. Both compute the encoder with numpy alone; names are
those of runtime/bert/model_format.h.
"""

import random
import re

import numpy as np

SEED = 20240229
SEQUENCES, MOST_TOKENS = 120, 48
ROWS = 512  # of a product's input that its scales are chosen on
POWERS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LEAST_GAIN = 0.1  # of the rounding error, for scales to be worth their multiplications
LEAST, MOST = 1e-4, 1e4  # of a scale
DECIDED = 0.1  # between the probabilities of the best class and the next; less is a toss-up


# --- the sample ---


def random_sample(vocab, positions):
    """Token ids of sequences of random words of the vocabulary."""
    rng = random.Random(SEED)
    words = [i for i, token in enumerate(vocab) if not token.startswith("[")]
    lengths = [max(1, min(length, positions - 2)) for length in (8, 12, 16, 24, 32)]
    return [
        [vocab.index("[CLS]"), *rng.choices(words, k=lengths[i % len(lengths)]), vocab.index("[SEP]")]
        for i in range(SEQUENCES)
    ]


def pieces_of(word, numbers):
    """Greedy WordPiece."""
    begin, pieces = 0, []
    while begin < len(word):
        end = len(word)
        while end > begin and ("##" if begin else "") + word[begin:end] not in numbers:
            end -= 1
        if end == begin:
            return [numbers["[UNK]"]]
        pieces.append(numbers[("##" if begin else "") + word[begin:end]])
        begin = end
    return pieces


def tokenize(texts, vocab, lower_case, positions):
    """Token ids of texts, near enough to BERT's for a sample."""
    numbers = {token: i for i, token in enumerate(vocab)}
    most = min(MOST_TOKENS, positions) - 2
    result = []
    for text in texts:
        words = re.findall(r"\w+|[^\w\s]", text.lower() if lower_case else text)
        ids = [piece for word in words for piece in pieces_of(word, numbers)]
        if ids:
            result.append([numbers["[CLS]"], *ids[:most], numbers["[SEP]"]])
    return result


# --- the encoder ---


def gelu(x):
    # erf by Abramowitz & Stegun 7.1.26, right to 1.5e-7
    z = np.abs(x) * np.float32(0.70710678)
    t = 1 / (1 + np.float32(0.3275911) * z)
    factors = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    sum_of_powers = np.zeros_like(x)
    for factor in factors:
        sum_of_powers = (sum_of_powers + np.float32(factor)) * t
    erf = np.sign(x) * (1 - sum_of_powers * np.exp(-z * z))
    return x * np.float32(0.5) * (1 + erf)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_new": gelu,  # near enough for a sample
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


class Encoder:
    """load(name): a tensor's values as float32. exits: their layers, 1-based."""

    def __init__(self, load, layers, heads, epsilon, exits, mean_of_tokens, activation="gelu"):
        self.load, self.layers, self.heads, self.epsilon = load, layers, heads, epsilon
        self.exits, self.mean_of_tokens = exits, mean_of_tokens
        self.activation = ACTIVATIONS.get(activation, gelu)

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x /= np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(self.epsilon))
        return x * self.load(f"{name}.weight") + self.load(f"{name}.bias")

    def embed(self, ids):
        x = self.load("token_embd.weight")[ids] + self.load("position_embd.weight")[: ids.shape[1]]
        return self.norm(x + self.load("token_types.weight")[0], "token_embd_norm")

    def products(self, layer):
        """(name of the input, names of the matrices) of the products of a layer, 0-based."""
        block = f"blk.{layer}."
        parts = [block + part for part in ("attn_output", "ffn_up", "ffn_down")]
        qkv = [f"{block}attn_{part}" for part in "qkv"]
        exits = [f"splitee.exit.{layer + 1}.pooler"] if layer + 1 in self.exits else []
        return [(f"{block}attn_qkv", qkv), *((part, [part]) for part in parts + exits)]

    def run(self, ids, product):
        """ids (samples, tokens); product(input name, matrix names, x) multiplies and adds the bias.

        Probabilities (exits, samples, classes).
        """
        samples, tokens = ids.shape
        x = self.embed(ids)
        answers = []
        for layer in range(self.layers):
            (qkv, output, up, down), exits = self.products(layer)[:4], self.products(layer)[4:]
            heads = product(*qkv, x).reshape(samples, tokens, 3, self.heads, -1)
            q, k, v = heads.transpose(2, 0, 3, 1, 4)
            scores = q @ k.transpose(0, 1, 3, 2) / np.float32(np.sqrt(q.shape[-1]))
            context = (softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(x.shape)
            x = self.norm(x + product(*output, context), f"blk.{layer}.attn_output_norm")
            wide = self.activation(product(*up, x))
            x = self.norm(x + product(*down, wide), f"blk.{layer}.layer_output_norm")
            for pooler in exits:
                answers.append(self.answer(layer + 1, pooler, x, product))
        return np.array(answers)

    def answer(self, layer, pooler, x, product):
        pooled = np.tanh(product(*pooler, x.mean(1) if self.mean_of_tokens else x[:, 0]))
        name = f"splitee.exit.{layer}.classifier"
        return softmax(pooled @ self.load(f"{name}.weight").T + self.load(f"{name}.bias"))

    def run_sample(self, sample, product):
        """The same for lists of ids, those of one length at a time."""
        lengths = sorted({len(ids) for ids in sample})
        groups = [np.array([ids for ids in sample if len(ids) == length]) for length in lengths]
        return np.concatenate([self.run(group, product) for group in groups], axis=1)

    def exact_product(self, _, matrices, x):
        parts = [x @ self.load(f"{m}.weight").T + self.load(f"{m}.bias") for m in matrices]
        return np.concatenate(parts, axis=-1)


# --- int8 ---


def round_rows(values):
    """Each row as int8 times its scale, in float32 again."""
    scales = np.abs(values).max(-1, keepdims=True) / np.float32(127)
    scales = np.where(scales > 0, scales, 1).astype(np.float32)
    return np.rint(values / scales) * scales


def rounding_error(x, w, scales):
    """The square of what rounding x * scales and w / scales adds to the product, in expectation."""
    x, w = x * scales, w / scales
    steps = (np.square(np.abs(m).max(1), dtype=np.float64).sum() for m in (x, w))
    sizes = [np.square(m, dtype=np.float64).sum() for m in (w, x)]
    return sum(step * size for step, size in zip(steps, sizes))


def choose_scales(x, w):
    """Scales of the columns of x (rows, k), whose product with w (out, k) is taken; or None."""
    columns_w = np.maximum(np.abs(w).max(0), 1e-12)
    plain = best = rounding_error(x, w, np.float32(1))
    chosen = None
    for columns_x in (np.abs(x).max(0), np.sqrt(np.square(x).mean(0))):
        columns_x = np.maximum(columns_x, 1e-3 * columns_x.max() + 1e-12)
        for power in POWERS:
            scales = columns_w ** (1 - power) / columns_x**power
            scales = scales / np.exp(np.log(scales).mean())
            scales = np.clip(scales, LEAST, MOST).astype(np.float32)
            error = rounding_error(x, w, scales)
            if error < best:
                best, chosen = error, scales
    return chosen if best < (1 - LEAST_GAIN) ** 2 * plain else None


def input_scales(encoder, sample):
    """{name of a product's input: scales of its columns}, for the products that gain by them."""
    rng = np.random.default_rng(SEED)
    inputs = {}

    def product(name, matrices, x):
        rows = x.reshape(-1, x.shape[-1])
        share = max(1, ROWS * x.shape[0] // len(sample))
        inputs.setdefault(name, []).append(rows[rng.permutation(len(rows))[:share]])
        return encoder.exact_product(name, matrices, x)

    encoder.run_sample(sample, product)
    result = {}
    for layer in range(encoder.layers):
        for name, matrices in encoder.products(layer):
            w = np.concatenate([encoder.load(f"{m}.weight") for m in matrices])
            scales = choose_scales(np.concatenate(inputs.pop(name)), w)
            if scales is not None:
                result[name] = scales
    return result


# --- what a format does ---


def round_bf16(values):
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) & np.uint32(0xFFFF0000)).view(np.float32)


def rounded_product(encoder, dtype, scales):
    """encoder.exact_product as `dtype` computes it; scales: of input_scales()."""
    weights = {}

    def rounded(matrix, columns):
        w = encoder.load(f"{matrix}.weight") / columns
        if dtype == "i8":
            return round_rows(w)
        return round_bf16(w) if dtype == "bf16" else w.astype(np.float16).astype(np.float32)

    def product(name, matrices, x):
        columns = scales.get(name, np.float32(1))
        if name not in weights:
            weights[name] = np.concatenate([rounded(matrix, columns) for matrix in matrices])
        x = x * columns
        x = round_rows(x) if dtype == "i8" else round_bf16(x) if dtype == "bf16" else x
        bias = np.concatenate([encoder.load(f"{matrix}.bias") for matrix in matrices])
        return x @ weights[name].T + bias

    return product


def measure(encoder, sample, dtype, scales):
    """Per exit: share of the sample with the same class, the same among those that were decided
    (1 without any), mean change of the confidence."""
    before = encoder.run_sample(sample, encoder.exact_product)
    after = encoder.run_sample(sample, rounded_product(encoder, dtype, scales))
    same = before.argmax(-1) == after.argmax(-1)
    best = np.sort(before, axis=-1)
    decided = best[..., -1] - best[..., -2] >= DECIDED
    among = [float(row[chosen].mean()) if chosen.any() else 1.0 for row, chosen in zip(same, decided)]
    change = np.abs(before.max(-1) - after.max(-1)).mean(-1)
    return list(zip(same.mean(-1).tolist(), among, change.tolist()))
