"""Tables that are missing, damaged or of something else: one line, which holds no cell, or a count in the ledger."""

from collections.abc import Callable
from pathlib import Path

import pytest

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.inputs.reading import Reading
from tests.clinicalbert_jax.finetune.convert.outcomes import hand_made
from tests.clinicalbert_jax.finetune.convert.outcomes.converting import convert, excluded, labels, ledger
from tests.clinicalbert_jax.finetune.convert.outcomes.hand_made import Stay

SECRET = "7654321"
NOTE = ("Nursing", "2100-01-01", "2100-01-01 09:00:00", "", "secret note")
SUMMARY = ("Discharge summary", "2100-01-05", "", "", "secret summary")


def stays() -> list[Stay]:
    made = [
        Stay(str(n), f"{n}1", "2100-01-01 08:00:00", "2100-01-05 12:00:00", notes=[NOTE, SUMMARY]) for n in range(1, 5)
    ]
    return [*made, Stay("1", "12", "2100-01-20 08:00:00", "2100-01-25 12:00:00")]


def replaced(name: str, old: str, new: str, count: int = -1) -> Callable[[Path], None]:
    def change(source: Path) -> None:
        path = source / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, count))

    return change


def removed(name: str) -> Callable[[Path], None]:
    return lambda source: (source / name).unlink()


def emptied(name: str) -> Callable[[Path], None]:
    def change(source: Path) -> None:
        (source / name).write_text((source / name).read_text().split("\n")[0] + "\n")

    return change


def copied(name: str, other: str) -> Callable[[Path], None]:
    def change(source: Path) -> None:
        (source / other).parent.mkdir(exist_ok=True)
        (source / other).write_bytes((source / name).read_bytes())

    return change


ADMISSIONS, NOTES, CODES = "ADMISSIONS.csv", "NOTEEVENTS.csv", "DIAGNOSES_ICD.csv"
MORTALITY = "mimic_mortality"
FAULTS = [
    (removed(ADMISSIONS), MORTALITY, "expected the table ADMISSIONS.csv"),
    (removed(NOTES), MORTALITY, "expected NOTEEVENTS.csv"),
    (removed(CODES), "mimic_icd", "expected the table DIAGNOSES_ICD.csv"),
    (copied(ADMISSIONS, "copy/admissions.csv"), MORTALITY, "expected one file of the table admissions"),
    (replaced(ADMISSIONS, "DEATHTIME", "SECRET"), MORTALITY, "line 1: expected a column named 'deathtime'"),
    (replaced(NOTES, "CATEGORY", "SECRET"), MORTALITY, "expected notes with the columns of NOTEEVENTS"),
    (replaced(CODES, "ICD9_CODE", "SECRET"), "mimic_icd", "line 1: expected a column named 'icd_code'"),
    (
        replaced(ADMISSIONS, "2100-01-01 08:00:00", "01/02/2100", 1),
        MORTALITY,
        "line 2: expected a time in admi",
    ),
    (
        replaced(ADMISSIONS, "2100-01-01 08:00:00", "2100-02-30", 1),
        MORTALITY,
        "line 2: expected a time in admi",
    ),
    (replaced(ADMISSIONS, "2100-01-01 08:00:00", "", 1), MORTALITY, "line 2: expected a time in admittime, fo"),
    (replaced(ADMISSIONS, "EMERGENCY,0", f"EMERGENCY,{SECRET}", 1), MORTALITY, "line 2: expected 0 or 1"),
    (replaced(ADMISSIONS, "1,11,", "1,,", 1), MORTALITY, "line 2: expected an identifier in hadm_id"),
    (replaced(ADMISSIONS, "2,21,", "2,11,", 1), MORTALITY, "line 3: expected one row for each hadm_id"),
    (
        replaced(NOTES, "2100-01-01 09:00:00", f"{SECRET} 9 am", 1),
        MORTALITY,
        "line 2: expected a time in chart",
    ),
    (replaced(NOTES, "2100-01-05", SECRET, 1), "mimic_readmission", "line 3: expected a time in chartdate"),
    (replaced(NOTES, ",secret note", ',"secret" note', 1), MORTALITY, "line 2: expected quotation marks around"),
    (replaced(NOTES, ",secret note", "", 1), MORTALITY, "line 2: expected 10 fields as in the header, found 9"),
    (emptied(NOTES), MORTALITY, "NOTEEVENTS.csv: expected notes, found none"),
    (replaced(CODES, "4019", "401.9", 1), "mimic_icd", "line 2: expected a code of ICD-9 without a point"),
    (
        replaced(CODES, "4019", "38", 1),
        "mimic_icd",
        "line 2: expected a code of ICD-9 without a point and with its lead",
    ),
    (
        replaced(NOTES, ",Nursing,", ",Discharge summary,"),
        MORTALITY,
        r"found none among 8 \(.*8 a discharge su",
    ),
]


