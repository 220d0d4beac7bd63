"""One self-contained HTML page: text, tables and small charts, for the data card and for the reports of runs.

A page loads nothing from anywhere (its policy forbids it), follows the reader's light or dark setting, and can be read
without seeing the charts: each says in words what it shows. Whatever is passed as a plain `str` is escaped; only
what these functions return is taken as HTML.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 640, 260  # of a chart, in the units of its drawing
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 14, 42  # margins for axes and labels
BAR_HEIGHT = 22
MAX_LABEL = 48  # characters of a bar's label; the whole of it shows on hovering
CHARACTER = 6.6  # width of one at the charts' font size


class Html(str):
    """Markup that is safe to place in a page: made by the functions of this module only."""

    __slots__ = ()


class Section(NamedTuple):
    """A titled part of a page; a plain string in `body` becomes a paragraph."""

    title: str
    body: Sequence[str]


def page(title: str, sections: Sequence[Section], introduction: Sequence[str] = ()) -> str:
    """A whole HTML document."""
    parts = [f"<h1>{escape(title)}</h1>", *map(_block, introduction)]
    for section in sections:
        parts += ["<section>", f"<h2>{escape(section.title)}</h2>", *map(_block, section.body), "</section>"]
    return _DOCUMENT.format(title=escape(title), style=_STYLE, body="\n".join(parts))


def paragraph(text: str) -> Html:
    """One paragraph."""
    return Html(f"<p>{escape(text)}</p>")


def figures(values: Mapping[str, str]) -> Html:
    """A row of key figures: name and value."""
    tiles = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values.items())
    return Html(f'<dl class="figures">{tiles}</dl>')


def table(header: Sequence[str], rows: Sequence[Sequence[str | int]], caption: str = "") -> Html:
    """A table whose first column names its rows. A column of numbers is set flush right."""
    numeric = [bool(rows) and all(_is_number(row[column]) for row in rows) for column in range(len(header))]

    def cell(tag: str, column: int, value: str | int, scope: str) -> str:
        shown = f"{value:,}" if isinstance(value, int) else str(value)
        kind = ' class="number"' if numeric[column] else ""
        return f"<{tag}{kind}{scope}>{escape(shown)}</{tag}>"

    head = "".join(cell("th", column, name, ' scope="col"') for column, name in enumerate(header))
    body = "".join(
        "<tr>"
        + "".join(
            cell("td", column, value, "") if column else cell("th", column, value, ' scope="row"')
            for column, value in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return Html(f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def bar_chart(
    bars: Mapping[str, float], caption: str, format_value: Callable[[float], str] = lambda value: f"{value:,.0f}"
) -> Html:
    """Horizontal bars, one to a name, in the order given; values of 0 and more."""
    most = max(bars.values(), default=0) or 1
    left = 16 + CHARACTER * min(MAX_LABEL, max(map(len, bars), default=0))
    room = WIDTH - left - 90  # the value stands right of its bar
    drawn = []
    for place, (name, value) in enumerate(bars.items()):
        y, width = 4 + place * BAR_HEIGHT, room * value / most
        label = name if len(name) <= MAX_LABEL else name[: MAX_LABEL - 1] + "…"
        drawn.append(
            f"<g><title>{escape(name)}: {escape(format_value(value))}</title>"
            f'<text x="{left - 8:.0f}" y="{y + 13}" class="end">{escape(label)}</text>'
            f'<rect x="{left:.0f}" y="{y}" width="{max(width, 1):.1f}" height="{BAR_HEIGHT - 6}" rx="2"/>'
            f'<text x="{left + width + 6:.1f}" y="{y + 13}">{escape(format_value(value))}</text></g>'
        )
    said = f"Bar chart, {len(bars)} bars: {caption}. Longest: {max(bars, key=lambda name: bars[name], default='none')}."
    return _figure("".join(drawn), caption, said, height=8 + BAR_HEIGHT * len(bars))


def histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    caption: str,
    x_label: str,
    log_x: bool = False,
    open_end: bool = False,
) -> Html:
    """Counts between `edges` (one more than `counts`); `log_x` needs positive edges.

    `open_end`: the last bin also holds everything beyond its upper edge, and is marked so.
    """
    x = _Axis(edges[0], edges[-1], LEFT, WIDTH - RIGHT, log_x)
    y = _Axis(0, max([*counts, 1]), HEIGHT - BOTTOM, TOP)
    total = sum(counts) or 1
    drawn = [_axes(x, y, x_label, "")]
    for place, count in enumerate(counts):
        begin, end = x(edges[place]), x(edges[place + 1])
        last = place == len(counts) - 1
        beyond = (
            f"{edges[place]:,.3g} and more" if open_end and last else f"{edges[place]:,.3g} to {edges[place + 1]:,.3g}"
        )
        drawn.append(
            f"<g><title>{beyond}: {count:,} ({100 * count / total:.1f} %)</title>"
            f'<rect x="{begin + 0.5:.1f}" y="{y(count):.1f}" width="{max(end - begin - 1, 0.5):.1f}" '
            f'height="{y(0) - y(count):.1f}"/></g>'
        )
    if open_end and counts[-1]:
        drawn.append(f'<text x="{x(edges[-1]):.1f}" y="{y(counts[-1]) - 4:.1f}" class="end">and more</text>')
    peak = max(range(len(counts)), key=lambda place: counts[place], default=0)
    said = f"Histogram: {caption}. Most between {edges[peak]:,.3g} and {edges[peak + 1]:,.3g} {x_label}."
    return _figure("".join(drawn), caption, said, HEIGHT)


def line_chart(series: Mapping[str, Sequence[tuple[float, float]]], caption: str, x_label: str, y_label: str) -> Html:
    """Lines through (x, y) points, one line a name; points that are not finite leave a gap. At most six lines."""
    points = [point for line in series.values() for point in line if all(map(math.isfinite, point))]
    if not points:
        return paragraph(f"{caption}: nothing to show yet.")
    x = _Axis(min(p[0] for p in points), max(p[0] for p in points), LEFT, WIDTH - RIGHT)
    y = _Axis(min(p[1] for p in points), max(p[1] for p in points), HEIGHT - BOTTOM, TOP, rounded=True)
    drawn = [_axes(x, y, x_label, y_label)]
    for number, (name, line) in enumerate(series.items()):
        path, pen = [], "M"
        for at, value in line:
            finite = math.isfinite(at) and math.isfinite(value)
            if finite:
                path.append(f"{pen}{x(at):.1f} {y(value):.1f}")
            pen = "L" if finite else "M"
        drawn.append(f'<path class="line s{number % 6}" d="{"".join(path)}"><title>{escape(name)}</title></path>')
        if len(path) == 1:
            drawn.append(
                f'<circle class="dot s{number % 6}" cx="{path[0][1:].split()[0]}" cy="{path[0].split()[1]}" r="3"/>'
            )
    last = {name: next((v for _, v in reversed(line) if math.isfinite(v)), math.nan) for name, line in series.items()}
    said = f"Line chart: {caption}. Last values: " + ", ".join(f"{name} {value:.4g}" for name, value in last.items())
    keys = "".join(f'<li class="s{number % 6}">{escape(name)}</li>' for number, name in enumerate(series))
    legend = f'<ul class="legend">{keys}</ul>' if len(series) > 1 else ""
    return _figure("".join(drawn), caption, said + ".", HEIGHT, legend)


class _Axis:
    """Maps values to places on the drawing; `rounded` widens the range to whole ticks."""

    def __init__(self, low: float, high: float, begin: float, end: float, log: bool = False, rounded: bool = False):
        self.log = log
        if high <= low:
            low, high = low - 0.5, high + 0.5
        self.ticks = _powers(low, high) if log else _ticks(low, high)
        if rounded:
            step = self.ticks[1] - self.ticks[0]
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
            self.ticks = _ticks(low, high)
        self.low, self.high, self.begin, self.end = low, high, begin, end

    def __call__(self, value: float) -> float:
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)


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


def _axes(x: _Axis, y: _Axis, x_label: str, y_label: str) -> str:
    drawn = []
    for tick, name in _labels(y.ticks):
        at = y(tick)
        drawn.append(f'<line class="grid" x1="{x.begin}" x2="{x.end}" y1="{at:.1f}" y2="{at:.1f}"/>')
        drawn.append(f'<text x="{x.begin - 6}" y="{at + 4:.1f}" class="end">{name}</text>')
    for tick, name in _labels(x.ticks):
        drawn.append(f'<text x="{x(tick):.1f}" y="{y.begin + 16:.1f}" class="middle">{name}</text>')
    middle = (x.begin + x.end) / 2
    drawn.append(f'<text x="{middle:.0f}" y="{y.begin + 34:.0f}" class="middle label">{escape(x_label)}</text>')
    if y_label:
        place = f'x="12" y="{(y.begin + y.end) / 2:.0f}" transform="rotate(-90 12 {(y.begin + y.end) / 2:.0f})"'
        drawn.append(f'<text {place} class="middle label">{escape(y_label)}</text>')
    return "".join(drawn)


def _labels(ticks: Sequence[float]) -> list[tuple[float, str]]:
    """Each tick with its label, all in the same unit."""
    largest = max(map(abs, ticks), default=0)
    unit, name = next(((u, n) for u, n in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if largest >= 20 * u), (1, ""))
    return [(tick, f"{tick / unit:,.6g}{name if tick else ''}") for tick in ticks]


def _figure(drawing: str, caption: str, said: str, height: int, legend: str = "") -> Html:
    return Html(
        f'<figure><figcaption>{escape(caption)}</figcaption>{legend}<svg viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="{escape(said)}">{drawing}</svg></figure>'
    )


def _block(part: str) -> str:
    return part if isinstance(part, Html) else paragraph(part)


def _is_number(value: str | int) -> bool:
    return isinstance(value, int) or re.fullmatch(r"[-+–]?[\d.,]+( ?%| [a-zA-Z]{1,3})?", value) is not None


_DOCUMENT = """<!DOCTYPE html>
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
"""

_STYLE = """
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
"""
