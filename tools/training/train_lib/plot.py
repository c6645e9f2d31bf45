"""Small plots as SVG text, coloured by the page's style sheet. Needs the standard library only."""

import html
import math

LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 36


class Axis:
    """Values [low, high] to places [start, end]."""

    def __init__(self, low, high, start, end):
        self.low, self.high, self.start, self.end = low, max(high, low + 1e-9), start, end

    def __call__(self, value):
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def ticks(low, high, count=5):
    """Round numbers within [low, high]."""
    span = max(high - low, 1e-9)
    step = 10 ** math.floor(math.log10(span / count))
    step *= next(m for m in (1, 2, 5, 10) if span / (m * step) <= count)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def text(x, y, content, kind="tick", anchor="middle"):
    return (f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">'
            f"{html.escape(str(content))}</text>")


def line(x1, y1, x2, y2, kind):
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def svg(width, height, parts, label):
    return (f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
            f'aria-label="{html.escape(label)}">{"".join(parts)}</svg>')


def frame(x, y, x_ticks, y_ticks, x_label="", y_label=""):
    """Grid, numbers and names of two axes."""
    parts = []
    for value in y_ticks:
        parts.append(line(x.start, y(value), x.end, y(value), "grid"))
        parts.append(text(x.start - 5, y(value) + 4, f"{value:g}", anchor="end"))
    for value in x_ticks:
        parts.append(text(x(value), y.start + 15, f"{value:g}"))
    parts.append(line(x.start, y.start, x.end, y.start, "axis"))
    if x_label:
        parts.append(text((x.start + x.end) / 2, y.start + 31, x_label, "name"))
    if y_label:
        place = f"{x.start - 36} {(y.start + y.end) / 2}"
        parts.append(f'<text class="name" text-anchor="middle" transform="translate({place}) '
                     f'rotate(-90)">{html.escape(y_label)}</text>')
    return parts


def curves(series, x_label, y_label, width=640, height=300, marks=True, y_range=None, x_ticks=None):
    """Lines: series [(name, class of the style sheet, [(x, y), ...])]."""
    points = [point for _, _, values in series for point in values]
    xs, ys = zip(*points)
    low, high = y_range or (min(ys), max(ys))
    margin = 0 if y_range else 0.06 * max(high - low, 1)
    x = Axis(min(xs), max(xs), LEFT, width - RIGHT)
    y = Axis(low - margin, high + margin, height - BOTTOM, TOP)
    parts = frame(x, y, x_ticks or ticks(x.low, x.high, 8), ticks(y.low, y.high), x_label, y_label)
    for name, kind, values in series:
        path = " ".join(f"{x(a)},{y(b)}" for a, b in values)
        parts.append(f'<polyline class="line {kind}" points="{path}"/>')
        for a, b in values if marks else ():
            parts.append(f'<circle class="{kind}" cx="{x(a)}" cy="{y(b)}" r="3">'
                         f"<title>{html.escape(name)}: {a:g}, {b:.2f}</title></circle>")
    return svg(width, height, parts, f"{y_label} against {x_label}")


def reliability(bins, title, low, size=150):
    """Accuracy against confidence, groups of rows as dots; the diagonal is what should be."""
    x, y = Axis(low, 1, 26, size - 6), Axis(0, 1, size - 18, 20)
    parts = frame(x, y, (round(low, 2), 1), (0, 0.5, 1))
    parts.append(line(x(low), y(low), x(1), y(1), "diagonal"))
    path = " ".join(f"{x(max(low, c))},{y(a)}" for _, c, a in bins)
    parts.append(f'<polyline class="line first" points="{path}"/>')
    for rows, confidence, accuracy in bins:
        parts.append(f'<circle class="first" cx="{x(max(low, confidence))}" cy="{y(accuracy)}" '
                     f'r="2.5"><title>{rows} rows: confidence {confidence:.3f}, accuracy '
                     f"{accuracy:.3f}</title></circle>")
    parts.append(text((x.start + x.end) / 2, 12, title, "name"))
    return svg(size, size, parts, f"reliability, {title}")


def histogram(right, wrong, title, low, size=150):
    """Shares of rows by confidence, right answers below wrong ones."""
    top = max(1e-9, max(a + b for a, b in zip(right, wrong)))
    x, y = Axis(low, 1, 26, size - 6), Axis(0, 100 * top, size - 18, 20)
    parts = frame(x, y, (round(low, 2), 1), ticks(0, 100 * top, 3))
    width = (x.end - x.start) / len(right)
    for i, (a, b) in enumerate(zip(right, wrong)):
        for kind, start, end in (("first", 0, a), ("second", a, a + b)):
            height = y(100 * start) - y(100 * end)
            if height > 0:
                parts.append(f'<rect class="{kind}" x="{x.start + i * width:.1f}" '
                             f'y="{y(100 * end)}" width="{width - 0.6:.1f}" height="{height:.1f}"/>')
    parts.append(text((x.start + x.end) / 2, 12, title, "name"))
    return svg(size, size, parts, f"confidences, {title}")
