"""A preparation from first to last: read and spill, vocabulary, a shard for every bucket, and the dataset's
directory.

Everything unfinished lies in `OUTPUT_DIR/_work` (see `work_directory`). The dataset's directory appears under its
name when it is complete.
"""

import dataclasses
import functools
import importlib
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinicalbert_jax import cli
from clinicalbert_jax.data.manifest import FILE_NAME, INVENTED, Manifest
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output, directory_lock, patterns
from clinicalbert_jax.options import option
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from clinicalbert_jax.tokenizer_files.settings import SPECIAL_TOKENS, Settings
from data_prep import publishing
from data_prep.canaries import private_file, secrets
from data_prep.canaries.planting import Canaries
from data_prep.config import PrepConfig
from data_prep.overlap import downstream, splits
from data_prep.reading import salt_file, sources, spill
from data_prep.reading.files import is_url
from data_prep.reading.sources import Source
from data_prep.reading.spill import Bucket, Spilled
from data_prep.sharding import fingerprint, local, shards, small_splits, work_directory
from data_prep.sharding.fingerprint import Fingerprint
from data_prep.sharding.shards import Built, Plan
from data_prep.sharding.work_directory import ResumableError, Work
from data_prep.wordpiece import tokenizer, vocabulary
from data_prep.wordpiece.tokenizer import Tokenizer

_BYTES_PER_PIECE = 3.6  # of clinical text; sizing only
_MANY_UNKNOWN = 0.05  # of the tokens: a fitting vocabulary leaves under one in a hundred


@dataclass(frozen=True)
class EngineConfig:
    """Who does the work; no byte of the shards depends on it. `beam_options` are Beam's own flags."""

    engine: str = option("Local processes, or Apache Beam.", "local", choices=("local", "beam"))
    num_workers: int = option("Processes that build shards; the bytes do not depend on it.", 2)
    beam_options: tuple[str, ...] = option(
        "Beam's own options, as --runner=FlinkRunner,...; default: in this process.", ()
    )

    def __post_init__(self) -> None:
        if self.engine not in ("local", "beam"):
            raise UserError(f"--engine: expected local or beam, found {self.engine!r}")
        if self.num_workers < 1:
            raise UserError(f"--num_workers: expected at least 1, found {self.num_workers}")


def run(config: PrepConfig, output_dir: str | Path, engine: EngineConfig, overwrite: bool = False) -> Path:
    """Prepare a dataset, or finish one begun; returns its directory.

    `overwrite`: replace a finished dataset of the same name and version that was made from other settings or inputs.
    """
    started = time.time()
    output_dir = atomic_output.local_path(output_dir, "--output_dir")
    _refuse_output_in_input(output_dir, config.source.input)
    states = fingerprint.states_of(config.source.input)
    files = sources.resolve(config.source)
    salt, salt_path = salt_file.load(config.selection.salt_file, output_dir)
    print(f"salt of buckets and patient_group: {salt_path}", file=sys.stderr)
    given = _given_tokenizer(config)
    plan = Plan(
        config=config,
        tokenizer=given or Tokenizer(Settings(SPECIAL_TOKENS, False)),
        categories=(),
        excluded_S=downstream.load_excluded(config.exclude_text),
        sample_one_in=splits.sampling_rate(sum(file.num_bytes for file in files)),
        salt=salt,
        formats=_formats(files, config),
        canaries=_canaries(config, salt),
    )
    if engine.engine == "beam":
        _require_beam(config)
    asked, private = fingerprint.of(config, states, given), fingerprint.private(config.selection, salt)
    dataset_dir = output_dir / config.name / config.version
    work = Work(output_dir / work_directory.NAME)
    if _is_complete(dataset_dir, asked, private, overwrite, states):
        work.tidy_up(asked)
        return dataset_dir
    with ExitStack() as alone:
        if plan.canaries is not None:
            preparation, given_path = private_file.preparation_of(asked), config.canary.canaries_file
            wanted = given_path, salt_path, preparation, output_dir, plan.canaries.candidates
            file = private_file.check(*wanted)
            alone.enter_context(directory_lock.held(file, private_file.FLAG, beside=True))
            private_file.check(*wanted)  # another preparation may have written it in the meantime
            print(f"which canaries are planted: {file}", file=sys.stderr)
            plan = dataclasses.replace(plan, canaries=dataclasses.replace(plan.canaries, file=file))
        alone.enter_context(work.alone())
        # Else another process has made it meanwhile.
        if not _is_complete(dataset_dir, asked, private, overwrite, states):
            with work.begun(asked, private):
                _prepare(work, plan, given, files, states, engine, asked, dataset_dir, started)
    return dataset_dir


