"""A selection that selects nothing is an error; one that selects something says how much."""

from collections import Counter
from pathlib import Path

import pytest

from clinicalbert_jax.errors import UserError
from data_prep.reading import selection
from data_prep.reading.note_readers import Note
from data_prep.reading.selection import Met, SelectionConfig

pytestmark = pytest.mark.fast


def check(patients: list[str], named: list[str] = (), **settings: object) -> int:
    """`check_met` after reading a note each of these patients, and of these categories."""
    notes = [Note(str(n), patient, "", "Echo", f"Note {n}.") for n, patient in enumerate(patients)]
    notes += [Note("", "1", "", category, f"Of {category}.") for category in named]
    config, met = SelectionConfig(**settings), Met()
    list(selection.select(notes, config, Counter(), met))
    return selection.check_met(config, met)


@pytest.fixture
def listed(tmp_path: Path):
    def write(*lines: str, ending: str = "\n") -> str:
        (tmp_path / "out.txt").write_bytes(ending.join(lines).encode())
        return str(tmp_path / "out.txt")

    return write


def test_every_category_must_be_met() -> None:
    assert check([], ["Echo", "Nursing"], categories=("nursing", " ECHO", '"Echo"')) == 0
    with pytest.raises(UserError, match=r"none of number 2 of the 3 named") as caught:
        check([], ["Echo", "Nursing"], categories=("Echo", "Nurse", "Nursing"))
    assert "Nurse" not in str(caught.value)


def test_a_list_that_meets_nobody_is_refused(listed) -> None:
    path = listed("7001", "7002")
    with pytest.raises(UserError, match="--exclude_patients: 0 of 2 met, expected at least 1"):
        check(["1001", "1002"], exclude_patients=path)
    assert check(["1001", "1002"], exclude_patients=path, expect_excluded=0) == 0


def test_some_that_have_no_notes_are_normal(listed) -> None:
    assert check(["1001", "10002", "1003"], exclude_patients=listed("1001", "7000", "70002")) == 1
    assert check(["PT-01", "PT-02"], exclude_patients=listed("PT-01", "PT-77")) == 1


@pytest.mark.parametrize(
    ("patients", "entry"),
    [
        (["1001", "1002"], "123456"),  # length
        (["1001", "1002"], "12"),
        (["1001", "1002"], "1O02"),  # letters
        (["1001", "1002"], "0100"),  # leading zeros, of which the notes have none
        (["PT1001", "PT1002"], "1003"),  # prefix
        (["PT1001", "PT1002"], "PX1003"),
        (["PT1001", "PT1002"], "PT-1003"),
        (["PT1001", "pt1002"], "Pt1002"),  # case
        (["1001", "10020"], "010020"),
        (["ABC", "ABD"], "abe"),
        (["AB99", "Ab12"], "AB12"),  # of a form that there is, but a patient's with another case
    ],
)
def test_entries_of_another_form_are_refused(listed, patients: list[str], entry: str) -> None:
    path = listed(patients[0], entry)
    with pytest.raises(UserError, match="1 of 2 met, but 1 of the others differ in form") as caught:
        check(patients, exclude_patients=path)
    assert entry not in str(caught.value)
    assert check(patients, exclude_patients=path, expect_excluded=1) == 1
    with pytest.raises(UserError, match="1 of 2 met, expected at least 2"):
        check(patients, exclude_patients=path, expect_excluded=2)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("1001,2020-01-01", "1002,2020-01-02"), "several columns on line 1"),
        (("1001", "1002;x"), "several columns on line 2"),
        (("1001", "a\tb"), "several columns on line 2"),
        (("subject_id", "1001", "1002"), "looks like a header on the first line"),
        (('"patient"', '"1001"'), "looks like a header on the first line"),
        (("", " ", '""'), "found no identifier"),
        ((), "found no identifier"),
    ],
)
def test_lists_that_are_no_lists_are_refused(listed, lines: tuple[str, ...], expected: str) -> None:
    with pytest.raises(UserError, match=f"one a line, .*{expected}"):
        check(["1001"], exclude_patients=listed(*lines))


def test_a_list_from_a_spreadsheet_is_read(listed) -> None:
    path = listed('\ufeff"1001"', "1002.0 ", "", "\t1003", ending="\r\n")
    assert check(["1001", "1002", "1003", "1004"], exclude_patients=path) == 3
