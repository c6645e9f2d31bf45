"""A peer as one side of bench/peers/images, texts or batches, in a process of its own, which speaks as `peers_bench passes`
does:

    peer.py onnxruntime|openvino|ctranslate2|fasttextembed MODEL THREADS SAMPLES [OPTION ...]

prints the probabilities of all samples and exits in one line; then, for every line of standard input, a
number n, runs the first sample n times and prints the n milliseconds. MODEL: an ONNX graph, or a folder in the
peer's own layout (text_models.py). SAMPLES: raw float32, (samples, 3, side, side), or with --tokens N int32 ids,
(samples, N). With --lengths L,... int32 ids of samples of these lengths, which run as one batch: sorted by length,
--group of them in a call, padded to the longest of the call; the last exit alone answers. With --once: the milliseconds from before the peer is imported to the first sample's answer (Python
and NumPy are there already), and the peak of the process's memory in kB."""

import argparse
import os
import re
import sys
import time

import numpy as np

SAMPLES = 4
# Left to itself CTranslate2 runs AVX2 code on an AMD processor that has these, which is slower.
CTRANSLATE2_AVX512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
# Where the weights alone are int8: the activations get a scale for each row and so many columns. The default of
# 32 is slower at every length.
OPENVINO_GROUP = "128"


class OnnxRuntime:
    def __init__(self, options, _):
        import onnxruntime as ort

        session = ort.SessionOptions()
        session.intra_op_num_threads, session.inter_op_num_threads = options.threads, 1
        session.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        for entry in options.session_option:
            session.add_session_config_entry(*entry.split("=", 1))
        self.session = ort.InferenceSession(options.model, session, providers=["CPUExecutionProvider"])
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]

    def feed(self, sample):
        return dict(zip(self.inputs, sample))

    def run(self, feed):
        return self.session.run(self.outputs, feed)

    def logits(self, result):
        return result


