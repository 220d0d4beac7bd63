"""What is in the input of an outcome, and what can never be: notes written too late, and other patients' notes."""

from pathlib import Path

import pytest

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.classification.task import ClassificationConfig
from clinicalbert_jax.finetune.convert.outcomes import huang_text
from clinicalbert_jax.finetune.inputs.reading import Reading
from tests.clinicalbert_jax.finetune.convert.outcomes import hand_made
from tests.clinicalbert_jax.finetune.convert.outcomes.converting import convert, excluded, ledger
from tests.clinicalbert_jax.finetune.convert.outcomes.hand_made import Stay

STAY = {"admitted": "2100-01-01 08:00:00", "discharged": "2100-01-09 12:00:00"}
SUMMARY = "Discharge summary"
EARLY = [
    ("Nursing", "2100-01-01", "2100-01-01 09:00:00", "2100-01-01 09:30:00", "written b"),
    ("ECG", "2100-01-01", "", "", "written c"),  # at the end of the first day
    ("Nursing", "2099-12-31", "2099-12-31 23:00:00", "", "written a"),  # in the emergency department
    ("Nursing", "2100-01-02", "2100-01-02 07:59:59", "", "written d"),
]
# Each names the outcome, and none may be read in the first 24 hours.
LATE = {
    "at the hour": ("Nursing", "2100-01-02", "2100-01-02 08:00:00", "", "planted"),
    "days later": ("Physician ", "2100-01-08", "2100-01-08 09:00:00", "", "planted"),
    "a date alone": ("Echo", "2100-01-02", "", "", "planted"),
    "a date as the time": ("Nursing", "2100-01-02", "2100-01-02", "", "planted"),
    "stored after the hour": ("Nursing", "2100-01-01", "2100-01-01 09:00:00", "2100-01-02 08:00:00", "planted"),
    "stored on a date alone": ("Nursing", "2100-01-01", "2100-01-01 09:00:00", "2100-01-02", "planted"),
    "a discharge summary with an early date": (SUMMARY, "2100-01-01", "", "", "planted"),
    "a discharge summary with an early time": (
        "DISCHARGE SUMMARY ",
        "2100-01-01",
        "2100-01-01 09:00:00",
        "",
        "planted",
    ),
    "without a date": ("Nursing", "", "", "", "planted"),
}


