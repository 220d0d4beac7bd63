"""The hospital stays of invented patients: dates, types, deaths and codes, and the notes of each stay.

How likely a readmission and a death are follows from the disease and its kind, of which the notes tell.
"""

import datetime
import random
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass

from data_prep.synthetic import codes
from data_prep.synthetic.codes import Code
from data_prep.synthetic.patients import FIRST_DAY, Draw, Facts, draw_patient, draw_stay, pick, set_day
from data_prep.synthetic.write import (
    ADDENDUM,
    CATEGORIES,
    CATEGORY_BOUNDS,
    DEATH_SUMMARY,
    DISCHARGE_SUMMARY,
    ERROR_SHARE,
    Category,
    Row,
    Told,
    tell,
    wrap,
)

MOST_STAYS = 6
NEWBORN_FRACTION, ELECTIVE_FRACTION, URGENT_FRACTION = 0.04, 0.2, 0.1
SUMMARISED_FRACTION, LATE_ADDENDUM_FRACTION = 0.95, 0.04
RETURNING = ("heart failure", "COPD exacerbation", "cirrhosis", "renal failure")  # whose patients come back soon
GRAVE = ("stroke", "myocardial infarction", "gastrointestinal bleed", "pulmonary embolism")  # of which more die
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Stay:
    """An admission to hospital with its codes, the first-named first, and its notes in the order of time."""

    patient: int  # from 1
    number: int  # from 1, over all patients
    sex: str
    born: datetime.date
    admitted: datetime.datetime
    discharged: datetime.datetime
    type: str
    died: bool
    disease: str
    diagnoses: tuple[Code, ...]
    procedures: tuple[Code, ...]
    icd_version: int  # 9 or 10, where a database has both
    notes: tuple[Row, ...]


def stays(num_patients: int, seed: int, newborns: bool) -> Iterator[Stay]:
    """The stays of each patient in the order of time; a function of the arguments alone."""
    draw = random.Random(seed).random
    number = 0
    for patient in range(1, num_patients + 1):
        is_newborn = newborns and draw() < NEWBORN_FRACTION
        for stay in _newborn(draw, patient, number + 1) if is_newborn else _of_adult(draw, patient, number + 1):
            number = stay.number
            yield stay


def _newborn(draw: Draw, patient: int, number: int) -> Iterator[Stay]:
    admitted = _moment(FIRST_DAY + int(draw() * 36_500), draw() * 24)
    yield Stay(
        patient=patient,
        number=number,
        sex=pick("MF", draw),
        born=admitted.date(),
        admitted=admitted,
        discharged=_moment(admitted.date().toordinal() + 2, 12),
        type="NEWBORN",
        died=False,
        disease="newborn",
        diagnoses=(codes.NEWBORN,),
        procedures=(),
        icd_version=9 if draw() < 0.5 else 10,
        notes=(),
    )


def _of_adult(draw: Draw, patient: int, number: int) -> Iterator[Stay]:
    facts = draw_patient(draw)
    born = datetime.date.fromordinal(facts["admission_day"]) - datetime.timedelta(days=366 * facts["age"])
    returning, grave = facts["disease"] in RETURNING, facts["disease"] in GRAVE
    more = 0.6 if returning else 0.3
    admitted = _moment(facts["admission_day"], draw() * 24)
    for count in range(1, MOST_STAYS + 1):
        day = admitted.date().toordinal()
        if count > 1:
            facts |= draw_stay(draw, facts["age"], day) | {"born": facts["born"]}
        discharged = _moment(day + facts["length_of_stay"] - 1, 10 + draw() * 8)
        died = draw() < (0.3 if grave else 0.05)
        kind = draw()
        cause = codes.CAUSES.get(facts["cause"])
        past = [codes.COMORBIDITIES[facts[name]] for name in ("past1", "past2")]
        procedure = codes.PROCEDURES.get(facts["disease"])
        yield Stay(
            patient=patient,
            number=number + count - 1,
            sex=facts["sex"],
            born=born,
            admitted=admitted,
            discharged=discharged,
            type="ELECTIVE" if kind < ELECTIVE_FRACTION else "URGENT" if kind > 1 - URGENT_FRACTION else "EMERGENCY",
            died=died,
            disease=facts["disease"],
            diagnoses=(codes.DISEASES[facts["disease"]], *([cause] if cause else []), *past),
            procedures=(procedure,) if procedure and draw() < 0.7 else (),
            icd_version=9 if draw() < 0.5 else 10,
            notes=tuple(_notes(facts, draw, patient, number + count - 1, admitted, discharged, died)),
        )
        if died or draw() > more:
            return
        admitted = discharged + _gap(draw, returning)