class OpenVino:
    def __init__(self, options, sample):
        import openvino as ov

        core = ov.Core()
        model = core.read_model(options.model)
        if sample and model.is_dynamic():  # it is faster where it knows the shapes
            model.reshape({port: list(values.shape) for port, values in zip(model.inputs, sample)})
        # Left to itself it rounds to bfloat16 where the processor has it.
        settings = {"INFERENCE_NUM_THREADS": options.threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_PRECISION_HINT": "bf16" if options.precision == "bf16" else "f32"}  # fmt: skip
        if options.precision == "i8":
            settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = OPENVINO_GROUP
        compiled = core.compile_model(model, "CPU", settings)
        self.request = compiled.create_infer_request()
        self.count = len(compiled.outputs)

    def feed(self, sample):
        return list(sample)

    def run(self, feed):
        found = self.request.infer(feed, share_inputs=True, share_outputs=True)
        return [found[i] for i in range(self.count)]

    def logits(self, result):
        return result


class Head:
    """The last exit, for peers that end with the encoder."""

    def __init__(self, folder):
        self.tensors = np.load(os.path.join(folder, "head.npz"))

    def logits(self, first_tokens):
        pooled = np.tanh(first_tokens @ self.tensors["pooler.weight"].T + self.tensors["pooler.bias"])
        return [pooled @ self.tensors["classifier.weight"].T + self.tensors["classifier.bias"]]

    def undo_length(self, unit):
        """Of a vector that was divided by its length: before, it came out of the last norm, so that it has
        variance 1 before that norm's weight and bias."""
        weight, bias = np.float64(self.tensors["norm.weight"]), np.float64(self.tensors["norm.bias"])
        a, b = unit / weight, bias / weight
        square, middle, rest = np.mean(a * a), np.mean(a * b), np.mean(b * b) - 1
        return unit * (middle + np.sqrt(middle * middle - square * rest)) / square


class CTranslate2:
    TYPES = {"f32": "float32", "bf16": "bfloat16", "i8": "int8_float32"}

    def __init__(self, options, _):
        with open("/proc/cpuinfo", encoding="ascii") as file:
            if CTRANSLATE2_AVX512 <= set(file.read().split()):
                os.environ["CT2_FORCE_CPU_ISA"] = "AVX512"
        import ctranslate2

        self.view = ctranslate2.StorageView.from_array
        self.encoder = ctranslate2.Encoder(options.model, compute_type=self.TYPES[options.precision],
                                           inter_threads=1, intra_threads=options.threads)  # fmt: skip
        self.head = Head(options.model)

    def feed(self, sample):
        arrays = np.int32(sample[0]), np.int32(sample[1].sum(axis=1))
        return [self.view(values) for values in arrays], arrays  # a view does not keep its array alive

    def run(self, feed):
        return self.encoder.forward_batch(*feed[0])

    def logits(self, result):
        return self.head.logits(np.array(result.last_hidden_state)[:, 0])


class FastTextEmbed:
    def __init__(self, options, _):
        os.environ["FTE_THREADS"] = str(options.threads)
        import fasttextembed

        vocabulary = os.path.join(options.model, "vocab.tsv")
        self.model = fasttextembed.TextEmbedding(os.path.join(options.model, "model.fte"), vocabulary)
        with open(vocabulary, encoding="utf-8") as file:
            self.words = [line.split("\t")[0] for line in file]
        self.head = Head(options.model)

    def feed(self, sample):
        """It takes text, and adds the first and the last token itself."""
        return " ".join(self.words[token] for token in sample[0][0, 1:-1])

    def run(self, feed):
        return self.model.embed_one(feed)

    def logits(self, result):
        return self.head.logits(self.head.undo_length(np.array(result))[None])


PEERS = {"onnxruntime": OnnxRuntime, "openvino": OpenVino, "ctranslate2": CTranslate2, "fasttextembed": FastTextEmbed}


def read_samples(path, tokens):
    """Each as what a graph takes: one picture, or ids and a mask."""
    if tokens:
        ids = np.fromfile(path, np.int32).astype(np.int64).reshape(-1, 1, tokens)
        return [(sample, np.ones_like(sample)) for sample in ids]
    values = np.fromfile(path, np.float32)
    pixels = round((len(values) / SAMPLES / 3) ** 0.5)
    return [(sample,) for sample in values.reshape(-1, 1, 3, pixels, pixels)]


def read_batch(path, lengths, group):
    """(places in the file, what a graph takes) of every call."""
    samples = np.split(np.fromfile(path, np.int32).astype(np.int64), np.cumsum(lengths)[:-1])
    order = np.argsort(lengths, kind="stable")
    for places in np.split(order, range(group, len(order), group)):
        longest = max(lengths[place] for place in places)
        ids, mask = np.zeros((2, len(places), longest), np.int64)
        for row, place in enumerate(places):
            ids[row, : lengths[place]], mask[row, : lengths[place]] = samples[place], 1
        yield places, (ids, mask)


def print_line(values):
    print(" ".join(f"{value:.9g}" for value in values), flush=True)


def once(make, sample):
    start = time.perf_counter()
    peer = make(sample)
    peer.run(peer.feed(sample))
    milliseconds = 1e3 * (time.perf_counter() - start)
    with open("/proc/self/status", encoding="ascii") as file:
        print(milliseconds, re.search(r"VmHWM:\s+(\d+)", file.read()).group(1))


def softmax(logits):
    powers = np.exp(np.float64(logits) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def probabilities(peer, feed):
    """(exits, samples, classes)"""
    return [softmax(logits) for logits in peer.logits(peer.run(feed))]


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("model")
    parser.add_argument("threads", type=int)
    parser.add_argument("samples")
    parser.add_argument("--tokens", type=int, default=0, help="of each sample")
    parser.add_argument("--lengths", type=lambda text: [int(word) for word in text.split(",")], help="of a batch")
    parser.add_argument("--group", type=int, help="samples of the batch in a call (default: all)")
    parser.add_argument("--precision", choices=CTranslate2.TYPES, default="f32", help="where the model leaves it open")
    parser.add_argument("--session-option", action="append", default=[], metavar="KEY=VALUE", help="of ONNX Runtime")
    parser.add_argument("--once", action="store_true")
    return parser.parse_args()


def serve(run):
    """Times run() as often as asked for."""
    for line in sys.stdin:
        milliseconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run()
            milliseconds.append(1e3 * (time.perf_counter() - start))
        print_line(milliseconds)


def serve_batch(options):
    calls = list(read_batch(options.samples, options.lengths, options.group or len(options.lengths)))
    same = len({inputs[0].shape for _, inputs in calls}) == 1
    peer = PEERS[options.peer](options, calls[0][1] if same else None)
    feeds = [peer.feed(inputs) for _, inputs in calls]
    answers = np.concatenate([probabilities(peer, feed)[-1] for feed in feeds])
    print_line(answers[np.argsort(np.concatenate([places for places, _ in calls]))].ravel())
    serve(lambda: [peer.run(feed) for feed in feeds])


def main():
    options = parse()
    if options.lengths:
        return serve_batch(options)
    samples = read_samples(options.samples, options.tokens)

    def make(sample):
        return PEERS[options.peer](options, sample)

    if options.once:
        return once(make, samples[0])
    peer = make(samples[0])
    feeds = [peer.feed(sample) for sample in samples]
    print_line(np.concatenate([exit[0] for feed in feeds for exit in probabilities(peer, feed)]))
    return serve(lambda: peer.run(feeds[0]))


if __name__ == "__main__":
    main()
