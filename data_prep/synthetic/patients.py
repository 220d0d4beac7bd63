"""Draw one invented patient, and what changes from day to day, as the facts that fill the templates."""

import datetime
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from data_prep.synthetic.facts import (
    ALLERGIES,
    CHEMISTRY,
    COMORBIDITIES,
    DISEASES,
    GENERAL_SYMPTOMS,
    KIN,
    PAINKILLERS,
    PRONOUNS,
    SITES,
)

# The only source of chance: `random.Random(seed).random`, the same on every version of Python.
Draw = Callable[[], float]
Facts = dict[str, Any]
T = TypeVar("T")

FIRST_DAY = datetime.date(2100, 1, 1).toordinal()
DISEASE_BY_WEIGHT = tuple(disease for disease in DISEASES for _ in range(disease.weight))


def pick(values: Sequence[T], draw: Draw) -> T:
    """One of `values`, each as likely."""
    return values[int(draw() * len(values))]


def draw_patient(draw: Draw) -> Facts:
    """Everything that stays true of a patient, by the names that the templates use."""
    disease = pick(DISEASE_BY_WEIGHT, draw)
    kind = pick(disease.kinds, draw)
    first = pick(COMORBIDITIES, draw)
    second = pick([c for c in COMORBIDITIES if c is not first], draw)
    sex = pick("MF", draw)
    side = pick(("left", "right"), draw)
    age = 19 + int(draw() * 70)
    good, bad = disease.lab_range
    bad = good + (bad - good) * (0.8 + 0.4 * draw())
    kin, general = pick(KIN[sex], draw), pick(GENERAL_SYMPTOMS, draw)
    facts: Facts = {
        "sex": sex,
        **PRONOUNS[sex],
        "kin": kin,
        "relative": pick([relative for relative in KIN[sex] if relative != kin], draw),
        "general1": general,
        "general2": pick([symptom for symptom in GENERAL_SYMPTOMS if symptom != general], draw),
        "grade": pick(("mild", "moderate", "severe"), draw),
        "site": pick(SITES, draw),
        "painkiller": pick(PAINKILLERS, draw),
        "chemistry": pick(CHEMISTRY, draw),
        "level": pick(("low", "normal", "high"), draw),
        "age": age,
        "an": "an" if 80 <= age < 90 else "a",
        "allergy": pick(ALLERGIES, draw),
        "name": 100 + int(draw() * 1900),
        "doctor": 100 + int(draw() * 1900),
        "hospital": pick(("1 18", "2", "3 1810", "4 1411"), draw),
        "place": 100 + int(draw() * 900),
        "phone": 1000 + int(draw() * 9000),
        "height": 58 + int(draw() * 18),
        "weight": 105 + int(draw() * 140),
        "duration": pick(("two", "three", "four", "five"), draw),
        "disease": disease.name,
        "qualifier": kind.qualifier,
        "cause": kind.cause,
        "drug": kind.drug,
        "dose": kind.dose,
        "risk": disease.risk,
        "exam": disease.exam.format(side=side),
        "study": disease.study,
        "impression": disease.impression.format(side=side),
        "lab": disease.lab,
        "lab1": _number(bad),
        "lab3": _number(good),
        "lab_range": (good, bad),
        "unit": disease.lab_unit if disease.lab_unit in ("%", "") else f" {disease.lab_unit}",
        "support": disease.support.format(side=side),
        "service": disease.service,
        "complication": disease.complication,
        "rhythm": disease.rhythm,
        "echo": disease.echo,
        "problem": disease.problem,
        "watch": disease.watch,
        "diet": disease.diet,
        "advice": disease.advice,
        "past1": first.name,
        "drug1": first.drug,
        "dose1": first.dose,
        "past2": second.name,
        "drug2": second.drug,
        "dose2": second.dose,
        "code": 400 + int(draw() * 500),
        "blank": "",
    }
    for number, (symptom, finding) in enumerate(zip(disease.symptoms, disease.findings, strict=True), 1):
        facts[f"symptom{number}"] = symptom
        facts[f"finding{number}"] = finding.format(side=side)
    for name in ("disease", "service", "lab"):
        facts[name.upper()] = facts[name].upper()
    for name in (
        *("disease", "qualifier", "drug", "risk", "impression", "lab", "support", "service", "complication"),
        *("problem", "rhythm", "diet", "past1", "past2", "drug1", "drug2", "symptom1", "symptom2", "kin"),
        *("general1", "site", "painkiller"),
    ):
        facts[name.capitalize()] = facts[name][0].upper() + facts[name][1:]
    facts |= draw_stay(draw, age, FIRST_DAY + int(draw() * 36_500))
    facts["medications"] = "\n".join(
        f"{place}. {facts[drug].capitalize()} {facts[dose]}. Disp:*{30 * place} * Refills:*0*"
        for place, (drug, dose) in enumerate((("drug", "dose"), ("drug1", "dose1"), ("drug2", "dose2")), 1)
    )
    return facts


