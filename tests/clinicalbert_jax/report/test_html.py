"""The HTML helper: well-formed, self-contained, everything escaped, and charts that show what they are given."""

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.report import html
from clinicalbert_jax.report.html import Section
from clinicalbert_jax.report.table import Table

NASTY = "<script>alert('x')</script> & \"quotes\" {braces}"

pytestmark = pytest.mark.fast


def parse(document: str) -> ET.Element:
    """A page as a tree: fails if any tag is left open, by closing the three that HTML never closes."""
    document = re.sub(r"<(meta[^>]*)>", r"<\1/>", document.removeprefix("<!DOCTYPE html>\n"))
    return ET.fromstring(document)


def everything(text: str) -> str:
    line = {text: [(0.0, 1.0), (1.0, 2.0)], text + "2": [(0.0, 3.0)]}
    body = [
        text,
        html.figures({text: text}),
        Table([text, text], [[text, 3]], text),
        html.bar_chart({text: 1.0}, text, lambda _: text),
        html.histogram([0, 1, 2], [3, 4], text, text),
        html.line_chart(line, text, text, text),
    ]
    return html.page(text, [Section(text, body)], [text])


def test_every_text_is_escaped_wherever_it_stands():
    document = everything(NASTY)
    assert "<script" not in document
    said = "".join(parse(document).itertext())
    assert said.count(NASTY) >= 10


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"], exclude_characters="\ufffe\uffff"), max_size=40))
def test_any_text_gives_a_well_formed_page(text: str):
    parse(everything(text))


def test_a_page_asks_nothing_of_the_network():
    document = everything("text")
    assert not re.search(r"https?://|src=|<link|url\(|@import", document)
    assert "default-src 'none'" in document


def test_charts_say_in_words_what_they_show():
    for svg in parse(everything("Loss")).iter("svg"):
        assert svg.get("role") == "img"
        assert "Loss" in (svg.get("aria-label") or "")


def test_bars_are_as_long_as_their_values():
    chart = ET.fromstring(html.bar_chart({"a": 10, "b": 5, "c": 0}, "Bars"))
    widths = [float(bar.get("width", 0)) for bar in chart.iter("rect")]
    assert widths[1] / widths[0] == pytest.approx(0.5, abs=0.01)
    assert widths[2] <= 1


def test_histogram_bins_stand_side_by_side_and_their_heights_follow_the_counts():
    for log_x, edges in ((False, [0, 10, 20, 40]), (True, [1, 2, 4, 8])):
        chart = ET.fromstring(html.histogram(edges, [8, 4, 2], "Counts", "pieces", log_x=log_x))
        bars = [{key: float(bar.get(key, 0)) for key in ("x", "y", "width", "height")} for bar in chart.iter("rect")]
        heights = [bar["height"] for bar in bars]
        assert heights[1] / heights[0] == pytest.approx(0.5, abs=0.01)
        assert heights[2] / heights[0] == pytest.approx(0.25, abs=0.01)
        for left, right in pairwise(bars):
            assert left["x"] + left["width"] <= right["x"] + 0.01
            assert left["y"] + left["height"] == pytest.approx(right["y"] + right["height"], abs=0.2)
        if log_x:
            assert bars[0]["width"] == pytest.approx(bars[2]["width"], abs=0.2)


def test_a_line_stays_in_its_frame_and_a_missing_value_is_a_gap():
    line = [(0.0, 5.0), (1.0, math.nan), (2.0, 1.0), (3.0, 2.0)]
    chart = ET.fromstring(html.line_chart({"loss": line}, "Loss", "step", "nats"))
    (path,) = (p.get("d", "") for p in chart.iter("path"))
    assert path.count("M") == 2 and path.count("L") == 1
    places = [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]
    assert all(0 < x <= html.WIDTH and 0 <= y <= html.HEIGHT - html.BOTTOM for x, y in places)
    assert places[0][1] < places[2][1] < places[1][1], "larger values stand higher"


def test_no_data_is_said_and_not_drawn():
    assert "nothing to show" in html.line_chart({"loss": []}, "Loss", "step", "nats")
    assert "nothing to show" in html.line_chart({"loss": [(1.0, math.inf)]}, "Loss", "step", "nats")
    parse(html.page("empty", [Section("s", [html.bar_chart({}, "b"), Table(["a"], []), html.figures({})])]))


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_ticks_are_few_and_within_the_range(a: float, b: float):
    low, high = sorted((a, b))
    if high - low <= 1e-6 * max(abs(low), abs(high), 1e-3):
        return
    ticks = html._ticks(low, high)
    slack = 1e-6 * (high - low)
    assert 2 <= len(ticks) <= 9
    assert low - slack <= ticks[0] and ticks[-1] <= high + slack


