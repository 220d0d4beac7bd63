"""The formats and corpora by name: those that are standoff documents, with their writers, and the others. No JAX."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.corpora import (
    ade,
    biocreative,
    blinded,
    chemprot,
    ddi,
    deidentification,
    hallmarks,
    i2b2_2010,
    i2b2_2012,
    made,
    n2c2_2018,
    questions,
    sentence_pairs,
)
from clinicalbert_jax.finetune.convert.formats import bioc, brat, conll, doccano, inline_xml, pubtator
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.samples import Sample
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
    "ade": Source(ade.read, brat.write, directory=True, pairs="document"),
    "chemprot": Source(chemprot.read, chemprot.write),
    "ddi": Source(ddi.read, ddi.write, pairs="document"),
}
# Corpora of records that are no annotations beside a text; there is no way back to them.
SAMPLES: dict[str, Callable[[Sequence[Member], Ledger], Iterable[Sample]]] = {
    "gad": blinded.read_gad,
    "blue": blinded.read_blue,
    "hallmarks": hallmarks.read,
    "mednli": sentence_pairs.read_mednli,
    "clinical_sts": sentence_pairs.read_similarity,
    "emrqa": questions.read_emrqa,
    "radqa": questions.read_radqa,
}
