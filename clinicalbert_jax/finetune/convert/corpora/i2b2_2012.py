"""i2b2 2012 temporal relations (Sun et al., 2013): EVENT and TIMEX3 with offsets, TLINK between two of them.

An event's or a time's `type` is that of an entity; `modality` and `polarity` are attributes, and a TLINK's `type` is a
relation. SECTIME is kept for the way back, and so are an entity's tag and what else it says.
"""

from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.formats import text_and_tags
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.standoff import Argument, Attribute, Document, Entity, Relation

_ROOT = "ClinicalNarrativeTemporalAnnotation"
_TIMES = ("DATE", "TIME", "DURATION", "FREQUENCY")
_TAGS, _ATTRIBUTES = ("EVENT", "TIMEX3"), ("modality", "polarity")


def read(members: Sequence[Member], ledger: Ledger) -> Iterator[Document]:
    """The documents; raises `UserError` for other files."""
    for document in text_and_tags.read(members, ledger, "i2b2 2012", [_ROOT], _add):
        document.split = document.split or ("train" if "original-annotation" in document.file else "")
        yield document


def _add(document: Document, element: Element, line: int, ledger: Ledger) -> None:
    if element.tag in _TAGS:
        before = len(document.entities)
        text_and_tags.add_entity(document, element, line, element.get("type") or element.tag, ledger)
        for name in _ATTRIBUTES:
            if element.get(name) and len(document.entities) > before:
                ledger["attributes"].found()
                id_ = f"{document.entities[-1].id}.{name}"
                document.attributes.append(Attribute(id_, name, document.entities[-1].id, element.get(name, ""), line))
    elif element.tag == "TLINK":
        ledger["relations"].found()
        arguments = Argument("from", element.get("fromID", "")), Argument("to", element.get("toID", ""))
        label = element.get("type") or "TLINK"
        document.relations.append(Relation(element.get("id") or f"TL{line}", label, arguments, line=line))
    else:
        ledger["other tags"].found()
        ledger["other tags"].as_is()
        document.others.append(text_and_tags.element_line(element.tag, element.attrib))


def write(documents: Sequence[Document]) -> Mapping[str, str]:
    """A file a document."""
    files = {}
    for document in documents:
        said: dict[str, dict[str, str]] = {}
        for one in document.attributes:
            said.setdefault(one.target, {})[one.name] = one.value
        texts = {entity.id: entity.text_in(document.text) for entity in document.entities}
        lines = []
        for entity in document.entities:
            tag, attributes = _tag_of(entity)
            place = {"id": entity.id, "start": str(entity.start), "end": str(entity.end), "text": texts[entity.id]}
            lines.append(text_and_tags.element_line(tag, place | attributes | said.get(entity.id, {})))
        for relation in document.relations:
            head, tail = (argument.target for argument in relation.arguments)
            link = {"id": relation.id, "fromID": head, "fromText": texts.get(head, ""), "toID": tail}
            link |= {"toText": texts.get(tail, ""), "type": relation.label}
            lines.append(text_and_tags.element_line("TLINK", link))
        files[f"{document.id}.xml"] = text_and_tags.file(document, _ROOT, [*lines, *document.others])
    return files


def _tag_of(entity: Entity) -> tuple[str, dict[str, str]]:
    kept = {name: value for name, value in entity.extra.items() if name != text_and_tags.TAG}
    default = "TIMEX3" if entity.label in _TIMES else "EVENT"
    return entity.extra.get(text_and_tags.TAG, default), kept or {"type": entity.label}
