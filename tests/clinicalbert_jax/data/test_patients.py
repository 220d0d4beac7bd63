"""Every spelling of an identifier is one patient, and different patients stay apart."""

import json
import math
import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.data.patients import count_lookalikes, identifier
from clinicalbert_jax.errors import UserError

pytestmark = pytest.mark.fast

WRAPPINGS = [
    "{}",
    " {}",
    "{}\t",
    "\ufeff{}",
    '"{}"',
    "'{}'",
    ' "{}" ',
    '\ufeff"{}"',
    '="{}"',
    "{}\r\n",
    "\u201c{}\u201d",
]
WRAPPINGS += ["\u00a0{}\u200b", "'{}"]
whole_numbers = st.integers(0, 2**53 - 1)
words = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1).filter(lambda word: identifier(word))


@given(whole_numbers, st.sampled_from(WRAPPINGS), st.sampled_from(WRAPPINGS))
def test_a_whole_number_has_one_spelling(number: int, inner: str, outer: str) -> None:
    texts = [str(number), f"{number}.0", f"{number}.", f"{number}.000"]
    spellings = [number, float(number), Decimal(number), Decimal(f"{number}.0"), *texts]
    spellings += [outer.format(inner.format(text)) for text in texts]
    spellings += [text.encode() for text in texts]
    assert {identifier(spelling) for spelling in spellings} == {str(number)}


@given(words, st.sampled_from(WRAPPINGS), st.sampled_from(["NFC", "NFD"]))
def test_a_word_has_one_spelling(word: str, wrapping: str, form: str) -> None:
    assert identifier(wrapping.format(unicodedata.normalize(form, word))) == identifier(word)


@given(st.text())
def test_an_identifier_is_its_own_identifier(text: str) -> None:
    assert identifier(identifier(text)) == identifier(text)


@given(st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]*", fullmatch=True), unique=True))
def test_different_patients_stay_apart(names: list[str]) -> None:
    known = [name for name in names if identifier(name)]
    assert len({identifier(name) for name in known}) == len(known)


@pytest.mark.parametrize("text", ["007", "007.5", "1e3", "1.50", "v1.0", "9" * 400, "-5", "ab", "AB", "0"])
def test_text_stays_as_it_is(text: str) -> None:
    assert identifier(text) == text


@pytest.mark.parametrize(
    "missing",
    [None, math.nan, "", " ", '""', "NaN", "NULL", "\\N", "<NA>", "\ufeff", [], ["1"], {}, math.inf, Decimal("-inf")],
)
def test_missing(missing: object) -> None:
    assert identifier(missing) == ""


def test_numbers_keep_every_digit_or_are_refused() -> None:
    assert identifier(1e3) == "1000"
    assert identifier(2**80) == str(2**80)
    assert identifier(json.loads("12345678901234567890.0", parse_float=Decimal)) == "12345678901234567890"
    assert identifier(float(2**53 - 1)) == str(2**53 - 1)
    with pytest.raises(UserError, match="last digits are lost"):
        identifier(1.2345678901234567e17)


def test_lookalikes_are_counted() -> None:
    assert count_lookalikes(["1", "2", "x", "1"]) == 0
    assert count_lookalikes(["1", "01", "001", "Ab", "aB", "0"]) == 3
    assert count_lookalikes(["P-1", "P\u20111", "P\u22121", "\uff30-1", "P\u200b-1", "P1"]) == 4
    assert count_lookalikes(["1234567", "1,234,567", "1.234.567", "1 234 567", "1,2", "12", "12-345", "12345"]) == 3


@given(whole_numbers, st.sampled_from(["\uff10", "\u0660", "\u0966"]))
def test_digits_of_any_script_are_digits(number: int, zero: str) -> None:
    written = "".join(chr(ord(zero) + int(digit)) for digit in str(number))
    assert identifier(written) == identifier(f"{written}.0") == str(number)


@given(st.integers(1, 9), st.integers(7, 14))
def test_scientific_notation_is_read_as_r_writes_it(digit: int, exponent: int) -> None:
    assert identifier("1e+05") == "100000"
    assert identifier(f"{digit}e+{exponent:02d}") == str(digit * 10**exponent)
    assert identifier(f"{digit}.5e+{exponent:02d}") == str(digit * 10**exponent + 10**exponent // 2)


@pytest.mark.parametrize("text", ["1.23457E+11", "1E+05", "1.234568e+09", "1.5e+00", "1e+16", "-1.23457E+11"])
def test_digits_that_a_spreadsheet_has_rounded_away_are_missed(text: str) -> None:
    with pytest.raises(UserError, match="scientific notation, whose last digits may be lost"):
        identifier(text)
