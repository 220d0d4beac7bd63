"""Invented tables in the layouts of MIMIC-III and MIMIC-IV, with the notes of the same admissions."""

import contextlib
import re
from itertools import groupby
from pathlib import Path
from typing import IO

from clinicalbert_jax.data.manifest import INVENTED_COLUMN
from data_prep.synthetic.stays import Stay, stays
from data_prep.synthetic.write import DISCHARGE_SUMMARY, HEADER, Row, csv_line, opened

_NOTES_OF_IV = f"note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text,{INVENTED_COLUMN}"
MIMIC_III, MIMIC_IV = LAYOUTS = ("mimic_iii", "mimic_iv")
PATIENTS_AT_ONCE = 64  # in a block of notes, which are sorted by category as in MIMIC

_FILES = {
    MIMIC_III: {
        "ADMISSIONS.csv": "ROW_ID,SUBJECT_ID,HADM_ID,ADMITTIME,DISCHTIME,DEATHTIME,ADMISSION_TYPE,ADMISSION_LOCATION,"
        "DISCHARGE_LOCATION,DIAGNOSIS,HOSPITAL_EXPIRE_FLAG,HAS_CHARTEVENTS_DATA",
        "PATIENTS.csv": "ROW_ID,SUBJECT_ID,GENDER,DOB,DOD,DOD_HOSP,DOD_SSN,EXPIRE_FLAG",
        "DIAGNOSES_ICD.csv": "ROW_ID,SUBJECT_ID,HADM_ID,SEQ_NUM,ICD9_CODE",
        "PROCEDURES_ICD.csv": "ROW_ID,SUBJECT_ID,HADM_ID,SEQ_NUM,ICD9_CODE",
        "NOTEEVENTS.csv": HEADER,
    },
    MIMIC_IV: {
        "hosp/admissions.csv.gz": "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,admission_location,"
        "discharge_location,hospital_expire_flag",
        "hosp/patients.csv.gz": "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
        "hosp/diagnoses_icd.csv.gz": "subject_id,hadm_id,seq_num,icd_code,icd_version",
        "hosp/procedures_icd.csv.gz": "subject_id,hadm_id,seq_num,chartdate,icd_code,icd_version",
        "note/discharge.csv.gz": _NOTES_OF_IV,
        "note/radiology.csv.gz": _NOTES_OF_IV,
    },
}
_FIRST_IDS = {MIMIC_III: (10_000, 100_000), MIMIC_IV: (10_000_000, 20_000_000)}  # of patients and of admissions
_TYPES_OF_IV = {"EMERGENCY": "EW EMER."}
_DEIDENTIFIED = re.compile(r"\[\*\*.*?\*\*\]", re.DOTALL)


