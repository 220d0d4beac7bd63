"""The Hallmarks of Cancer corpus (Baker et al., 2016): which of ten hallmarks a sentence of an abstract speaks of.

One abstract a line: `{"pmid": ..., "sentences": [...], "sentence_labels": [...]}`. A sentence's labels are paths in a
taxonomy, such as 'Resisting cell death--Apoptosis', joined by ' AND', mostly without a space after it; the hallmark
is where the path begins. 'NULL' and no label at all say that there is none.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clinicalbert_jax.finetune.convert import common
from clinicalbert_jax.finetune.inputs import record_files
from clinicalbert_jax.finetune.inputs.reading import Reading

_NONE = ("", "NULL")
_FIELDS = ("pmid", "sentences", "sentence_labels")


def convert(path: Path, split_percent: Sequence[int], reading: Reading) -> dict[str, list[common.Record]]:
    """Sentences of each side as `ClassificationConfig(multi_label=True, label_column="labels")` reads them.

    The abstracts are split by a hash of their PMID, in the given percentages; the PMID stands for a patient,
    since sentences of one abstract must not be on two sides. Raises `UserError`.
    """
    sides: dict[str, list[common.Record]] = {side: [] for side in common.SPLITS}
    for line, abstract in record_files.read(path, _FIELDS, reading):
        if not _is_usable(abstract):
            reading.found(path, line, "expected a PMID, sentences and as many strings of labels, found otherwise")
            continue
        pmid = str(abstract["pmid"])
        sides[common.SPLITS[common.split(pmid, split_percent)]] += _sentences(pmid, abstract)
    return sides


def hallmarks(labels: str) -> list[str]:
    """The hallmarks that a sentence's labels begin with, each once."""
    paths = re.split(r" AND ?", labels)
    return sorted({path.split("--")[0].strip() for path in paths} - set(_NONE))


def _sentences(pmid: str, abstract: record_files.Record) -> Iterator[common.Record]:
    pairs = zip(abstract["sentences"], abstract["sentence_labels"], strict=True)
    for number, (text, labels) in enumerate(pairs, start=1):
        yield {"id": f"{pmid}.{number}", "patient": pmid, "text": text, "labels": hallmarks(labels)}


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