def set_day(facts: Facts, draw: Draw, day: int) -> None:
    """Set what a note says of its own day: 1 is the day of admission."""
    today = facts["admission_day"] + day - 1
    low, high = 100 + int(draw() * 900), 100 + int(draw() * 900)
    set_course_day(facts, draw, day)
    facts |= {
        "chart_date": datetime.date.fromordinal(today).isoformat(),
        "date": _mimic_date(today),
        "hour": 1 + int(draw() * 12),
        "minute": f"{int(draw() * 60):02}",
        "ampm": pick(("AM", "PM"), draw),
        "clip": 100_000 + int(draw() * 900_000),
        "intake": low,
        "output": high,
        "balance": low - high,
        "sodium": 134 + int(draw() * 10),
        "potassium": f"{3.4 + draw() * 1.4:.1f}",
        "chloride": 98 + int(draw() * 10),
        "bicarbonate": 21 + int(draw() * 8),
        "glucose": 86 + int(draw() * 90),
        "wbc": f"{5 + draw() * 8:.1f}",
        "hct": f"{28 + draw() * 10:.1f}",
        "plt": 150 + int(draw() * 200),
        "cr": f"{0.7 + draw() * 0.7:.1f}",
    }


def set_course_day(facts: Facts, draw: Draw, day: int) -> None:
    """Set what is measured every day: vital signs, and the laboratory value on its way to the good one."""
    systolic, diastolic = 98 + int(draw() * 60), 52 + int(draw() * 34)
    facts |= {
        "day": day,
        "lab2": _lab_on(facts, draw, day),
        "temp": f"{97.0 + draw() * 4:.1f}",
        "pulse": 62 + int(draw() * 56),
        "systolic": systolic,
        "diastolic": diastolic,
        "mean": (systolic + 2 * diastolic) // 3,
        "resp": 14 + int(draw() * 14),
        "sat": 90 + int(draw() * 10),
        "oxygen": 1 + int(draw() * 6),
    }


def draw_stay(draw: Draw, age: int, admitted: int) -> Facts:
    """The dates of a stay that begins on the day `admitted`, an ordinal."""
    length_of_stay = 2 + int(draw() ** 3 * 120)  # skewed: the long stays make the long tail of the notes' lengths
    discharged = admitted + length_of_stay - 1
    return {
        "length_of_stay": length_of_stay,
        "admission_day": admitted,
        "admitted": _mimic_date(admitted),
        "discharged": _mimic_date(discharged),
        "followup": _mimic_date(discharged + 14),
        "born": _mimic_date(admitted - age * 365 - int(draw() * 365)),
        "year": datetime.date.fromordinal(admitted).year - 1 - int(draw() * 12),
    }


def _lab_on(facts: Facts, draw: Draw, day: int) -> str:
    good, bad = facts["lab_range"]
    left = (1 - day / (facts["length_of_stay"] + 1)) * (0.85 + 0.3 * draw())
    return _number(good + (bad - good) * left)


def _mimic_date(day: int) -> str:
    date = datetime.date.fromordinal(day)
    return f"{date.year}-{date.month}-{date.day}"


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"
