"""BioC XML (Comeau et al., 2013): collections of documents of passages, annotations by locations, relations by nodes.

A document's text is its passages, or their sentences, at their offsets, with spaces between; or with one space
between, where more of the quoted texts are at their offsets then (BC5CDR counts so in five of fifty documents). An
annotation's type is the infon `type`, unless another is named; one without becomes `Entity`. A relation without nodes
that names concepts (BC5CDR: `Chemical`, `Disease`) is one of concepts. On the way back sentences become passages.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from xml.etree.ElementTree import Element, SubElement

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.formats import xml
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.standoff import Argument, Document, Entity, Passage, Relation
from clinicalbert_jax.finetune.inputs.tags import UNTYPED

_CONCEPTS = ("MESH", "OMIM", "identifier", "Identifier", "CUI")
_RELATION_TYPES = ("relation", "type")
_SPACED = "offset: one space after the passage before, as the quoted texts say"
_NOTE = "relations without a type: read as Relation"


def read(
    members: Sequence[Member], ledger: Ledger, type_infon: str = "type", text: str | None = None
) -> Iterator[Document]:
    """The documents of all BioC files among `members`; raises `UserError` where there is none.

    `text` is that of a document whose passages have none.
    """
    files = [member for member in members if member.suffix in (".xml", ".bioc")]
    if not files:
        raise UserError(f"--input: expected BioC files ending in .xml, found none among {len(members):,} files")
    for member in files:
        parsed = xml.parse(member, ledger)
        if not parsed:
            continue
        if parsed.root.tag != "collection":
            raise UserError(f"{member.where}, line 1: expected a BioC <collection>, found another element")
        for number, element in enumerate(parsed.root.iter("document"), start=1):
            document = _document(element, number, member, parsed, ledger, type_infon, text)
            if document:
                yield document


def _document(
    element: Element,
    number: int,
    member: Member,
    parsed: xml.Parsed,
    ledger: Ledger,
    type_infon: str,
    text_beside: str | None,
) -> Document | None:
    id_ = (element.findtext("id") or "").strip() or f"{member.stem}.{number}"
    parts = [part for passage in element.iter("passage") for part in passage.findall("sentence") or [passage]]
    offsets = [(part.findtext("offset") or "").strip() for part in parts]
    bodies = [part.findtext("text") or "" for part in parts]
    if text_beside is not None and len(parts) == 1 and not bodies[0]:
        bodies = [text_beside]
    problem = "expected passages with offsets in order and without overlap, found otherwise"
    ledger["passages"].found(len(parts))
    starts = [int(offset) for offset in offsets if offset.isdecimal()]
    ends = [start + len(body) for start, body in zip(starts, bodies, strict=False)]
    if not parts or len(starts) < len(parts) or any(map(int.__gt__, ends, starts[1:])):
        ledger["passages"].refused("of a document that cannot be read", member.where, number=len(parts))
        ledger["documents"].found()
        ledger.bad("documents", member.where, parsed.line(element), problem)
        return None
    spaced = list(accumulate(bodies[:-1], lambda start, body: start + len(body) + 1, initial=starts[0]))
    best = max((starts, spaced), key=lambda one: _agreement(element, one, bodies))
    moved = sum(map(int.__ne__, starts, best))
    ledger["passages"].as_is(len(parts) - moved)
    if moved:
        ledger["passages"].repaired(_SPACED, number=moved)
    first, text = best[0], _text(best, bodies)
    passages = [
        Passage(start - first, start - first + len(body), infons)
        for start, body, infons in zip(best, bodies, _infons_of_parts(element), strict=True)
    ]
    document = Document(
        id_,
        text,
        member.where,
        split=member.split_of_file,
        passages=tuple(passages),
        first_offset=first,
        extra=_infons(element),
    )
    ids = {one.get("id") for one in element.iter("annotation")}
    for one in element.iter("annotation"):
        _annotation(document, one, parsed.line(one), ledger, type_infon)
    for one in element.iter("relation"):
        _relation(document, one, parsed.line(one), ids, ledger)
    return document


def _text(starts: Sequence[int], bodies: Sequence[str]) -> str:
    text = ""
    for start, body in zip(starts, bodies, strict=True):
        text = text.ljust(start - starts[0]) + body
    return text


def _agreement(element: Element, starts: Sequence[int], bodies: Sequence[str]) -> int:
    """How many annotations in one part have their quoted text at their offsets."""
    text, count = _text(starts, bodies), 0
    for one in element.iter("annotation"):
        offset, quote = one.find("location"), one.findtext("text") or ""
        if offset is not None and offset.get("offset", "").isdecimal():
            start = int(offset.get("offset", "")) - starts[0]
            count += bool(quote) and start >= 0 and text[start : start + len(quote)] == quote
    return count


def _infons_of_parts(element: Element) -> Iterator[dict[str, str]]:
    for passage in element.iter("passage"):
        for part in passage.findall("sentence") or [passage]:
            yield _infons(passage) | _infons(part)


def _infons(element: Element) -> dict[str, str]:
    return {one.get("key", ""): one.text or "" for one in element.findall("infon")}


def _annotation(document: Document, element: Element, line: int, ledger: Ledger, type_infon: str) -> None:
    ledger["entities"].found()
    infons = _infons(element)
    locations = [(one.get("offset", ""), one.get("length", "")) for one in element.findall("location")]
    if not locations or not all(re.fullmatch(r"\d+ \d+", f"{start} {length}") for start, length in locations):
        problem = "expected locations with whole numbers as offset and length, found otherwise"
        ledger.bad("entities", document.file, line, problem)
        return
    starts = [(int(start) - document.first_offset, int(length)) for start, length in locations]
    if not infons.get(type_infon):
        ledger["entities"].noted(f"without the type's infon: type {UNTYPED}")
    concepts = tuple(one for name in _CONCEPTS for one in infons.get(name, "").split("|") if one)
    document.entities.append(
        Entity(
            element.get("id") or f"line {line}",
            tuple((start, start + length) for start, length in starts),
            infons.get(type_infon) or UNTYPED,
            element.findtext("text"),
            concepts,
            infons,
            line=line,
        )
    )


def _relation(document: Document, element: Element, line: int, ids: set[str | None], ledger: Ledger) -> None:
    ledger["relations"].found()
    infons = _infons(element)
    key = next((name for name in _RELATION_TYPES if infons.get(name)), "")
    if not key:
        ledger["relations"].noted(_NOTE)
    nodes = tuple(Argument(one.get("role", ""), one.get("refid", "")) for one in element.findall("node"))
    concepts = () if nodes else tuple(Argument(*pair) for pair in infons.items() if pair[0] != key)
    id_ = element.get("id") or f"line {line}"
    label = infons.get(key, "Relation")
    document.relations.append(Relation(id_, label, nodes or concepts, not nodes, infons, line))


def write(documents: Sequence[Document]) -> Mapping[str, str]:
    """One collection. An annotation lies in the passage that holds its start, a relation in its document."""
    collection = Element("collection")
    for name, value in (("source", ""), ("date", ""), ("key", "")):
        SubElement(collection, name).text = value
    for document in documents:
        element = SubElement(collection, "document")
        SubElement(element, "id").text = document.id
        _write_infons(element, document.extra)
        passages = document.passages or (Passage(0, len(document.text), {}),)
        for number, (start, end, extra) in enumerate(passages):
            passage = SubElement(element, "passage")
            _write_infons(passage, extra)
            SubElement(passage, "offset").text = str(start + document.first_offset)
            SubElement(passage, "text").text = document.text[start:end]
            upto = passages[number + 1].start if number + 1 < len(passages) else len(document.text) + 1
            for entity in document.entities:
                if start <= entity.parts[0][0] < upto:
                    _write_entity(passage, document, entity)
        for relation in document.relations:
            one = SubElement(element, "relation", id=relation.id)
            infons = relation.extra or {"type": relation.label}
            if relation.of_concepts and not relation.extra:
                infons = {"relation": relation.label, **dict(relation.arguments)}
            _write_infons(one, infons)
            for role, target in () if relation.of_concepts else relation.arguments:
                SubElement(one, "node", refid=target, role=role)
    return {".BioC.xml": xml.write(collection)}


def _write_infons(element: Element, infons: Mapping[str, str]) -> None:
    for key, value in infons.items():
        SubElement(element, "infon", key=key).text = value


def _write_entity(passage: Element, document: Document, entity: Entity) -> None:
    one = SubElement(passage, "annotation", id=entity.id)
    _write_infons(one, entity.extra or {"type": entity.label})
    for start, end in entity.parts:
        SubElement(one, "location", offset=str(start + document.first_offset), length=str(end - start))
    SubElement(one, "text").text = entity.text_in(document.text)