@pytest.mark.parametrize(("change", "corpus", "match"), FAULTS)
def test_a_fault_is_one_line_without_a_cell(
    tmp_path: Path, change: Callable[[Path], None], corpus: str, match: str
) -> None:
    source = hand_made.write_iii(tmp_path / "in", stays())
    change(source)
    with pytest.raises(UserError, match=match) as caught:
        convert(corpus, source, tmp_path / "out")
    said = str(caught.value)
    assert "\n" not in said
    assert "secret" not in said.lower()
    assert SECRET not in said
    assert not (tmp_path / "out").exists()


def test_bad_rows_that_are_skipped_are_counted_and_so_are_the_stays_they_leave_undecided(tmp_path: Path) -> None:
    source = hand_made.write_iii(tmp_path / "in", stays())
    replaced(ADMISSIONS, "1,12,2100-01-20 08:00:00", "1,12,20.1.2100")(source)
    skipping = Reading("skip", max_malformed_fraction=0.3)
    output = convert("mimic_readmission", source, tmp_path / "out", reading=skipping)
    # The first stay of patient 1 may have been followed by a readmission.
    assert set(labels(output)) == {"21", "31", "41"}
    assert excluded(output) == {"bad record": 1, "a row of the patient's admissions cannot be used": 1}
    assert ledger(output)["entries"]["admissions"]["found"] == 5


@pytest.mark.parametrize("line", [1, 2])
def test_a_bad_note_is_counted_once_wherever_it_is(tmp_path: Path, line: int) -> None:
    source = hand_made.write_iii(tmp_path / "in", stays())
    lines = (source / NOTES).read_text().split("\n")
    lines.insert(line, "1,secret")
    (source / NOTES).write_text("\n".join(lines))
    output = convert("mimic_readmission", source, tmp_path / "out", reading=Reading("skip"))
    notes = ledger(output)["entries"]["notes"]
    assert (notes["found"], notes["as_is"]) == (9, 4)
    assert notes["refused_by_reason"]["bad record"] == 1


def test_bytes_of_another_encoding_are_counted_or_refused(tmp_path: Path) -> None:
    source = hand_made.write_iii(tmp_path / "in", stays())
    content = (source / NOTES).read_bytes()
    (source / NOTES).write_bytes(content.replace(b"secret summary", b"secret caf\xe9", 1))
    output = convert("mimic_readmission", source, tmp_path / "out")
    assert "secret caf\ufffd" in (output / "train.jsonl").read_text()
    assert list(ledger(output)["entries"]["notes"]["notes"].values()) == [1]
    (source / NOTES).write_bytes(content.replace(b"secret summary", b"secret caf\xe9"))
    with pytest.raises(UserError, match="4 of 4 notes hold bytes that are not utf-8: give --encoding"):
        convert("mimic_readmission", source, tmp_path / "all")
    given = Reading(encoding="latin-1")
    assert (
        "secret caf\u00e9"
        in (convert("mimic_readmission", source, tmp_path / "1", reading=given) / "train.jsonl").read_text()
    )


def test_notes_of_another_database_are_refused(tmp_path: Path) -> None:
    source = hand_made.write_iii(tmp_path / "in", stays())
    other = hand_made.write_iv(tmp_path / "iv", [Stay("9", "91", "2100-01-01", "2100-01-05", notes=[NOTE, SUMMARY])])
    given = (str(other / "note"),)
    with pytest.raises(UserError, match=r"found none among 1 \(1 of an admission that is not in the table\)"):
        convert("mimic_mortality", source, tmp_path / "out", notes=given)
    with pytest.raises(UserError, match="found both"):
        convert("mimic_mortality", source, tmp_path / "out", notes=(*given, str(source / NOTES)))
    with pytest.raises(UserError, match="--notes: expected files or directories"):
        convert("mimic_mortality", source, tmp_path / "out", notes=(str(source / "none.csv"),))
    with pytest.raises(UserError, match="--input: expected the directory of MIMIC's tables"):
        convert("mimic_mortality", source / NOTES, tmp_path / "out")


@pytest.mark.parametrize(
    ("corpus", "given", "match"),
    [
        (
            "hallmarks",
            {"notes": ("x",)},
            "--notes: expected --corpus=mimic_readmission or mimic_mortality or mimic_icd",
        ),
        ("mimic_mortality", {"first_days": 2}, "--first_days: expected --corpus=mimic_readmission"),
        ("mimic_icd", {"sampling": "balanced"}, "--sampling: expected --corpus=mimic_readmission or mimic_mortality"),
        ("mimic_readmission", {"top_codes": 10}, "--top_codes: expected --corpus=mimic_icd"),
        ("mimic_readmission", {"elective_types": ("PLANED",)}, "--elective_types: .* found 1 that no admission has"),
        ("mimic_icd", {"icd_version": "10"}, "--icd_version: expected 9, since MIMIC-III"),
        ("mimic_icd", {"pretraining_data": "x", "split_by": "admission"}, "--split_by: expected patient"),
        ("mimic_icd", {"pretraining_data": "x"}, "--split_percent: expected none"),
    ],
)
def test_options_that_would_change_nothing_are_refused(
    tmp_path: Path, corpus: str, given: dict[str, object], match: str
) -> None:
    source = hand_made.write_iii(tmp_path / "in", stays())
    with pytest.raises(UserError, match=match):
        convert(corpus, source, tmp_path / "out", **given)
