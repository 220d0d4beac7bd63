"""What the converter does: read a corpus, write JSON lines by split, print how many there are."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output
from clinicalbert_jax.finetune.convert import common
from clinicalbert_jax.finetune.convert.corpora import ade, chemprot, hallmarks
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.options import option

# Per cent of the documents for training, validation and test, where the corpus has no published split.
_DEFAULT_SPLIT = {"ade": (80, 10, 10), "hallmarks": (70, 10, 20)}


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    corpus: str = option(
        "ADE corpus, ChemProt as published, BLUE's blinded .tsv, or Hallmarks of Cancer.",
        choices=("ade", "chemprot", "blue", "hallmarks"),
    )
    input: str = option("Directory of the corpus; a file for hallmarks, and possible for blue.")
    output_dir: str = option("New directory for the files.")
    split_percent: tuple[str, ...] = option("ade, hallmarks: per cent for train, validation and test.", ())
    names: str | None = option("ade: read drug and effect names from this earlier train.jsonl.", None)
    reading: Reading


def run(options: Options) -> None:
    """Convert, and print how many records there are by label."""
    source = Path(options.input)
    if not source.exists():
        raise UserError(f"--input: expected a corpus, found nothing at {source}")
    output = atomic_output.local_path(options.output_dir, "--output_dir")
    if output.exists():
        raise UserError(f"--output_dir: expected a new directory, found {output} there: give another name")
    atomic_output.check_directory(output, False, lambda _: False, [source])
    splits = _converted(options, source)
    options.reading.check_few(source, options.reading.counts.total(), sum(map(len, splits.values())))
    with atomic_output.directory(output, False, lambda _: False, [source]) as partial:
        for name, records in splits.items():
            common.write(partial / f"{name}.jsonl", records)
    for name, records in splits.items():
        labels = Counter(label for record in records for label in record.get("labels", [record.get("label")]))
        unlabelled = sum(record.get("labels") == [] for record in records)
        documents = len({record["patient"] for record in records})
        counts = ", ".join(f"{count:,}" for _, count in labels.most_common())  # labels are not printed
        counts += f", {unlabelled:,} without a label" if unlabelled else ""
        print(f"{name:<12}{len(records):>8,} records of {documents:,} documents, by label: {counts}")
    for path, count in sorted(options.reading.counts.items()):
        print(f"skipped: {count:,} lines of {path}")


def _converted(options: Options, source: Path) -> dict[str, list[common.Record]]:
    reading = options.reading
    if options.corpus == "chemprot":
        return chemprot.convert_chemprot(source, reading)
    if options.corpus == "blue":
        return chemprot.convert_blue(source, reading)
    percent = _split_percent(options)
    if options.corpus == "ade":
        return ade.convert(source, percent, Path(options.names) if options.names else None, reading)
    return hallmarks.convert(source, percent, reading)


def _split_percent(options: Options) -> tuple[int, ...]:
    if not options.split_percent:
        return _DEFAULT_SPLIT[options.corpus]
    percent = tuple(int(one) if one.strip().isdecimal() else -1 for one in options.split_percent)
    if len(percent) != len(common.SPLITS) or min(percent) < 0 or sum(percent) != 100:
        found = ",".join(options.split_percent)
        raise UserError(f"--split_percent: expected three whole numbers that add up to 100, found {found}")
    return percent
