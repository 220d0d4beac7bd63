"""The public notes and medical prose of --data as one file of JSON lines, to pre-train a small model on.

    python -m benchmarks.public_text --data=SHARED_DATA --output=notes.jsonl

Notes keep their patients; a document of prose is a patient of its own.
"""

import csv
import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags

from clinicalbert_jax import commands

DATA = flags.DEFINE_string("data", None, "Directory with mimic_iii/ and text/.")
OUTPUT = flags.DEFINE_string("output", None, "The file to write.")


def main(argv: Sequence[str]) -> None:
    """Write all of it."""
    commands.refuse_arguments(argv)
    data = Path(commands.required(DATA))
    with Path(commands.required(OUTPUT)).open("w", encoding="utf-8") as file:
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
    commands.run(main)
