"""Runs the converter in this process, and reads what it wrote."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from clinicalbert_jax.finetune.convert.command import Options, run
from clinicalbert_jax.finetune.convert.outcomes.command import OutcomeOptions
from clinicalbert_jax.finetune.inputs.reading import Reading
from tests.clinicalbert_jax.finetune.convert.outcomes import hand_made

ALL_TRAIN = ("100", "0", "0")


def convert(
    corpus: str,
    source: Path,
    output: Path,
    percent: tuple[str, ...] = ALL_TRAIN,
    reading: Reading | None = None,
    **given: Any,
) -> Path:
    """Convert `source` to `output` with the options of outcomes `given`; returns `output`."""
    run(
        Options(
            corpus=corpus,
            input=str(source),
            output_dir=str(output),
            split_percent=percent,
            outcome=OutcomeOptions(**given),
            reading=reading or Reading(),
        )
    )
    return output


def labels(output: Path, name: str = "label") -> dict[str, Any]:
    """What was decided of each admission."""
    return {record["admission"]: record[name] for record in hand_made.records(output)}


def ledger(output: Path) -> dict[str, Any]:
    """The ledger of a conversion."""
    return json.loads((output / "ledger.json").read_text())


def excluded(output: Path) -> Counter[str]:
    """The admissions excluded, by reason."""
    return Counter(ledger(output)["cohort"]["excluded"])
