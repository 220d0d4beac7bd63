"""BC5CDR (Li et al., 2016) and the NCBI disease corpus (Dogan et al., 2014) as published, both PubTator.

BC5CDR comes as PubTator and as BioC of the same: one of them is read, PubTator where both are there. Its archive also
holds what two taggers (DNorm, tmChem) found in the test texts, which is no annotation and passed over.
"""

from collections.abc import Iterator, Sequence

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.formats import bioc, pubtator
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.standoff import Document

_TAGGERS = ("dnorm", "tmchem")
_CDR_TYPES = {"Chemical", "Disease"}
_NCBI_TYPES = {"SpecificDisease", "DiseaseClass", "Modifier", "CompositeMention", "Disease"}


def read_bc5cdr(members: Sequence[Member], ledger: Ledger) -> Iterator[Document]:
    """The abstracts of all sets there; raises `UserError` for other files."""
    files = [member for member in members if not any(name in member.name.lower() for name in _TAGGERS)]
    ledger["documents"].noted("files of what taggers found, passed over", len(members) - len(files))
    in_bioc = [member for member in files if member.suffix == ".xml"]
    others = [member for member in files if member.suffix != ".xml"]
    if any(".pubtator" in member.name.lower() or b"|t|" in member.data[:4096] for member in others):
        ledger["documents"].noted("files of the same in BioC, passed over", len(in_bioc))
        yield from _checked(pubtator.read(others, ledger), _CDR_TYPES, "BC5CDR (Chemical, Disease)")
    else:
        yield from _checked(bioc.read(in_bioc, ledger), _CDR_TYPES, "BC5CDR (Chemical, Disease)")


def read_ncbi(members: Sequence[Member], ledger: Ledger) -> Iterator[Document]:
    """The abstracts of all sets there; raises `UserError` for other files."""
    yield from _checked(pubtator.read(members, ledger), _NCBI_TYPES, "the NCBI disease corpus (SpecificDisease, ...)")


def _checked(documents: Iterator[Document], types: set[str], corpus: str) -> Iterator[Document]:
    for document in documents:
        for entity in document.entities:
            if entity.label not in types:
                raise UserError(
                    f"{document.file}, line {entity.line}: expected the types of {corpus}, found another: "
                    "--corpus=pubtator or bioc reads any"
                )
        yield document
