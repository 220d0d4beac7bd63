"""MADE 1.0 (Jagannatha et al., 2019): notes of 21 patients, entities and relations in BioC XML.

A note's text is in its BioC file or, where that has none, in a file of its name without suffix
(`corpus/1_12`, `annotations/1_12.bioc.xml`). Before the underscore is the patient. Relations have the roles
`annotation 1` and `annotation 2`.
"""

from collections.abc import Iterator, Mapping, Sequence

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.formats import bioc
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.standoff import Document

_END = ".bioc.xml"


def read(members: Sequence[Member], ledger: Ledger) -> Iterator[Document]:
    """The notes; raises `UserError` where there are none, and for a note without a text (a bad record)."""
    files = [member for member in members if member.name.endswith(_END)]
    if not files:
        raise UserError(f"--input: expected NOTE{_END} files (MADE), found none among {len(members):,} files")
    texts: dict[str, list[Member]] = {}
    for member in members:
        if not member.name.endswith(_END) and "." not in member.name.rsplit("/", 1)[-1]:
            texts.setdefault(member.name.rsplit("/", 1)[-1], []).append(member)
    for member in files:
        name = member.name.rsplit("/", 1)[-1].removesuffix(_END)
        of_name = texts.pop(name, [])
        if len(of_name) > 1:
            ledger["documents"].found()
            problem = f"expected one text of the note's name, found {len(of_name)}"
            ledger.bad("documents", member.where, 1, problem)
            continue
        text = of_name[0].text(ledger.reading) if of_name else None
        for document in bioc.read([member], ledger, text=text):
            document.id, document.split = name, member.split
            document.patient = name.partition("_")[0] if "_" in name else ""
            yield document
    for left in texts.values():
        ledger["documents"].found()
        ledger.bad("documents", left[0].where, 1, f"expected a file of its name ending in {_END}, found none")


def write(documents: Sequence[Document]) -> Mapping[str, str]:
    """A BioC file a note."""
    return {f"{document.id}{_END}": text for document in documents for text in bioc.write([document]).values()}
