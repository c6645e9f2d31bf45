"""What a soak writes at its end: report.json, and report.html with pictures, which needs nothing else."""

import html
import json
import os
import statistics

from watch import ALLOWED

WIDTH, HEIGHT, LEFT = 900, 160, 70
COLOURS = ("#1b6ca8", "#c44e52", "#55a868", "#8172b2", "#ccb974", "#64b5cd", "#937860", "#da8bc3")


def processes(lives):
    """Of each process that was looked at long enough: its longest life's first and last tenth, and the most
    that any life of it has grown."""
    result = {}
    for life in lives:
        entry = result.setdefault(life.name, {"lives": 0, "seconds": 0})
        entry["lives"] += 1
        seconds = life.looks[-1]["age_s"]
        longest = seconds > entry["seconds"]
        entry["seconds"] = max(entry["seconds"], seconds)
        for what in ALLOWED:
            first, last = life.ends(what)
            if longest:
                entry[what] = [first, last]
            entry[what + "_grown_most"] = max(entry.get(what + "_grown_most", last - first), last - first)
    return result


def recovery(tally):
    return {name: {"count": len(values), "median_s": round(statistics.median(values), 3), "most_s": round(max(values), 3)}
            for name, values in sorted(tally.recovered_s.items())}  # fmt: skip


def collect(soak, command):
    tally, feeds = soak.tally, soak.feeds
    every = [value for values in tally.recovered_s.values() for value in values]
    routes = {}
    for feed in feeds:
        for route, count in feed.routes.items():
            routes[route] = routes.get(route, 0) + count
    return {
        "command": command,
        "problem": tally.problem,
        "seconds": round(soak.series[-1][0], 1) if soak.series else 0,
        "requests": soak.records(),
        "requests_wanted": soak.options.requests,
        "routes": routes,
        **{what: sum(getattr(feed, what) for feed in feeds) for what in ("lost", "doubled", "swapped", "wrong")},
        "rotations": sum(feed.rotations for feed in feeds),
        "starts": sum(feed.starts for feed in feeds),
        "checks": {"records: order and answer": soak.records(), **dict(sorted(tally.checks.items()))},
        "faults": dict(sorted(tally.faults.items())),
        "faults_in_all": sum(tally.faults.values()),
        "recovery": recovery(tally),
        "recovery_in_all_s": {"median": round(statistics.median(every), 3), "most": round(max(every), 3)} if every else None,
        "processes": processes(soak.watch.ended),
        "left_out": [] if soak.mounted else ["states on a full disk: no mounts"],
    }


def chart(title, series, most=None):
    """A line a series of (seconds, value)."""
    points = [point for _, values in series for point in values]
    if not points:
        return ""
    end, top = max(x for x, _ in points) or 1, (most or max(y for _, y in points)) or 1
    lines = []
    for number, (name, values) in enumerate(series):
        step = max(1, len(values) // 600)
        path = " ".join(f"{LEFT + x / end * WIDTH:.1f},{HEIGHT - y / top * HEIGHT:.1f}" for x, y in values[::step])
        colour = COLOURS[number % len(COLOURS)]
        lines.append(f'<polyline fill="none" stroke="{colour}" points="{path}"><title>{html.escape(name)}</title></polyline>'
                     f'<text x="{LEFT + WIDTH + 8}" y="{14 + 15 * number}" fill="{colour}">{html.escape(name)}</text>')  # fmt: skip
    return (f"<h2>{html.escape(title)}</h2><svg viewBox='0 -8 {LEFT + WIDTH + 110} {HEIGHT + 30}'>"
            f"<text x='0' y='8'>{top:.0f}</text><text x='0' y='{HEIGHT}'>0</text>"
            f"<text x='{LEFT + WIDTH - 60}' y='{HEIGHT + 16}'>{end / 60:.0f} min</text>{''.join(lines)}</svg>")  # fmt: skip


def marks(fault_times):
    """A row of marks a kind of fault."""
    names = sorted({name for _, name in fault_times})
    end = max((x for x, _ in fault_times), default=1) or 1
    rows = [f'<text x="0" y="{12 + 14 * row}">{html.escape(name)}</text>' for row, name in enumerate(names)]
    rows += [f'<rect x="{270 + x / end * (WIDTH - 200):.1f}" y="{3 + 14 * names.index(name)}" width="1" height="10"/>'
             for x, name in fault_times]  # fmt: skip
    return f"<h2>Faults</h2><svg viewBox='0 0 {WIDTH + 110} {14 * len(names) + 6}'>{''.join(rows)}</svg>"


def table(title, head, rows):
    lines = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<h2>{title}</h2><table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>{lines}</table>"


def rates(series, parts=200):
    """Records a second, in so many parts."""
    step = max(1, len(series) // parts)
    some = series[::step]
    return [(b[0], (b[1] - a[1]) / max(b[0] - a[0], 1e-9)) for a, b in zip(some, some[1:])]


def page(soak, values):
    lives = sorted(soak.watch.ended, key=lambda life: -life.looks[-1]["age_s"])[:8]
    grown = [[name, entry["lives"], f"{entry['seconds']:.0f}", *(f"{entry[w][0]:g} to {entry[w][1]:g}" for w in ALLOWED)]
             for name, entry in sorted(values["processes"].items())]  # fmt: skip
    style = "body{font:14px sans-serif;margin:2em;max-width:70em}td,th{text-align:left;padding:0 1em 0 0}svg{font-size:11px}"
    return "".join((
        f"<!doctype html><meta charset=utf-8><title>soak</title><style>{style}</style>",
        f"<h1>{'FAILED: ' + html.escape(values['problem']) if values['problem'] else 'Soak: all held'}</h1>",
        f"<p><code>{html.escape(values['command'])}</code></p><p>{values['requests']} of {values['requests_wanted']} "
        f"requests in {values['seconds'] / 60:.1f} minutes, {values['faults_in_all']} faults; {values['lost']} lost, "
        f"{values['doubled']} doubled, {values['swapped']} swapped, {values['wrong']} wrong.</p>",
        chart("Records a second", [("all edges", rates(soak.series))]),
        marks(soak.tally.fault_times),
        *(chart(f"{what}, longest lives", [(life.name, [(life.begin - soak.tally.begin + look["age_s"], look[what])
                                                       for look in life.looks]) for life in lives]) for what in ALLOWED),
        table("First and last tenth of the longest life", ["process", "lives", "seconds", *ALLOWED], grown),
        table("Until served again", ["fault", "times", "median s", "most s"],
              [[name, *row.values()] for name, row in values["recovery"].items()]),
        table("Checks", ["check", "times"], values["checks"].items()),
    ))  # fmt: skip


def write(soak, folder, command):
    values = collect(soak, command)
    with open(os.path.join(folder, "report.json"), "w", encoding="utf-8") as file:
        json.dump(values, file, indent=1)
    with open(os.path.join(folder, "report.html"), "w", encoding="utf-8") as file:
        file.write(page(soak, values))
    print(f"{values['requests']} of {values['requests_wanted']} requests in {values['seconds'] / 60:.1f} minutes "
          f"({values['routes']}); {values['faults_in_all']} faults {values['faults']}; {values['lost']} lost, "
          f"{values['doubled']} doubled, {values['swapped']} swapped, {values['wrong']} wrong; served again after "
          f"{values['recovery_in_all_s']}; {folder}/report.html", flush=True)  # fmt: skip
