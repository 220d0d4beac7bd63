"""Stage 1: one streaming pass from sources to spill files, one for each bucket of patients of each split.

Every note read is spilled or counted under a reason. Splits and buckets are keyed hashes of the patient's
identifier, so all notes of a patient lie in one bucket of one split, whatever else is in the input.
"""

import bisect
import math
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clinicalbert_jax.data.patients import bucket_of, patient_group, without_lookalikes
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.report.suppression import MIN_PATIENTS, pooled
from data_prep.reading import note_readers
from data_prep.reading.note_readers import Note
from data_prep.reading.selection import (
    DigestSet,
    Met,
    SelectionConfig,
    check_met,
    content_digest,
    excluded_patients,
    select,
)
from data_prep.reading.sources import Source, SourceConfig

SPLITS = ("train", "validation", "test")
NUM_UNIFORMS = 20

_BUFFER_BYTES = 16 << 20  # spilled text in memory, over all buckets
_LENGTHS = struct.Struct("<5I")


@dataclass(frozen=True)
class Bucket:
    """One bucket of one split: the notes of some patients, and later one shard."""

    split: str
    number: int
    of: int

    @property
    def file_name(self) -> str:
        """The name of its spill file."""
        return f"{self.split}-{self.number:05d}-of-{self.of:05d}.notes"


@dataclass
class Spilled:
    """What stage 1 did. `num_read` = the sum of `kept` + the sum of `drops`; `kept` counts by split and category.

    `num_undecodable` counts notes kept that hold bytes which are invalid in the encoding (they are left out),
    `num_lookalikes` patients whose identifier differs from another one only by `without_lookalikes`,
    `num_excluded_met` patients of `--exclude_patients` who have notes, and `num_empty_files` files without a row.
    """

    num_read: int = 0
    num_undecodable: int = 0
    num_lookalikes: int = 0
    num_excluded_met: int = 0
    num_empty_files: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    kept: dict[str, Counter[str]] = field(default_factory=lambda: {split: Counter() for split in SPLITS})
    next_uniforms: list[float] = field(default_factory=list)  # the lowest ones outside the test split
    patients_by_category: dict[str, int] = field(default_factory=dict)  # as far as they matter: see `pooled`
    train_groups: list[int] = field(default_factory=list)  # `patient_group` of each training patient, on request

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories of the dataset, in alphabetical order: those of few patients are one."""
        return pooled(self.patients_by_category)

    def check(self, files: Sequence[Source], source_config: SourceConfig, config: SelectionConfig, met: Met) -> None:
        """Raise `UserError` for too many malformed rows, a selection that was not met, and where nothing is left."""
        malformed = self.drops["malformed row"]
        if malformed > source_config.max_malformed_fraction * self.num_read:
            raise UserError(
                f"--input: {malformed:,} of {self.num_read:,} rows are malformed: correct the files, or allow it by "
                "--max_malformed_fraction"
            )
        are_encoded = any(file.format != "parquet" for file in files)
        if are_encoded and self.num_undecodable > max(1, source_config.max_malformed_fraction * self.num_read):
            raise UserError(
                f"--input: {self.num_undecodable:,} of {self.num_read:,} notes hold undecodable bytes, probably since "
                f"the files are not in {source_config.encoding}: give --encoding (such as cp1252), or allow them by "
                "--max_malformed_fraction"
            )
        if self.num_read:
            self.num_excluded_met = check_met(config, met)
        if not any(self.kept.values()):
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.drops.most_common())
            raise UserError(
                f"--input: expected notes, found none to keep among {self.num_read} ({reasons or 'no rows'})"
            )

    def notices(self, config: SelectionConfig) -> list[str]:
        """What the user should know of the notes, beside the counts."""
        lines = []
        if config.exclude_patients:
            listed = len(excluded_patients(config))
            lines.append(f"--exclude_patients: {self.num_excluded_met:,} of {listed:,} met")
        if self.num_lookalikes:
            lines.append(
                f"warning: {self.num_lookalikes:,} patients' identifiers differ from another one only by leading zeros "
                "or case, or by forms of a character: if they are the same people, write their identifiers alike"
            )
        if self.num_empty_files:
            lines.append(f"warning: {self.num_empty_files:,} files of --input have no rows")
        if self.num_undecodable:
            lines.append(
                f"warning: {self.num_undecodable:,} notes hold undecodable bytes, which are left out: give the "
                "--encoding of the files if it is another"
            )
        return lines


def plan_buckets(files: Iterable[Source], config: SelectionConfig) -> list[Bucket]:
    """The buckets of every split. Their number depends on the input's size alone, never on the number of workers."""
    megabytes = sum(file.num_bytes for file in files) / 2**20
    # A small input gets smaller buckets, so that there are enough for several workers.
    size = min(config.bucket_megabytes, max(1.0, megabytes / 8))
    buckets = []
    for split, fraction in config.fractions().items():
        if fraction:
            count = max(1, math.ceil(fraction * megabytes / size))
            buckets += [Bucket(split, number, count) for number in range(count)]
    return buckets


