"""What the converters of public corpora to our JSON lines share: records, splits by a hash, files."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from clinicalbert_jax.finetune.inputs.tags import Span

Record = dict[str, Any]
SPLITS = ("train", "validation", "test")
SPLIT_PERCENT = (80, 10, 10)  # where neither the corpus nor the user says otherwise
NEGATIVE = "none"  # the label of a pair that is not related


def pair(id_: str, document: str, text: str, head: Span, tail: Span, label: str) -> Record:
    """A pair as `relations.Relations` reads it. Its document stands for a patient: it must not be on two sides."""
    spans = {"head": head, "tail": tail}
    typed = {name: {"start": span.start, "end": span.end, "type": span.label} for name, span in spans.items()}
    return {"id": id_, "patient": document, "text": text, **typed, "label": label}


def split(document: str, split_percent: Sequence[int], seed: int = 0) -> int:
    """The number of the split that a document falls in, of sizes in per cent: a function of its id and the seed."""
    key = f"{seed} {document}" if seed else document
    remainder = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % sum(split_percent)
    for number, percent in enumerate(split_percent):
        if remainder < percent:
            return number
        remainder -= percent
    raise AssertionError


def write(path: Path, records: Iterable[Record]) -> None:
    """One record a line."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
