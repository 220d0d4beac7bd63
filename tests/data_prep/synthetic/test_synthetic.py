"""The synthetic notes: the same for the same seed, in MIMIC's shape, and consistent in what they say."""

import csv
import gzip
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from clinicalbert_jax.errors import UserError
from data_prep.synthetic import write
from data_prep.synthetic.facts import DISEASES

COLUMNS = "ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CHARTTIME,STORETIME,CATEGORY,DESCRIPTION,CGID,ISERROR,TEXT"
COLUMNS += ",CLINICALBERT_JAX_SYNTHETIC"
SIDED = re.compile(
    r"\b(left|right) (?:lung base|lower lobe|pleural|pronator|facial|costovertebral|kidney|hydroneph|calf|leg|hip"
    r"|femoral|main pulmonary|pulmonary embolus|temporal|gaze)"
)
ADMITTED = re.compile(r"(?:was admitted with|was hospitalized for|came in for|The diagnosis is) ([a-zA-Z -]+)\.")


@pytest.fixture(scope="module")
def rows() -> list[write.Row]:
    return list(write.rows(3000, seed=0))


def normalised(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.fast
def test_the_seed_alone_decides_the_bytes(tmp_path: Path):
    for name in ("a.csv", "b.csv", "a.csv.gz", "b.csv.gz"):
        write.write(tmp_path / name, 300, seed=1)
    write.write(tmp_path / "other.csv", 300, seed=2)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()) == (tmp_path / "a.csv").read_bytes()
    assert (tmp_path / "other.csv").read_bytes() != (tmp_path / "a.csv").read_bytes()


def test_fewer_notes_are_the_beginning_of_more(rows: list[write.Row]):
    assert list(write.rows(500, seed=0)) == rows[:500]


@pytest.mark.fast
def test_the_file_reads_back_as_the_rows(tmp_path: Path, rows: list[write.Row]):
    path = tmp_path / "NOTEEVENTS.csv"
    write.write(path, 1200, seed=0)
    with path.open(newline="") as file:
        header, *found = list(csv.reader(file))
    assert ",".join(header) == COLUMNS
    assert found == [[*map(str, row), "1"] for row in rows[:1200]]


def test_rows_have_the_shape_of_mimic(rows: list[write.Row]):
    assert [row.row_id for row in rows] == list(range(1, len(rows) + 1))
    categories = {row.category for row in rows}
    assert {"Physician ", "Respiratory ", "Discharge summary", "Radiology", "ECG", "Echo", "Nutrition"} <= categories
    notes_by_patient = Counter(row.subject_id for row in rows)
    assert 2 < len(rows) / len(notes_by_patient) < 6
    lengths = [len(row.text) for row in rows]
    assert 1500 < sum(lengths) / len(lengths) < 2200
    assert max(lengths) > 12_000
    assert sum("[**" in row.text for row in rows) > 0.7 * len(rows)
    texts_by_patient = defaultdict(list)
    for row in rows:
        texts_by_patient[row.subject_id].append(row.row_id)
    assert any(ids[-1] - ids[0] >= len(ids) for ids in texts_by_patient.values()), "patients should alternate"


def test_lines_are_wrapped_at_78_columns(rows: list[write.Row]):
    widths = [len(line) for row in rows for line in row.text.split("\n")]
    assert max(widths) <= write.WIDTH
    assert sum(width >= 70 for width in widths) > 0.1 * len(widths), "prose should fill the lines"


@pytest.mark.fast
def test_wrapping_changes_only_white_space_and_keeps_long_words():
    assert write.wrap("aaa bbb ccc", width=7) == "aaa bbb\nccc"
    assert write.wrap("aaaaaaaaaa bbb", width=7) == "aaaaaaaaaa\nbbb"
    assert write.wrap("aaaaaaaaaa", width=7) == "aaaaaaaaaa"
    assert write.wrap("  aaaaaaaaaa b", width=7) == "  aaaaaaaaaa\nb"
    assert write.wrap("short\n\nline", width=7) == "short\n\nline"


def test_shares_of_what_preparation_drops(rows: list[write.Row]):
    errors = sum(row.is_error == "1" for row in rows) / len(rows)
    assert 0.005 < errors < 0.02
    empty = sum(not row.text.strip() for row in rows)
    assert 1 <= empty < 0.01 * len(rows)
    repeated = sum(count - 1 for text, count in Counter(row.text for row in rows).items() if text.strip())
    assert 0.003 < repeated / len(rows) < 0.03


def test_some_notes_are_copied_forward_with_the_numbers_of_another_day(rows: list[write.Row]):
    by_wording: dict[tuple[int, str], set[str]] = defaultdict(set)
    for row in rows:
        if row.category in ("Physician ", "Nursing"):
            by_wording[row.subject_id, re.sub(r"\d+", "0", normalised(row.text))].add(row.text)
    assert sum(len(texts) > 1 for texts in by_wording.values()) >= 5


def test_some_notes_are_an_earlier_one_with_an_addendum(rows: list[write.Row]):
    earlier: dict[int, set[str]] = defaultdict(set)
    addenda = 0
    for row in rows:
        body, addendum, _ = row.text.partition("\nAddendum [**")
        addenda += bool(addendum) and body in earlier[row.subject_id]
        earlier[row.subject_id].add(row.text)
    assert addenda > 0.005 * len(rows)


def test_a_note_tells_of_one_disease_with_its_own_cause_drug_and_findings(rows: list[write.Row]):
    kinds = {f"{kind.qualifier} {disease.name}": (disease, kind) for disease in DISEASES for kind in disease.kinds}
    told = 0
    for row in rows:
        text = normalised(row.text)
        for admitted in ADMITTED.findall(text):
            disease, kind = kinds[admitted]
            others = [d for d in DISEASES if d is not disease]
            assert kind.drug in text.lower() or disease.symptoms[0].lower() in text.lower()
            for finding in (f.format(side="left") for other in others for f in other.findings):
                assert finding not in text or finding in disease.findings
            told += 1
    assert told > 300


def test_sex_and_side_agree_within_a_patient(rows: list[write.Row]):
    texts: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        texts[row.subject_id].append(normalised(row.text))
    for notes in texts.values():
        told = " ".join(notes)
        female = bool(re.search(r"\b(She|woman|Ms\.)\b", told))
        male = bool(re.search(r"\b(He|man|Mr\.)\b", told))
        assert not (female and male)
        assert len(set(SIDED.findall(told))) <= 1


def test_every_kind_of_pneumonia_occurs(rows: list[write.Row]):
    patients = defaultdict(set)
    for row in rows[:2000]:
        for admitted in ADMITTED.findall(normalised(row.text)):
            patients[admitted].add(row.subject_id)
    for kind in next(d for d in DISEASES if d.name == "pneumonia").kinds:
        assert len(patients[f"{kind.qualifier} pneumonia"]) >= 5


def test_no_template_field_is_left_unfilled(rows: list[write.Row]):
    # Braces stand in a note only where MIMIC's flowsheets have them.
    for row in rows:
        assert not re.search(r"\{[a-zA-Z]", row.text)
        assert "|" not in row.text


@pytest.mark.fast
def test_a_path_that_cannot_be_written_is_a_user_s_error(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--output="):
        write.write(tmp_path / "file" / "x.csv", 10, seed=0)