def spill(
    files: Sequence[Source],
    source_config: SourceConfig,
    config: SelectionConfig,
    salt: bytes,
    buckets: list[Bucket],
    directory: Path,
    progress: Callable[[int], None] = lambda num_notes: None,
    with_groups: bool = False,
) -> Spilled:
    """Read all files and write each note kept to its bucket's file in `directory`.

    `progress` is called now and then with the number of notes read so far. `with_groups`: return `train_groups`.
    Raises `UserError` for unreadable input, for a selection that was not met, and where nothing is left.
    """
    report, met = Spilled(), Met()
    patients_by_category: defaultdict[str, set[str]] = defaultdict(set)
    patients, alike = DigestSet(), DigestSet()
    counts = Counter(bucket.split for bucket in buckets)
    for bucket in buckets:
        (directory / bucket.file_name).unlink(missing_ok=True)  # a killed run's
    writer = _Writer(directory, buckets)
    for note in select(read_all(files, source_config, report), config, report.drops, met):
        split = config.split_rule.split_of(note.patient_id)
        writer.write(Bucket(split, bucket_of(note.patient_id, counts[split], salt), counts[split]), note)
        if patients.add(content_digest(note.patient_id)):
            if (uniform := config.split_rule.uniform_of(note.patient_id)) >= config.test_fraction:
                bisect.insort(report.next_uniforms, uniform)
                del report.next_uniforms[NUM_UNIFORMS:]
            if with_groups and split == "train":
                report.train_groups.append(patient_group(note.patient_id, salt))
            report.num_lookalikes += not alike.add(content_digest(without_lookalikes(note.patient_id)))
        report.kept[split][note.category] += 1
        if len(patients_of := patients_by_category[note.category]) < MIN_PATIENTS:
            patients_of.add(note.patient_id)
        report.num_read += 1
        report.num_undecodable += note_readers.is_undecodable(note)
        if report.num_read % 1024 == 0:
            progress(report.num_read)
    writer.close()
    report.patients_by_category = {category: len(of) for category, of in patients_by_category.items()}
    report.num_read += sum(report.drops.values())
    progress(report.num_read)
    report.check(files, source_config, config, met)
    return report


def read_all(files: Iterable[Source], config: SourceConfig, report: Spilled) -> Iterator[Note]:
    """The notes of all files, one file after the other; counts the rest in the `report`."""
    for file in files:
        num_notes, num_dropped = 0, report.drops.total()
        for note in note_readers.read(file, config, report.drops):
            num_notes += 1
            yield note
        report.num_empty_files += not num_notes and report.drops.total() == num_dropped


def load_bucket(path: Path) -> list[Note]:
    """The notes of a spill file sorted by patient, time and row: the same list in whatever order they were written."""
    notes = []
    data = path.read_bytes() if path.exists() else b""  # a bucket that no patient fell in has no file
    at = 0
    while at < len(data):
        lengths = _LENGTHS.unpack_from(data, at)
        at += _LENGTHS.size
        values = []
        for length in lengths:
            values.append(data[at : at + length].decode("utf-8", "surrogatepass"))
            at += length
        notes.append(Note(*values))
    notes.sort(key=lambda note: (note.patient_id, note.time, len(note.row_id), note.row_id, note.text))
    return notes


class _Writer:
    """Appends notes to spill files, holding back some megabytes so that hundreds of files need not stay open."""

    def __init__(self, directory: Path, buckets: list[Bucket]) -> None:
        self._directory = directory
        self._held: dict[Bucket, list[bytes]] = {bucket: [] for bucket in buckets}
        self._num_bytes = 0

    def write(self, bucket: Bucket, note: Note) -> None:
        record = encode_note(note)
        self._held[bucket].append(record)
        self._num_bytes += len(record)
        if self._num_bytes > _BUFFER_BYTES:
            self.close()

    def close(self) -> None:
        for bucket, records in self._held.items():
            if records:
                with (self._directory / bucket.file_name).open("ab") as file:
                    file.write(b"".join(records))
                records.clear()
        self._num_bytes = 0


def encode_note(note: Note) -> bytes:
    """A note as a record of a spill file: five lengths, then the five fields in UTF-8."""
    values = (note.row_id, note.patient_id, note.time, note.category, note.text)
    encoded = [value.encode("utf-8", "surrogatepass") for value in values]
    return _LENGTHS.pack(*map(len, encoded)) + b"".join(encoded)
