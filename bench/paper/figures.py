"""The figures, as PNG, with matplotlib."""

import os

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

from replays import OFFLOADS  # noqa: E402
from tables import select  # noqa: E402

# Policies drawn where all would not be readable, with colour and line.
DRAWN = {
    "final": ("black", ":"), "offload": ("grey", ":"), "random": ("grey", "-."),
    "threshold": ("tab:brown", "--"), "splitee": ("tab:red", "-"), "splitee-s": ("tab:orange", "-"),
    "ucb-tuned": ("tab:purple", "-"), "factored": ("tab:blue", "-"),
    "adaptive": ("tab:cyan", "-"), "audited": ("tab:pink", "-"), "oracle": ("tab:green", "--"),
}
DPI = 80


def grid(rows, columns, width=3.6, height=2.9):
    figure, axes = plt.subplots(rows, columns, squeeze=False,
                                figsize=(width * columns, height * rows))
    return figure, axes


def save(figure, folder, name):
    figure.tight_layout(rect=(0, 0.08 if figure.legends else 0, 1, 1))
    figure.savefig(os.path.join(folder, name), dpi=DPI, metadata={"Software": None})
    plt.close(figure)


def label(axis, x, y):
    axis.set_xlabel(x, fontsize=8)
    axis.set_ylabel(y, fontsize=8)


def legend_below(figure, axes):
    """One for all, of what any of these axes shows."""
    names = {}
    for axis in axes:
        names.update((name, handle) for handle, name in zip(*axis.get_legend_handles_labels()))
    figure.legend(names.values(), names.keys(), fontsize=7, loc="lower center", ncol=len(names))


def accuracy_and_cost(folder, data_sets, results):
    figure, axes = grid(2, len(data_sets))
    for column, entry in enumerate(data_sets):
        for policy, (colour, line) in DRAWN.items():
            found = select(results, trace=entry["path"], alpha=entry["alpha"], policy=policy,
                           semantics="deployable")
            found = [(job.offload, r) for job, r in found if job.offload in OFFLOADS]
            offloads = [o for o, _ in found]
            axes[0][column].plot(offloads, [100 * r["accuracy"]["mean"] for _, r in found],
                                 line, color=colour, label=policy)
            axes[1][column].plot(offloads, [r["cost"]["mean"] for _, r in found], line,
                                 color=colour)
        axes[0][column].set_title(f"{entry['title']} (from {entry['source']})", fontsize=10)
        label(axes[0][column], "o, in λ", "accuracy, %")
        label(axes[1][column], "o, in λ", "cost per sample, λ")
    legend_below(figure, axes[0])
    save(figure, folder, "accuracy_cost.png")


def regret(folder, data_sets, results, logarithmic, name):
    figure, axes = grid(1, len(data_sets))
    for axis, entry in zip(axes[0], data_sets):
        for policy in ("splitee", "splitee-s", "ucb-tuned", "discounted", "factored", "adaptive"):
            for _, r in select(results, trace=entry["path"], alpha=entry["alpha"], offload=5,
                               policy=policy, semantics="deployable"):
                t = [p["t"] for p in r["regret"]]
                mean = [p["mean"] for p in r["regret"]]
                low = [p["mean"] - p["ci95"] for p in r["regret"]]
                high = [p["mean"] + p["ci95"] for p in r["regret"]]
                line, = axis.plot(t, mean, label=policy)
                axis.fill_between(t, low, high, alpha=0.15, color=line.get_color())
        if logarithmic:
            axis.set_xscale("log")
        axis.axvline(2000, color="grey", linewidth=0.6)
        axis.set_title(entry["title"], fontsize=10)
        label(axis, "samples", "cumulative regret, o = 5 λ")
    legend_below(figure, axes[0])
    save(figure, folder, name)


def exits(folder, data_sets, results):
    policies = ("splitee", "splitee-s", "factored", "threshold")
    figure, axes = grid(len(OFFLOADS[::2]), len(data_sets), height=2.2)
    for column, entry in enumerate(data_sets):
        for row, offload in enumerate(OFFLOADS[::2]):
            axis = axes[row][column]
            for k, policy in enumerate(policies):
                for _, r in select(results, trace=entry["path"], alpha=entry["alpha"],
                                   offload=offload, policy=policy, semantics="deployable"):
                    share = [100 * value for value in r["exit_share"]]
                    places = [i + 1 + 0.2 * (k - 1.5) for i in range(len(share) + 1)]
                    axis.bar(places, share + [100 * r["offload_rate"]], 0.2, label=policy)
                    axis.set_xticks(range(1, len(share) + 2))
                    axis.set_xticklabels([*map(str, range(1, len(share) + 1)), "off"], fontsize=6)
            axis.set_title(f"{entry['title']}, o = {offload} λ", fontsize=9)
            label(axis, "exit; off: sent", "% of samples")
    legend_below(figure, axes[0])
    save(figure, folder, "exits.png")


def wrong_alpha(folder, data_sets, results, policy, calibrated):
    """Accuracy and the reward that the policy sees, against alpha; calibrated: name to (alpha,
    accuracy)."""
    figure, axes = grid(1, len(data_sets), height=3.4)
    both = []
    for axis, entry in zip(axes[0], data_sets):
        found = sorted((job.alpha, r) for job, r in
                       select(results, trace=entry["path"], offload=5, policy=policy,
                              semantics="deployable", split=0))
        alphas = [alpha for alpha, _ in found]
        axis.plot(alphas, [100 * r["accuracy"]["mean"] for _, r in found], "o-", markersize=3,
                  label="accuracy, %")
        axis.axhline(100 * found[0][1]["final_accuracy"], color="black", linestyle=":",
                     label="final exit's accuracy")
        axis.axvline(entry["alpha"], color="grey", linewidth=0.8, label="alpha of the paper")
        if entry["name"] in calibrated:
            alpha, accuracy = calibrated[entry["name"]]
            axis.plot([alpha], [100 * accuracy], "*", color="tab:green", markersize=9,
                      label="calibrated alpha")
        twin = axis.twinx()
        twin.plot(alphas, [r["mean_got"] for _, r in found], "s--", color="tab:red", markersize=3,
                  label="mean reward")
        axis.set_title(entry["title"], fontsize=10)
        label(axis, "alpha", "accuracy, %")
        twin.set_ylabel("mean reward", fontsize=8)
        both += [axis, twin]
    legend_below(figure, both)
    save(figure, folder, "wrong_alpha.png")


def changing_offload(folder, entry, found):
    """Regret over a stream in which o changes; found: [(name, result)], marks of the changes."""
    figure, axes = grid(1, 1, width=6, height=3.6)
    axis = axes[0][0]
    for name, r, _ in found:
        points = r["regret"]
        axis.plot([p["t"] for p in points], [p["mean"] for p in points], label=name)
    for t in found[0][2]:
        axis.axvline(t, color="grey", linewidth=0.6)
    axis.set_title(f"{entry['title']}: o changes in mid-stream", fontsize=10)
    axis.set_xlabel("samples")
    axis.set_ylabel("cumulative regret")
    axis.legend(fontsize=7)
    save(figure, folder, "changing_offload.png")
