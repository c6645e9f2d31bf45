"""A peer as one side of bench/peers/images, in a process of its own, which speaks as `peers_bench passes` does:

    image_peer.py onnxruntime|openvino MODEL.onnx THREADS SAMPLES

prints the probabilities of all samples and exits in one line; then, for every line of standard input, a
number n, runs the first sample n times and prints the n milliseconds. SAMPLES: float32, (samples, 3, side,
side), raw. With --once after them: the milliseconds from before the peer is imported to the first sample's
answer (Python and NumPy are there already), and the peak of the process's memory in kB."""

import re
import sys
import time

import numpy as np


def onnxruntime(path, threads):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda x: session.run(names, {"x": x})


def openvino(path, threads):
    import openvino as ov

    core = ov.Core()
    model = core.read_model(path)
    # Else it may round to bfloat16 where the processor has it.
    compiled = core.compile_model(model, "CPU", {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32"})  # fmt: skip
    request = compiled.create_infer_request()
    count = len(compiled.outputs)

    def run(x):
        found = request.infer([x], share_inputs=True, share_outputs=True)
        return [found[i] for i in range(count)]

    return run


SAMPLES = 4
SIDES = {"onnxruntime": onnxruntime, "openvino": openvino}


def print_line(values):
    print(" ".join(f"{value:.9g}" for value in values), flush=True)


def once(side, path, threads, sample):
    start = time.perf_counter()
    SIDES[side](path, threads)(sample)
    milliseconds = 1e3 * (time.perf_counter() - start)
    with open("/proc/self/status", encoding="ascii") as file:
        print(milliseconds, re.search(r"VmHWM:\s+(\d+)", file.read()).group(1))


def main():
    side, path, threads, inputs, *more = sys.argv[1:]
    values = np.fromfile(inputs, np.float32)
    pixels = round((len(values) / SAMPLES / 3) ** 0.5)
    samples = values.reshape(-1, 1, 3, pixels, pixels)
    if more == ["--once"]:
        return once(side, path, int(threads), samples[0])
    run = SIDES[side](path, int(threads))
    answers = []
    for sample in samples:
        for logits in run(sample):
            powers = np.exp(np.float64(logits[0]) - logits[0].max())
            answers.append(powers / powers.sum())
    print_line(np.concatenate(answers))
    first = samples[0]
    for line in sys.stdin:
        milliseconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run(first)
            milliseconds.append(1e3 * (time.perf_counter() - start))
        print_line(milliseconds)


if __name__ == "__main__":
    main()
