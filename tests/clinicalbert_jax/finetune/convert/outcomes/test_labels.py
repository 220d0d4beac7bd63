"""The labels of outcomes equal those worked out by hand for 20 patients, and an independent count in SQL for 2,000."""

import csv
import gzip
import sqlite3
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clinicalbert_jax.errors import UserError
from data_prep.synthetic import tables as synthetic
from tests.clinicalbert_jax.finetune.convert.outcomes import hand_made
from tests.clinicalbert_jax.finetune.convert.outcomes.converting import convert, excluded, labels, ledger
from tests.clinicalbert_jax.finetune.convert.outcomes.hand_made import Stay

SPLIT = ("80", "10", "10")
Database = tuple[Path, sqlite3.Connection]
R, N, A, D = "readmitted", "not readmitted", "alive", "died"
NEWBORN, DIED, EARLY = "newborn", "died in hospital", "ended within the first 24 hours"
# By patient: type, admission, discharge, died ('': no; 'flag' and 'time': by that column alone), and what is expected
# for readmission and for mortality.
CASES: dict[str, list[tuple[str, str, str, str, str, str]]] = {
    "1 alone": [("EMERGENCY", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "", N, A)],
    "2 ten days later": [
        ("EMERGENCY", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "", R, A),
        ("EMERGENCY", "2100-01-15 08:00:00", "2100-01-20 12:00:00", "", N, A),
    ],
    "3 elective next": [
        ("EMERGENCY", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "", N, A),
        ("ELECTIVE", "2100-01-15 08:00:00", "2100-01-20 12:00:00", "", N, A),
    ],
    "4 elective passed over for an emergency within 30 days": [
        ("EMERGENCY", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "", R, A),
        ("ELECTIVE", "2100-01-10 08:00:00", "2100-01-12 12:00:00", "", R, A),
        ("EMERGENCY", "2100-01-30 08:00:00", "2100-02-05 12:00:00", "", N, A),
    ],
    "5 elective passed over for an emergency that is too late": [
        ("EMERGENCY", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "", N, A),
        ("ELECTIVE", "2100-01-20 08:00:00", "2100-01-25 12:00:00", "", R, A),
        ("EMERGENCY", "2100-02-14 08:00:00", "2100-02-20 12:00:00", "", N, A),
    ],
    "6 exactly 30 days": [
        ("EMERGENCY", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "", N, A),
        ("EMERGENCY", "2100-02-04 12:00:00", "2100-02-06 12:00:00", "", N, A),
    ],
    "7 a second less": [
        ("EMERGENCY", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "", R, A),
        ("EMERGENCY", "2100-02-04 11:59:59", "2100-02-06 12:00:00", "", N, A),
    ],
    "8 before the discharge": [
        ("EMERGENCY", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "", R, A),
        ("URGENT", "2100-01-04 08:00:00", "2100-01-09 12:00:00", "", N, A),
    ],
    "9 a transfer on the same day": [
        ("EMERGENCY", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "", R, A),
        ("EMERGENCY", "2100-01-05 14:00:00", "2100-01-09 12:00:00", "", N, A),
    ],
    "10 newborn": [("NEWBORN", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "", NEWBORN, NEWBORN)],
    "11 newborn that comes back": [
        ("NEWBORN", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "", NEWBORN, NEWBORN),
        ("EMERGENCY", "2100-01-10 08:00:00", "2100-01-15 12:00:00", "", N, A),
    ],
    "12 death": [("EMERGENCY", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "both", DIED, D)],
    "13 death in the second stay": [
        ("EMERGENCY", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "", R, A),
        ("EMERGENCY", "2100-01-15 08:00:00", "2100-01-20 12:00:00", "both", DIED, D),
    ],
    "14 urgent next": [
        ("EMERGENCY", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "", R, A),
        ("URGENT", "2100-01-15 08:00:00", "2100-01-20 12:00:00", "", N, A),
    ],
    "15 elective alone": [("ELECTIVE", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "", N, A)],
    "16 death by the flag alone": [("EMERGENCY", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "flag", DIED, D)],
    "17 death by the time alone": [("EMERGENCY", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "time", DIED, D)],
    "18 death in the first hours": [("EMERGENCY", "2100-01-01 20:00:00", "2100-01-02 12:00:00", "both", DIED, EARLY)],
    "19 rows out of order": [
        ("EMERGENCY", "2100-01-15 08:00:00", "2100-01-20 12:00:00", "", N, A),
        ("EMERGENCY", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "", R, A),
    ],
    "20 29 days and 31 days": [
        ("EMERGENCY", "2100-01-01 08:00:00", "2100-01-05 12:00:00", "", R, A),
        ("EMERGENCY", "2100-02-03 12:00:00", "2100-02-05 12:00:00", "", N, A),
        ("EMERGENCY", "2100-03-08 12:00:00", "2100-03-12 12:00:00", "", N, A),
    ],
}
CODES = {
    "1 alone.0": [("0389", "9"), ("4019", "9"), ("4019", "9")],  # with the leading zero, and once
    "2 ten days later.0": [("I10", "10")],
    "2 ten days later.1": [("", "9")],
    "3 elective next.0": [("V3000", "9"), ("E8120", "9"), ("311", "9")],
}


