"""One self-contained HTML page: text, tables and small charts, for the data card and for the reports of runs.

A page loads nothing from anywhere (its policy forbids it), follows the reader's light or dark setting, and can be read
without seeing the charts: each has a description in words. A plain `str` is escaped; only `Markup`, which the functions
of this package return, is taken as HTML.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from clinicalbert_jax.report import number_formats
from clinicalbert_jax.report.table import Table

WIDTH, HEIGHT = 640, 260  # of a chart, in the units of its drawing
RIGHT, TOP, BOTTOM = 26, 16, 42  # margins for axes and labels; the left one follows from the labels
BAR_HEIGHT = 22
MAX_LABEL = 320  # width of a bar's label; the full text is shown on hovering

Block = str | Table


class Section(NamedTuple):
    """A titled part of a page; a plain string in `body` becomes a paragraph."""

    title: str
    body: Sequence[Block]


def page(title: str, sections: Sequence[Section], introduction: Sequence[Block] = ()) -> str:
    """A whole HTML document."""
    parts = [Markup("<h1>{}</h1>").format(title), *map(_block, introduction)]
    for section in sections:
        body = _lines(map(_block, section.body))
        parts.append(Markup("<section>\n<h2>{}</h2>\n{}\n</section>").format(section.title, body))
    return str(_DOCUMENT.format(title=title, style=_STYLE, body=_lines(parts)))


def figures(values: Mapping[str, str]) -> Markup:
    """A row of key figures: name and value."""
    tiles = (Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in values.items())
    return Markup('<dl class="figures">{}</dl>').format(_joined(tiles))


def bar_chart(
    bars: Mapping[str, float], caption: str, format_value: Callable[[float], str] = number_formats.count
) -> Markup:
    """Horizontal bars, one for each name, in the order given; values of 0 and more."""
    longest = max(bars.values(), default=0) or 1
    labels = {name: _shortened(name, MAX_LABEL) for name in bars}
    left = 16 + max(map(text_width, labels.values()), default=0)
    right = 16 + max((text_width(format_value(value)) for value in bars.values()), default=0)
    room = max(WIDTH - left - right, 40)
    drawn = []
    for number, (name, value) in enumerate(bars.items()):
        y, width = 4 + number * BAR_HEIGHT, room * value / longest
        shown = format_value(value)
        bar = Markup('<rect x="{:.0f}" y="{}" width="{:.1f}" height="{}" rx="2"/>')
        drawn += [
            Markup("<g><title>{}: {}</title>").format(name, shown),
            _text(left - 8, y + 13, labels[name], "end"),
            bar.format(left, y, max(width, 1), BAR_HEIGHT - 6),
            _text(left + width + 6, y + 13, shown),
            Markup("</g>"),
        ]
    peak = max(bars, key=lambda name: bars[name], default="none")
    description = f"Bar chart, {len(bars)} bars: {caption}. Longest: {peak}."
    return _figure(drawn, caption, description, height=8 + BAR_HEIGHT * len(bars))


def histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    caption: str,
    x_label: str,
    log_x: bool = False,
    open_end: bool = False,
) -> Markup:
    """Counts between `edges` (one more than `counts`); `log_x` needs positive edges.

    `open_end`: the last bin also holds everything above its upper edge, and is marked so.
    """
    y = _Axis(0, max([*counts, 1]), HEIGHT - BOTTOM, TOP)
    x = _Axis(edges[0], edges[-1], _left(y, ""), WIDTH - RIGHT, log_x)
    drawn = [_axes(x, y, x_label, "")]
    for number, count in enumerate(counts):
        begin, end = x(edges[number]), x(edges[number + 1])
        upper = "and more" if open_end and number == len(counts) - 1 else f"to {edges[number + 1]:,.3g}"
        fraction = number_formats.percent(count, sum(counts) or 1)
        drawn.append(
            Markup("<g><title>{:,.3g} {}: {:,} ({})</title>").format(edges[number], upper, count, fraction)
            + Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/></g>').format(
                begin + 0.5, y(count), max(end - begin - 1, 0.5), y(0) - y(count)
            )
        )
    if open_end and counts[-1]:
        drawn.append(_text(x(edges[-1]), y(counts[-1]) - 4, "and more", "end"))
    peak = max(range(len(counts)), key=lambda number: counts[number], default=0)
    description = f"Histogram: {caption}. Most between {edges[peak]:,.3g} and {edges[peak + 1]:,.3g} {x_label}."
    return _figure(drawn, caption, description, HEIGHT)


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]],
    caption: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
) -> Markup:
    """Lines through (x, y) points, one for each name. At most six lines.

    Points that are not finite leave a gap, as do those on a logarithmic axis that are not positive.
    """

    def is_shown(point: tuple[float, float]) -> bool:
        return all(math.isfinite(v) and (v > 0 or not log) for v, log in zip(point, (log_x, log_y), strict=True))

    points = [point for line in series.values() for point in line if is_shown(point)]
    if not points:
        return _block(f"{caption}: nothing to show yet.")
    lows, highs = (tuple(map(extreme, *points)) if len(points) > 1 else points[0] for extreme in (min, max))
    y = _Axis(lows[1], highs[1], HEIGHT - BOTTOM, TOP, log_y, rounded=not log_y)
    x = _Axis(lows[0], highs[0], _left(y, y_label), WIDTH - RIGHT, log_x)
    drawn = [_axes(x, y, x_label, y_label)]
    for number, (name, line) in enumerate(series.items()):
        path, pen = [], "M"
        for at, value in line:
            if is_shown((at, value)):
                path.append(f"{pen}{x(at):.1f} {y(value):.1f}")
            pen = "L" if is_shown((at, value)) else "M"
        drawn.append(
            Markup('<path class="line s{}" d="{}"><title>{}</title></path>').format(number % 6, "".join(path), name)
        )
        if len(path) == 1:
            dot = Markup('<circle class="dot s{}" cx="{}" cy="{}" r="3"/>')
            drawn.append(dot.format(number % 6, *path[0][1:].split()))
    last = {name: next((v for _, v in reversed(line) if math.isfinite(v)), math.nan) for name, line in series.items()}
    values = ", ".join(f"{name} {value:.4g}" for name, value in last.items())
    keys = _joined(Markup('<li class="s{}">{}</li>').format(number % 6, name) for number, name in enumerate(series))
    legend = Markup('<ul class="legend">{}</ul>').format(keys) if len(series) > 1 else Markup()
    return _figure(drawn, caption, f"Line chart: {caption}. Last values: {values}.", HEIGHT, legend)


def text_width(text: str) -> float:
    """An upper bound of the width of `text` in a chart, for any sans-serif font that a browser may use."""
    return sum(
        15 if ord(c) > 127 else 12.5 if c in "MWm@%" else 10.2 if c.isupper() or c in "w#&+<=>^~" else 7.7 for c in text
    )


class _Axis:
    """Maps values to positions in the drawing; `rounded` widens the range to whole ticks."""

    def __init__(self, low: float, high: float, begin: float, end: float, log: bool = False, rounded: bool = False):
        self.log = log
        if high <= low:
            low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
        self.ticks = _powers(low, high) if log else _ticks(low, high)
        if rounded:
            step = self.ticks[1] - self.ticks[0]
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
            self.ticks = _ticks(low, high)
        self.low, self.high, self.begin, self.end = low, high, begin, end

    def __call__(self, value: float) -> float:
        if self.log:
            fraction = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            fraction = (value - self.low) / (self.high - self.low)
        return self.begin + fraction * (self.end - self.begin)


def _ticks(low: float, high: float) -> list[float]:
    """Between three and seven round values within the range."""
    step = 10 ** math.floor(math.log10((high - low) / 3))
    step = next(step * factor for factor in (5, 2, 1) if (high - low) / (step * factor) >= 3 or factor == 1)
    first = math.ceil(low / step - 1e-9)
    return [step * number for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Values of the form 1, 2, 5 times a power of ten, or the powers alone where these would crowd."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        ticks = [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]
        if len(ticks) <= 10:
            break
    return ticks


def _left(y: _Axis, y_label: str) -> float:
    """The left margin: as wide as the labels of the vertical axis need."""
    return 12 + max(text_width(name) for _, name in _labels(y.ticks, y.log)) + (16 if y_label else 0)


def _axes(x: _Axis, y: _Axis, x_label: str, y_label: str) -> Markup:
    drawn = []
    for tick, name in _labels(y.ticks, y.log):
        line = Markup('<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>')
        drawn += [line.format(x.begin, x.end, y(tick), y(tick)), _text(x.begin - 6, y(tick) + 4, name, "end")]
    drawn += [_text(x(tick), y.begin + 16, name, "middle") for tick, name in _labels(x.ticks, x.log)]
    drawn.append(_text((x.begin + x.end) / 2, y.begin + 34, x_label, "middle"))
    if y_label:
        label = _shortened(y_label, HEIGHT - BOTTOM)
        turned = Markup('<text x="12" y="{0:.0f}" transform="rotate(-90 12 {0:.0f})" class="middle">{1}</text>')
        drawn.append(turned.format((y.begin + y.end) / 2, label))
    return _joined(drawn)


def _labels(ticks: Sequence[float], log: bool) -> list[tuple[float, str]]:
    """Each tick with its label, on a linear axis all in the same unit."""
    largest = max(map(abs, ticks), default=0)
    labels = []
    for tick in ticks:
        size = tick if log else largest
        unit, name = next(((u, n) for u, n in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if size > 10 * u), (1, ""))
        labels.append((tick, f"{tick / unit:,.6g}{name if tick else ''}"))
    return labels


def _text(x: float, y: float, text: str, anchor: str = "start") -> Markup:
    """A text at its anchor, moved to where it lies inside the drawing, and shortened where it has no room."""
    shown = _shortened(text, WIDTH)
    width = text_width(shown)
    before = width * {"start": 0, "middle": 0.5, "end": 1}[anchor]
    x = min(max(x, before), WIDTH - width + before)
    return Markup('<text x="{:.1f}" y="{:.1f}" class="{}">{}</text>').format(x, y, anchor, shown)


def _shortened(text: str, width: float) -> str:
    if text_width(text) <= width:
        return text
    while text_width(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _figure(drawing: Sequence[Markup], caption: str, description: str, height: int, legend: str = Markup()) -> Markup:
    figure = Markup(
        '<figure><figcaption>{}</figcaption>{}<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg></figure>'
    )
    return figure.format(caption, legend, WIDTH, height, description, _joined(drawing))


def _block(part: Block) -> Markup:
    if isinstance(part, Table):
        return part.html()
    return part if isinstance(part, Markup) else Markup("<p>{}</p>").format(part)


def _joined(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def _lines(parts: Iterable[Markup]) -> Markup:
    return Markup("\n").join(parts)


_DOCUMENT = Markup("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
""")