def _gap(draw: Draw, returning: bool) -> datetime.timedelta:
    """From a discharge to the next admission, with some that a definition of readmission has to decide."""
    kind = draw()
    if kind < 0.02:  # an overlap, as of records that were merged
        return -datetime.timedelta(minutes=int(draw() * 600))
    if kind < 0.04:  # a transfer on the same day
        return datetime.timedelta(minutes=1 + int(draw() * 120))
    if kind < 0.06:
        return 30 * DAY
    days = draw() ** 2 * 60 if returning else 10 + draw() * 700
    return datetime.timedelta(minutes=int(days * 24 * 60))


def _notes(
    facts: Facts,
    draw: Draw,
    patient: int,
    number: int,
    admitted: datetime.datetime,
    discharged: datetime.datetime,
    died: bool,
) -> Iterator[Row]:
    told: dict[str, Told] = {}
    length = discharged - admitted
    count = 2 + int(draw() * draw() * 10)
    for fraction in sorted([min(draw(), 0.25 * DAY / length), *(draw() for _ in range(count - 1))]):
        category = CATEGORIES[bisect(CATEGORY_BOUNDS, draw() * CATEGORY_BOUNDS[-1])]
        yield _row(facts, draw, patient, number, category, admitted, admitted + fraction * length, told)
    if draw() < SUMMARISED_FRACTION:
        summary = DEATH_SUMMARY if died else DISCHARGE_SUMMARY
        yield _row(facts, draw, patient, number, summary, admitted, discharged, told)
        if draw() < LATE_ADDENDUM_FRACTION:
            late = facts["chart_date"] = (discharged.date() + (1 + int(draw() * 20)) * DAY).isoformat()
            addendum = DISCHARGE_SUMMARY._replace(description="Addendum")
            text = wrap(ADDENDUM.format_map(facts))
            yield _as_row(draw, patient, number, addendum, late, "", addendum.description, text)


def _row(
    facts: Facts,
    draw: Draw,
    patient: int,
    number: int,
    category: Category,
    admitted: datetime.datetime,
    at: datetime.datetime,
    told: dict[str, Told],
) -> Row:
    set_day(facts, draw, (at.date() - admitted.date()).days + 1)
    text = tell(facts, draw, category, told)
    time = f"{at:%Y-%m-%d %H:%M}:00" if category.timed else ""
    description = facts["study"] if category.name == "Radiology" else category.description
    return _as_row(draw, patient, number, category, facts["chart_date"], time, description, text)


def _as_row(
    draw: Draw, patient: int, number: int, category: Category, date: str, time: str, description: str, text: str
) -> Row:
    return Row(
        row_id=0,
        subject_id=patient,
        hadm_id="" if category.name in ("ECG", "Radiology") and draw() < 0.1 else str(number),
        chart_date=date,
        chart_time=time,
        store_time=time and time[:-2] + "30",
        category=category.name,
        description=description,
        cgid=str(14_000 + int(draw() * 5_000)) if category.timed else "",
        is_error="1" if draw() < ERROR_SHARE else "",
        text=text,
    )


def _moment(day: int, hours: float) -> datetime.datetime:
    midnight = datetime.datetime.combine(datetime.date.fromordinal(day), datetime.time())
    return midnight + datetime.timedelta(minutes=int(hours * 60))
