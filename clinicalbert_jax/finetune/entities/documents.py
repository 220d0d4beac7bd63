"""Texts annotated with entities, as CoNLL files and as JSON with spans of characters hold them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.entities import conll
from clinicalbert_jax.finetune.inputs import fields, record_files, tags
from clinicalbert_jax.finetune.inputs.reading import BadRecord, Reading, suffix
from clinicalbert_jax.finetune.inputs.record_files import Record
from clinicalbert_jax.finetune.inputs.tags import Span
from clinicalbert_jax.finetune.task import Example


@dataclass(frozen=True)
class Document(Example):
    """A text, such as a sentence, with its entities by characters.

    `words` are its words by characters where the file gives them; else the tokenizer splits it. `scheme` is that of
    the file's tags, '' where it has none. `article`: which document of the file the sentence is from, '' where that is
    not known.
    """

    text: str = field(repr=False)
    entities: tuple[Span, ...] = ()
    words: tuple[tuple[int, int], ...] | None = None
    scheme: str = ""
    article: str = ""

    @property
    def document(self) -> str:
        """What is resampled as one: all texts of a patient, else the sentences of an article, else a text."""
        return self.patient or self.article or self.id


def read(path: Path, scheme: str, reading: Reading, annotated: bool) -> list[Document]:
    """The documents of a file. Not `annotated`: of CoNLL the first column, of .txt one text a line.

    Raises `UserError` for a file of another kind, and for one without a document.
    """
    kind = suffix(path)
    if kind in conll.SUFFIXES and (annotated or kind != ".txt"):
        sentences, scheme = conll.read(path, scheme, reading, annotated)
        return reading.each(path, sentences, lambda line, sentence: _from_sentence(line, sentence, scheme))
    if kind == ".txt":
        records = _text_lines(path, reading)
    elif kind in record_files.JSON:
        records = record_files.read(path, ("text", "entities") if annotated else ("text",), reading)
    else:
        kinds = ", ".join(conll.SUFFIXES + record_files.JSON)
        raise UserError(f"{path}: expected a file ending in {kinds} (or one of these with .gz)")
    return reading.each(path, records, lambda line, record: _from_record(line, record, annotated))


def _text_lines(path: Path, reading: Reading) -> Iterator[tuple[int, Record]]:
    with reading.opened(path, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, {"text": line.rstrip("\r\n")}


def _from_record(line: int, record: Record, annotated: bool) -> Document:
    text = fields.text(record, "text")
    entities = _entities(record["entities"], text) if annotated else ()
    return Document(
        fields.identifier(record, str(line)),
        line,
        fields.optional_patient(record),
        text,
        entities,
    )


def _entities(value: object, text: str) -> tuple[Span, ...]:
    if not isinstance(value, list):
        raise BadRecord("expected a list in the field 'entities', found otherwise")
    entities = sorted(fields.span(one, text, "an entity", "label") for one in value)
    for one, other in pairwise(entities):
        if other.start < one.end:
            raise BadRecord(
                f"expected entities that do not overlap, found characters {one.start} to {one.end} and {other.start} "
                f"to {other.end}; keep one, or train a model for each type"
            )
    return tuple(entities)


def _from_sentence(line: int, sentence: conll.Sentence, scheme: str) -> Document:
    conll.check(sentence, scheme)
    ends = np.cumsum([len(word) + 1 for word in sentence.words]).tolist()
    words = [(end - 1 - len(word), end - 1) for word, end in zip(sentence.words, ends, strict=True)]
    entities = [Span(words[s][0], words[e - 1][1], label) for s, e, label in tags.spans(sentence.tags, scheme)]
    text = " ".join(sentence.words)
    return Document(sentence.id, line, sentence.patient, text, tuple(entities), tuple(words), scheme, sentence.article)
