"""SQuAD 1.1 and 2.0 files: articles of paragraphs, each a context with questions, whose answers lie in the context.

The layout is that of Rajpurkar et al. (2016, 2018): `{"data": [{"paragraphs": [{"context": ..., "qas": [{"id": ...,
"question": ..., "is_impossible": ..., "answers": [{"text": ..., "answer_start": ...}]}]}]}]}`. JSON lines hold a
question each, as the library datasets writes them: `{"id": ..., "context": ..., "question": ..., "answers":
{"text": [...], "answer_start": [...]}}`; one without an answer cannot be answered.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.inputs import fields, record_files
from clinicalbert_jax.finetune.inputs.reading import BadRecord, Reading, suffix
from clinicalbert_jax.finetune.inputs.record_files import Record
from clinicalbert_jax.finetune.task import Example

# A key "id" and its value. Inside a string its quotation marks would be escaped, so that this is never text.
_ID = re.compile(r'"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)')


@dataclass(frozen=True)
class Question(Example):
    """A question about a context. `answers` are the characters of the context that hold one, as (start, end).

    Several answers are several people's. None: it cannot be answered, or is not annotated.
    """

    question: str = field(repr=False)
    context: str = field(repr=False)
    answers: tuple[tuple[int, int], ...]

    @property
    def document(self) -> str:
        """What is resampled as one: all questions about a patient, else about a context."""
        return self.patient or self.context

    @property
    def content(self) -> tuple[str, ...]:
        """The question and its context."""
        return self.question, self.context


def read(path: Path, reading: Reading, annotated: bool, unanswerable: bool, patient_field: str) -> list[Question]:
    """The questions of a file in its order. `patient_field`: the key of a paragraph that names its patient, or ''.

    Raises `UserError` for a file of another layout and for one without a question. Without `unanswerable`, a question
    without an answer is a bad record.
    """

    def parse(line: int, record: Record) -> Question:
        try:
            id_ = fields.name(record, "id")
            patient = fields.patient(record, patient_field)
            question, context = fields.text(record, "question"), fields.text(record, "context")
            answers = _answers(record, context, unanswerable) if annotated else ()
        except BadRecord as problem:
            where = f"{record['position']}: " if "position" in record else ""
            raise BadRecord(f"{where}{problem}") from None
        return Question(id_, line, patient, question, context, answers)

    if suffix(path) in (".jsonl", ".ndjson"):
        lines = record_files.read(path, ("id", "question", "context"), reading)
        return reading.each(path, lines, lambda line, record: parse(line, _from_columns(record)))
    return reading.each(path, _records(path, reading), parse)


def _records(path: Path, reading: Reading) -> Iterator[tuple[int, Record]]:
    """Each question with the fields of its paragraph and its position in the file."""
    with reading.opened(path, newline="") as file:
        content = file.read()
    try:
        document = json.loads(content)
    except json.JSONDecodeError as error:  # its message may quote the text
        raise UserError(f"{path}, line {error.lineno}: expected JSON, broken off at column {error.colno}") from None
    except RecursionError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        raise UserError(f"{path}: expected the layout of SQuAD, an object with a list 'data', found otherwise")
    lines = _lines(content)
    for article in _elements(path, document | {"position": ""}, "data", reading):
        for paragraph in _elements(path, article, "paragraphs", reading):
            of_all = {name: value for name, value in paragraph.items() if name != "qas"}
            for qa in _elements(path, paragraph, "qas", reading):
                yield lines.get(str(qa.get("id")), 1), of_all | qa


def _from_columns(record: Record) -> Record:
    """A question whose answers are columns, as `datasets` has them, in the form of SQuAD."""
    answers = record.get("answers")
    if not isinstance(answers, dict):
        return record
    texts, starts = answers.get("text"), answers.get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise BadRecord("expected lists 'text' and 'answer_start' of one length in 'answers', found otherwise")
    listed = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    return record | {"answers": listed, "is_impossible": not listed}


def _elements(path: Path, parent: Record, key: str, reading: Reading) -> Iterator[Record]:
    elements = parent.get(key)
    if not isinstance(elements, list):
        reading.found(path, 1, f"{parent['position']}: expected a list {key!r}, found none")
        return
    for number, element in enumerate(elements):
        position = f"{parent['position']}.{key}[{number}]".lstrip(".")
        if isinstance(element, dict):
            yield element | {"position": position}
        else:
            reading.found(path, 1, f"{position}: expected an object, found otherwise")


def _answers(record: Record, context: str, unanswerable: bool) -> tuple[tuple[int, int], ...]:
    answers, impossible = record.get("answers"), record.get("is_impossible", False)
    if not isinstance(answers, list) or not isinstance(impossible, bool):
        raise BadRecord("expected a list 'answers', and true or false in 'is_impossible', found otherwise")
    if impossible == bool(answers):
        raise BadRecord(
            f"expected {'no answer' if impossible else 'an answer'} with is_impossible={str(impossible).lower()}, "
            f"found {len(answers)}"
        )
    if impossible and not unanswerable:
        raise BadRecord("expected an answer, found a question without: such need config.task.unanswerable=True")
    return tuple(_answer(answer, context) for answer in answers)


def _answer(answer: Any, context: str) -> tuple[int, int]:
    text, start = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, dict) else (None, None)
    if not record_files.is_text(text) or type(start) is not int:
        raise BadRecord("expected a 'text' and an 'answer_start' in each answer, found otherwise")
    assert isinstance(text, str)
    end = start + len(text)
    if start < 0 or context[start:end] != text:
        raise BadRecord(f"expected the answer at characters {start} to {end} of its context, found other text there")
    return start, end


def _lines(content: str) -> dict[str, int]:
    """The line on which each id stands first. Most files are a single line."""
    lines: dict[str, int] = {}
    line, seen = 1, 0
    for match in _ID.finditer(content):
        line, seen = line + content.count("\n", seen, match.start()), match.start()
        lines.setdefault(str(json.loads(match[1])), line)
    return lines