def texts(output: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for record in hand_made.records(output):
        found.setdefault(record["admission"], []).append(record["text"])
    return found


@pytest.mark.parametrize("late", LATE)
def test_a_late_note_that_names_the_outcome_is_never_in_the_input(tmp_path: Path, late: str) -> None:
    stays = [Stay("1", "11", **STAY, notes=[LATE[late], *EARLY]), Stay("2", "21", **STAY, notes=[LATE[late]])]
    source = hand_made.write_iii(tmp_path / "in", stays, gz=True)
    output = convert("mimic_mortality", source, tmp_path / "out")
    assert texts(output) == {"11": ["written a", "written b", "written c", "written d"]}, "in the order of writing"
    assert excluded(output) == {"without a note for the input": 1}
    notes = ledger(output)["entries"]["notes"]
    assert (notes["found"], notes["as_is"], notes["refused"]) == (6, 4, 2)
    assert "planted" not in (output / "ledger.json").read_text() + (output / "cohort.html").read_text()


def test_days_are_those_of_the_calendar(tmp_path: Path) -> None:
    days = [("Nursing", f"2100-01-0{day}", f"2100-01-0{day} 23:59:00", "", f"day {day}") for day in (1, 2, 3)]
    dated = [("Echo", f"2100-01-0{day}", "", "", f"dated {day}") for day in (1, 2, 3)]
    stays = [Stay("1", "11", **STAY, notes=[*days, *dated, (SUMMARY, "2100-01-01", "", "", "planted")])]
    stays.append(Stay("2", "21", "2100-01-01 08:00:00", "2100-01-02 20:00:00", notes=days))
    output = convert("mimic_readmission", hand_made.write_iii(tmp_path / "in", stays), tmp_path / "out", first_days=2)
    assert texts(output) == {"11": ["day 1", "dated 1", "day 2", "dated 2"]}
    assert excluded(output) == {"ended within the first 2 days": 1}


def test_a_summary_dated_after_the_discharge_may_know_of_the_readmission(tmp_path: Path) -> None:
    notes = [
        (SUMMARY, "2100-01-10", "", "", "planted"),
        (SUMMARY, "2100-01-09", "", "", "second"),
        (SUMMARY, "2100-01-08", "", "", "first"),
        ("Nursing", "2100-01-08", "2100-01-08 09:00:00", "", "no summary"),
    ]
    source = hand_made.write_iii(tmp_path / "in", [Stay("1", "11", **STAY, notes=notes)])
    assert texts(convert("mimic_readmission", source, tmp_path / "out")) == {"11": ["first", "second"]}
    assert texts(convert("mimic_icd", source, tmp_path / "codes")) == {"11": ["first", "second", "planted"]}


def test_notes_of_others_are_counted_and_left_out(tmp_path: Path) -> None:
    stays = [Stay("1", "11", **STAY, notes=EARLY), Stay("2", "21", **STAY, notes=EARLY)]
    source = hand_made.write_iii(tmp_path / "in", stays)
    header = [column.upper() for column in hand_made.NOTES_III]
    common = ["2100-01-01", "2100-01-01 09:00:00", "", "Nursing", "", ""]
    rows = [["1", "1", "11.0", *common, "of 11"], ["2", "2", "11", *common, "of another patient"]]
    rows += [["3", "1", "", *common, "x"], ["4", "1", "99", *common, "x"], ["5", "1", "11", *common[:-1], "1", "error"]]
    rows += [["6", " 1 ", "11", *common, " \n "], ["7", "2", "21", *common, "of 21"]]
    hand_made.write(source / "NOTEEVENTS.csv", header, rows)
    output = convert("mimic_mortality", source, tmp_path / "out")
    assert texts(output) == {"11": ["of 11"], "21": ["of 21"]}
    assert ledger(output)["entries"]["notes"]["refused_by_reason"] == {
        "of another patient than their admission": 1,
        "without an admission": 1,
        "of an admission that is not in the table": 1,
        "marked as error": 1,
        "empty": 1,
    }


def test_rows_of_an_admission_are_one_decision(tmp_path: Path) -> None:
    stays = [Stay("1", "11", **STAY, notes=EARLY), Stay("2", "21", **STAY, flag="1", notes=EARLY)]
    output = convert("mimic_mortality", hand_made.write_iii(tmp_path / "in", stays), tmp_path / "out")
    config = ClassificationConfig(group_column="admission", patient_column="patient")
    examples = config.read(output / "train.jsonl", Reading())
    assert [(e.id, e.patient, e.labels, e.text.count("written")) for e in examples] == [
        ("11", "1", ("alive",), 4),
        ("21", "2", ("died",), 4),
    ]
    assert config.task(examples).labels == ("alive", "died"), "the outcome comes second"


def test_early_notes_refuse_the_discharge_file_of_mimic_iv(tmp_path: Path) -> None:
    notes = [(SUMMARY, "2100-01-01", "", "", "planted")]
    stays = [Stay("1", "11", **STAY, notes=[*notes, ("Radiology", "", "2100-01-01 10:00:00", "", "a report")])]
    source = hand_made.write_iv(tmp_path / "in", stays)
    discharge = str(source / "note" / "discharge.csv.gz")
    for corpus, given in (("mimic_mortality", {}), ("mimic_readmission", {"first_days": 2})):
        with pytest.raises(UserError, match="written at its end: give radiology"):
            convert(corpus, source, tmp_path / "out", notes=(discharge,), **given)
        assert texts(convert(corpus, source, tmp_path / corpus, **given)) == {"11": ["a report"]}
    (source / "note" / "radiology.csv.gz").unlink()
    with pytest.raises(UserError, match="written at its end: give radiology"):
        convert("mimic_mortality", source, tmp_path / "out")


def test_the_text_of_huang_et_al() -> None:
    words = [f"w{number}" for number in range(318 + 11)]
    assert huang_text.chunks([" ".join(words)], summaries=True) == [" ".join(words[:318]), " ".join(words[318:])]
    assert huang_text.chunks([" ".join(words[:-1])], summaries=True) == [" ".join(words[:318])]
    assert huang_text.chunks([" ".join(words[:10])], summaries=True) == []
    note = "Admission Date:  [**2100-1-1**]\nDr. X, M.D. saw\r\nhim. 1. Aspirin 2.5 mg -- one two three four five six"
    assert huang_text.chunks([note], summaries=True) == [
        "doctor x, md saw him. aspirin 5 mg one two three four five six"
    ]
    assert huang_text.chunks(["a " * 11, "b " * 12], summaries=True) == [" ".join("b" * 12)]
    assert huang_text.chunks(["a " * 11, "b " * 12], summaries=False) == [" ".join("a" * 11 + "b" * 12)]


def test_chunks_of_huang_et_al_are_rows_and_the_others_are_counted(tmp_path: Path) -> None:
    notes = [(SUMMARY, "2100-01-09", "", "", "word " * 700)]
    stays = [Stay("1", "11", **STAY, notes=notes)]
    stays.append(Stay("2", "21", **STAY, notes=[(SUMMARY, "2100-01-09", "", "", "too few words")]))
    source = hand_made.write_iii(tmp_path / "in", stays)
    output = convert("mimic_readmission", source, tmp_path / "out", chunking="huang")
    assert [len(text.split()) for text in texts(output)["11"]] == [318, 318, 64]
    assert excluded(output) == {"of 10 words or fewer": 1}
