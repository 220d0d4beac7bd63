"""BRAT standoff (brat.nlplab.org/standoff.html): for each text NAME.txt its annotations NAME.ann.

T entities, of several parts where `10 14;20 25`; R relations; E events, which become relations of their trigger with
each argument; A and M attributes. Notes (#), normalisations (N) and equivalences (*) are kept for the way back.
A type may hold spaces. Offsets count characters of the .txt as it stands, or, where more of the quoted texts are at
their offsets then, without a byte-order mark or with `\\r\\n` as one character. A .txt without .ann has no annotations.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert import settle
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.standoff import Argument, Attribute, Document, Entity, Relation

EVENT = {"brat": "event"}  # what tells an event from a relation
TRIGGER = "trigger"
_ENTITY = re.compile(r"(T\S*)\t(\S(?:.*?\S)?) (\d+ \d+(?:;\d+ \d+)*)\t(.*)")
_RELATION = re.compile(r"(R\S*)\t(\S+)((?: \S+:\S+){2})\s*")
_EVENT = re.compile(r"(E\S*)\t([^\s:]+):(\S+)((?: \S+:\S+)*)\s*")
_ATTRIBUTE = re.compile(r"([AM]\S*)\t(\S(?:.*?\S)?) ([TRE]\d+)(?: (.*\S))?\s*")
_KINDS = {"T": "entities", "R": "relations", "E": "relations", "A": "attributes", "M": "attributes"}
_OTHERS = "#N*"


def read(members: Sequence[Member], ledger: Ledger, annotated_all: bool = False) -> Iterator[Document]:
    """The documents of a BRAT collection; with `annotated_all` a text without annotations is a bad record.

    Raises `UserError` where there is no .ann file, and for bad records.
    """
    texts = {member.name.removesuffix(".txt"): member for member in members if member.name.endswith(".txt")}
    annotations = {member.name.removesuffix(".ann"): member for member in members if member.name.endswith(".ann")}
    if not annotations:
        raise UserError(f"--input: expected NAME.txt and NAME.ann files (BRAT), found {len(texts):,} .txt, no .ann")
    for name, member in annotations.items():
        if name not in texts:
            ledger["documents"].found()
            ledger.bad("documents", member.where, 1, "expected a .txt of the same name beside the .ann, found none")
    for name, member in texts.items():
        there = annotations.get(name)
        if there is None and annotated_all:
            ledger["documents"].found()
            ledger.bad("documents", member.where, 1, "expected an .ann of the same name beside the .txt, found none")
            continue
        if there is None:
            ledger["documents"].noted("a .txt without .ann: no annotations")
        document = Document(name, member.text(ledger.reading), (there or member).where, split=member.split)
        for number, line in enumerate(there.lines(ledger.reading) if there else (), start=1):
            if line.strip():
                _annotation(document, number, line, ledger)
        _choose_text(document, ledger)
        yield document


def _choose_text(document: Document, ledger: Ledger) -> None:
    """Take the text that the offsets count in, of those that differ by what editors and downloads change."""
    text = document.text
    ledger["texts"].found()
    one_character = text.replace("\r\n", "\n")
    others = {
        "without its byte-order mark, as the quoted texts say": text.removeprefix("\ufeff"),
        "line ends as one character, as the quoted texts say": one_character,
        "line ends as one character, no byte-order mark, as the quoted texts say": one_character.removeprefix("\ufeff"),
    }
    best, rules = _agreeing(document, text), []
    for rule, other in others.items():
        if other != text and _agreeing(document, other) > best:
            best, document.text, rules = _agreeing(document, other), other, [rule]
    ledger["texts"].settled(*rules)


def _agreeing(document: Document, text: str) -> int:
    return sum(settle.agreement(entity, text) == "" for entity in document.entities)


def _annotation(document: Document, number: int, line: str, ledger: Ledger) -> None:
    kind = _KINDS.get(line[0], "other lines")
    ledger[kind].found()
    if line[0] in _OTHERS:
        document.others.append(line)
        ledger[kind].as_is()
    elif match := _ENTITY.fullmatch(line):
        id_, label, offsets, quote = match.groups()
        parts = tuple((int(start), int(end)) for start, end in (part.split() for part in offsets.split(";")))
        document.entities.append(Entity(id_, parts, label, quote, line=number))
    elif match := _RELATION.fullmatch(line):
        arguments = tuple(Argument(*pair.split(":", 1)) for pair in match[3].split())
        document.relations.append(Relation(match[1], match[2], arguments, line=number))
    elif match := _EVENT.fullmatch(line):
        arguments = tuple(Argument(*pair.split(":", 1)) for pair in match[4].split())
        arguments = (Argument(TRIGGER, match[3]), *arguments)
        document.relations.append(Relation(match[1], match[2], arguments, extra=dict(EVENT), line=number))
    elif match := _ATTRIBUTE.fullmatch(line):
        document.attributes.append(Attribute(match[1], match[2], match[3], match[4] or "", number))
    else:
        problem = "expected an annotation such as T1<TAB>TYPE START END<TAB>TEXT or R1<TAB>TYPE Arg1:T1 Arg2:T2"
        ledger.bad(kind, document.file, number, f"{problem}, found a line that cannot be read")


def write(documents: Sequence[Document]) -> Mapping[str, str]:
    """For each document NAME.txt, as it was, and NAME.ann. An id that BRAT would not take becomes one."""
    files = {}
    for document in documents:
        files[f"{document.id}.txt"] = document.text
        files[f"{document.id}.ann"] = "".join(f"{line}\n" for line in _lines(document))
    return files


def _lines(document: Document) -> Iterator[str]:
    events = [one for one in document.relations if one.extra == EVENT]
    relations = [one for one in document.relations if one.extra != EVENT]
    renamed = {
        **_ids([one.id for one in document.entities], "T"),
        **_ids([one.id for one in relations], "R"),
        **_ids([one.id for one in events], "E"),
    }
    for entity in document.entities:
        offsets = ";".join(f"{start} {end}" for start, end in entity.parts)
        quote = re.sub(r"[\r\n]", " ", entity.text_in(document.text))
        yield f"{renamed[entity.id]}\t{entity.label} {offsets}\t{quote}"
    for relation in (*relations, *events):
        given = [f"{role}:{renamed.get(target, target)}" for role, target in relation.arguments]
        if relation.extra == EVENT:
            given = [f"{relation.label}:{given[0].split(':', 1)[1]}", *given[1:]]
            yield f"{renamed[relation.id]}\t{' '.join(given)}"
        else:
            yield f"{renamed[relation.id]}\t{relation.label} {' '.join(given)}"
    for attribute, id_ in zip(
        document.attributes, _ids([a.id for a in document.attributes], "A").values(), strict=True
    ):
        target = renamed.get(attribute.target, attribute.target)
        yield f"{id_}\t{attribute.name} {target}" + (f" {attribute.value}" if attribute.value else "")
    yield from document.others


def _ids(ids: Sequence[str], letter: str) -> dict[str, str]:
    """Each id, as it is where it begins with the letter and a number."""
    sound = re.compile(f"{letter}\\d+" if letter != "A" else r"[AM]\d+")
    taken = {id_ for id_ in ids if sound.fullmatch(id_)}
    free = (name for name in (f"{letter}{number}" for number in range(1, 2 * len(ids) + 2)) if name not in taken)
    return {id_: id_ if id_ in taken else next(free) for id_ in ids}
