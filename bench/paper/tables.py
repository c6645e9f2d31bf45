"""Markdown and CSV from the replays' results."""

import csv

import published
from replays import LAMBDA1, LAMBDA2, OFFLOADS, regret_at


def percent(value, digits=2):
    return f"{100 * value:.{digits}f}"


def markdown(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def change(cost, full):
    return f"{100 * (cost / full - 1):+.1f} %".replace("-0.0 %", "+0.0 %")


def layers(result):
    return max(result["layers"])


def accuracy_cell(result):
    accuracy = result["accuracy"]
    return percent(accuracy["mean"]) + intervals(accuracy, percent)


def cost_cell(result):
    cost = result["cost"]
    return f"{cost['mean']:.3f}" + intervals(cost, "{:.3f}".format)


def intervals(value, text):
    """Half widths over orders and, where there are several, over networks."""
    widths = [width for width in (value["ci95"], value.get("networks")) if width is not None]
    return "".join(f" ± {text(width)}" for width in widths) if max(widths) > 1e-6 else ""


def write_csv(path, data_sets, results):
    """Everything: a row per data set, policy, semantics and o."""
    columns = ["data_set", "semantics", "policy", "alpha", "offload_lambda", "samples", "runs", "networks",
               "accuracy", "accuracy_ci95", "accuracy_networks95", "final_accuracy", "cost_lambda", "cost_ci95",
               "cost_networks95",
               "final_cost_lambda", "cost_change", "cost_change_of_all_layers", "offload_rate",
               "best_arm", "mean_reward", "regret_2000", "regret_2000_ci95", "regret_end",
               "regret_end_ci95"]
    width = lambda value, digits: "" if value["networks"] is None else f"{value['networks']:.{digits}f}"  # noqa: E731
    counts = {entry["name"]: len(entry["paths"]) for entry in data_sets}
    names = {entry["path"]: entry["name"] for entry in data_sets}
    names.update({entry["calibrated_path"]: entry["name"] + "-calibrated" for entry in data_sets
                  if "calibrated_path" in entry})
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for job, r in results.items():
            if job.changes or job.exploration != 1.0:
                continue
            at, end = regret_at(r, 2000), r["regret"][-1]
            cost, accuracy = r["cost"]["mean"], r["accuracy"]
            writer.writerow([
                names[job.trace], job.semantics, job.name, job.alpha, job.offload, r["samples"],
                r["runs"], counts[names[job.trace].removesuffix("-calibrated")], f"{accuracy['mean']:.5f}",
                f"{accuracy['ci95']:.5f}", width(accuracy, 5), f"{r['final_accuracy']:.5f}", f"{cost:.4f}",
                f"{r['cost']['ci95']:.4f}", width(r["cost"], 4),
                f"{r['final_cost']:.4f}", f"{cost / r['final_cost'] - 1:.4f}",
                f"{cost / layers(r) - 1:.4f}", f"{r['offload_rate']:.4f}", r["best_arm"],
                f"{r['mean_got']:.5f}", f"{at['mean']:.2f}" if at else "",
                f"{at['ci95']:.2f}" if at else "", f"{end['mean']:.2f}", f"{end['ci95']:.2f}"])


def select(results, **wanted):
    """(job, result) pairs whose job has these fields, in the order they were asked for."""
    return [(job, r) for job, r in results.items()
            if not job.changes and all(getattr(job, k) == v for k, v in wanted.items())]


def row_name(job):
    suffix = " (published form)" if job.semantics == "paper" else ""
    return f"{job.policy} at {job.split}{suffix}" if job.split else job.policy + suffix


def main_table(entry, results, offload):
    """Every policy at one o: accuracy, cost, changes, regret."""
    rows = []
    for job, r in select(results, trace=entry["path"], alpha=entry["alpha"], offload=offload):
        final = r["final_accuracy"]
        at, end = regret_at(r, 2000), r["regret"][-1]
        rows.append([
            row_name(job), accuracy_cell(r), points(r["accuracy"]["mean"] - final),
            cost_cell(r), change(r["cost"]["mean"], r["final_cost"]),
            change(r["cost"]["mean"], layers(r)), percent(r["offload_rate"], 1),
            f"{at['mean']:.0f} ± {at['ci95']:.0f}" if at else "-",
            f"{end['mean']:.0f} ± {end['ci95']:.0f}"])
    header = ["policy", "accuracy %", "against final", "cost λ", "change", "of L λ", "offloaded %",
              "regret at 2000", "at the end"]
    return markdown(header, rows)


def offload_table(entry, results):
    """Every policy, o from 1 to 5 lambda: accuracy / cost."""
    names, cells = [], {}
    for job, r in select(results, trace=entry["path"], alpha=entry["alpha"]):
        if job.offload not in OFFLOADS:
            continue
        name = row_name(job)
        if name not in cells:
            names.append(name)
            cells[name] = {}
        text = f"{percent(r['accuracy']['mean'])} / {r['cost']['mean']:.2f}"
        cells[name][job.offload] = text + f" / {change(r['cost']['mean'], r['final_cost'])}"
    rows = [[name] + [cells[name].get(o, "-") for o in OFFLOADS] for name in names]
    return markdown(["policy"] + [f"o = {o} λ" for o in OFFLOADS], rows)


def exit_table(entry, exits):
    """Accuracy and mean confidence of every exit of the trace."""
    rows = [["accuracy %"] + [percent(a, 1) + (f" ± {percent(width, 1)}" if width else "") for a, width, _ in exits],
            ["mean confidence"] + [f"{c:.3f}" for _, _, c in exits]]
    return markdown([entry["title"]] + [str(i + 1) for i in range(len(exits))], rows)


def published_table(data_sets, results):
    rows = []
    for entry in data_sets:
        key = entry["published"]
        if key is None:
            continue
        for policy in ("final", "threshold-published", "splitee", "splitee-s"):
            semantics = "deployable" if policy == "final" else "paper"
            found = select(results, trace=entry["path"], alpha=entry["alpha"], offload=5,
                           policy=policy, semantics=semantics)
            if not found:
                continue
            r = found[0][1]
            full = r["layers"][-1]  # the published scripts charge lambda * L
            cost = full if policy == "final" else r["cost"]["mean"]
            accuracy, _, change_published = published.TABLE[policy][key]
            lost = accuracy - published.TABLE["final"][key][0]
            ours = points(r["accuracy"]["mean"] - r["final_accuracy"])
            rows.append([
                entry["title"], policy, f"{accuracy:.2f} ({lost:+.2f})",
                f"{percent(r['accuracy']['mean'])} ({ours})",
                f"{published.cost_per_sample(policy, key):.2f}", f"{cost:.2f}",
                f"{change_published:+.1f} %", change(cost, full)])
    header = ["data set", "policy", "accuracy published", "ours", "cost λ published", "ours",
              "change published", "ours"]
    return markdown(header, rows)


def regret_table(data_sets, results, policies):
    """Regret at t = 2000, o = 5 lambda: published, published scripts on our traces, deployable."""
    header = ["data set", "SplitEE, SplitEE-S published", "published form here"]
    header += [f"{policy}" for policy in policies]
    rows = []
    for entry in data_sets:
        def regret(policy, semantics):
            found = select(results, trace=entry["path"], alpha=entry["alpha"], offload=5,
                           policy=policy, semantics=semantics)
            point = regret_at(found[0][1], 2000) if found else None
            return f"{point['mean']:.0f}" if point else "-"

        values = published.REGRET_2000.get(entry["published"])
        row = [entry["title"], f"{values['splitee']}, {values['splitee-s']}" if values else "-",
               f"{regret('splitee', 'paper')}, {regret('splitee-s', 'paper')}"]
        rows.append(row + [regret(policy, "deployable") for policy in policies])
    return markdown(header, rows)


def split_table(data_sets, results):
    rows = []
    for entry in data_sets:
        ours = []
        for offload in OFFLOADS:
            found = select(results, trace=entry["path"], alpha=entry["alpha"], offload=offload,
                           policy="oracle", semantics="deployable")
            ours.append("/".join(map(str, found[0][1]["best_arms"])) if found else "-")
        known = published.OPTIMAL_SPLIT.get(entry["published"])
        rows.append([entry["title"], ", ".join(map(str, known)) if known else "-", ", ".join(ours)])
    return markdown(["data set", "published", "here"], rows)


def verdict_table(data_sets, results, policies):
    """The claims: cost halved, less than 2 points lost, at o = 5 lambda."""
    rows = []
    for entry in data_sets:
        for policy in policies:
            found = select(results, trace=entry["path"], alpha=entry["alpha"], offload=5,
                           policy=policy, semantics="deployable")
            if not found:
                continue
            r = found[0][1]
            lost = r["accuracy"]["mean"] - r["final_accuracy"]
            saved = 100 * r["cost_reduction"]
            rows.append([entry["title"], policy, f"{saved:.1f} %", points(lost),
                         "yes" if saved > 50 else "no", "yes" if lost > -0.02 else "no"])
    header = ["data set", "policy", "cost saved", "accuracy against final, points",
              "more than half saved", "less than 2 points lost"]
    return markdown(header, rows)


def share_table(data_sets, results, learners):
    """The learners' regret at t = 2000, o = 5 lambda, against that of the paper's policies."""
    rows = []
    for entry in data_sets:
        def regret(policy):
            found = select(results, trace=entry["path"], alpha=entry["alpha"], offload=5,
                           policy=policy, semantics="deployable")
            point = regret_at(found[0][1], 2000) if found else None
            return point["mean"] if point else None

        side, plain = regret("splitee-s"), regret("splitee")
        for learner in learners:
            own = regret(learner)
            if None not in (own, side, plain):
                rows.append([entry["title"], learner, f"{own:.1f}", f"{side:.1f}", f"{plain:.1f}",
                             f"{own / side:.3f} ({'yes' if own <= side / 4 else 'no'})",
                             f"{own / plain:.3f} ({'yes' if own <= plain / 8 else 'no'})"])
    header = ["data set", "learner", "its regret", "splitee-s", "splitee",
              "of splitee-s (at most 1/4)", "of splitee (at most 1/8)"]
    return markdown(header, rows)


def points(share):
    """A difference of shares in points, without a minus before zero."""
    return f"{100 * share:+.2f}".replace("-0.00", "+0.00")


def costs_text():
    return f"{10 * LAMBDA1:g} λ for a layer, {10 * LAMBDA2:g} λ for an exit evaluated"
