"""Invented notes in the form of MIMIC-III's NOTEEVENTS.csv.

A patient is drawn first (disease, its kind, cause and drug, comorbidities, age, sex, side), and every note of
that patient is told from those facts, so that a masked word follows from the words around it and a sentence from
the one before. The facts are in `facts.py`, the wording in `wording/`; all of it is invented.
"""

import gzip
import random
from bisect import bisect
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, islice
from pathlib import Path
from typing import IO, NamedTuple

from clinicalbert_jax.data.manifest import INVENTED_COLUMN
from clinicalbert_jax.errors import UserError
from data_prep.synthetic.patients import Draw, Facts, draw_patient, pick, set_course_day, set_day
from data_prep.synthetic.templates import PHRASES, read

WIDTH = 78
# The last column is none of MIMIC's: it says in the file itself that the notes are invented.
HEADER = (
    f"ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CHARTTIME,STORETIME,CATEGORY,DESCRIPTION,CGID,ISERROR,TEXT,{INVENTED_COLUMN}"
)
ERROR_SHARE = 0.01  # rows with ISERROR=1
EMPTY_SHARE = 0.002
DUPLICATE_SHARE = 0.015  # an earlier note of the patient again, character for character
COPY_FORWARD_SHARE = 0.4  # of the notes whose category is copied forward, where there is one to copy
PATIENTS_AT_ONCE = 64  # whose notes alternate in the file


class Row(NamedTuple):
    """One row of NOTEEVENTS.csv, its columns in order; an empty string is a missing value."""

    row_id: int
    subject_id: int
    hadm_id: str
    chart_date: str
    chart_time: str
    store_time: str
    category: str
    description: str
    cgid: str
    is_error: str
    text: str


class Category(NamedTuple):
    """A category: its share of the notes, whether its rows carry a time, and whether its notes are copied forward."""

    name: str  # with MIMIC's trailing spaces
    description: str
    template: str
    per_mille: int
    timed: bool = True
    copied_forward: bool = False


# The shares follow MIMIC-III's, smoothed so that the rare categories occur in 2,000 notes. The discharge summary
# has none: it is the last note of the stay, of this share of the patients.
DISCHARGED_SHARE = 0.25
DISCHARGE_SUMMARY = Category("Discharge summary", "Report", read("discharge_summary"), 0, timed=False)
DEATH_SUMMARY = DISCHARGE_SUMMARY._replace(template=read("death_summary"))  # of those who died; see `stays`
CATEGORIES = (
    Category("Nursing/other", "Report", read("nursing_other"), 220),
    Category("Radiology", "CHEST (PORTABLE AP)", read("radiology"), 240),
    Category("Nursing", "Nursing Progress Note", read("nursing"), 160, copied_forward=True),
    Category("ECG", "Report", read("ecg"), 80, timed=False),
    Category("Physician ", "Resident Progress Note", read("physician"), 100, copied_forward=True),
    Category("Echo", "Report", read("echo"), 30, timed=False),
    Category("Respiratory ", "Respiratory Care Shift Note", read("respiratory"), 30),
    Category("Nutrition", "Clinical Nutrition Note", read("nutrition"), 20),
    Category("General", "Generic Note", read("general"), 15),
    Category("Rehab Services", "Physical Therapy Progress Note", read("rehab"), 10),
    Category("Social Work", "Social Work Progress Note", read("social_work"), 10),
    Category("Case Management ", "Discharge Plan", read("case_management"), 5),
    Category("Pharmacy", "Pharmacy Note", read("pharmacy"), 5),
    Category("Consult", "Consult Note", read("consult"), 5),
)
CATEGORY_BOUNDS = tuple(accumulate(category.per_mille for category in CATEGORIES))


def rows(num_notes: int, seed: int) -> Iterator[Row]:
    """`num_notes` rows, a function of the arguments alone; holds the notes of `PATIENTS_AT_ONCE` patients."""
    draw = random.Random(seed).random
    next_patient = 1
    open_patients: list[Iterator[Row]] = []
    for row_id in range(1, num_notes + 1):
        row = None
        while row is None:
            if len(open_patients) < PATIENTS_AT_ONCE:
                open_patients.append(_notes_of_patient(draw, next_patient))
                next_patient += 1
            place = int(draw() * len(open_patients))
            row = next(open_patients[place], None)
            if row is None:
                del open_patients[place]
        yield row._replace(row_id=row_id)


def write(path: Path, num_notes: int, seed: int) -> None:
    """Write NOTEEVENTS.csv at `path`, compressed where that ends in `.gz`: the same bytes for the same seed.

    Raises `UserError` where the file cannot be opened for writing.
    """
    with opened(path) as file:
        file.write(HEADER.encode() + b"\n")
        stream = rows(num_notes, seed)
        while block := list(islice(stream, 1000)):
            file.write("".join(map(csv_line, block)).encode())


def wrap(text: str, width: int = WIDTH) -> str:
    """Break each longer line at the last space within `width`, as in MIMIC; a longer word stays whole."""
    if len(text) <= width:
        return text
    lines = []
    for line in text.split("\n"):
        start, end = 0, len(line)
        while end - start > width:
            cut = line.rfind(" ", start + 1, start + width + 1)
            if cut < 0 or not line[start:cut].strip():
                cut = line.find(" ", start + width)
                if cut < 0:
                    break
            lines.append(line[start:cut])
            start = cut + 1
        lines.append(line[start:])
    return "\n".join(lines)