def _prepare(
    work: Work,
    plan: Plan,
    given: Tokenizer | None,
    files: Sequence[Source],
    states: fingerprint.States,
    engine: EngineConfig,
    asked: Fingerprint,
    dataset_dir: Path,
    started: float,
) -> None:
    config = plan.config
    buckets = spill.plan_buckets(files, config.selection)
    _require_disk(files, config, work.directory)
    seconds: dict[str, float] = {}
    if engine.engine == "beam":
        with _timed(seconds, "pipeline"):
            plan, spilled, built = _on_beam(work, plan, files, states, buckets, engine.beam_options)
    else:
        with _timed(seconds, "reading"):
            spilled = _spill_once(work, files, states, plan, buckets)
        plan = dataclasses.replace(plan, categories=spilled.categories)
        with _timed(seconds, "vocabulary"):
            plan = dataclasses.replace(plan, tokenizer=_final_tokenizer(work, plan, given, buckets, engine.num_workers))
        if plan.canaries is not None:
            plan = dataclasses.replace(plan, canaries=plan.canaries.among(spilled.train_groups))
        with _timed(seconds, "building"):
            built = _build_all(work, plan, spilled, buckets, engine.num_workers)
    patients = Counter({bucket.split: 0 for bucket in buckets})
    for one in built:
        patients[one.split] += one.num_patients
    held = sum(one.drops[shards.HOLDS_EXCLUDED] for one in built)
    excluded = _excluded_text_notices(config, held)
    small = small_splits.notices(patients, spilled.next_uniforms, config.selection.split_rule)
    for line in (*spilled.notices(config.selection), *excluded, *small, *_unknown_notices(built)):
        print(line, file=sys.stderr)
    with _timed(seconds, "publishing"):
        publishing.publish(work, plan, spilled, built, asked, dataset_dir, seconds, started)


# --- before anything is written


def _formats(files: Sequence[Source], config: PrepConfig) -> tuple[str, ...]:
    """The formats of the sources, and `INVENTED` where all of them say that their notes are."""
    invented = all(sources.is_invented(file, config.source) for file in files)
    return (*sorted({file.format for file in files}), *((INVENTED,) if invented else ()))


def _given_tokenizer(config: PrepConfig) -> Tokenizer | None:
    """The tokenizer asked for; None where the vocabulary is to be trained."""
    if config.vocabulary.train_vocab:
        return None
    given = tokenizer.load(config.vocabulary.vocab_file, config.vocabulary.do_lower_case)
    longest = given.settings.model_max_length
    if longest is not None and config.max_seq_length > longest:
        raise UserError(
            f"--max_seq_length: expected at most {longest}, the model_max_length in the files of --vocab_file, found "
            f"{config.max_seq_length}: prepare shorter rows, or correct those files"
        )
    return given


def _canaries(config: PrepConfig, salt: bytes) -> Canaries | None:
    """The candidates; None where no canaries are asked for."""
    asked = config.canary
    if not asked.canaries:
        return None
    key = secrets.key_of(salt, config.name, config.version, config.seed)
    return Canaries(secrets.draw(asked.canaries, asked.canary_form, key), key, asked.canaries_in_one_patient)


def _refuse_output_in_input(output_dir: Path, inputs: Sequence[str]) -> None:
    """Raise `UserError` where the next run would read what this one writes."""
    for given in inputs:
        if not is_url(given) and output_dir.is_relative_to(patterns.expanded(given).resolve()):
            raise UserError(f"--output_dir: expected a directory outside of --input, found {output_dir}")


def _require_beam(config: PrepConfig) -> None:
    if config.vocabulary.train_vocab or config.vocabulary.extend_vocab:
        raise UserError(
            "--engine=beam: expected a finished --vocab_file: train or extend one with the local engine, on a sample"
        )
    importlib.import_module("data_prep.sharding.beam")  # raises `UserError` where Beam is not installed


