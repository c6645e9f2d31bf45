"""results.json of bench/peers/run as Markdown."""

import models

GOALS = {
    "12x768/f32": (1.30, 1.20, 1.12, 1.10),
    "12x768/i8": (1.60, 1.45, 1.35, 1.30),
    "12x256/f32": (1.40, 1.30, 1.20, 1.15),
    "12x256/i8": (1.80, 1.70, 1.65, 1.65),
    "12x384/f32": (1.20, 1.20, 1.20, 1.20),
    "12x384/i8": (1.50, 1.50, 1.50, 1.50),
    "12x384/bf16": (2.0, 2.0, 2.0, 2.0),
    "12x768/bf16": (2.2, 2.1, 2.0, 2.0),
    "12x256/bf16": (2.2, 2.1, 2.0, 2.0),
}
DTYPE_BYTES = {"f32": 4, "bf16": 2, "i8": 1}


def layer_weights(name):
    hidden, ffn, _ = models.SHAPES[name]
    return 4 * hidden * hidden + 2 * hidden * ffn


def operations(name, tokens):
    """Of one pass: the products of every layer and exit, and attention's two."""
    hidden = models.SHAPES[name][0]
    layer = 2 * tokens * layer_weights(name) + 4 * tokens * tokens * hidden
    exit_head = 2 * (hidden * hidden + hidden * models.CLASSES)
    return models.LAYERS * (layer + exit_head)


def weight_bytes(name, dtype):
    """Of every matrix that one pass goes through; of the embeddings it reads a few rows only."""
    hidden = models.SHAPES[name][0]
    each = layer_weights(name) + hidden * hidden + hidden * models.CLASSES
    return models.LAYERS * each * DTYPE_BYTES[dtype]


def cell_text(length, goal):
    times = length["milliseconds"]
    peer, ours = times["onnxruntime"], times["ours"]
    ratio = peer["ratio"]
    busy = " busy" if times["waited_share"] > 0.02 else ""
    return (
        f"{peer['median']:.2f} / {ours['median']:.2f} = **{ratio['median']:.2f}** "
        f"({ratio['p10']:.2f}-{ratio['p90']:.2f}; {goal:.2f}){busy}"
    )


def rows(cells):
    for key in sorted(cells, key=lambda k: (k.split("/")[2], k.split("/")[0] != "12x768", k)):
        yield (key, *key.split("/"), cells[key])


def lengths_header(cells):
    tokens = [length["tokens"] for length in next(iter(cells.values()))["lengths"]]
    columns = " | ".join(map(str, tokens))
    return [f"| model, weights, threads | {columns} |", "|---" * (1 + len(tokens)) + "|"]


def ratio_table(cells):
    lines = lengths_header(cells)
    for _, name, dtype, threads, cell in rows(cells):
        texts = [cell_text(l, g) for l, g in zip(cell["lengths"], GOALS[f"{name}/{dtype}"])]
        lines.append(f"| {name}, {dtype}, {threads} | {' | '.join(texts)} |")
    return lines


def share_table(cells):
    """Operations a second of either side, as shares of what the machine could do then."""
    lines = lengths_header(cells)
    for _, name, dtype, threads, cell in rows(cells):
        if "peak" not in cell:
            continue
        peak = cell["peak"]["operations_per_second"]["median"] * int(threads)
        texts = []
        for length in cell["lengths"]:
            least_ms = 1e3 * operations(name, length["tokens"]) / peak
            shares = [least_ms / length["milliseconds"][side]["median"]
                      for side in ("onnxruntime", "ours")]  # fmt: skip
            texts.append(f"{shares[0]:.0%} / {shares[1]:.0%}")
        lines.append(
            f"| {name}, {dtype}, {threads} (peak {peak / 1e9:.0f}) | {' | '.join(texts)} |"
        )
    return lines


def difference_table(cells):
    lines = lengths_header(cells)
    for _, name, dtype, threads, cell in rows(cells):
        if threads != "1":
            continue
        texts = [
            f"{length['check']['onnxruntime']['log_probability']:.1e} / "
            f"{length['check']['ours']['log_probability']:.1e}"
            for length in cell["lengths"]
        ]
        lines.append(f"| {name}, {dtype} | {' | '.join(texts)} |")
    return lines


def scaling_table(cells):
    lines = lengths_header(cells)
    for _, name, dtype, _, cell in rows(cells):
        if "ours_one_thread" not in cell["lengths"][0]["milliseconds"]:
            continue
        ratios = [l["milliseconds"]["ours_one_thread"]["ratio"] for l in cell["lengths"]]
        texts = [f"{r['median']:.2f} ({r['p10']:.2f}-{r['p90']:.2f})" for r in ratios]
        lines.append(f"| {name}, {dtype}, 2 | {' | '.join(texts)} |")
    return lines


def cold_table(cold):
    lines = [
        "| model, weights | ONNX Runtime ms | splitee ms | ratio | splitee-edge ms | ratio | first exit ms | ratio "
        "| ONNX Runtime MB | splitee MB | splitee-edge MB | weights MB |",
        "|---" * 12 + "|",
    ]
    for key, result in sorted(cold.items()):
        sides = [result[side] for side in ("onnxruntime", "ours", "splitee-edge", "first exit")]
        times = [side["milliseconds"]["median"] for side in sides]
        memory = [side["peak_memory_kb"] / 1e3 * 1.024 for side in sides]
        lines.append(
            f"| {key.replace('/', ', ')} | {times[0]:.0f} | {times[1]:.0f} "
            f"| {times[0] / times[1]:.1f} | {times[2]:.0f} | {times[0] / times[2]:.1f} | {times[3]:.0f} | {times[0] / times[3]:.1f} "
            f"| {memory[0]:.0f} | {memory[1]:.0f} | {memory[2]:.0f} "
            f"| {result['weight_bytes'] / 1e6:.0f} |"
        )
    return lines


def peak_lines(results):
    peaks = results["peaks"]
    operations_text = ", ".join(
        f"{name} {value / 1e9:.0f}" for name, value in peaks["operations_per_second"].items()
    )
    two_threads = peaks["bytes_per_second_two_threads"]
    bytes_text = ", ".join(
        f"{name} {value / 1e9:.0f} ({two_threads[name] / 1e9:.0f})"
        for name, value in peaks["bytes_per_second"].items()
    )
    machine = results["machine"]
    return [
        f"{machine['Model name']} (family {machine['CPU family']}, model {machine['Model']}, "
        f"{machine['CPU(s)']} cores), {machine['system']}, {peaks['compiler']}, "
        f"commit {peaks['commit']}.",
        f"Peaks of one core, 10^9 operations/s: {operations_text}. Reading, GB/s (two threads): {bytes_text}.",
    ]


def markdown(results):
    parts = [("Machine", peak_lines(results))]
    cells = results["cells"]
    if cells:
        parts += [
            ("ONNX Runtime / splitee, milliseconds = ratio (p10-p90 of the rounds; goal), by tokens",
             ratio_table(cells)),
            ("Share of the machine's peak, ONNX Runtime / splitee", share_table(cells)),
            ("Largest difference of a log probability from fp32, ONNX Runtime / splitee",
             difference_table(cells)),
            ("Two threads: splitee with one / with two", scaling_table(cells)),
        ]  # fmt: skip
    if results["cold"]:
        parts.append(("Process start to the first answer (32 tokens), peak memory",
                      cold_table(results["cold"])))  # fmt: skip
    return "\n".join(line for title, lines in parts for line in [f"### {title}", "", *lines, ""])
