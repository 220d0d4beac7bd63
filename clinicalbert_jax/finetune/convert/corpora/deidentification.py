"""i2b2 2006 and 2014 de-identification (Uzuner et al., 2007; Stubbs and Uzuner, 2015).

2014: a file a record, `220-01.xml`, TEXT and TAGS; before the hyphen is the patient. A tag with offsets is an entity of
its TYPE. The second track's tags without offsets (risk factors) are labels of the document: tag, what was found, time.
2006: one file for many records, `<RECORD ID="1"><TEXT>...`, with `<PHI TYPE="DATE">01/01</PHI>/1995` in the text.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from xml.etree.ElementTree import Element
from xml.sax.saxutils import quoteattr

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.formats import inline_xml, text_and_tags, xml
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.standoff import Document, Entity

_ROOTS = ("deIdi2b2", "root")
# The element of each TYPE of 2014; one that is not here has its own name as element.
_TYPES = {
    "NAME": "PATIENT DOCTOR USERNAME",
    "LOCATION": "HOSPITAL ORGANIZATION STREET CITY STATE COUNTRY ZIP LOCATION-OTHER",
    "CONTACT": "PHONE FAX EMAIL URL IPADDR",
    "ID": "SSN MEDICALRECORD HEALTHPLAN ACCOUNT LICENSE VEHICLE DEVICE BIOID IDNUM",
}
_TAG_OF = {label: tag for tag, labels in _TYPES.items() for label in labels.split()}


def read_2014(members: Sequence[Member], ledger: Ledger) -> Iterator[Document]:
    """The records of 2014; raises `UserError` for other files."""
    for document in text_and_tags.read(members, ledger, "i2b2 2014", _ROOTS, _add):
        patient, hyphen, _ = document.id.partition("-")
        if hyphen:
            document.patient = patient
        else:
            ledger["documents"].noted("a file name without a patient's number before a hyphen")
        yield document


def _add(document: Document, element: Element, line: int, ledger: Ledger) -> None:
    if "start" in element.attrib:
        text_and_tags.add_entity(document, element, line, element.get("TYPE") or element.tag, ledger)
        return
    said = (f"{key}={value}" for key, value in element.attrib.items() if key not in ("id", "comment") and value)
    name = f"{element.tag}: {', '.join(said)}"
    ledger["document tags"].found()
    if name in document.labels:
        ledger["document tags"].refused("duplicate", document.file, line)
    else:
        ledger["document tags"].as_is()
        ledger["document labels"].found()
        document.labels[name] = True


def write_2014(documents: Sequence[Document]) -> Mapping[str, str]:
    """A file a record; a label is the element that it was."""
    return text_and_tags.write([replace(one, others=_label_lines(one)) for one in documents], _ROOTS[0], _tag_of)


def _label_lines(document: Document) -> list[str]:
    lines = []
    for number, name in enumerate((name for name, holds in document.labels.items() if holds), start=1):
        tag, _, said = name.partition(": ")
        attributes = dict(pair.split("=", 1) for pair in said.split(", ") if pair)
        lines.append(text_and_tags.element_line(tag, {"id": f"DOC{number}", **attributes}))
    return lines


def _tag_of(entity: Entity) -> tuple[str, dict[str, str]]:
    return _TAG_OF.get(entity.label, entity.label), {"TYPE": entity.label, "comment": ""}


def read_2006(members: Sequence[Member], ledger: Ledger) -> Iterator[Document]:
    """The records of 2006; raises `UserError` where no file has any."""
    files = [member for member in members if member.suffix == ".xml"]
    if not files:
        raise UserError(f"--input: expected .xml files (i2b2 2006), found none among {len(members):,} files")
    for member in files:
        parsed = xml.parse(member, ledger)
        if not parsed:
            continue
        records = parsed.root.findall("RECORD")
        if parsed.root.tag != "ROOT" or not records:
            raise UserError(f"{member.where}, line 1: expected <ROOT> with RECORDs (i2b2 2006), found other XML")
        for record in records:
            text = record.find("TEXT")
            id_ = record.get("ID", "").strip()
            if text is None or not id_:
                ledger["documents"].found()
                problem = "expected a RECORD with an ID and a TEXT, found otherwise"
                ledger.bad("documents", member.where, parsed.line(record), problem)
                continue
            document = Document(id_, "", member.where, split=member.split_of_file)
            inline_xml.add(document, text, parsed, ledger)
            yield document


def write_2006(documents: Sequence[Document]) -> Mapping[str, str]:
    """One file."""
    records = (
        f"<RECORD ID={quoteattr(document.id)}>\n<TEXT>{inline_xml.tagged(document)}</TEXT>\n</RECORD>\n"
        for document in documents
    )
    return {".i2b2_2006.xml": f'<?xml version="1.0" encoding="UTF-8"?>\n<ROOT>\n{"".join(records)}</ROOT>\n'}
