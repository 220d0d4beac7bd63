"""Pairs of public corpora as JSON lines: `python -m clinicalbert_jax.finetune.convert --corpus=ade --input=DIR ...`.

For each part a file OUTPUT_DIR/PART.jsonl, as the task 'relations' reads it.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from clinicalbert_jax import commands
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune import ade, chemprot, corpora
from clinicalbert_jax.finetune.records import POLICIES, BadRecords

CORPUS = flags.DEFINE_enum(
    "corpus", None, ["ade", "chemprot", "blue"], "Layout: ADE corpus, ChemProt as published, or BLUE's blinded .tsv."
)
INPUT = flags.DEFINE_string("input", None, "Directory of the corpus; for blue also one .tsv file.")
OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "New directory for the files.")
SHARES = flags.DEFINE_list("shares", ["80", "10", "10"], "ade: train, validation and test, in per cent of the PMIDs.")
NAMES = flags.DEFINE_string("names", None, "ade: take drug and effect names from this earlier train.jsonl instead.")
ON_BAD_RECORD = flags.DEFINE_enum("on_bad_record", "stop", POLICIES, "At a line that cannot be used; skip counts them.")


def main(argv: Sequence[str]) -> None:
    """Convert and print how many pairs of each label there are."""
    commands.refuse_arguments(argv)
    corpus, source = commands.required(CORPUS), Path(commands.required(INPUT))
    output, bad = Path(commands.required(OUTPUT_DIR)), BadRecords(ON_BAD_RECORD.value)
    if not source.exists():
        raise UserError(f"--input: expected a corpus, found nothing at {source}")
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise UserError(f"--output_dir: expected a new directory, found {output} with something in it")
    if corpus == "ade":
        parts = ade.convert(source, _shares(), Path(NAMES.value) if NAMES.value else None, bad)
    else:
        parts = {"chemprot": chemprot.convert_chemprot, "blue": chemprot.convert_blue}[corpus](source, bad)
    output.mkdir(parents=True, exist_ok=True)
    for name, records in parts.items():
        corpora.write(output / f"{name}.jsonl", records)
        labels = Counter(record["label"] for record in records)
        documents = len({record["patient"] for record in records})
        counts = ", ".join(f"{count:,} {label}" for label, count in sorted(labels.items()))
        print(f"{name:<12}{len(records):>8,} pairs of {documents:,} documents: {counts}")
    for path, count in sorted(bad.counts.items()):
        print(f"left out: {count:,} lines of {path}")


def _shares() -> list[int]:
    shares = [int(share) if share.strip().isdecimal() else -1 for share in SHARES.value]
    if len(shares) != len(ade.SIDES) or min(shares) < 0 or sum(shares) != 100:
        raise UserError(f"--shares: expected three whole numbers that add up to 100, found {','.join(SHARES.value)}")
    return shares


if __name__ == "__main__":
    commands.run(main)