def test_tick_labels_have_one_unit_on_a_linear_axis_and_their_own_on_a_logarithmic_one():
    assert [name for _, name in html._labels([0, 5_000, 10_000], False)] == ["0", "5,000", "10,000"]
    assert [name for _, name in html._labels([0, 50_000, 100_000], False)] == ["0", "50k", "100k"]
    assert [name for _, name in html._labels([0, 6_000_000, 12_000_000], False)] == ["0", "6M", "12M"]
    assert [name for _, name in html._labels([0.1 * 3, 0.4], False)] == ["0.3", "0.4"]
    assert [name for _, name in html._labels([10, 1_000, 1_000_000], True)] == ["10", "1,000", "1,000k"]


# Advance widths of DejaVu Sans, the widest of the usual sans-serif fonts, for ' ' to '~' in thousandths of its size.
# fmt: off
DEJAVU = [
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636, 636, 636, 636, 636,
    636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632, 575, 775, 752, 295, 295, 656, 557, 863,
    748, 787, 603, 787, 695, 635, 611, 732, 684, 989, 685, 611, 685, 390, 337, 390, 838, 500, 500, 613, 635, 550, 635,
    615, 352, 635, 634, 278, 278, 579, 278, 974, 634, 612, 635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636,
    337, 636, 838,
]
# fmt: on


def width_of(text: str) -> float:
    """The width of a text in a chart, of 12 units, if the browser has DejaVu Sans."""
    return 0.012 * sum(DEJAVU[ord(c) - 32] if c.isascii() else 1000 for c in text)


def boxes(chart: ET.Element) -> list[tuple[float, float, float, float]]:
    """(left, top, right, bottom) of every text of a chart."""
    found = []
    for text in chart.iter("text"):
        width, x, y = width_of(text.text or ""), float(text.get("x", 0)), float(text.get("y", 0))
        left = x - width * {"start": 0, "middle": 0.5, "end": 1}[text.get("class", "")]
        box = (left, y - 11, left + width, y + 3)
        if "rotate(-90" in text.get("transform", ""):
            box = (x - 11, y - width / 2, x + 3, y + width / 2)
        found.append(box)
    return found


numbers = st.one_of(st.floats(1e-6, 1e12), st.integers(1, 10**12).map(float), st.sampled_from([100.0, 1_200.0, 12e6]))
names = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), max_size=60)


@given(numbers, numbers, names, st.booleans())
def test_every_text_of_a_chart_lies_inside_its_drawing_and_touches_no_other_tick(
    a: float, b: float, name: str, log: bool
):
    edges = [a, 3 * a, 10 * a, 1000 * a]
    charts = [
        html.line_chart({name: [(0.0, -b), (a, b)]}, "Chart", "step", name),
        html.line_chart({name: [(a, b)]}, "Chart", name, ""),
        html.bar_chart({name: a, "W" * 60: b, "short": 0.0}, "Bars"),
        html.bar_chart({"short": a}, "Bars", lambda _: name),
        html.histogram(edges, [b, 1, b], "Counts", "tokens", log_x=log, open_end=True),
    ]
    for markup in charts:
        chart = next(ET.fromstring(f"<div>{markup}</div>").iter("svg"))
        _, _, width, height = map(float, chart.get("viewBox", "").split())
        found = boxes(chart)
        assert found
        for left, top, right, bottom in found:
            assert left >= -0.1 and top >= 0 and right <= width + 0.1 and bottom <= height
        grid = [float(line.get("x1", 0)) for line in chart.iter("line")]
        labels = [box for box, text in zip(found, chart.iter("text"), strict=True) if text.get("class") == "end"]
        assert all(box[2] <= left for left, box in zip(grid, labels, strict=False)), "left of the plot"
        ticks = sorted(box for box in found if box[3] == html.HEIGHT - html.BOTTOM + 16 + 3)
        assert all(one[2] <= other[0] + 6 for one, other in pairwise(ticks))


def test_a_logarithmic_axis_has_equal_steps_for_equal_factors() -> None:
    """Points that are not positive have no place on it, and leave a gap."""
    line = [(0.0, 0.5), (0.001, 0.001), (0.01, 0.01), (0.1, 0.1), (1.0, 1.0)]
    chart = ET.fromstring(html.line_chart({"found": line}, "ROC", "false", "true", log_x=True, log_y=True))
    path = next(one for one in chart.iter("path") if one.get("class", "").startswith("line"))
    drawn = [tuple(map(float, point.split())) for point in re.split("[ML]", path.get("d", ""))[1:]]
    assert len(drawn) == 4
    steps = [(x - before_x, y - before_y) for (before_x, before_y), (x, y) in pairwise(drawn)]
    assert all(step == pytest.approx(steps[0], abs=0.2) for step in steps)
    assert "nothing to show" in html.line_chart({"found": [(0.0, 1.0)]}, "ROC", "false", "true", log_x=True)