# A template in parts: fixed text, or the alternatives of which one is drawn.
Template = list[str | tuple[str, ...]]


def _parse(template: str) -> Template:
    parts: Template = []
    after_sentence = False
    for line in template.rstrip("\n").split("\n"):
        line = PHRASES.get(line, line)
        if "|" in line:
            parts.append(tuple(_joined(choice.strip(), after_sentence) for choice in line.split("|")))
        else:
            parts.append(_joined(line, after_sentence) or "\n")
        after_sentence = bool(line) and not line.startswith("=")
    return parts


def _joined(wording: str, after_sentence: bool) -> str:
    if wording.startswith("="):
        return "\n" + wording[1:]
    return wording and (" " if after_sentence else "\n") + wording


PARSED = {one.template: _parse(one.template) for one in (*CATEGORIES, DISCHARGE_SUMMARY, DEATH_SUMMARY)}
ADDENDUM = read("addendum").rstrip("\n")  # to a note that otherwise repeats an earlier one
COURSE_DAY = _parse(read("course_day"))


def _choose(template: Template, draw: Draw) -> str:
    chosen = [part if type(part) is str else part[int(draw() * len(part))] for part in template]
    return "".join(chosen)[1:]  # without the line break before the first line


def _notes_of_patient(draw: Draw, number: int) -> Iterator[Row]:
    """The notes of one patient in the order of time; their row id is 0 still."""
    facts = draw_patient(draw)
    subject, stay = 10_000 + number, str(100_000 + number)
    length_of_stay = facts["length_of_stay"]
    told: dict[str, Told] = {}  # the last note of each category that is copied forward
    texts: list[tuple[Category, str]] = []
    count = 1 + int(draw() * draw() * 12)
    discharged = draw() < DISCHARGED_SHARE
    for index in range(count):
        if discharged and index == count - 1:
            category, day = DISCHARGE_SUMMARY, length_of_stay
        else:
            category = CATEGORIES[bisect(CATEGORY_BOUNDS, draw() * CATEGORY_BOUNDS[-1])]
            day = 1 + (length_of_stay - 1) * index // count
        set_day(facts, draw, day)
        if texts and draw() < DUPLICATE_SHARE:
            category, text = pick(texts, draw)
        else:
            text = tell(facts, draw, category, told)
            texts.append((category, text))
        if draw() < EMPTY_SHARE:
            text = pick(("", "\n", "   \n"), draw)
        date = facts["chart_date"]
        time = f"{date} {int(draw() * 24):02}:{int(draw() * 60):02}:00" if category.timed else ""
        yield Row(
            row_id=0,
            subject_id=subject,
            hadm_id="" if category.name in ("ECG", "Radiology") and draw() < 0.1 else stay,
            chart_date=date,
            chart_time=time,
            store_time=time and time[:-2] + "30",
            category=category.name,
            description=facts["study"] if category.name == "Radiology" else category.description,
            cgid=str(14_000 + int(draw() * 5_000)) if category.timed else "",
            is_error="1" if draw() < ERROR_SHARE else "",
            text=text,
        )


class Told(NamedTuple):
    """What a note copied forward begins from: the template with its alternatives chosen, and the text made of it."""

    wording: str
    text: str


def tell(facts: Facts, draw: Draw, category: Category, told: dict[str, Told]) -> str:
    """The text of a note; one copied forward has the numbers of its own day, or an addendum."""
    earlier = told.get(category.name)
    if earlier and draw() < COPY_FORWARD_SHARE:
        if draw() < 0.5:
            return wrap(earlier.wording.format_map(facts))
        return f"{earlier.text}\n{wrap(ADDENDUM.format_map(facts))}"
    if "{course}" in category.template:
        facts["course"] = _course(facts, draw)
    wording = _choose(PARSED[category.template], draw)
    text = wrap(wording.format_map(facts))
    if category.copied_forward:
        told[category.name] = Told(wording, text)
    return text


def _course(facts: Facts, draw: Draw) -> str:
    today = facts.copy()
    told = []
    for day in range(2, facts["day"]):
        set_course_day(today, draw, day)
        told.append(_choose(COURSE_DAY, draw).format_map(today))
    return "\n".join(told)


def csv_line(row: Row) -> str:
    """The row as a line of NOTEEVENTS.csv."""
    text = row.text.replace('"', '""')
    return (
        f"{row.row_id},{row.subject_id},{row.hadm_id},{row.chart_date},{row.chart_time},{row.store_time},"
        f'"{row.category}","{row.description}",{row.cgid},{row.is_error},"{text}",1\n'
    )


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, compressed where its name ends in `.gz`; the same bytes in the same bytes out."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    except OSError as error:
        raise UserError(f"--output={path} cannot be written: {error.strerror}") from None
    with file:
        if path.suffix == ".gz":
            # No name and no time in the header, so that the bytes depend on the seed alone.
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=3, mtime=0) as compressed:
                yield compressed  # type: ignore[misc]
        else:
            yield file
