"""The formats and corpora that are read as standoff documents, each with its reader and its writer. Loads no JAX."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from clinicalbert_jax.finetune.convert.corpora import i2b2_2010
from clinicalbert_jax.finetune.convert.formats import bioc, brat, conll, doccano, inline_xml, pubtator
from clinicalbert_jax.finetune.convert.standoff import Document


@dataclass(frozen=True)
class Source:
    """How a corpus is read and written back, and what suits it.

    `directory`: whether it has a file a document. `pairs`: of relations, see `policies`. `line_sentences`: whether a
    line end ends a sentence.
    """

    read: Callable[..., Iterable[Document]]  # of the members and the ledger
    write: Callable[[Sequence[Document]], Mapping[str, str]]
    directory: bool = False
    pairs: str = "sentence"
    line_sentences: bool = False


SOURCES = {
    "brat": Source(brat.read, brat.write, directory=True),
    "bioc": Source(bioc.read, bioc.write, pairs="document"),
    "pubtator": Source(pubtator.read, pubtator.write, pairs="document"),
    "doccano": Source(doccano.read, doccano.write),
    "conll": Source(conll.read, conll.write),
    "i2b2_2010": Source(i2b2_2010.read, i2b2_2010.write, directory=True, line_sentences=True),
    "inline_xml": Source(inline_xml.read, inline_xml.write, directory=True),
}
