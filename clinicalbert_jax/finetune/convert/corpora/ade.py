"""The ADE corpus (Gurulingappa et al., 2012): drugs and their adverse effects, in sentences of abstracts.

`DRUG-AE.rel` annotates only pairs that are related: `PMID|sentence|effect|begin|end|drug|begin|end`, with offsets into
the whole abstract; each of its sentences is a document here. `ADE-NEG.txt` has the sentences without such a pair:
`PMID NEG sentence`. Drugs are not annotated in them, so that no task of entities has them.

A classifier of pairs needs pairs that are not related, which the task `relations-with-names` adds:

1. the annotated drugs and effects of a sentence, in pairs that are not annotated;
2. names of drugs and effects that the training side annotates elsewhere, where they stand in a sentence unannotated,
   paired with each other and with the annotated ones. No name is taken from the sentences to be predicted.

A pair with the words of a related pair of the same sentence, at other offsets, is left out: it is neither. A name of
fewer than four letters must have the same capitals, and a name of both a drug and an effect is not used.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert import common, samples, tasks
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.standoff import Argument, Document, Entity, Relation
from clinicalbert_jax.finetune.inputs import record_files
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.inputs.tags import Span

RELATED_FILE, UNRELATED_FILE = "DRUG-AE.rel", "ADE-NEG.txt"
WITH_NAMES = "relations-with-names"
RELATED, DRUG, EFFECT = "ADE", "DRUG", "EFFECT"
_WORD = re.compile(r"\w+")
_SHORT = 4  # letters; abbreviations shorter than that are words too: 'sp', 'pan', 'hat'

Sides = Mapping[str, Sequence[Document]]


class Names(NamedTuple):
    """Names of drugs and of effects, as they were annotated."""

    drugs: frozenset[str]
    effects: frozenset[str]


class _Line(NamedTuple):
    number: int
    effect: tuple[str, int]  # with where it begins in the abstract
    drug: tuple[str, int]


def read(members: Sequence[Member], ledger: Ledger) -> Iterator[Document]:
    """The sentences that have a related pair, those of an abstract in one split; raises `UserError`."""
    for member in samples.parts(members, (RELATED_FILE, UNRELATED_FILE), "the ADE corpus", ledger):
        if member.name.endswith(RELATED_FILE):
            yield from _annotated(member, ledger)
        # The others are read by `unannotated`.


def unannotated(members: Sequence[Member], ledger: Ledger) -> list[Document]:
    """The sentences without a related pair, each once."""
    found: dict[tuple[str, str], Document] = {}
    for member in members:
        if not member.name.endswith(UNRELATED_FILE):
            continue
        for number, line in enumerate(member.lines(ledger.reading), start=1):
            if not line.strip():
                continue
            ledger["sentences without a pair"].found()
            pmid, _, text = line.partition(" NEG ")
            if not record_files.is_text(text) or not pmid.isdecimal():
                problem = "expected 'PMID NEG sentence', found otherwise"
                ledger.bad("sentences without a pair", member.where, number, problem)
            elif (pmid, text) in found:
                ledger["sentences without a pair"].refused("duplicate", member.where, number)
            else:
                ledger["sentences without a pair"].as_is()
                found[pmid, text] = Document(f"{pmid}.n{number}", text, member.where, pmid)
    return [*found.values()]


def with_names(related: Sides, unrelated: Sides, names_file: Path | None) -> dict[str, list[common.Record]]:
    """Pairs of each side, with pairs that are not related.

    `names_file`: the training pairs of an earlier conversion, to take the names of drugs and effects from instead of
    this one's training side. Raises `UserError` where there is neither.
    """
    known = _read_names(names_file) if names_file else _names(related[common.SPLITS[0]])
    if not known.drugs or not known.effects:
        raise UserError(
            "--split_percent: expected a training split to read names of drugs and effects from, found none: give it "
            "documents, or --names=TRAIN.jsonl of an earlier conversion"
        )
    both = {name.lower() for name in known.drugs} & {name.lower() for name in known.effects}
    drugs, effects = ({name for name in names if name.lower() not in both} for names in known)
    finders = _Finder(drugs, DRUG), _Finder(effects, EFFECT)
    return {
        side: [record for document in (*of_side, *unrelated[side]) for record in _pairs(document, finders)]
        for side, of_side in related.items()
    }


def _annotated(member: Member, ledger: Ledger) -> Iterator[Document]:
    by_sentence: dict[tuple[str, str], list[_Line]] = defaultdict(list)
    for number, row in enumerate(member.lines(ledger.reading), start=1):
        if not row.strip():
            continue
        ledger["lines"].found()
        # A sentence may hold a '|' itself.
        before, *fields = row.rsplit("|", 6)
        pmid, _, text = before.partition("|")
        offsets = [fields[number] for number in (1, 2, 4, 5)] if len(fields) == 6 else []
        if not offsets or not record_files.is_text(row) or not text or not all(o.isdecimal() for o in offsets):
            problem = "expected PMID|sentence|effect|begin|end|drug|begin|end, found otherwise"
            ledger.bad("lines", member.where, number, problem)
            continue
        by_sentence[pmid, text].append(_Line(number, (fields[0], int(fields[1])), (fields[3], int(fields[4]))))
    numbers: Counter[str] = Counter()  # of sentences in each abstract
    for (pmid, text), lines in by_sentence.items():
        start = _start(text, lines)
        numbers[pmid] += 1
        document = Document(f"{pmid}.{numbers[pmid]}", text, member.where, pmid)
        ids: dict[Span, str] = {}
        for line in lines:
            (effect, begin), (drug, drug_begin) = line.effect, line.drug
            spans: list[Span | None] = []
            if start is not None:
                spans = [_placed(text, drug, drug_begin - start, DRUG), _placed(text, effect, begin - start, EFFECT)]
            if not spans or None in spans:
                problem = "expected effect and drug in the sentence once, found otherwise"
                ledger.bad("lines", member.where, line.number, problem)
                continue
            ledger["lines"].as_is()
            ends = []
            for span in filter(None, spans):
                if span not in ids:
                    ids[span] = f"T{len(ids) + 1}"
                    ledger["entities"].found()
                    quote = text[span.start : span.end]
                    parts = ((span.start, span.end),)
                    document.entities.append(Entity(ids[span], parts, span.label, quote, line=line.number))
                ends.append(ids[span])
            ledger["relations"].found()
            arguments = Argument("Drug", ends[0]), Argument("Effect", ends[1])
            id_ = f"R{len(document.relations) + 1}"
            document.relations.append(Relation(id_, RELATED, arguments, line=line.number))
        if document.entities:
            yield document


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


def _related(document: Document) -> set[tuple[Span, Span]]:
    """Its related pairs: drug and effect."""
    spans = {one.id: Span(one.start, one.end, one.label) for one in document.entities}
    return {(spans[drug], spans[effect]) for (_, drug), (_, effect) in (one.arguments for one in document.relations)}


def _names(documents: Iterable[Document]) -> Names:
    return _of_pairs((document.text, pair) for document in documents for pair in _related(document))


def _of_pairs(pairs: Iterable[tuple[str, tuple[Span, Span]]]) -> Names:
    names = [tuple(text[span.start : span.end] for span in pair) for text, pair in pairs]
    return Names(frozenset(drug for drug, _ in names), frozenset(effect for _, effect in names))


def _read_names(path: Path) -> Names:
    pairs = []
    try:
        with Reading().opened(path, newline="\n") as file:
            for record in map(json.loads, file):
                head, tail = (Span(record[n]["start"], record[n]["end"], "") for n in ("head", "tail"))
                if record["label"] == RELATED:
                    pairs.append((record["text"], (head, tail)))
    except (ValueError, TypeError, KeyError):  # what they say may quote the text
        raise UserError("--names: expected the training file of an earlier conversion, found another") from None
    return _of_pairs(pairs)


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


def _pairs(document: Document, finders: Sequence[_Finder]) -> Iterator[common.Record]:
    text, related = document.text, _related(document)
    annotated = [span for pair in related for span in pair]
    drugs, effects = (
        sorted({span for span in annotated if span.label == finder.label} | _others(text, annotated, finder))
        for finder in finders
    )
    read_alike = {_words(text, pair) for pair in related}
    number = 0
    for drug in drugs:
        for effect in effects:
            overlap = drug.start < effect.end and effect.start < drug.end
            if (drug, effect) not in related and (overlap or _words(text, (drug, effect)) in read_alike):
                continue
            number += 1
            id_ = f"{document.id}.{number}"
            label = RELATED if (drug, effect) in related else common.NEGATIVE
            yield common.pair(id_, document.id, text, drug, effect, label) | tasks.base(document, id_)


def _others(text: str, annotated: Sequence[Span], finder: _Finder) -> set[Span]:
    """Names that stand in a sentence without being annotated there, nor what they say elsewhere in it."""
    words = {text[span.start : span.end].lower() for span in annotated}
    found = {span for span in finder.spans(text) if text[span.start : span.end].lower() not in words}
    return {one for one in found if all(one.end <= other.start or other.end <= one.start for other in annotated)}


def _words(text: str, pair: tuple[Span, Span]) -> tuple[str, ...]:
    return tuple(text[span.start : span.end].lower() for span in pair)