_STYLE = Markup("""
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5a6675; --line: #dfe4ea; --paper: #fff; --tile: #f4f6f9;
  --s0: #1f6fb4; --s1: #c8500a; --s2: #1a8a5a; --s3: #8b4fb0; --s4: #a3791b; --s5: #b8336a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa7b6; --line: #333c48; --paper: #12161c;
  --tile: #1b212a; --s0: #62a9ea; --s1: #f08b4b; --s2: #4cc28d; --s3: #c08be0; --s4: #d9b04c; --s5: #ee7aa5; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 46rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
p { margin: .5rem 0; max-width: 42rem; overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.figures div { background: var(--tile); border-radius: .4rem; padding: .6rem .8rem; }
.figures dt { color: var(--soft); font-size: .82rem; }
.figures dd { margin: 0; font-size: 1.25rem; font-weight: 600; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; min-width: 60%; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; }
tbody th { font-weight: 400; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 1.2rem 0; }
figcaption { color: var(--soft); font-size: .9rem; margin-bottom: .3rem; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--soft); } svg rect { fill: var(--s0); } svg g:hover rect { opacity: .75; }
.end { text-anchor: end; } .middle { text-anchor: middle; } .grid { stroke: var(--line); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .dot { stroke: none; fill: var(--c); }
.line { stroke: var(--c); }
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); }
.s4 { --c: var(--s4); } .s5 { --c: var(--s5); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 0 0 .3rem; padding: 0;
  font-size: .85rem; }
.legend li::before { content: ""; display: inline-block; width: 1.1em; height: 3px; margin-right: .4em;
  vertical-align: middle; background: var(--c); }
""")
