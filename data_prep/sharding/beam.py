"""The same preparation as one Apache Beam pipeline, for corpora beyond one machine.

Every worker must see the working directory (a shared file system); shards appear there exactly as the local engine
puts them, byte for byte. Imported only with `--engine=beam`.
"""

import ast
import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from clinicalbert_jax.data.patients import bucket_of, patient_group, without_lookalikes
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.report.suppression import pooled
from data_prep.reading import note_readers, selection, spill
from data_prep.reading.note_readers import Note
from data_prep.reading.selection import Met, SelectionConfig
from data_prep.reading.sources import Source, SourceConfig
from data_prep.reading.spill import NUM_UNIFORMS, SPLITS, Bucket, Spilled
from data_prep.sharding import local
from data_prep.sharding.shards import Plan
from data_prep.sharding.work_directory import ResumableError

try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
except ImportError:
    raise UserError("--engine=beam: expected Apache Beam, found none: pip install 'clinicalbert_jax[beam]'") from None

# At low levels Beam logs what it processes: whole notes. Workers import this module too.
logging.getLogger("apache_beam").setLevel(logging.CRITICAL)

Key = tuple[str, int]  # split and bucket number: a Bucket without its `of`
_COUNTS = "counts"
_READ, _DROPPED, _KEPT, _UNDECODABLE, _EMPTY = "read", "dropped", "kept", "undecodable", "empty"
_ALIKE, _MET, _PATIENTS, _UNIFORM = "alike", "met", "patients", "uniform"


def run(
    files: Sequence[Source],
    plan: Plan,
    buckets: Sequence[Bucket],
    spill_directory: Path,
    shard_directory: Path,
    options: Sequence[str],
) -> Spilled:
    """Read, de-duplicate, group by bucket and build; `plan.categories` are found on the way. Returns stage 1's counts.

    `options` are Beam's own; without a runner among them, everything runs in this process.
    """
    counts_file = shard_directory / "counts"
    try:
        given = PipelineOptions(list(options), save_main_session=False)
        # Beam's own DirectRunner would download a program, Prism, and run that.
        is_direct = given.view_as(StandardOptions).runner in (None, "DirectRunner")
        beginning = beam.Pipeline(runner=FnApiRunner() if is_direct else None, options=given)
    except (ValueError, ImportError) as error:
        raise ResumableError(f"--beam_options: {' '.join(str(error).split())}") from None
    with beginning as pipeline:
        read = (
            pipeline
            | "files" >> beam.Create(list(files))
            | beam.Reshuffle()
            | "read" >> beam.ParDo(_Read(plan.config.source, plan.config.selection)).with_outputs(_COUNTS, main="notes")
        )
        kept = (
            read.notes
            | "by content" >> beam.GroupByKey()
            | "first of equals"
            >> beam.ParDo(_KeepFirst(plan.config.selection, plan.salt, buckets)).with_outputs(_COUNTS, main="notes")
        )
        categories = (
            kept.notes
            | "categories" >> beam.Map(lambda keyed: (keyed[1].category, keyed[1].patient_id))
            | beam.Distinct()
            | beam.combiners.Count.PerKey()
        )
        patients = categories | "patients by category" >> beam.Map(
            lambda counted: ((_PATIENTS, counted[0]), counted[1])
        )
        distinct = (
            kept.notes | "patients" >> beam.Map(lambda keyed: keyed[1].patient_id) | "once each" >> beam.Distinct()
        )
        uniforms = (
            distinct
            | "uniforms" >> beam.Map(plan.config.selection.split_rule.uniform_of)
            | "not test"
            >> beam.Filter(lambda uniform, fraction: uniform >= fraction, plan.config.selection.test_fraction)
            | "lowest" >> beam.combiners.Top.Smallest(NUM_UNIFORMS)
            | "each" >> beam.FlatMap(lambda lowest: [((_UNIFORM, uniform), 1) for uniform in lowest])
        )
        lookalikes = (
            distinct
            | "alike" >> beam.Map(lambda patient: (without_lookalikes(patient), 1))
            | "how many alike" >> beam.CombinePerKey(sum)
            | "besides one" >> beam.Map(lambda alike: ((_ALIKE,), alike[1] - 1))
        )
        # Among these canaries are placed; none without canaries.
        train_groups = (
            distinct
            | "to train" >> beam.Filter(_is_placed_among, plan)
            | "groups" >> beam.Map(patient_group, plan.salt)
        )
        every_bucket = pipeline | "buckets" >> beam.Create(
            [((bucket.split, bucket.number), None) for bucket in buckets]
        )
        _ = (
            (kept.notes, every_bucket)
            | "with empty buckets" >> beam.Flatten()
            | "by bucket" >> beam.GroupByKey()
            | "build"
            >> beam.Map(
                _build,
                plan,
                list(buckets),
                spill_directory,
                shard_directory,
                beam.pvalue.AsDict(categories),
                beam.pvalue.AsList(train_groups),
            )
        )
        _ = (
            (read[_COUNTS], kept[_COUNTS], lookalikes, patients, uniforms)
            | "all counts" >> beam.Flatten()
            | "total" >> beam.CombinePerKey(sum)
            | "one list" >> beam.combiners.ToList()
            | "write counts" >> beam.Map(_write_counts, counts_file)
        )
    spilled, met = _read_counts(counts_file)
    spilled.check(files, plan.config.source, plan.config.selection, met)
    return spilled