def _is_complete(
    dataset_dir: Path, asked: Fingerprint, private: Fingerprint, overwrite: bool, states: fingerprint.States
) -> bool:
    """Whether the dataset is there, as asked. Raises `UserError` for another one, which only `overwrite` replaces."""
    if (dataset_dir / FILE_NAME).exists():
        there = Manifest.load(dataset_dir).extra.get("fingerprint", {})
        record = work_directory.private_record(dataset_dir)
        if record or asked["exclude_patients"]:  # else at most the salt is another, which spoils nothing
            there, asked = there | (record or {}), asked | private
        differences = fingerprint.differences(there, asked)
        if not differences:
            return True
        if not overwrite:
            raise UserError(
                f"{dataset_dir} was prepared otherwise ({differences}): give another --version or --output_dir, or "
                "--overwrite to replace it"
            )
        if any(path.is_dir() for path in dataset_dir.iterdir()):
            raise UserError(f"--overwrite: {dataset_dir} holds directories beside a dataset, such as a run: move them")
        atomic_output.refuse_inputs(dataset_dir, (url for of_files in states for url in of_files), "--overwrite")
    elif dataset_dir.is_symlink() or (dataset_dir.exists() and any(dataset_dir.iterdir())):
        raise UserError(
            f"{dataset_dir} holds something else than a dataset: give another --output_dir, --name or --version, or "
            "remove it"
        )
    return False


def _require_disk(files: Sequence[Source], config: PrepConfig, directory: Path) -> None:
    """Raise `UserError` where the disk has no room for the spilled notes and the shards."""
    layout = config.example_layout
    text = sum(file.num_bytes for file in files)
    fill = 0.95 if layout.kind == "packed" else 0.75 if layout.max_seq_length <= 128 else 0.6
    rows = text / _BYTES_PER_PIECE * config.dupe_factor * 1.4 / (fill * layout.max_seq_length)
    row = 4.2 * layout.max_seq_length + 8 * layout.max_predictions_per_seq + 15 * layout.max_sequences_per_row + 250
    there = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    needed, free = 1.1 * text + rows * row, shutil.disk_usage(directory).free + there
    if needed > free:
        raise ResumableError(
            f"--output_dir: expected about {needed / 1e9:.1f} GB of free disk for {text / 1e9:.1f} GB of notes in "
            f"{config.dupe_factor} passes, found {free / 1e9:.1f} GB: free some, or give another --output_dir or a "
            "smaller --dupe_factor"
        )


# --- stage 1


def _spill_once(
    work: Work, files: Sequence[Source], states: fingerprint.States, plan: Plan, buckets: list[Bucket]
) -> Spilled:
    if done := work.read_spilled():
        return done
    shutil.rmtree(work.spill)
    work.spill.mkdir()
    with cli.progress_bar(doing="reading", unit=" notes", unit_scale=True) as bar:
        spilled = spill.spill(
            files,
            plan.config.source,
            plan.config.selection,
            plan.salt,
            buckets,
            work.spill,
            lambda count: _advance(bar, count),
            plan.canaries is not None,
        )
    fingerprint.require_unchanged(plan.config.source.input, states)
    work.write_spilled(spilled)
    return spilled


def _advance(bar: Any, count: int) -> None:
    bar.update(count - bar.n)


# --- the vocabulary


