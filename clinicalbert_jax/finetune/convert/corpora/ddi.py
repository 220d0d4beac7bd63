"""The DDI corpus (Herrero-Zazo et al., 2013): drugs, and whether two in a sentence interact.

An XML file a document: `<sentence id text>` with `<entity id charOffset type text>` and, for every two of them,
`<pair id e1 e2 ddi type>`. `charOffset` is `10-17`, the end inclusive, with `;` between the parts of a discontinuous
name; offsets count in the sentence. Each sentence is a document here, those of a document are in one split: Train or
Test, by the folders' names. The test set of one task may have sentences of the other's: a sentence that is in two
files is read once, from one with pairs.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.formats import xml
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.standoff import Argument, Document, Entity, Relation

_OFFSETS = re.compile(r"\d+-\d+(?:;\d+-\d+)*")
_TRUTH = {"true": True, "false": False}


def read(members: Sequence[Member], ledger: Ledger) -> Iterator[Document]:
    """The sentences of every document; raises `UserError` for another corpus."""
    files = [member for member in members if member.suffix == ".xml"]
    if not files:
        raise UserError(f"--input: expected .xml files (DDI), found none among {len(members):,} files")
    seen: dict[str, str] = {}
    for member in sorted(files, key=lambda member: b"<pair" not in member.data):  # those with pairs first
        parsed = xml.parse(member, ledger)
        if not parsed:
            continue
        if parsed.root.tag != "document" or parsed.root.find("sentence[@text]") is None:
            raise UserError(f"{member.where}, line 1: expected a <document> of sentences (DDI), found another element")
        for element in parsed.root.iter("sentence"):
            id_, text = element.get("id", ""), element.get("text", "")
            if seen.get(id_) == text:
                ledger["documents"].found()
                ledger["documents"].refused("a sentence that another file has too", member.where, parsed.line(element))
                continue
            seen[id_] = text
            yield _sentence(element, parsed, member, ledger)


def write(documents: Sequence[Document]) -> Mapping[str, str]:
    """What the scorers of the two tasks read, from descriptions: names by sentence and offsets, and pairs of them."""
    names, pairs = [], []
    for document in documents:
        for entity in document.entities:
            offsets = ";".join(f"{start}-{end - 1}" for start, end in entity.parts)
            names.append(f"{document.id}|{offsets}|{entity.text_in(document.text)}|{entity.label}\n")
        for relation in document.relations:
            one, other = (target for _, target in relation.arguments)
            pairs.append(f"{document.id}|{one}|{other}|1|{relation.label}\n")
    return {".ner.txt": "".join(names), ".ddi.txt": "".join(pairs)}


def _sentence(element: Element, parsed: xml.Parsed, member: Member, ledger: Ledger) -> Document:
    id_ = element.get("id", "")
    document = Document(id_, element.get("text", ""), member.where, parsed.root.get("id", ""), member.split)
    for one in element.findall("entity"):
        ledger["entities"].found()
        offsets, line = one.get("charOffset", ""), parsed.line(one)
        if not _OFFSETS.fullmatch(offsets) or not one.get("id") or not one.get("type"):
            ledger.bad("entities", member.where, line, 'expected an id, a type and charOffset="1-5", found otherwise')
            continue
        parts = [tuple(map(int, part.split("-"))) for part in offsets.split(";")]
        spans = tuple((start, end + 1) for start, end in parts)
        document.entities.append(Entity(one.get("id", ""), spans, one.get("type", ""), one.get("text"), line=line))
    for one in element.findall("pair"):
        ledger["pairs"].found()
        line, related = parsed.line(one), _TRUTH.get(one.get("ddi", ""))
        if related is None or not one.get("e1") or not one.get("e2") or (related and not one.get("type")):
            problem = 'expected e1, e2, ddi="true" or "false", and a type where true, found otherwise'
            ledger.bad("pairs", member.where, line, problem)
            continue
        ledger["pairs"].as_is()
        if related:
            ledger["relations"].found()
            ends = Argument("e1", one.get("e1", "")), Argument("e2", one.get("e2", ""))
            id_ = one.get("id") or f"line {line}"
            document.relations.append(Relation(id_, one.get("type", ""), ends, line=line))
    return document
