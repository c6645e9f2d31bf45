#!/usr/bin/env python3
"""Draws results.json of bench/peers/run as a roofline: one thread's operations a second over
operations per byte of weights, under the peaks measured in the same run.

Usage: plot_roofline.py RESULTS.json OUTPUT.png
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tools/python"))
from interpreter import need  # noqa: E402

need("matplotlib", "numpy")
import matplotlib  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import models  # noqa: E402
import table  # noqa: E402

COLORS = {"f32": "#1f77b4", "bf16": "#2ca02c", "i8": "#d62728"}
SIDES = {"ours": ("o", "splitee"), "onnxruntime": ("s", "ONNX Runtime")}
MEMORY = ("DRAM (256 MiB)", "L2 (512 KiB)")
INTENSITY = (2, 400)


def draw_roofs(axes, results):
    """A flat roof per number format, and a slope per level of memory up to the highest roof."""
    roofs = {}
    for key, cell in results["cells"].items():
        if key.endswith("/1") and "peak" in cell:
            roofs[key.split("/")[1]] = cell["peak"]["operations_per_second"]["median"] / 1e9
    for dtype, roof in roofs.items():
        axes.axhline(roof, color=COLORS[dtype], linewidth=1)
        axes.text(INTENSITY[1] * 0.97, roof * 1.03, f"{dtype}: {roof:.0f}", color=COLORS[dtype],
                  ha="right", fontsize=8)  # fmt: skip
    for name in MEMORY:
        speed = results["peaks"]["bytes_per_second"][name] / 1e9
        end = min(INTENSITY[1], max(roofs.values()) / speed)
        axes.plot((INTENSITY[0], end), (INTENSITY[0] * speed, end * speed), color="0.5", linewidth=1)
        middle = (INTENSITY[0] * end) ** 0.5
        axes.annotate(f"{name.split()[0]} {speed:.0f} GB/s", (middle, middle * speed),
                      textcoords="offset points", xytext=(-4, 4), ha="right", color="0.3", fontsize=8)  # fmt: skip


def draw_points(axes, results, name):
    for dtype, color in COLORS.items():
        cell = results["cells"].get(f"{name}/{dtype}/1")
        if cell is None:
            continue
        for side, (marker, label) in SIDES.items():
            # The peer has no bf16: there it computes on fp32 weights, which the f32 points show.
            if side == "onnxruntime" and dtype == "bf16":
                continue
            points = []
            for length in cell["lengths"]:
                work = table.operations(name, length["tokens"])
                seconds = length["milliseconds"][side]["median"] / 1e3
                points.append((work / table.weight_bytes(name, dtype), work / seconds / 1e9))
            axes.plot(*zip(*points), marker=marker, color=color, linewidth=0.6, markersize=5,
                      markerfacecolor=color if side == "ours" else "white",
                      label=f"{label}, {dtype}")  # fmt: skip
            for (x, y), length in zip(points, cell["lengths"]):
                axes.annotate(length["tokens"], (x, y), textcoords="offset points", fontsize=7,
                              xytext=(4, 4 if side == "ours" else -9))  # fmt: skip


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        results = json.load(file)
    figure, panels = plt.subplots(1, len(models.SHAPES), figsize=(12, 5), sharey=True)
    for axes, name in zip(panels, models.SHAPES):
        draw_roofs(axes, results)
        draw_points(axes, results, name)
        axes.set(title=f"{name}, 1 thread, batch 1, points by tokens", xscale="log", yscale="log",
                 xlim=INTENSITY, ylim=(40, 1500),
                 xlabel="operations per byte of weights")  # fmt: skip
        axes.legend(fontsize=8, loc="lower right")
        axes.grid(alpha=0.2, which="both")
    panels[0].set_ylabel("10^9 operations per second")
    machine, compiler = results["machine"], results["peaks"]["compiler"]
    commits = sorted({cell["commit"] for key, cell in results["cells"].items() if key.endswith("/1")})
    figure.suptitle(f"{machine['Model name']} (family {machine['CPU family']}), {compiler}, "
                    f"commit {', '.join(commits)}", fontsize=9)  # fmt: skip
    figure.tight_layout()
    figure.savefig(sys.argv[2], dpi=110)


if __name__ == "__main__":
    main()
