"""n2c2 2018: track 1, which patients meet the criteria of a trial; track 2, drugs and adverse events.

Track 1 (Stubbs et al., 2019): an XML file a patient, TEXT and TAGS with `<ABDOMINAL met="not met" />`: a
document's labels are those that are met. Track 2 (Henry et al., 2020): BRAT; there a text without annotations is a bad
record.
"""

from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.formats import brat, text_and_tags
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.standoff import Document

_ROOT = "PatientMatching"
_MET = {"met": True, "not met": False}
_TYPES = {"Drug", "Strength", "Form", "Dosage", "Frequency", "Route", "Duration", "Reason", "ADE"}


def read_track_1(members: Sequence[Member], ledger: Ledger) -> Iterator[Document]:
    """The patients; raises `UserError` for other files."""
    for document in text_and_tags.read(members, ledger, "n2c2 2018 track 1", [_ROOT], _add):
        document.patient = document.id
        yield document


def _add(document: Document, element: Element, line: int, ledger: Ledger) -> None:
    ledger["document labels"].found()
    met = _MET.get(element.get("met", ""))
    if met is None or element.tag in document.labels:
        problem = 'expected each criterion once with met="met" or met="not met", found otherwise'
        ledger.bad("document labels", document.file, line, problem)
    else:
        document.labels[element.tag] = met


def write_track_1(documents: Sequence[Document]) -> Mapping[str, str]:
    """A file a patient."""
    said = {value: name for name, value in _MET.items()}
    files = {}
    for document in documents:
        lines = [text_and_tags.element_line(name, {"met": said[met]}) for name, met in document.labels.items()]
        files[f"{document.id}.xml"] = text_and_tags.file(document, _ROOT, lines)
    return files


def read_track_2(members: Sequence[Member], ledger: Ledger) -> Iterator[Document]:
    """The discharge summaries; raises `UserError` for BRAT files with other types."""
    for document in brat.read(members, ledger, annotated_all=True):
        for entity in document.entities:
            if entity.label not in _TYPES:
                raise UserError(
                    f"{document.file}, line {entity.line}: expected one of the {len(_TYPES)} types of n2c2 2018 "
                    "(Drug, ADE, ...), found another: --corpus=brat reads any"
                )
        document.id = document.id.rsplit("/", 1)[-1]
        yield document
