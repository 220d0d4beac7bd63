"""The synthetic tables: the same for the same seed, in MIMIC's layouts, and consistent with their notes."""

import csv
import gzip
import re
from pathlib import Path

import pytest

from data_prep.synthetic import codes, tables
from data_prep.synthetic.facts import COMORBIDITIES, DISEASES

NUM_PATIENTS = 150


@pytest.fixture(scope="module")
def third(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    return written(tmp_path_factory.mktemp("iii"), tables.MIMIC_III)


@pytest.fixture(scope="module")
def fourth(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    return written(tmp_path_factory.mktemp("iv"), tables.MIMIC_IV)


def written(directory: Path, layout: str) -> dict[str, list[dict[str, str]]]:
    """Every table by its name in lower case, each row by the names of its columns in lower case."""
    tables.write(directory, layout, NUM_PATIENTS, seed=5)
    found = {}
    for path in directory.rglob("*.csv*"):
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", newline="") as file:
            header, *rows = csv.reader(file)
        found[path.name.split(".")[0].lower()] = [dict(zip(map(str.lower, header), row, strict=True)) for row in rows]
    return found


@pytest.mark.parametrize("layout", tables.LAYOUTS)
def test_the_seed_alone_decides_the_bytes(tmp_path: Path, layout: str) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        tables.write(tmp_path / name, layout, 10, seed)
    for path in (path for path in (tmp_path / "a").rglob("*") if path.is_file()):
        name = path.relative_to(tmp_path / "a")
        assert path.read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert path.read_bytes() != (tmp_path / "c" / name).read_bytes()


def test_notes_lie_within_their_admission(third: dict[str, list[dict[str, str]]]) -> None:
    admissions = {row["hadm_id"]: row for row in third["admissions"]}
    assert len({row["subject_id"] for row in admissions.values()}) == NUM_PATIENTS
    late = 0
    for note in third["noteevents"]:
        if not note["hadm_id"]:
            continue
        admission = admissions[note["hadm_id"]]
        assert note["subject_id"] == admission["subject_id"]
        if note["charttime"]:
            assert admission["admittime"][:16] <= note["charttime"][:16] <= admission["dischtime"][:16]
        late += note["chartdate"] > admission["dischtime"][:10]
        assert note["chartdate"] >= admission["admittime"][:10]
    assert 0 < late < 0.02 * len(third["noteevents"]), "late addenda to discharge summaries"


def test_deaths_are_the_same_everywhere(third: dict[str, list[dict[str, str]]]) -> None:
    dead = {row["hadm_id"] for row in third["admissions"] if row["hospital_expire_flag"] == "1"}
    assert dead == {row["hadm_id"] for row in third["admissions"] if row["deathtime"]}
    last = {}
    for row in sorted(third["admissions"], key=lambda row: row["admittime"]):
        last[row["subject_id"]] = row
    patients = {row["subject_id"]: row for row in third["patients"]}
    for id_, row in last.items():
        assert (patients[id_]["dod"] != "") == (row["hadm_id"] in dead)
    assert sum(row["expire_flag"] == "1" for row in third["patients"]) == len(dead)
    summaries = [note for note in third["noteevents"] if note["category"] == "Discharge summary"]
    for note in (note for note in summaries if "Discharge Disposition:" in note["text"]):
        assert ("Discharge Disposition:\nExpired" in note["text"]) == (note["hadm_id"] in dead)
    assert {note["hadm_id"] for note in summaries} & dead


def test_codes_are_of_what_the_summary_says(third: dict[str, list[dict[str, str]]]) -> None:
    of = {code.icd9: name for names in (codes.DISEASES, codes.COMORBIDITIES) for name, code in names.items()}
    by_admission: dict[str, set[str]] = {}
    for row in third["diagnoses_icd"]:
        by_admission.setdefault(row["hadm_id"], set()).add(row["icd9_code"])
    checked = 0
    for note in third["noteevents"]:
        if diagnosis := re.search(r"Primary: (.*)\nSecondary: (.*)\n", note["text"]):
            named = {of[code] for code in by_admission[note["hadm_id"]] if code in of}
            assert all(name in diagnosis[0] for name in named)
            assert len(named) == 3
            checked += 1
    assert checked > 100
    assert any(code.startswith("0") for of_one in by_admission.values() for code in of_one)


def test_everything_that_notes_speak_of_has_a_code() -> None:
    assert set(codes.DISEASES) == {disease.name for disease in DISEASES}
    assert set(codes.COMORBIDITIES) == {comorbidity.name for comorbidity in COMORBIDITIES}
    assert set(codes.CAUSES) <= {kind.cause for disease in DISEASES for kind in disease.kinds}
    assert set(codes.PROCEDURES) <= set(codes.DISEASES)


def test_the_fourth_layout_has_its_own_notes_and_both_versions_of_codes(
    fourth: dict[str, list[dict[str, str]]],
) -> None:
    admissions = {row["hadm_id"]: row for row in fourth["admissions"]}
    assert {row["note_type"] for row in fourth["discharge"]} == {"DS", "AD"}
    assert {row["note_type"] for row in fourth["radiology"]} == {"RR"}
    assert all(row["charttime"].endswith(" 00:00:00") for row in fourth["discharge"])
    for note in (*fourth["discharge"], *fourth["radiology"]):
        assert "[**" not in note["text"]
        assert not note["hadm_id"] or admissions[note["hadm_id"]]["subject_id"] == note["subject_id"]
    versions = {row["hadm_id"]: row["icd_version"] for row in fourth["diagnoses_icd"]}
    assert all(versions[row["hadm_id"]] == row["icd_version"] for row in fourth["diagnoses_icd"])
    assert set(versions.values()) == {"9", "10"}
    assert not any(row["admission_type"] == "NEWBORN" for row in admissions.values())
