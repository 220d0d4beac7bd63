import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.errors import UserError
from data_prep.text import cleaning
from tests.data_prep.note_text import note_like


@pytest.mark.fast
@given(st.one_of(st.text(), note_like), st.sampled_from(cleaning.DEID_POLICIES))
def test_result_is_normal_form_without_control_characters_and_with_single_spaces(text, policy):
    cleaned = cleaning.clean(text, policy)
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not [c for c in cleaned if c != "\n" and unicodedata.category(c) in ("Cn", "Cc", "Cf", "Co", "Cs")]
    assert all(
        line == " ".join(line.split(" ")) and line.strip() == line != "" for line in cleaned.split("\n") if cleaned
    )


@given(st.one_of(st.text(), note_like))
def test_characters_are_left_alone_the_second_time(text):
    once = cleaning.characters(text)
    assert cleaning.characters(once).split() == once.split()


@given(note_like)
def test_nothing_goes_but_rules_page_marks_and_repeated_heads(text):
    """Every letter and digit of a note without page marks is in the cleaned note, in order."""
    text = cleaning.characters(text.replace("(Over)", "").replace("(Cont)", "").replace("Page 2 of 3", ""))
    kept = [c for c in cleaning.clean(text) if c.isalnum()]
    assert kept == [c for c in text if c.isalnum()]


@given(st.text())
def test_kept_lines_stay_lines(text):
    lines = [line for line in cleaning.characters(text).split("\n") if line.strip()]
    assert [line for line in cleaning.clean(text, keep_lines=True).split("\n") if line] == [
        " ".join(line.split()) for line in lines
    ]


def test_wrapped_prose_is_restored():
    """Whatever the width, greedy wrapping is undone; paragraphs stay apart."""
    import textwrap

    paragraph = "The patient tolerated the procedure well and was taken to the recovery room in stable condition, " * 4
    for width in range(50, 110, 7):
        wrapped = textwrap.fill(paragraph, width) + "\n\n" + textwrap.fill(paragraph, width)
        assert cleaning.clean(wrapped) == "\n".join([paragraph.strip()] * 2), width


@pytest.mark.parametrize(
    ("inside", "kind"),
    [
        ("2151-7-16", "date"),
        ("12/2150", "date"),
        ("Month/Year 3", "date"),
        ("Holiday 4697", "date"),
        ("Known firstname 5", "name"),
        ("Name (NI) 12", "name"),
        ("Female First Name (un) 3", "name"),
        ("Hospital Ward Name 121", "hospital"),
        ("Hospital1 18", "hospital"),
        ("Location (un) 86", "location"),
        ("State 3", "location"),
        ("University/College 4", "location"),
        ("Telephone/Fax (1) 5", "phone"),
        ("Pager number 6", "phone"),
        ("Age over 90 7", "age"),
        ("Numeric Identifier 8", "number"),
        ("Medical Record Number 9", "number"),
        ("Clip Number (Radiology) 10", "number"),
        ("Company 11", "company"),
        ("E-mail address 12", "email"),
        ("", "redacted"),
    ],
)
def test_kind_of_tag(inside, kind):
    assert cleaning.tag_kind(inside) == kind


def test_unknown_policy_is_refused():
    with pytest.raises(UserError, match="keep, type, remove"):
        cleaning.check_policy("drop")


@pytest.mark.parametrize("unit", ["_", "- ", "A. ", "word ", "[**", "a\n", "Σ", ".", "x" * 77 + "\n", "1. ", "\u0301"])
def test_two_megabytes_of_anything_take_seconds(unit):
    text = unit * (2_000_000 // len(unit)) + "x"
    start = time.process_time()
    cleaning.clean(text, "type")
    assert time.process_time() - start < 10
