"""What the converters of public corpora to our JSON lines share: records, splits by a hash, files."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from clinicalbert_jax.finetune.tags import Span

Record = dict[str, Any]
NEGATIVE = "none"  # the label of a pair that is not related


def pair(id_: str, document: str, text: str, head: Span, tail: Span, label: str) -> Record:
    """A pair as `relations.Relations` reads it. Its document stands for a patient: it must not be on two sides."""
    spans = {"head": head, "tail": tail}
    typed = {name: {"start": span.start, "end": span.end, "type": span.label} for name, span in spans.items()}
    return {"id": id_, "patient": document, "text": text, **typed, "label": label}


def side(document: str, shares: Sequence[int]) -> int:
    """Which of several sides, of sizes in per cent, a document falls on: a function of its id alone."""
    place = int.from_bytes(hashlib.sha256(document.encode()).digest()[:8], "big") % sum(shares)
    for number, share in enumerate(shares):
        if place < share:
            return number
        place -= share
    raise AssertionError


def write(path: Path, records: Iterable[Record]) -> None:
    """One record a line."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
