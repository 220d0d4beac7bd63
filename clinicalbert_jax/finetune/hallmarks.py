"""The Hallmarks of Cancer corpus as JSON lines: `python -m clinicalbert_jax.finetune.hallmarks --input=FILE ...`.

For each side a file OUTPUT_DIR/SIDE.jsonl, as the task 'classification' reads it with several labels.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from clinicalbert_jax import commands
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune import corpora, hallmarks_corpus
from clinicalbert_jax.finetune.records import POLICIES, BadRecords

INPUT = flags.DEFINE_string("input", None, "JSON lines of abstracts: pmid, sentences, sentence_labels.")
OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "New directory for the files.")
ON_BAD_RECORD = flags.DEFINE_enum("on_bad_record", "stop", POLICIES, "At a line that cannot be used; skip counts them.")

# Per cent of the abstracts for training, validation and test.
_SHARES = (70, 10, 20)


def main(argv: Sequence[str]) -> None:
    """Convert and print how many sentences of each label there are."""
    commands.refuse_arguments(argv)
    source, output = Path(commands.required(INPUT)), Path(commands.required(OUTPUT_DIR))
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise UserError(f"--output_dir: expected a new directory, found {output} with something in it")
    bad = BadRecords(ON_BAD_RECORD.value)
    sides = hallmarks_corpus.convert(source, _SHARES, bad)
    if not any(sides.values()):
        raise UserError(f"{source}: expected at least one abstract, found none that can be used")
    output.mkdir(parents=True, exist_ok=True)
    for side, sentences in sides.items():
        corpora.write(output / f"{side}.jsonl", sentences)
        abstracts = len({sentence["patient"] for sentence in sentences})
        unlabelled = sum(not sentence["labels"] for sentence in sentences)
        print(
            f"{side}: {len(sentences):,} sentences of {abstracts:,} abstracts, {unlabelled:,} of them without a label"
        )
        counts = Counter(label for sentence in sentences for label in sentence["labels"])
        for label, count in counts.most_common():
            print(f"{count:>8,}  {label}")
    for path, count in bad.counts.items():
        print(f"left out: {count:,} lines of {path}")


if __name__ == "__main__":
    commands.run(main)
