"""Texts annotated with entities, as CoNLL files and as JSON with spans of characters hold them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.entities import conll
from clinicalbert_jax.finetune.inputs import record_files, span_records, tags
from clinicalbert_jax.finetune.inputs.bad_records import BadRecords
from clinicalbert_jax.finetune.inputs.tags import Span

_JSON = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Document:
    """A text, a sentence say, with its entities by characters.

    `words` are its words by characters where the file gives them; else the tokenizer cuts it. `scheme` is that of the
    file's tags, '' where it has none.
    """

    id: str
    line: int
    patient: str
    text: str
    entities: tuple[Span, ...] = ()
    words: tuple[tuple[int, int], ...] | None = None
    scheme: str = ""


def read(path: Path, scheme: str, bad: BadRecords, annotated: bool) -> list[Document]:
    """The documents of a file. Not `annotated`: of CoNLL the first column, of .txt one text a line.

    Raises `UserError` for a file of another kind, and for one without a document.
    """
    if span_records.suffix(path) in _JSON:
        documents = list(_from_json(path, bad, annotated))
    elif span_records.suffix(path) == ".txt" and not annotated:
        documents = list(_from_lines(path, bad))
    elif span_records.suffix(path) in conll.SUFFIXES:
        documents = list(_from_conll(path, scheme, bad, annotated))
    else:
        raise UserError(f"{path}: expected a file ending in {', '.join(conll.SUFFIXES + _JSON)}, plain or with .gz")
    if not documents:
        raise UserError(f"{path}: expected at least one sentence or text, found none that can be used")
    return documents


def _from_json(path: Path, bad: BadRecords, annotated: bool) -> Iterator[Document]:
    seen: set[str] = set()
    for line, record in span_records.records(path, ("text", "entities") if annotated else ("text",), bad):
        try:
            text = span_records.read_text(record)
            entities = _entities(record["entities"], text) if annotated else ()
            yield Document(
                span_records.read_id(record, line, seen), line, span_records.read_patient(record), text, entities
            )
        except span_records.ProblemError as problem:
            bad.found(path, line, str(problem))


def _entities(value: object, text: str) -> tuple[Span, ...]:
    if not isinstance(value, list):
        raise span_records.ProblemError("expected a list in the field 'entities', found otherwise")
    entities = sorted(span_records.read_span(one, text, "an entity", "label") for one in value)
    for one, other in pairwise(entities):
        if other.start < one.end:
            raise span_records.ProblemError(
                f"expected entities that do not overlap, found characters {one.start} to {one.end} ({one.label}) "
                f"and {other.start} to {other.end} ({other.label}); keep one, or train a model for each type"
            )
    return tuple(entities)


def _from_lines(path: Path, bad: BadRecords) -> Iterator[Document]:
    with record_files.opened(path, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            if record_files.is_text(line):
                yield Document(str(number), number, "", line.rstrip("\r\n"))
            else:
                bad.found(path, number, "expected UTF-8, found otherwise")


def _from_conll(path: Path, scheme: str, bad: BadRecords, annotated: bool) -> Iterator[Document]:
    sentences, scheme = conll.read(path, scheme, bad, annotated)
    seen: set[str] = set()
    for number, sentence in enumerate(sentences, start=1):
        record = {"id": sentence.id or number}
        try:
            id_ = span_records.read_id(record, number, seen)
        except span_records.ProblemError as problem:
            bad.found(path, sentence.lines[0], str(problem))
            continue
        ends = np.cumsum([len(word) + 1 for word in sentence.words]).tolist()
        words = [(end - 1 - len(word), end - 1) for word, end in zip(sentence.words, ends, strict=True)]
        entities = [Span(words[s][0], words[e - 1][1], label) for s, e, label in tags.spans(sentence.tags, scheme)]
        text = " ".join(sentence.words)
        yield Document(id_, sentence.lines[0], sentence.patient, text, tuple(entities), tuple(words), scheme)