def _final_tokenizer(
    work: Work, plan: Plan, given: Tokenizer | None, buckets: list[Bucket], num_workers: int
) -> Tokenizer:
    config = plan.config.vocabulary
    if given is not None and not config.extend_vocab:
        return given
    if work.tokenizer.exists():
        return tokenizer.load(work.tokenizer)
    if given and len(given.vocabulary) > len(given.settings.entries):
        raise UserError(
            "--extend_vocab: expected a tokenizer without added tokens, found some with ids after the vocabulary's, "
            "which new entries would take: drop the flag"
        )
    settings = given.settings if given else Settings(SPECIAL_TOKENS, bool(config.do_lower_case))
    counts = vocabulary.WordCounts()
    train = [bucket for bucket in buckets if bucket.split == "train"]
    count = functools.partial(_count_words, plan=plan, directory=work.spill, settings=settings)
    counted = local.local(count, train, num_workers)
    for _, found in cli.progress_bar(counted, "counting words", len(train), unit=" buckets"):
        counts.add(found)
    if given:
        entries = vocabulary.extend(given.vocabulary, counts, config.extend_vocab)
    else:
        entries = vocabulary.train(counts, config.vocab_size, settings.do_lower_case)
    final = Tokenizer(dataclasses.replace(settings, entries=tuple(entries)))
    unfinished = work.tokenizer.with_suffix(".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    bert_tokenizer.write(unfinished, final.settings)
    unfinished.rename(work.tokenizer)
    return final


def _count_words(bucket: Bucket, plan: Plan, directory: Path, settings: Settings) -> vocabulary.WordCounts:
    kept = shards.cleaned_notes(directory / bucket.file_name, plan, Counter())
    return vocabulary.count_words([note.patient_id for note in kept], [note.text for note in kept], settings)


# --- stage 2


def _build_all(work: Work, plan: Plan, spilled: Spilled, buckets: list[Bucket], num_workers: int) -> list[Built]:
    """What every bucket gave, in the order of `buckets`."""
    build = functools.partial(local.build_bucket, plan=plan, spill_directory=work.spill, shard_directory=work.shards)
    results: dict[Bucket, Built] = {}
    total = sum(map(Counter.total, spilled.kept.values()))
    with cli.progress_bar(doing="preparing", total=total, unit=" notes", unit_scale=True) as bar:
        for bucket in buckets:
            if finished := local.read_built(bucket, work.shards):
                results[bucket] = finished
        bar.initial = bar.n = sum(map(_num_notes_in, results.values()))
        # The largest first, so that no worker is left alone with one at the end.
        missing = sorted(
            (bucket for bucket in buckets if bucket not in results), key=lambda b: -_spilled_bytes(b, work)
        )
        for bucket, built in local.local(build, missing, num_workers):
            results[bucket] = built
            bar.update(_num_notes_in(built))
    return [results[bucket] for bucket in buckets]


def _spilled_bytes(bucket: Bucket, work: Work) -> int:
    path = work.spill / bucket.file_name
    return path.stat().st_size if path.exists() else 0


def _num_notes_in(built: Built) -> int:
    return built.num_notes + built.drops.total()


def _on_beam(
    work: Work,
    plan: Plan,
    files: Sequence[Source],
    states: fingerprint.States,
    buckets: list[Bucket],
    options: Sequence[str],
) -> tuple[Plan, Spilled, list[Built]]:
    """Both stages as one pipeline."""
    from data_prep.sharding import beam

    spilled = work.read_spilled()
    if spilled is None:
        spilled = beam.run(files, plan, buckets, work.spill, work.shards, options)
        fingerprint.require_unchanged(plan.config.source.input, states)
        work.write_spilled(spilled)
    built = [local.read_built(bucket, work.shards) for bucket in buckets]
    plan = dataclasses.replace(plan, categories=spilled.categories)
    return plan, spilled, [one for one in built if one is not None]


# --- what is said at the end


def _excluded_text_notices(config: PrepConfig, num_held: int) -> list[str]:
    """What to say of `--exclude_text`, whose text `num_held` notes hold; raises `UserError` where none does.

    Files of other notes must not pass in silence for those of the downstream tests.
    """
    if not config.exclude_text:
        return []
    if not num_held and config.selection.expect_excluded != 0:
        raise ResumableError(
            "--exclude_text: expected notes that hold text of these files, found none: check that they are the tests "
            "of these notes, or give --expect_excluded=0 where no note should hold their text"
        )
    return [f"--exclude_text: {num_held:,} notes hold text of it and are left out"]


def _unknown_notices(built: list[Built]) -> list[str]:
    """Say where the vocabulary does not fit the notes: that of another language, or of an uncased model."""
    unknown, pieces = sum(one.num_unknown_pieces for one in built), sum(one.num_pieces for one in built)
    if unknown <= _MANY_UNKNOWN * pieces:
        return []
    return [
        f"warning: {unknown / pieces:.0%} of the tokens are [UNK]: check that --vocab_file is of the language and "
        "casing of the notes, and --encoding that of the files"
    ]


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - begin
