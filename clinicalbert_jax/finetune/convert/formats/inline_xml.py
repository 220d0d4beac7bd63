"""Texts with their annotations as tags in them: `<PHI TYPE="DATE">01/01</PHI>/1995`, or `<DATE>01/01</DATE>/1995`.

One document a file, with or without an element around the whole. An element's type is its attribute TYPE or type, else
its name. As in all XML, line ends become line feeds and `&lt;` is one character; offsets count in that text.
"""

from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.formats import xml
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.standoff import Document, Entity

_TYPES = ("TYPE", "type")
_TAG = "tag"  # an entity's element
_ROOT = "document"
_OTHERS = ("collection", "ROOT")  # of BioC and i2b2 2006, whose text is not all text
_SUFFIXES = (".xml", ".sgml", ".sgm", ".txt", ".tagged")


def read(members: Sequence[Member], ledger: Ledger) -> Iterator[Document]:
    """The documents; raises `UserError` where there is no file of a fitting suffix, and for what is not well formed."""
    files = [member for member in members if member.suffix in _SUFFIXES]
    if not files:
        kinds = ", ".join(_SUFFIXES)
        raise UserError(f"--input: expected texts with tags ({kinds}), found none among {len(members):,} files")
    found = 0
    for member in files:
        text = member.text(ledger.reading).removeprefix("\ufeff")
        whole = text.lstrip().startswith("<?xml")
        data = text if whole else f"<{_ROOT}>{text}</{_ROOT}>"
        parsed = xml.parse(member, ledger, data.encode())
        if not parsed:
            continue
        root = parsed.root
        alone = len(root) == 1 and not (root.text or "").strip() and not (root[0].tail or "").strip()
        if not whole and alone and (len(root[0]) or root[0].tag == _ROOT):
            root = root[0]  # an element around the whole
        if root.tag in _OTHERS or root.find("TEXT") is not None:
            raise UserError(f"{member.where}, line 1: expected a text with tags in it, found XML of another corpus")
        found += len(parsed.root)
        document = Document(member.name.rsplit(".", 1)[0], "", member.where, split=member.split)
        add(document, root, parsed, ledger)
        yield document
    if not found:
        raise UserError(f"--input: expected texts with tags in them, found {len(files):,} files without a tag")


def add(document: Document, element: Element, parsed: xml.Parsed, ledger: Ledger) -> None:
    """Add the text of an element to the document, and each element inside it as an entity."""
    document.text += element.text or ""
    for inner in element:
        start = len(document.text)
        place = len(document.entities)
        add(document, inner, parsed, ledger)
        ledger["entities"].found()
        if len(document.text) > start:
            label = next((inner.attrib[name] for name in _TYPES if inner.attrib.get(name, "").strip()), inner.tag)
            entity = Entity("", ((start, len(document.text)),), label, line=parsed.line(inner))
            entity.extra = {**inner.attrib, _TAG: inner.tag}
            document.entities.insert(place, entity)
        else:
            ledger["entities"].refused("an element without text", document.file, parsed.line(inner))
        document.text += inner.tail or ""
    for number, entity in enumerate(document.entities, start=1):
        entity.id = str(number)


def write(documents: Sequence[Document]) -> Mapping[str, str]:
    """A file a document, with an element around the whole."""
    return {f"{document.id}.xml": f"<{_ROOT}>{tagged(document)}</{_ROOT}>" for document in documents}


def tagged(document: Document) -> str:
    """The text with its entities as elements. Raises `ValueError` where two cross."""
    # At one offset ends come first, inner ones before outer; of two that begin there, the longer first.
    events = []
    for order, entity in enumerate(document.entities):
        events.append((entity.start, 1, -entity.end, order, entity))
        events.append((entity.end, 0, -entity.start, -order, entity))
    text, at, open_ = "", 0, []
    for offset, begins, _, _, entity in sorted(events, key=lambda event: event[:4]):
        text += escape(document.text[at:offset])
        at = offset
        if begins:
            open_.append(entity)
            given = {name: value for name, value in entity.extra.items() if name != _TAG}
            given = given if _TAG in entity.extra else {"TYPE": entity.label}
            attributes = "".join(f" {name}={quoteattr(value)}" for name, value in given.items())
            text += f"<{entity.extra.get(_TAG, 'PHI')}{attributes}>"
        else:
            if open_.pop() is not entity:
                raise ValueError("entities that cross")
            text += f"</{entity.extra.get(_TAG, 'PHI')}>"
    return text + escape(document.text[at:])
