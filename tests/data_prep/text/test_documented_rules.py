"""Every example of docs/data.md."""

import re
from pathlib import Path

import pytest

from data_prep.text import cleaning, sentences

DOCUMENT = (Path(__file__).parents[3] / "docs" / "data.md").read_text("utf-8")


def rows(start: str, end: str = "\n\n") -> list[list[str]]:
    """The cells of a table of the document, without the back quotes of what is quoted."""
    table = DOCUMENT[DOCUMENT.index(start) + len(start) :]
    table = table[table.index("|---") :]
    lines = table[: table.index(end)].split("\n")[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def unquoted(cell: str) -> str:
    match = re.fullmatch(r"`(.*)`", cell)
    return (match[1] if match else "").replace("⏎", "\n").replace("␣", " ")


CLEANING = [
    (policy, *map(unquoted, row)) for policy in cleaning.DEID_POLICIES for row in rows(f"<!-- cleaning: {policy} -->")
]
SECTIONS = [(row[0], *map(unquoted, row[1:])) for row in rows("## Sections")]
SENTENCES = [(row[0], *map(unquoted, row[1:])) for row in rows("## Sentences")]


def test_tables_are_read_whole():
    assert (len(CLEANING), len(SECTIONS), len(SENTENCES)) == (17, 10, 24)


@pytest.mark.fast
@pytest.mark.parametrize(("policy", "stored", "cleaned"), CLEANING)
def test_cleaning(policy, stored, cleaned):
    assert cleaning.clean(stored, policy) == cleaned


@pytest.mark.fast
@pytest.mark.parametrize(("rule", "example", "parts", "section"), SECTIONS)
def test_sections(rule, example, parts, section):
    found = sentences.split(cleaning.clean(example))
    assert found.texts == parts.split("¦"), rule
    assert found.sections[-1] == section, rule


@pytest.mark.fast
@pytest.mark.parametrize(("rule", "example", "parts"), SENTENCES)
def test_sentences(rule, example, parts):
    assert sentences.split(cleaning.clean(example)).texts == parts.split("¦"), rule
