"""What the converter does: read a corpus, write the records of each task by split, print the ledger.

OUT/TASK/SPLIT.jsonl (of questions SPLIT.json) for every task that the corpus has annotations for, and OUT/ledger.json;
of corpora of standoff documents also what the way back needs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output, patterns
from clinicalbert_jax.finetune.convert import archives, common, samples, settle, splits, tasks, way_back
from clinicalbert_jax.finetune.convert.common import Record
from clinicalbert_jax.finetune.convert.corpora import ade, hallmarks
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.outcomes import command as outcomes
from clinicalbert_jax.finetune.convert.outcomes.command import OutcomeOptions
from clinicalbert_jax.finetune.convert.policies import Policies
from clinicalbert_jax.finetune.convert.sources import SAMPLES, SOURCES
from clinicalbert_jax.finetune.convert.standoff import Document
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.options import option

# Per cent for training, validation and test, where the corpus has no published split and most have another one.
_DEFAULT_SPLIT = {"hallmarks": hallmarks.SPLIT_PERCENT} | dict.fromkeys(outcomes.CORPORA, outcomes.DEFAULT_SPLIT)

Records = Mapping[str, Mapping[str, Sequence[Record]]]  # by task and split


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    corpus: str = option(
        "A format (brat, bioc, pubtator, doccano, conll, inline_xml), a published corpus (see docs/corpora.md), or an "
        "outcome from MIMIC's tables (see docs/outcomes.md).",
        choices=(*SOURCES, *SAMPLES, *outcomes.CORPORA),
    )
    input: str = option("The corpus: a directory, an archive as it was downloaded, or a file.", labelled=True)
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
    names: str | None = option(
        "ade: read drug and effect names from this earlier relations-with-names/train.jsonl.", None, labelled=True
    )
    policies: Policies = field(default_factory=Policies)
    outcome: OutcomeOptions = field(default_factory=OutcomeOptions)
    reading: Reading


def run(options: Options) -> None:
    """Convert, and print how many records there are by label."""
    source = patterns.expanded(options.input)
    if not source.exists():
        raise UserError("--input: expected a corpus, found nothing")
    output = atomic_output.local_path(options.output_dir, "--output_dir")
    if output.exists():
        raise UserError(f"--output_dir: expected a new directory, found {output} there: give another name")
    atomic_output.check_directory(output, False, lambda _: False, [source])
    options.outcome.check(options.corpus, options.split_percent)
    if options.corpus in outcomes.CORPORA:
        _write_outcome(options, source, output)
        return
    if options.validation_percent > 99:
        raise UserError(f"--validation_percent: expected 0 to 99, found {options.validation_percent}")
    ledger, percent = Ledger(options.reading), _split_percent(options)
    members = archives.members(source, ledger)
    sides: dict[str, list[Document]] = {}
    if options.corpus in SOURCES:
        documents = _documents(options, members, ledger)
        _check_usable(documents, source, ledger)
        sides = splits.split(documents, percent, options.validation_percent, options.split_seed, ledger)
        records = _of_documents(options, members, sides, percent, ledger)
    else:
        found = list(SAMPLES[options.corpus](members, ledger))
        _check_usable(found, source, ledger)
        split = splits.split(found, percent, options.validation_percent, options.split_seed, ledger)
        records = samples.by_task(split)
    if not records:
        raise UserError(f"--input: expected annotations, found {len(documents):,} texts without any")
    with atomic_output.directory(output, False, lambda _: False, [source]) as directory:
        _write(directory, records)
        if sides:
            way_back.keep(directory, options.corpus, sides, [task for task in records if task != ade.WITH_NAMES])
        ledger.write(directory, {"version": 1, "corpus": options.corpus, "policies": asdict(options.policies)})
    print("\n".join(ledger.lines()))
    for number, of_task in enumerate(records.values(), start=1):
        counts = ", ".join(f"{side} {len(of_side):,}" for side, of_side in of_task.items() if of_side)
        print(f"records of task {number}: {counts}")
    print(f"written: {len(records)} tasks, one folder each, with ledger.json in {output}")


def _documents(options: Options, members: Sequence[archives.Member], ledger: Ledger) -> list[Document]:
    read = SOURCES[options.corpus].read
    if options.corpus == "bioc":
        read = partial(read, type_infon=options.type_infon)
    return settle.settle(read(members, ledger), ledger, options.policies)


def _of_documents(
    options: Options,
    members: Sequence[archives.Member],
    sides: Mapping[str, Sequence[Document]],
    percent: Sequence[int],
    ledger: Ledger,
) -> Records:
    corpus = SOURCES[options.corpus]
    records = tasks.records(sides, options.policies, corpus.pairs, corpus.line_sentences, ledger)
    if options.corpus == "ade":
        others = ade.unannotated(members, ledger)
        unrelated = splits.split(others, percent, options.validation_percent, options.split_seed, ledger)
        names = patterns.expanded(options.names) if options.names else None
        records[ade.WITH_NAMES] = ade.with_names(sides, unrelated, names)
    return records


def _check_usable(found: Sequence[object], source: Path, ledger: Ledger) -> None:
    if not found:
        raise UserError("--input: expected records of the corpus, found none that can be used")
    bad = ledger.reading.counts.total()
    ledger.reading.check_few(source, bad, sum(entry.number_found for entry in ledger.entries.values()) - bad)


def _write(directory: Path, records: Records) -> None:
    for task, of_task in records.items():
        (directory / task).mkdir()
        for side, of_side in of_task.items():
            if of_side and task.startswith(samples.QUESTIONS):
                samples.write_questions(directory / task / f"{side}.json", of_side)
            elif of_side:
                common.write(directory / task / f"{side}.jsonl", of_side)


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


def _split_percent(options: Options) -> tuple[int, ...]:
    if not options.split_percent:
        return _DEFAULT_SPLIT.get(options.corpus, ())
    percent = tuple(int(one) if one.strip().isdecimal() else -1 for one in options.split_percent)
    if len(percent) != len(common.SPLITS) or min(percent) < 0 or sum(percent) != 100:
        found = ",".join(options.split_percent)
        raise UserError(f"--split_percent: expected three whole numbers that add up to 100, found {found}")
    return percent
