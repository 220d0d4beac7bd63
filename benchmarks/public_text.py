"""Write the public notes and medical prose of --data into one JSON lines file, to pre-train a small model.

    python -m benchmarks.public_text --data=SHARED_DATA --output=notes.jsonl

Notes keep their patient identifiers. A prose document counts as its own patient.
"""

import csv
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clinicalbert_jax import cli
from clinicalbert_jax.options import option


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    data: str = option("Directory with mimic_iii/ and text/.")
    output: str = option("The file to write.")


def main(options: Options) -> None:
    """Write the notes, then the prose."""
    data = Path(options.data)
    with Path(options.output).open("w", encoding="utf-8") as file:
        for source in (_notes(data / "mimic_iii/NOTEEVENTS.csv.gz"), _prose(data / "text/medical_text.jsonl.gz")):
            file.writelines(json.dumps(record) + "\n" for record in source)


def _notes(path: Path) -> Iterator[dict[str, str]]:
    csv.field_size_limit(2**31 - 1)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["ISERROR"] != "1":
                named = {"id": "n" + row["ROW_ID"], "patient": "p" + row["SUBJECT_ID"]}
                yield named | {"category": row["CATEGORY"].strip(), "text": row["TEXT"]}


def _prose(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            document = json.loads(line)
            name = "m" + document["id"]
            yield {"id": name, "patient": name, "category": document["source"], "text": document["text"]}


if __name__ == "__main__":
    cli.run(main, Options)
