"""The table of pages and cards, and how numbers are written in them."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.report import number_formats
from clinicalbert_jax.report.table import Table, plain, settings

pytestmark = pytest.mark.fast


def test_columns_of_numbers_are_aligned_right_and_words_are_not():
    table = Table(["name", "count", "fraction", "code", "few"], [["a", 1234, "12.5%", "4G x", "<11"]])
    root = ET.fromstring(table.html())
    kinds = [cell.get("class") for cell in root.iter() if cell.tag in ("th", "td")]
    assert kinds == 2 * [None, "number", "number", None, "number"]
    assert "1,234" in "".join(root.itertext())
    assert table.markdown().splitlines()[1] == "| --- | ---: | ---: | --- | ---: |"


def test_html_and_markdown_show_the_same_cells():
    table = Table(["name", "n", "score"], [["a", 12_345, 0.12345], ["b", np.int64(7), None]], "Caption")
    cells = ["a", "12,345", "0.123", "b", "7", "–"]
    body = ET.fromstring(table.html()).find(".//tbody")
    assert body is not None and ["".join(cell.itertext()) for cell in body.iter() if cell.tag in ("th", "td")] == cells
    lines = table.markdown().splitlines()
    assert lines[0] == "Caption:"
    assert [cell.strip() for line in lines[4:] for cell in line.strip("|").split("|")] == cells


@given(st.text(max_size=30))
def test_no_cell_is_taken_for_markup_in_markdown(text: str):
    (_, _, row) = Table(["a", "b"], [[text, text]]).markdown().splitlines()
    assert len(re.findall(r"(?<!\\)\|", row.replace("\\\\", ""))) == 3, "no more columns than cells"
    assert not re.search(r"(?<!\\)[<*`\[&]|(?<![\\\\A-Za-z0-9])_", row.replace("\\\\", ""))
    assert "\n" not in plain(text)


def test_settings_are_named_by_their_path():
    assert settings({"a": 1, "b": {"c": None, "d": "x"}}).rows == [("a", "1"), ("b.c", "None"), ("b.d", "x")]


def test_numbers_are_written_one_way():
    assert number_formats.count(1234567.4) == "1,234,567"
    assert [number_formats.large(value) for value in (9_999, 10_000, 1.1e6, 3.111e9)] == [
        "9,999",
        "10 k",
        "1.1 M",
        "3.111 G",
    ]
    assert [number_formats.score(value) for value in (0.12345, None, float("nan"))] == ["0.123", "–", "–"]
    assert [number_formats.percent(1, 8), number_formats.percent(0.5), number_formats.percent(1, 0)] == [
        "12.5%",
        "50.0%",
        "–",
    ]
    assert number_formats.interval({"value": 1.0, "low": 0.9, "high": 1.1}) == "1.000 [0.900, 1.100]"
    assert number_formats.interval({"value": 1.0, "low": None, "high": None}) == "1.000"
    assert [number_formats.duration(s) for s in (1.25, 125, 11_220)] == ["1.2 s", "2 min 05 s", "3 h 07 min"]
