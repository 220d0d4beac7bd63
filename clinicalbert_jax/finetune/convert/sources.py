"""The formats and corpora that are read as standoff documents, each with its reader and its writer. Loads no JAX."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from clinicalbert_jax.finetune.convert.corpora import (
    biocreative,
    deidentification,
    i2b2_2010,
    i2b2_2012,
    made,
    n2c2_2018,
)
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
    "i2b2_2006": Source(deidentification.read_2006, deidentification.write_2006, line_sentences=True),
    "i2b2_2010": Source(i2b2_2010.read, i2b2_2010.write, directory=True, line_sentences=True),
    "i2b2_2012": Source(i2b2_2012.read, i2b2_2012.write, directory=True, pairs="window", line_sentences=True),
    "i2b2_2014": Source(deidentification.read_2014, deidentification.write_2014, directory=True),
    "n2c2_2018_track1": Source(n2c2_2018.read_track_1, n2c2_2018.write_track_1, directory=True),
    "n2c2_2018_track2": Source(n2c2_2018.read_track_2, brat.write, directory=True, pairs="window"),
    "made": Source(made.read, made.write, directory=True, pairs="window"),
    "bc5cdr": Source(biocreative.read_bc5cdr, pubtator.write, pairs="document"),
    "ncbi_disease": Source(biocreative.read_ncbi, pubtator.write),
    "inline_xml": Source(inline_xml.read, inline_xml.write, directory=True),
}
