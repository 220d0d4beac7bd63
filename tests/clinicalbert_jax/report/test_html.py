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
        html.table([text, text], [[text, 3]], text),
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
    assert all(html.LEFT <= x <= html.WIDTH and 0 <= y <= html.HEIGHT - html.BOTTOM for x, y in places)
    assert places[0][1] < places[2][1] < places[1][1], "larger values stand higher"


def test_no_data_is_said_and_not_drawn():
    assert "nothing to show" in html.line_chart({"loss": []}, "Loss", "step", "nats")
    assert "nothing to show" in html.line_chart({"loss": [(1.0, math.inf)]}, "Loss", "step", "nats")
    parse(html.page("empty", [Section("s", [html.bar_chart({}, "b"), html.table(["a"], []), html.figures({})])]))


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_ticks_are_few_and_within_the_range(a: float, b: float):
    low, high = sorted((a, b))
    if high - low <= 1e-6 * max(abs(low), abs(high), 1e-3):
        return
    ticks = html._ticks(low, high)
    slack = 1e-6 * (high - low)
    assert 2 <= len(ticks) <= 9
    assert low - slack <= ticks[0] and ticks[-1] <= high + slack


def test_tick_labels_share_a_unit():
    assert [name for _, name in html._labels([0, 5_000, 10_000])] == ["0", "5,000", "10,000"]
    assert [name for _, name in html._labels([0, 50_000, 100_000])] == ["0", "50k", "100k"]
    assert [name for _, name in html._labels([0.1 * 3, 0.4])] == ["0.3", "0.4"]


def test_numbers_are_set_flush_right_and_words_are_not():
    table = ET.fromstring(html.table(["name", "count", "share", "code"], [["a", 1234, "12.5 %", "4G x"]]))
    kinds = [cell.get("class") for cell in table.iter() if cell.tag in ("th", "td")][4:]
    assert kinds == [None, "number", "number", None]
    assert "1,234" in "".join(table.itertext())