def write(directory: Path, layout: str, num_patients: int, seed: int) -> int:
    """Write the tables of `num_patients` into `directory`, the same bytes for the same seed; returns how many stays."""
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(opened(directory / name)) for name in _FILES[layout]}
        for name, header in _FILES[layout].items():
            files[name].write(f"{header}\n".encode())
        writer = {MIMIC_III: _ThirdWriter, MIMIC_IV: _FourthWriter}[layout](files)
        number = 0
        everyone = stays(num_patients, seed, newborns=layout == MIMIC_III)
        for _, block in groupby(everyone, lambda stay: stay.patient // PATIENTS_AT_ONCE):
            together = list(block)
            for _, of_patient in groupby(together, lambda stay: stay.patient):
                writer.write_patient(list(of_patient))
            notes = [note for stay in together for note in stay.notes]
            for note in sorted(notes, key=lambda note: note.category):
                writer.write_note(note)
            number += len(together)
    return number


class _Writer:
    """Writes lines to the files of a layout, whose first row has the number 1."""

    layout = ""

    def __init__(self, files: dict[str, IO[bytes]]) -> None:
        self._files = files
        self._rows = dict.fromkeys(files, 0)

    def write_patient(self, of_patient: list[Stay]) -> None:
        """Write a patient, their admissions and their codes."""
        raise NotImplementedError

    def write_note(self, note: Row) -> None:
        """Write a note, where the layout has its category."""
        raise NotImplementedError

    def _line(self, name: str, *cells: object) -> None:
        self._rows[name] += 1
        self._files[name].write((",".join(map(str, cells)) + "\n").encode())

    def _number(self, name: str) -> int:
        return self._rows[name] + 1

    def _ids(self, patient: int, stay: int | str) -> tuple[int, int | str]:
        of_patients, of_stays = _FIRST_IDS[self.layout]
        return of_patients + patient, of_stays + int(stay) if stay else ""


class _ThirdWriter(_Writer):
    layout = MIMIC_III

    def write_patient(self, of_patient: list[Stay]) -> None:
        last = of_patient[-1]
        subject, _ = self._ids(last.patient, last.number)
        death = last.discharged if last.died else None
        born = f"{last.born} 00:00:00"
        name = "PATIENTS.csv"
        day = f"{death:%Y-%m-%d} 00:00:00" if death else ""
        self._line(name, self._number(name), subject, last.sex, born, day, day, "", int(last.died))
        for stay in of_patient:
            ids = self._ids(stay.patient, stay.number)
            times = stay.admitted, stay.discharged, stay.discharged if stay.died else ""
            name = "ADMISSIONS.csv"
            where = "DEAD/EXPIRED" if stay.died else "HOME"
            flags = int(stay.died), 1
            row = self._number(name)
            self._line(name, row, *ids, *times, stay.type, "EMERGENCY ROOM ADMIT", where, stay.disease.upper(), *flags)
            for name, coded in (("DIAGNOSES_ICD.csv", stay.diagnoses), ("PROCEDURES_ICD.csv", stay.procedures)):
                for place, code in enumerate(coded, 1):
                    self._line(name, self._number(name), *ids, place, f'"{code.icd9}"')

    def write_note(self, note: Row) -> None:
        name = "NOTEEVENTS.csv"
        subject, stay = self._ids(note.subject_id, note.hadm_id)
        row = note._replace(row_id=self._number(name), subject_id=subject, hadm_id=str(stay))
        self._rows[name] += 1
        self._files[name].write(csv_line(row).encode())


class _FourthWriter(_Writer):
    layout = MIMIC_IV

    def write_patient(self, of_patient: list[Stay]) -> None:
        last = of_patient[-1]
        subject, _ = self._ids(last.patient, last.number)
        first = of_patient[0].admitted.year
        dod = f"{last.discharged:%Y-%m-%d}" if last.died else ""
        self._line("hosp/patients.csv.gz", subject, last.sex, first - last.born.year, first, "2014 - 2016", dod)
        for stay in of_patient:
            ids = self._ids(stay.patient, stay.number)
            times = stay.admitted, stay.discharged, stay.discharged if stay.died else ""
            kind = _TYPES_OF_IV.get(stay.type, stay.type)
            where = "DIED" if stay.died else "HOME"
            self._line("hosp/admissions.csv.gz", *ids, *times, kind, "EMERGENCY ROOM", where, int(stay.died))
            version = stay.icd_version
            for place, code in enumerate(stay.diagnoses, 1):
                cells = code.icd9 if version == 9 else code.icd10, version
                self._line("hosp/diagnoses_icd.csv.gz", *ids, place, *cells)
            for place, code in enumerate(stay.procedures, 1):
                cells = code.icd9 if version == 9 else code.icd10, version
                self._line("hosp/procedures_icd.csv.gz", *ids, place, f"{stay.admitted:%Y-%m-%d}", *cells)

    def write_note(self, note: Row) -> None:
        kinds = {DISCHARGE_SUMMARY.name: ("note/discharge.csv.gz", "DS"), "Radiology": ("note/radiology.csv.gz", "RR")}
        if note.category not in kinds:  # MIMIC-IV-Note has two
            return
        name, kind = kinds[note.category]
        if note.description == "Addendum":
            kind = "AD"
        ids = self._ids(note.subject_id, note.hadm_id)
        number = self._number(name)
        time = note.chart_time or f"{note.chart_date} 00:00:00"
        stored = note.store_time or f"{note.chart_date} 18:30:00"
        text = _DEIDENTIFIED.sub("___", note.text)
        self._line(name, f"{ids[0]}-{kind}-{number}", *ids, kind, number, time, stored, _quoted(text), 1)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