class _Read(beam.DoFn):
    """A file → (digest of the content, (number of the file, note)) of the notes wanted, each text once a file."""

    def __init__(self, source_config: SourceConfig, selection: SelectionConfig) -> None:
        self._source_config, self._selection = source_config, selection

    def process(self, file: Source) -> Iterator[Any]:
        drops: Counter[str] = Counter()
        met = Met()
        num_kept = 0
        for note in selection.select(note_readers.read(file, self._source_config, drops), self._selection, drops, met):
            num_kept += 1
            yield selection.content_digest(note.text), (file.number, note)
        for one in met:
            yield beam.pvalue.TaggedOutput(_COUNTS, ((_MET, *one), 1))
        yield beam.pvalue.TaggedOutput(_COUNTS, ((_READ,), num_kept + drops.total()))
        yield beam.pvalue.TaggedOutput(_COUNTS, ((_EMPTY,), int(not num_kept + drops.total())))
        for reason, count in drops.items():
            yield beam.pvalue.TaggedOutput(_COUNTS, ((_DROPPED, reason), count))


class _KeepFirst(beam.DoFn):
    """Notes of equal content → (split and bucket, the one that comes first in the input)."""

    def __init__(self, config: SelectionConfig, salt: bytes, buckets: Sequence[Bucket]) -> None:
        self._split_rule, self._salt = config.split_rule, salt
        self._counts = Counter(bucket.split for bucket in buckets)

    def process(self, keyed: tuple[bytes, Iterable[tuple[int, Note]]]) -> Iterator[Any]:
        equals = list(keyed[1])
        _, note = min(equals, key=lambda numbered: numbered[0])
        split = self._split_rule.split_of(note.patient_id)
        yield (split, bucket_of(note.patient_id, self._counts[split], self._salt)), note
        yield beam.pvalue.TaggedOutput(_COUNTS, ((_KEPT, split, note.category), 1))
        if note_readers.is_undecodable(note):
            yield beam.pvalue.TaggedOutput(_COUNTS, ((_UNDECODABLE,), 1))
        if len(equals) > 1:
            yield beam.pvalue.TaggedOutput(_COUNTS, ((_DROPPED, "exact duplicate"), len(equals) - 1))


def _build(
    keyed: tuple[Key, Iterable[Note | None]],
    plan: Plan,
    buckets: Sequence[Bucket],
    spill_directory: Path,
    shard_directory: Path,
    patients_by_category: dict[str, int],
    train_groups: list[int],
) -> None:
    """Spill a bucket's notes and build its shard, as a worker of the local engine would."""
    bucket = next(bucket for bucket in buckets if (bucket.split, bucket.number) == keyed[0])
    if local.read_built(bucket, shard_directory):
        return
    spill_file = spill_directory / bucket.file_name
    spill_file.write_bytes(b"".join(spill.encode_note(note) for note in keyed[1] if note is not None))
    plan = dataclasses.replace(
        plan,
        categories=pooled(patients_by_category),
        canaries=plan.canaries and plan.canaries.among(train_groups),
    )
    local.build_bucket(bucket, plan, spill_directory, shard_directory)
    spill_file.unlink()


def _is_placed_among(patient: str, plan: Plan) -> bool:
    return plan.canaries is not None and plan.config.selection.split_rule.split_of(patient) == "train"


def _write_counts(counts: list[tuple[tuple[str, ...], int]], path: Path) -> None:
    path.write_text(repr(sorted(counts)))


def _read_counts(path: Path) -> tuple[Spilled, Met]:
    spilled, met = Spilled(kept={split: Counter() for split in SPLITS}), Met()
    for key, count in ast.literal_eval(path.read_text()):
        if key[0] == _READ:
            spilled.num_read += count
        elif key[0] == _UNDECODABLE:
            spilled.num_undecodable += count
        elif key[0] == _EMPTY:
            spilled.num_empty_files += count
        elif key[0] == _ALIKE:
            spilled.num_lookalikes += count
        elif key[0] == _UNIFORM:
            spilled.next_uniforms.append(key[1])
        elif key[0] == _PATIENTS:
            spilled.patients_by_category[key[1]] = count
        elif key[0] == _MET:
            met.add(key[1:])
        elif key[0] == _DROPPED:
            spilled.drops[key[1]] += count
        else:
            spilled.kept[key[1]][key[2]] += count
    return spilled, met
