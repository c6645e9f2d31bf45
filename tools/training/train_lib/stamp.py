"""What a model file says of the data that it was trained on.

splitee.training_sets: names. splitee.training_sketch: the SKETCH lowest hashes of the texts, case
and punctuation aside; from them the share of other texts that the network has seen can be told
without holding any text (a bottom-k sketch: Broder 1997). Needs NumPy only.
"""

import hashlib
import os
import re

from . import paths  # noqa: F401
import gguf_reader
import gguf_writer as gguf

from .splits import words_of

SKETCH = 1024
FEWEST_WORDS = 4  # shorter texts are met anywhere
FEWEST_SEEN = 8  # hashes for an estimate


def text_hashes(texts):
    """Distinct hashes of texts that are long enough to be told by."""
    result = set()
    for text in texts:
        words = words_of(text)
        if len(words) >= FEWEST_WORDS:
            digest = hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest()
            result.add(int.from_bytes(digest, "little"))
    return result


def sketch_of(texts, more=()):
    """The lowest hashes of texts, and of what other sketches have."""
    return sorted(text_hashes(texts).union(more))[:SKETCH]


def overlap(sketch, texts):
    """Share of the texts that are among those of the sketch; None where too few can be told."""
    if not sketch:
        return None
    highest = sketch[-1] if len(sketch) == SKETCH else 2**64
    comparable = [value for value in text_hashes(texts) if value <= highest]
    if len(comparable) < FEWEST_SEEN:
        return None
    return len(set(sketch).intersection(comparable)) / len(comparable)


def set_name(path):
    """A data set's name: its file's, without folder and extension."""
    return re.sub(r"\.(tsv|txt|csv)?(\.xz)?$", "", os.path.basename(path)) or "data"


def training_keys(names, sketch):
    return [("splitee.training_sets", gguf.ARRAY, (gguf.STRING, names)),
            ("splitee.training_sketch", gguf.ARRAY, (gguf.U64, sketch))]


def stamp(path, names, sketch):
    """Writes both into a model file, in place."""
    file = gguf_reader.GgufFile(path)
    tensors = [tensor.to_write() for tensor in file.tensors.values()]
    return gguf.write_gguf(path, file.with_keys(training_keys(names, sketch)), tensors)
