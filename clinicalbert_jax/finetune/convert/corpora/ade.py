"""The ADE corpus (Gurulingappa et al., 2012) as pairs of a drug and an effect, adverse effect of it or not.

`DRUG-AE.rel` annotates only pairs that are related: `PMID|sentence|effect|begin|end|drug|begin|end`, with offsets into
the whole abstract; `ADE-NEG.txt` has the sentences without such a pair: `PMID NEG sentence`. A classifier of pairs
needs pairs that are not related; here they are

1. the annotated drugs and effects of a sentence, in pairs that are not annotated;
2. names of drugs and effects that the training side annotates elsewhere, where they stand in a sentence unannotated,
   paired with each other and with the annotated ones. No name is taken from the sentences to be predicted.

A pair with the words of a related pair of the same sentence, at other offsets, is left out: it is neither. A name of
fewer than four letters must have the same capitals, and a name of both a drug and an effect is not used.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert import common
from clinicalbert_jax.finetune.inputs import record_files
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.inputs.tags import Span

RELATED_FILE, UNRELATED_FILE = "DRUG-AE.rel", "ADE-NEG.txt"
RELATED = "ADE"
_WORD = re.compile(r"\w+")
_SHORT = 4  # letters; abbreviations shorter than that are words too: 'sp', 'pan', 'hat'


class Names(NamedTuple):
    """Names of drugs and of effects, as they were annotated."""

    drugs: frozenset[str]
    effects: frozenset[str]


@dataclass
class Sentence:
    """A sentence of an abstract with its annotated pairs (drug, effect)."""

    document: str
    text: str
    related: set[tuple[Span, Span]] = field(default_factory=set)


class _Line(NamedTuple):
    number: int
    effect: tuple[str, int]  # with where it begins in the abstract
    drug: tuple[str, int]


def convert(
    directory: Path, split_percent: Sequence[int], names_file: Path | None, reading: Reading
) -> dict[str, list[common.Record]]:
    """Pairs of each side, split by a hash of the PMID in the given percentages.

    `names_file`: an earlier conversion's training file, to take the names of drugs and effects from instead of this
    one's training side. Raises `UserError` where there is neither.
    """
    sentences = [*_annotated(directory / RELATED_FILE, reading), *_unannotated(directory / UNRELATED_FILE, reading)]
    sides: list[list[Sentence]] = [[] for _ in split_percent]
    for sentence in sentences:
        sides[common.split(sentence.document, split_percent)].append(sentence)
    known = _read_names(names_file) if names_file else _names(sides[0])
    if not known.drugs or not known.effects:
        raise UserError(
            "--split_percent: expected a training split to read names of drugs and effects from, found none: give it "
            "documents, or --names=TRAIN.jsonl of an earlier conversion"
        )
    both = {name.lower() for name in known.drugs} & {name.lower() for name in known.effects}
    drugs, effects = ({name for name in names if name.lower() not in both} for names in known)
    finders = _Finder(drugs, "DRUG"), _Finder(effects, "EFFECT")
    return {name: list(_pairs(side, finders)) for name, side in zip(common.SPLITS, sides, strict=True) if side}


def _annotated(path: Path, reading: Reading) -> Iterator[Sentence]:
    by_sentence: dict[tuple[str, str], list[_Line]] = defaultdict(list)
    with reading.opened(path, newline="\n") as file:
        for number, row in enumerate(file, start=1):
            # A sentence may hold a '|' itself.
            before, *fields = row.rstrip("\r\n").rsplit("|", 6)
            document, _, text = before.partition("|")
            offsets = [fields[number] for number in (1, 2, 4, 5)] if len(fields) == 6 else []
            if not row.strip():
                continue
            if not offsets or not record_files.is_text(row) or not text or not all(o.isdecimal() for o in offsets):
                reading.found(path, number, "expected PMID|sentence|effect|begin|end|drug|begin|end, found otherwise")
                continue
            line = _Line(number, (fields[0], int(fields[1])), (fields[3], int(fields[4])))
            by_sentence[document, text].append(line)
    for (document, text), lines in by_sentence.items():
        start = _start(text, lines)
        sentence = Sentence(document, text)
        for line in lines:
            (effect, begin), (drug, drug_begin) = line.effect, line.drug
            spans = None
            if start is not None:
                spans = _placed(text, drug, drug_begin - start, "DRUG"), _placed(text, effect, begin - start, "EFFECT")
            if spans is None or None in spans:
                reading.found(path, line.number, "expected effect and drug in the sentence once, found otherwise")
            else:
                sentence.related.add(spans)  # type: ignore[arg-type]
        if sentence.related:
            yield sentence


def _start(text: str, lines: Sequence[_Line]) -> int | None:
    """Where the sentence begins in its abstract: where most of its mentions say so; None where that is undecided."""
    votes: Counter[int] = Counter()
    for mention, begin in {mention for line in lines for mention in (line.effect, line.drug)}:
        votes.update(begin - match.start() for match in re.finditer(f"(?={re.escape(mention)})", text))
    best = votes.most_common(2)
    return best[0][0] if best and (len(best) == 1 or best[0][1] > best[1][1]) else None


def _placed(text: str, mention: str, start: int, label: str) -> Span | None:
    end = start + len(mention)
    return Span(start, end, label) if start >= 0 and mention and text[start:end] == mention else None


def _unannotated(path: Path, reading: Reading) -> Iterator[Sentence]:
    seen = set()
    with reading.opened(path, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            document, _, rest = line.rstrip("\r\n").partition(" NEG ")
            if not line.strip():
                continue
            if not record_files.is_text(rest) or not document.isdecimal():
                reading.found(path, number, "expected 'PMID NEG sentence', found otherwise")
            elif (document, rest) not in seen:
                seen.add((document, rest))
                yield Sentence(document, rest)


def _names(sentences: Iterable[Sentence]) -> Names:
    related = [(sentence.text, pair) for sentence in sentences for pair in sentence.related]
    drugs, effects = (frozenset(text[p[n].start : p[n].end] for text, p in related) for n in (0, 1))
    return Names(drugs, effects)


def _read_names(path: Path) -> Names:
    sentences = []
    try:
        with Reading().opened(path, newline="\n") as file:
            for record in map(json.loads, file):
                head, tail = (Span(record[n]["start"], record[n]["end"], "") for n in ("head", "tail"))
                if record["label"] == RELATED:
                    sentences.append(Sentence("", record["text"], {(head, tail)}))
    except (ValueError, TypeError, KeyError):  # what they say may quote the text
        raise UserError(
            f"--names: expected the training file of an earlier conversion, found another in {path}"
        ) from None
    return _names(sentences)


class _Finder:
    """Finds names that stand in a text as whole words, the longest where several begin at one offset."""

    def __init__(self, names: Iterable[str], label: str) -> None:
        self.label = label
        self._by_first_word: dict[str, list[str]] = defaultdict(list)
        for name in sorted(names, key=len, reverse=True):
            if first := _WORD.match(name):
                self._by_first_word[first[0].lower()].append(name)

    def spans(self, text: str) -> Iterator[Span]:
        """From left to right, without overlap."""
        done = 0
        for word in _WORD.finditer(text):
            start = word.start()
            if start < done:
                continue
            for name in self._by_first_word.get(word[0].lower(), ()):
                end = start + len(name)
                there = text[start:end]
                same = there == name if len(name) < _SHORT else there.lower() == name.lower()
                if same and not _WORD.match(text, end):
                    yield Span(start, end, self.label)
                    done = end
                    break


def _pairs(sentences: Iterable[Sentence], finders: Sequence[_Finder]) -> Iterator[common.Record]:
    numbers: Counter[str] = Counter()  # of pairs in each document
    for sentence in sentences:
        text, annotated = sentence.text, [span for pair in sentence.related for span in pair]
        drugs, effects = (
            sorted({span for span in annotated if span.label == finder.label} | _others(text, annotated, finder))
            for finder in finders
        )
        read_alike = {_words(text, pair) for pair in sentence.related}
        for drug in drugs:
            for effect in effects:
                related = (drug, effect) in sentence.related
                overlap = drug.start < effect.end and effect.start < drug.end
                if not related and (overlap or _words(text, (drug, effect)) in read_alike):
                    continue
                numbers[sentence.document] += 1
                id_ = f"{sentence.document}.{numbers[sentence.document]}"
                label = RELATED if related else common.NEGATIVE
                yield common.pair(id_, sentence.document, text, drug, effect, label)


def _others(text: str, annotated: Sequence[Span], finder: _Finder) -> set[Span]:
    """Names that stand in a sentence without being annotated there, nor what they say elsewhere in it."""
    words = {text[span.start : span.end].lower() for span in annotated}
    found = {span for span in finder.spans(text) if text[span.start : span.end].lower() not in words}
    return {one for one in found if all(one.end <= other.start or other.end <= one.start for other in annotated)}


def _words(text: str, pair: tuple[Span, Span]) -> tuple[str, ...]:
    return tuple(text[span.start : span.end].lower() for span in pair)
