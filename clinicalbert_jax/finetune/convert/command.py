"""What the converter does: read a corpus, write JSON lines by split, print how many there are.

Corpora of standoff documents (`sources`) become OUT/TASK/SPLIT.jsonl for every task they have annotations for, with
OUT/ledger.json, and what the way back needs; the others OUT/SPLIT.jsonl.
"""

from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output
from clinicalbert_jax.finetune.convert import archives, common, settle, splits, tasks, way_back
from clinicalbert_jax.finetune.convert.corpora import ade, chemprot, hallmarks
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.outcomes import command as outcomes
from clinicalbert_jax.finetune.convert.outcomes.command import OutcomeOptions
from clinicalbert_jax.finetune.convert.policies import Policies
from clinicalbert_jax.finetune.convert.sources import SOURCES
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.options import option

# Per cent of the documents for training, validation and test, where the corpus has no published split.
_DEFAULT_SPLIT = {"ade": (80, 10, 10), "hallmarks": (70, 10, 20)} | dict.fromkeys(
    outcomes.CORPORA, outcomes.DEFAULT_SPLIT
)
_OTHERS = ("ade", "chemprot", "blue", "hallmarks")


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    corpus: str = option(
        "A format (brat, bioc, pubtator, doccano, conll, inline_xml), a published corpus (see docs/corpora.md), or an "
        "outcome from MIMIC's tables (see docs/outcomes.md).",
        choices=(*SOURCES, *_OTHERS, *outcomes.CORPORA),
    )
    input: str = option("The corpus: a directory, an archive as it was downloaded, or a file.")
    output_dir: str = option("New directory for the files.")
    split_percent: tuple[str, ...] = option(
        "Per cent for train, validation and test, by patient or document, instead of the corpus's own splits.", ()
    )
    validation_percent: int = option(
        "Per cent of the training patients (or documents) for validation, where the corpus has no such split.",
        10,
        lowest=0,
    )
    split_seed: int = option("Another number splits otherwise.", 0, lowest=0)
    type_infon: str = option("bioc: the infon that holds the type of an annotation.", "type")
    names: str | None = option("ade: read drug and effect names from this earlier train.jsonl.", None)
    policies: Policies = field(default_factory=Policies)
    outcome: OutcomeOptions = field(default_factory=OutcomeOptions)
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
    options.outcome.check(options.corpus, options.split_percent)
    if options.corpus in SOURCES:
        _convert_documents(options, source, output)
        return
    if options.corpus in outcomes.CORPORA:
        _write_outcome(options, source, output)
        return
    sides = _converted(options, source)
    options.reading.check_few(source, options.reading.counts.total(), sum(map(len, sides.values())))
    with atomic_output.directory(output, False, lambda _: False, [source]) as directory:
        for name, records in sides.items():
            common.write(directory / f"{name}.jsonl", records)
    for name, records in sides.items():
        labels = Counter(label for record in records for label in record.get("labels", [record.get("label")]))
        unlabelled = sum(record.get("labels") == [] for record in records)
        documents = len({record["patient"] for record in records})
        counts = ", ".join(f"{count:,}" for _, count in labels.most_common())  # labels are not printed
        counts += f", {unlabelled:,} without a label" if unlabelled else ""
        print(f"{name:<12}{len(records):>8,} records of {documents:,} documents, by label: {counts}")
    for path, count in sorted(options.reading.counts.items()):
        print(f"skipped: {count:,} lines of {path}")


def _convert_documents(options: Options, source: Path, output: Path) -> None:
    corpus, policies, reading = SOURCES[options.corpus], options.policies, options.reading
    percent = _split_percent(options) if options.split_percent else ()
    if options.validation_percent > 99:
        raise UserError(f"--validation_percent: expected 0 to 99, found {options.validation_percent}")
    ledger = Ledger(reading)
    read = partial(corpus.read, type_infon=options.type_infon) if options.corpus == "bioc" else corpus.read
    documents = settle.settle(read(archives.members(source, ledger), ledger), ledger, policies)
    if not documents:
        raise UserError(f"--input: expected documents of the corpus, found none that can be used in {source}")
    bad = reading.counts.total()
    reading.check_few(source, bad, sum(entry.number_found for entry in ledger.entries.values()) - bad)
    sides = splits.split(documents, percent, options.validation_percent, options.split_seed, ledger)
    records = tasks.records(sides, policies, corpus.pairs, corpus.line_sentences, ledger)
    if not records:
        raise UserError(f"--input: expected annotations, found {len(documents):,} texts without any in {source}")
    with atomic_output.directory(output, False, lambda _: False, [source]) as directory:
        for task, of_task in records.items():
            (directory / task).mkdir()
            for side, of_side in of_task.items():
                if of_side:
                    common.write(directory / task / f"{side}.jsonl", of_side)
        way_back.keep(directory, options.corpus, sides, list(records))
        ledger.write(directory, {"version": 1, "corpus": options.corpus, "policies": asdict(policies)})
    print("\n".join(ledger.lines()))
    for number, of_task in enumerate(records.values(), start=1):
        counts = ", ".join(f"{side} {len(of_side):,}" for side, of_side in of_task.items() if of_side)
        print(f"records of task {number}: {counts}")
    print(f"written: {len(records)} tasks, one folder each, with documents and ledger.json in {output}")


def _write_outcome(options: Options, source: Path, output: Path) -> None:
    plain = Options(corpus=options.corpus, input="", output_dir="", reading=options.reading)
    pairs = [(options, plain), (options.policies, plain.policies)]
    names = ["validation_percent", "split_seed", "type_infon", "names"], [one.name for one in fields(Policies)]
    for (given, default), of_documents in zip(pairs, names, strict=True):
        for name in of_documents:
            if getattr(given, name) != getattr(default, name):
                raise UserError(f"--{name}: expected another --corpus, found {options.corpus}: leave it out")
    percent = _split_percent(options)
    with atomic_output.directory(output, False, lambda _: False, [source]) as directory:
        ledger, flow = outcomes.convert(options.corpus, source, options.outcome, percent, directory, options.reading)
    print("\n".join([*ledger.lines(), "", *flow.lines()]))


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
