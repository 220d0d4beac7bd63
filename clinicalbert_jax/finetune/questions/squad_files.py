"""SQuAD 1.1 and 2.0 files: articles of paragraphs, each a context with questions, whose answers lie in the context.

The layout is that of Rajpurkar et al. (2016, 2018): `{"data": [{"paragraphs": [{"context": ..., "qas": [{"id": ...,
"question": ..., "is_impossible": ..., "answers": [{"text": ..., "answer_start": ...}]}]}]}]}`.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.inputs import record_files
from clinicalbert_jax.finetune.inputs.bad_records import BadRecords

# A key "id" and its value. Inside a string its quotation marks would be escaped, so that this is never text.
_ID = re.compile(r'"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)')


@dataclass(frozen=True)
class Question:
    """A question about a context. `answers` are the characters of the context that hold one, as (start, end).

    Several answers are several people's. None: it cannot be answered, or is not annotated.
    """

    id: str
    line: int
    patient: str
    question: str = field(repr=False)
    context: str = field(repr=False)
    answers: tuple[tuple[int, int], ...]


def read(path: Path, bad: BadRecords, annotated: bool, unanswerable: bool, patient_field: str) -> list[Question]:
    """The questions of a file in its order. `patient_field`: the key of a paragraph that names its patient, or ''.

    Raises `UserError` for a file that is not of this layout or holds no question. Without `unanswerable`, a question
    without an answer is a bad record.
    """
    with record_files.opened(path, newline="") as file:
        content = file.read()
    try:
        document = json.loads(content)
    except json.JSONDecodeError as error:  # its message may quote the text
        raise UserError(f"{path}, line {error.lineno}: expected JSON, broken off at column {error.colno}") from None
    except RecursionError:
        document = None
    lines = _lines(content)
    questions: dict[str, Question] = {}
    for place, patient, context, qa in _questions(path, document, patient_field, bad):
        id_ = str(qa["id"]).strip() if isinstance(qa.get("id"), str | int) else ""
        line = lines.get(id_, 1)
        where = f"question {id_!r}" if len(id_) <= 100 else place
        try:
            if not id_ or id_ in questions:
                where = place
                raise _RecordError("expected an id of its own, found " + ("one that came before" if id_ else "none"))
            if not record_files.is_text(context) or not record_files.is_text(qa.get("question")):
                raise _RecordError("expected a question and a context in UTF-8, found otherwise")
            answers = _answers(qa, context, unanswerable) if annotated else ()
        except _RecordError as problem:
            bad.found(path, line, f"{where}: {problem}")
        else:
            questions[id_] = Question(id_, line, patient, qa["question"], context, answers)
    if not questions:
        raise UserError(f"{path}: expected at least one question, found none that can be used")
    return list(questions.values())


def _questions(path: Path, document: Any, patient_field: str, bad: BadRecords) -> Iterator[tuple[str, str, Any, dict]]:
    """Place in the file, patient, context and record of each question."""
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        raise UserError(f"{path}: expected the layout of SQuAD, an object with a list 'data', found otherwise")
    for article_place, article in _elements(path, document, "data", "", bad):
        for place, paragraph in _elements(path, article, "paragraphs", article_place, bad):
            patient = paragraph.get(patient_field, "") if patient_field else ""
            if patient_field and (not isinstance(patient, str | int) or patient == ""):
                bad.found(path, 1, f"{place}: expected a patient in {patient_field!r}, found none")
                continue
            for qa_place, qa in _elements(path, paragraph, "qas", place, bad):
                yield qa_place, str(patient), paragraph.get("context"), qa


def _elements(path: Path, parent: dict, key: str, place: str, bad: BadRecords) -> Iterator[tuple[str, dict]]:
    elements = parent.get(key)
    if not isinstance(elements, list):
        bad.found(path, 1, f"{place}: expected a list {key!r}, found none")
        return
    for number, element in enumerate(elements):
        element_place = f"{place}.{key}[{number}]".lstrip(".")
        if isinstance(element, dict):
            yield element_place, element
        else:
            bad.found(path, 1, f"{element_place}: expected an object, found otherwise")


def _answers(qa: dict, context: str, unanswerable: bool) -> tuple[tuple[int, int], ...]:
    answers, impossible = qa.get("answers"), qa.get("is_impossible", False)
    if not isinstance(answers, list) or not isinstance(impossible, bool):
        raise _RecordError("expected a list 'answers', and true or false in 'is_impossible', found otherwise")
    if impossible == bool(answers):
        raise _RecordError(
            f"expected {'no answer' if impossible else 'an answer'} with is_impossible={str(impossible).lower()}, "
            f"found {len(answers)}"
        )
    if impossible and not unanswerable:
        raise _RecordError("expected an answer, found a question without: such need config.task.unanswerable=True")
    return tuple(_answer(answer, context) for answer in answers)


def _answer(answer: Any, context: str) -> tuple[int, int]:
    text, start = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, dict) else (None, None)
    if not record_files.is_text(text) or type(start) is not int:
        raise _RecordError("expected a 'text' and an 'answer_start' in each answer, found otherwise")
    assert isinstance(text, str)
    end = start + len(text)
    if start < 0 or context[start:end] != text:
        raise _RecordError(f"expected the answer at characters {start} to {end} of its context, found other text there")
    return start, end


class _RecordError(Exception):
    """What is wrong with a question, without its text."""


def _lines(content: str) -> dict[str, int]:
    """The line on which each id stands first. Most files are a single line."""
    lines: dict[str, int] = {}
    line, seen = 1, 0
    for match in _ID.finditer(content):
        line, seen = line + content.count("\n", seen, match.start()), match.start()
        lines.setdefault(str(json.loads(match[1])), line)
    return lines
