"""XML of i2b2 since 2012: `<TEXT>` (mostly CDATA), then `<TAGS>` with an element an annotation.

`start` and `end` count characters of the text, end exclusive; where the quoted `text` is a few characters off, as in
2012, it is searched there. What else an element says is kept. Written back with the text in CDATA.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element
from xml.sax.saxutils import quoteattr

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.formats import xml
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.standoff import Document, Entity

TAG = "tag"  # the element of an annotation
_OWN = ("id", "start", "end", "text")


def read(
    members: Sequence[Member],
    ledger: Ledger,
    corpus: str,
    roots: Sequence[str],
    add: Callable[[Document, Element, int, Ledger], None],
) -> Iterator[Document]:
    """The documents of all .xml files; `add` adds what an element of TAGS on a line says.

    Raises `UserError` where there is none, or one has another root or no text.
    """
    files = [member for member in members if member.suffix == ".xml"]
    if not files:
        raise UserError(f"--input: expected .xml files ({corpus}), found none among {len(members):,} files")
    for member in files:
        parsed = xml.parse(member, ledger)
        if not parsed:
            continue
        text, tags = parsed.root.find("TEXT"), parsed.root.find("TAGS")
        if parsed.root.tag not in roots or text is None or tags is None or len(text):
            raise UserError(
                f"{member.where}, line 1: expected <{roots[0]}> with TEXT and TAGS ({corpus}), found other XML"
            )
        document = Document(member.stem, text.text or "", member.where, split=member.split)
        document.extra["root"] = parsed.root.tag
        for element in tags:
            add(document, element, parsed.line(element), ledger)
        yield document


def add_entity(document: Document, element: Element, line: int, label: str, ledger: Ledger) -> None:
    """Add an element with start, end and text as an entity."""
    ledger["entities"].found()
    start, end = element.get("start", ""), element.get("end", "")
    if not start.isdecimal() or not end.isdecimal():
        problem = "expected whole numbers as start and end of a tag, found otherwise"
        ledger.bad("entities", document.file, line, problem)
        return
    extra = {TAG: element.tag, **{name: value for name, value in element.attrib.items() if name not in _OWN}}
    id_ = element.get("id") or f"{element.tag}{line}"
    document.entities.append(Entity(id_, ((int(start), int(end)),), label, element.get("text"), extra=extra, line=line))


def write(
    documents: Sequence[Document], root: str, tag_of: Callable[[Entity], tuple[str, dict[str, str]]]
) -> Mapping[str, str]:
    """A file a document; `tag_of` an entity that was predicted is its element and attributes."""
    files = {}
    for document in documents:
        lines = []
        for one in document.entities:
            tag, attributes = tag_of(one) if TAG not in one.extra else (one.extra[TAG], dict(one.extra))
            attributes.pop(TAG, None)
            place = {"id": one.id, "start": str(one.start), "end": str(one.end), "text": one.text_in(document.text)}
            lines.append(element_line(tag, place | attributes))
        lines += document.others
        files[f"{document.id}.xml"] = file(document, document.extra.get("root", root), lines)
    return files


def file(document: Document, root: str, lines: Sequence[str]) -> str:
    """The content of a file."""
    text = document.text.replace("]]>", "]]]]><![CDATA[>")
    tags = "".join(f"{line}\n" for line in lines)
    start = f'<?xml version="1.0" encoding="UTF-8" ?>\n<{root}>\n'
    return f"{start}<TEXT><![CDATA[{text}]]></TEXT>\n<TAGS>\n{tags}</TAGS>\n</{root}>\n"


def element_line(tag: str, attributes: Mapping[str, str]) -> str:
    """An empty element; line ends in values are kept by their numbers."""
    given = (f"{name}={quoteattr(value, _KEPT)}" for name, value in attributes.items())
    return f"<{tag} {' '.join(given)} />"


_KEPT = {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