def hand_made_stays() -> list[Stay]:
    made = []
    for number, (name, stays) in enumerate(CASES.items(), 1):
        for place, (kind, admitted, discharged, died, *_) in enumerate(stays):
            notes = [
                ("Nursing", admitted[:10], admitted[:11] + admitted[11:13] + ":30:00", "", "a note"),
                ("Discharge summary", discharged[:10], "", "", "a summary"),
            ]
            made.append(
                Stay(
                    patient=str(number),
                    id=f"{number}{place:03}",
                    admitted=admitted,
                    discharged=discharged,
                    type=kind,
                    death=discharged if died in ("both", "time") else "",
                    flag="1" if died in ("both", "flag") else "0",
                    codes=CODES.get(f"{name}.{place}", [("4019", "9")]),
                    notes=notes,
                )
            )
    return made


@pytest.fixture(scope="module", params=["mimic_iii", "mimic_iv"])
def by_hand(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory, stays = tmp_path_factory.mktemp(request.param), hand_made_stays()
    if request.param == "mimic_iv":
        return hand_made.write_iv(directory, stays)
    return hand_made.write_iii(directory, [replace(s, codes=[c for c in s.codes if c[1] == "9"]) for s in stays])


@pytest.mark.parametrize(("corpus", "column"), [("mimic_readmission", 4), ("mimic_mortality", 5)])
def test_labels_and_exclusions_are_those_worked_out_by_hand(
    by_hand: Path, tmp_path: Path, corpus: str, column: int
) -> None:
    convert(corpus, by_hand, tmp_path / "out")
    expected = {
        f"{number}{place:03}": stay[column]
        for number, stays in enumerate(CASES.values(), 1)
        for place, stay in enumerate(stays)
    }
    assert len(CASES) == 20
    decided = {id_: label for id_, label in expected.items() if label in (R, N, A, D)}
    assert labels(tmp_path / "out") == decided
    assert excluded(tmp_path / "out") == Counter(label for label in expected.values() if label not in (R, N, A, D))
    assert list(ledger(tmp_path / "out")["entries"]["admissions"]["notes"].values()) == [2], "cases 16 and 17"


@pytest.mark.parametrize("by_hand", ["mimic_iii"], indirect=True)
def test_codes_keep_their_zeros_and_count_once(by_hand: Path, tmp_path: Path) -> None:
    convert("mimic_icd", by_hand, tmp_path / "out", top_codes=0)
    found = labels(tmp_path / "out", "labels")
    assert found["1000"] == ["0389", "4019"]
    assert found["3000"] == ["311", "E8120", "V3000"]
    assert "2001" not in found
    assert excluded(tmp_path / "out") == {"no code": 2}


@pytest.mark.parametrize("by_hand", ["mimic_iv"], indirect=True)
def test_a_version_of_codes_is_read_at_a_time(by_hand: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--icd_version: expected 9 or 10"):
        convert("mimic_icd", by_hand, tmp_path / "out")
    convert("mimic_icd", by_hand, tmp_path / "9", icd_version="9")
    assert "2000" not in labels(tmp_path / "9", "labels")
    assert excluded(tmp_path / "9") == {"no code": 1, "coded in another ICD version": 1}
    convert("mimic_icd", by_hand, tmp_path / "10", icd_version="10")
    assert labels(tmp_path / "10", "labels") == {"2000": ["I10"]}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("mimic_iii", 200), id="mimic_iii"),
        pytest.param(("mimic_iv", 200), id="mimic_iv"),
        pytest.param(("mimic_iii", 2000), id="mimic_iii-2000", marks=pytest.mark.soak),
        pytest.param(("mimic_iv", 2000), id="mimic_iv-2000", marks=pytest.mark.soak),
    ],
)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Synthetic tables of so many patients, and the same read into SQLite by nothing of ours."""
    layout, num_patients = request.param
    directory = tmp_path_factory.mktemp(layout)
    synthetic.write(directory, layout, num_patients, seed=7)
    connection = sqlite3.connect(":memory:")
    for path in sorted(directory.rglob("*.csv*")):
        name = path.name.lower().split(".")[0]
        if name in ("admissions", "diagnoses_icd", "noteevents", "discharge", "radiology"):
            with (gzip.open if path.suffix == ".gz" else open)(path, "rt", newline="") as file:
                header, *rows = csv.reader(file)
            connection.execute(f"create table {name} ({', '.join(header)})")
            connection.executemany(f"insert into {name} values ({', '.join('?' * len(header))})", rows)
    if layout == "mimic_iii":
        summaries = (
            "select hadm_id, chartdate as day from noteevents where category = 'Discharge summary' and iserror = ''"
        )
        early = """
            select hadm_id, case when charttime = '' then date(chartdate, '+1 day') else max(charttime, storetime) end
            as written from noteevents where category <> 'Discharge summary' and iserror = ''
        """
    else:
        summaries = "select hadm_id, date(charttime) as day from discharge"
        early = "select hadm_id, max(charttime, storetime) as written from radiology"
    connection.execute(f"create table summaries as {summaries}")
    connection.execute(f"create table early as {early}")
    for table in ("summaries", "early", "admissions"):
        connection.execute(f"create index of_{table} on {table} (hadm_id)")
    connection.execute("create index of_patient on admissions (subject_id)")
    return directory, connection


def test_readmissions_equal_a_count_in_sql(database: Database, tmp_path: Path) -> None:
    directory, connection = database
    expected = connection.execute("""
        select a.hadm_id, coalesce((
            select strftime('%s', b.admittime) - strftime('%s', a.dischtime) < 30 * 24 * 3600
            from admissions b
            where b.subject_id = a.subject_id and b.admission_type <> 'ELECTIVE' and b.admittime > a.admittime
            order by b.admittime limit 1
        ), 0) from admissions a
        where a.admission_type <> 'NEWBORN' and a.deathtime = '' and exists (
            select * from summaries s where s.hadm_id = a.hadm_id and s.day <= date(a.dischtime)
        )
    """)
    found = labels(convert("mimic_readmission", directory, tmp_path / "out", SPLIT))
    assert found == {id_: (N, R)[outcome] for id_, outcome in expected}
    assert set(found.values()) == {N, R}


def test_deaths_equal_a_count_in_sql(database: Database, tmp_path: Path) -> None:
    directory, connection = database
    expected = connection.execute("""
        select hadm_id, hospital_expire_flag = '1' from admissions a
        where admission_type <> 'NEWBORN' and dischtime > datetime(admittime, '+24 hours') and exists (
            select * from early e where e.hadm_id = a.hadm_id and e.written < datetime(a.admittime, '+24 hours')
        )
    """)
    found = labels(convert("mimic_mortality", directory, tmp_path / "out", SPLIT))
    assert found == {id_: (A, D)[died] for id_, died in expected}
    assert set(found.values()) == {A, D}


def test_codes_equal_those_of_sql(database: Database, tmp_path: Path) -> None:
    directory, connection = database
    of_iii = (directory / "NOTEEVENTS.csv").exists()
    codes = "icd9_code" if of_iii else "icd_code"
    version = "" if of_iii else "and icd_version = '10'"
    expected = defaultdict(set)
    for id_, code in connection.execute(f"""
        select distinct hadm_id, {codes} from diagnoses_icd d
        where exists (select * from summaries s where s.hadm_id = d.hadm_id) {version}
    """):
        expected[id_].add(code)
    given: dict[str, Any] = {"top_codes": 0} if of_iii else {"top_codes": 0, "icd_version": "10"}
    output = convert("mimic_icd", directory, tmp_path / "out", SPLIT, **given)
    found = labels(output, "labels")
    assert {id_: set(codes) for id_, codes in found.items()} == expected
    if of_iii:
        return
    # The most frequent are those of the training split alone.
    training = {record["admission"] for record in hand_made.records(output) if record["split"] == "train"}
    counts = Counter(code for id_ in training for code in found[id_])
    top = {code for code, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:5]}
    chosen = labels(convert("mimic_icd", directory, tmp_path / "top", SPLIT, **given | {"top_codes": 5}), "labels")
    assert {id_: set(codes) for id_, codes in chosen.items()} == {id_: set(c) & top for id_, c in found.items()}
