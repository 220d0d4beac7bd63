"""CoNLL files: a word and its tag a line, a blank line between sentences."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.inputs import record_files, tags
from clinicalbert_jax.finetune.inputs.bad_records import BadRecords

SUFFIXES = (".tsv", ".conll", ".bio", ".iob", ".txt")
# '# id = 17' and '# patient = 4' before a sentence; others of this form are left alone.
_COMMENT = re.compile(r"#\s*(\w+)\s*=\s*(.*)")


@dataclass
class Sentence:
    """Words with their tags and the line each stands on. `id` '' and `patient` '' where the file does not say."""

    id: str = ""
    patient: str = ""
    words: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


def read(path: Path, scheme: str, bad: BadRecords, annotated: bool) -> tuple[list[Sentence], str]:
    """The sentences of a file, and the scheme of their tags: the one given, or the one found where that is ''.

    A line has columns, cut at tabs where it has one and else at spaces: the first is the word, the last its tag. Not
    `annotated`: the first column alone is read. Raises `UserError` where all tags together are IOB1.
    """
    sentences = _sentences(path, bad, annotated)
    if not annotated:
        return sentences, ""
    number = tags.looks_like_iob1(sentence.tags for sentence in sentences)
    if number is not None and scheme != "IOBES":
        raise UserError(
            f"{path}: expected IOB2 or IOBES tags, found entities that begin with 'I-', the first in the sentence on "
            f"line {sentences[number].lines[0]}: convert IOB1 tags to IOB2"
        )
    scheme = scheme or tags.best_scheme([sentence.tags for sentence in sentences])
    return [sentence for sentence in sentences if _is_sound(sentence, scheme, path, bad)], scheme


def write(path: Path, sentences: Iterable[tuple[str, Sequence[str], Sequence[str]]]) -> None:
    """Write ids, words and tags so that `read` reads them."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for id_, words, word_tags in sentences:
            file.write(f"# id = {id_}\n")
            file.writelines(f"{word}\t{tag}\n" for word, tag in zip(words, word_tags, strict=True))
            file.write("\n")


def _sentences(path: Path, bad: BadRecords, annotated: bool) -> list[Sentence]:
    sentences, sentence = [], Sentence()
    wrong: tuple[int, str] | None = None  # in the present sentence
    with record_files.opened(path, newline="\n") as file:
        for number, line in enumerate([*file, "\n"], start=1):
            line = line.rstrip("\r\n")
            if not line.strip():
                if wrong:
                    bad.found(path, *wrong)
                elif sentence.words:
                    sentences.append(sentence)
                if wrong or sentence.words:
                    sentence, wrong = Sentence(), None
                continue
            comment = None if sentence.lines or "\t" in line else _COMMENT.fullmatch(line)
            if comment:
                if comment[1] in ("id", "patient"):
                    setattr(sentence, comment[1], comment[2].strip())
                    if not record_files.is_text(comment[2]):
                        wrong = number, f"expected a value for {comment[1]!r}, found none"
                continue
            # Other white space than these two may be part of a word.
            columns = line.split("\t") if "\t" in line else [column for column in line.split(" ") if column]
            if columns[0] == "-DOCSTART-":
                continue
            sentence.lines.append(number)
            problem = _problem(columns, annotated)
            if problem:
                wrong = wrong or (number, problem)
                continue
            sentence.words.append(columns[0])
            sentence.tags.append(columns[-1] if annotated else tags.OUTSIDE)
    return sentences


def _problem(columns: Sequence[str], annotated: bool) -> str | None:
    # Nothing of the line is told: without a tag, what stands there is text.
    if not record_files.is_text(columns[0]):
        return "expected a word in the first column, found none"
    if annotated and len(columns) < 2:
        return "expected a word and its tag, found one column"
    if annotated and not tags.is_tag(columns[-1]):
        return "expected a tag in the last column (O, B-TYPE, I-TYPE, and E-TYPE, S-TYPE in IOBES), found none"
    return None


def _is_sound(sentence: Sentence, scheme: str, path: Path, bad: BadRecords) -> bool:
    found = tags.first_break(sentence.tags, scheme)
    if found:
        bad.found(path, sentence.lines[found[0]], found[1])
    return not found
