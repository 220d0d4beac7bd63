"""CoNLL files: a word and its tag a line, a blank line between sentences."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clinicalbert_jax.finetune.inputs import fields, record_files, tags
from clinicalbert_jax.finetune.inputs.reading import BadRecord, Reading

SUFFIXES = (".tsv", ".conll", ".bio", ".iob", ".txt")
# '# id = 17' and '# patient = 4' before a sentence; others of this form are left alone.
_COMMENT = re.compile(r"#\s*(\w+)\s*=\s*(.*)")


@dataclass
class Sentence:
    """Words with their tags and the line each stands on. `patient`, `article`: '' where the file names none.

    `article`: which of the documents that `-DOCSTART-` lines begin it belongs to.
    """

    id: str
    patient: str = ""
    article: str = ""
    words: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


@dataclass
class _Lines:
    """A sentence as it stands: comments by name, and the columns of each line, both with line numbers."""

    number: int  # among the sentences of the file, from 1
    article: int = 0  # how many -DOCSTART- lines came before it
    comments: dict[str, tuple[int, str]] = field(default_factory=dict)
    columns: list[tuple[int, list[str]]] = field(default_factory=list)


def read(path: Path, scheme: str, reading: Reading, annotated: bool) -> tuple[list[tuple[int, Sentence]], str]:
    """The sentences of a file with their lines, and the scheme of their tags: that given, or found where it is ''.

    A line has columns, between tabs where it has one and else between spaces: the first is the word, the last its tag.
    Not `annotated`: the first column alone is read.
    """
    with reading.opened(path, newline="\n") as file:
        return parse(path, file, scheme, reading, annotated)


def parse(
    path: Path, file: Iterable[str], scheme: str, reading: Reading, annotated: bool
) -> tuple[list[tuple[int, Sentence]], str]:
    """`read` of the lines of a file; `path` is for messages."""
    sentences = reading.each(path, _sentences(file), lambda _, lines: _sentence(lines, annotated), unique_ids=False)
    if len({sentence.article for sentence in sentences}) == 1:  # the file's own beginning, or none
        for sentence in sentences:
            sentence.article = ""
    numbered = [(sentence.lines[0], sentence) for sentence in sentences]
    if not annotated:
        return numbered, "IOB2"
    for sentence, normal in zip(sentences, tags.normalized([one.tags for one in sentences]), strict=True):
        sentence.tags = normal
    return numbered, scheme or tags.best_scheme([sentence.tags for sentence in sentences])


def check(sentence: Sentence, scheme: str) -> None:
    """Raise `BadRecord` for the first tag that breaks the scheme."""
    found = tags.first_break(sentence.tags, scheme)
    if found:
        raise BadRecord(found[1], sentence.lines[found[0]])


def lines(sentences: Iterable[tuple[str, Sequence[str], Sequence[str]]]) -> Iterator[str]:
    """The lines of a file that `read` reads, from ids, words and tags."""
    for id_, words, word_tags in sentences:
        yield f"# id = {id_}\n"
        yield from (f"{word}\t{tag}\n" for word, tag in zip(words, word_tags, strict=True))
        yield "\n"


def _sentences(file: Iterable[str]) -> Iterator[tuple[int, _Lines]]:
    sentence, article = _Lines(1), 0
    for number, line in enumerate([*file, "\n"], start=1):
        line = line.rstrip("\r\n")
        comment = None if sentence.columns or "\t" in line else _COMMENT.fullmatch(line)
        # Other white space than tabs and spaces may be part of a word.
        columns = line.split("\t") if "\t" in line else [column for column in line.split(" ") if column]
        if comment:
            sentence.comments[comment[1]] = number, comment[2]
        elif line.strip():
            if columns[0] != "-DOCSTART-":
                sentence.columns.append((number, columns))
                continue
            article += 1
        if sentence.columns:
            yield sentence.columns[0][0], sentence
            sentence = _Lines(sentence.number + 1)
        sentence.article = article


def _sentence(lines: _Lines, annotated: bool) -> Sentence:
    found = {"id": str(lines.number), "patient": ""}
    for name in found.keys() & lines.comments.keys():
        number, value = lines.comments[name]
        try:
            found[name] = (fields.patient if name == "patient" else fields.name)({name: value}, name)
        except BadRecord as problem:
            raise BadRecord(str(problem), number) from None
    sentence = Sentence(found["id"], found["patient"], f"article {lines.article}")
    for number, columns in lines.columns:
        # A message quotes nothing of the line: without a tag, what stands there is text.
        if not record_files.is_text(columns[0]):
            raise BadRecord("expected a word in the first column, found none", number)
        if annotated and len(columns) < 2:
            raise BadRecord("expected a word and its tag, found one column", number)
        if annotated and not tags.is_tag(columns[-1]):
            raise BadRecord(
                "expected a tag in the last column (O, B-TYPE, I-TYPE, E-, S-, L- or U-TYPE), found none", number
            )
        sentence.lines.append(number)
        sentence.words.append(columns[0])
        sentence.tags.append(columns[-1] if annotated else tags.OUTSIDE)
    return sentence
