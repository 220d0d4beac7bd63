"""The Hallmarks of Cancer corpus (Baker et al., 2016): which of ten hallmarks a sentence of an abstract speaks of.

One abstract a line: `{"pmid": ..., "sentences": [...], "sentence_labels": [...]}`. A sentence's labels are paths in a
taxonomy, such as 'Resisting cell death--Apoptosis', joined by ' AND', mostly without a space after it; the hallmark
is where the path begins. 'NULL' and no label at all say that there is none. The records are those of
`ClassificationConfig(multi_label=True, label_column="labels")`; an abstract's sentences are in one split.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert import samples
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.samples import Sample
from clinicalbert_jax.finetune.inputs import record_files
from clinicalbert_jax.finetune.inputs.reading import BadRecord

SPLIT_PERCENT = (70, 10, 20)
_NONE = ("", "NULL")
_FIELDS = ("pmid", "sentences", "sentence_labels")


def read(members: Sequence[Member], ledger: Ledger) -> Iterator[Sample]:
    """The sentences of every abstract; raises `UserError` for another corpus."""
    files = [member for member in members if member.suffix in record_files.JSON]
    if not files:
        raise UserError(f"--input: expected JSON lines (Hallmarks of Cancer), found none among {len(members):,} files")
    for member in files:
        for number, line in enumerate(member.lines(ledger.reading), start=1):
            if not line.strip():
                continue
            ledger["abstracts"].found()
            try:
                abstract = samples.json_object(line, _FIELDS)
                if not _is_usable(abstract):
                    raise BadRecord("expected a PMID, sentences and as many strings of labels, found otherwise")
            except BadRecord as problem:
                ledger.bad("abstracts", member.where, number, str(problem))
                continue
            ledger["abstracts"].as_is()
            pmid = str(abstract["pmid"])
            pairs = zip(abstract["sentences"], abstract["sentence_labels"], strict=True)
            for place, (text, labels) in enumerate(pairs, start=1):
                id_, found = f"{pmid}.{place}", hallmarks(labels)
                ledger["sentences"].found()
                ledger["sentences"].as_is()
                record = {"id": id_, "patient": pmid, "text": text, "labels": found}
                yield Sample(id_, "labels", record, member.where, pmid)


def hallmarks(labels: str) -> list[str]:
    """The hallmarks that a sentence's labels begin with, each once."""
    paths = re.split(r" AND ?", labels)
    return sorted({path.split("--")[0].strip() for path in paths} - set(_NONE))


def _is_usable(abstract: dict[str, Any]) -> bool:
    pmid, sentences, labels = (abstract[name] for name in _FIELDS)
    return (
        isinstance(pmid, str | int)
        and bool(str(pmid).strip())
        and isinstance(sentences, list)
        and isinstance(labels, list)
        and len(sentences) == len(labels)
        and all(map(record_files.is_text, sentences))
        and all(isinstance(label, str) for label in labels)
    )
