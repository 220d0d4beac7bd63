"""Stage 1: one streaming pass from sources to spill files, one for each bucket of patients of each split.

Every note read is spilled or counted under a reason. Splits and buckets are a keyed hash of the patient's
identifier, so all notes of a patient lie in one bucket of one split, whatever else is in the input.
"""

import hashlib
import math
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from clinicalbert_jax.data.patients import identifier
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.options import option
from data_prep.reading import sources
from data_prep.reading.sources import Note, Source, SourceConfig

SPLITS = ("train", "validation", "test")

_BUFFER_BYTES = 16 << 20  # spilled text held in memory, over all buckets together
_LENGTHS = struct.Struct("<5I")


@dataclass(frozen=True)
class SelectionConfig:
    """Which notes are taken, and how patients are dealt out.

    `categories` () takes all. `exclude_patients` is a file of identifiers, one a line. `salt` keys every hash of a
    patient's identifier: splits, buckets and `patient_group`.
    """

    categories: tuple[str, ...] = option("Read notes of these categories only.", ())
    exclude_patients: str = option("A file of patients to leave out, one identifier a line.", "")
    validation_fraction: float = option("The fraction of patients in the validation split.", 0.05)
    test_fraction: float = option("The fraction of patients in the test split.", 0.05)
    bucket_megabytes: float = option("Text in a bucket; a worker holds one at a time.", 6.0)
    salt: str = option("Keys the hashes of patients' identifiers.", "clinicalbert_jax")

    def __post_init__(self) -> None:
        for name in ("validation_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"--{name}: expected a fraction in [0, 1), found {getattr(self, name)}")
        if self.validation_fraction + self.test_fraction >= 1:
            raise UserError("--validation_fraction and --test_fraction: expected a sum under 1, so that some is left")
        if not self.bucket_megabytes > 0:
            raise UserError(f"--bucket_megabytes: expected a positive size, found {self.bucket_megabytes}")

    @property
    def key(self) -> bytes:
        """The key of every hash that tells of a patient."""
        return hashlib.blake2b(self.salt.encode(), digest_size=32).digest()

    def fractions(self) -> dict[str, float]:
        """The fraction of patients in each split."""
        held_out = self.validation_fraction + self.test_fraction
        return {"train": 1 - held_out, "validation": self.validation_fraction, "test": self.test_fraction}


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

    `num_undecodable` counts notes kept that hold bytes which are none of the encoding's (they are left out).
    """

    num_read: int = 0
    num_undecodable: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    kept: dict[str, Counter[str]] = field(default_factory=lambda: {split: Counter() for split in SPLITS})

    @property
    def categories(self) -> tuple[str, ...]:
        """Every category kept, in alphabetical order."""
        return tuple(sorted(set().union(*self.kept.values())))

    def require_notes(self) -> None:
        """Raise `UserError` where nothing is left."""
        if not any(self.kept.values()):
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.drops.most_common())
            raise UserError(
                f"--input: expected notes, found none to keep among {self.num_read} ({reasons or 'no rows'})"
            )


def plan_buckets(files: Iterable[Source], config: SelectionConfig) -> list[Bucket]:
    """The buckets of every split. Their number depends on the input's size alone, never on who will work on them."""
    megabytes = sum(file.num_bytes for file in files) / 2**20
    # A small input is cut finer, so that two workers or four have enough to share.
    size = min(config.bucket_megabytes, max(1.0, megabytes / 8))
    buckets = []
    for split, fraction in config.fractions().items():
        if fraction:
            count = max(1, math.ceil(fraction * megabytes / size))
            buckets += [Bucket(split, number, count) for number in range(count)]
    return buckets


def spill(
    files: Iterable[Source],
    source_config: SourceConfig,
    config: SelectionConfig,
    buckets: list[Bucket],
    directory: Path,
    progress: Callable[[int], None] = lambda num_notes: None,
) -> Spilled:
    """Read all files and write each note kept to its bucket's file in `directory`.

    `progress` is called now and then with the number of notes read so far. Raises `UserError` for unreadable input,
    and where nothing is left.
    """
    report = Spilled()
    counts = Counter(bucket.split for bucket in buckets)
    for bucket in buckets:
        (directory / bucket.file_name).unlink(missing_ok=True)  # a killed run's
    writer = _Writer(directory, buckets)
    for note in select(read_all(files, source_config, report.drops), config, report.drops):
        split = split_of(note.patient_id, config)
        writer.write(Bucket(split, bucket_of(note.patient_id, counts[split], config), counts[split]), note)
        report.kept[split][note.category] += 1
        report.num_read += 1
        report.num_undecodable += "\ufffd" in note.text
        if report.num_read % 1024 == 0:
            progress(report.num_read)
    writer.close()
    report.num_read += sum(report.drops.values())
    progress(report.num_read)
    report.require_notes()
    return report


def read_all(files: Iterable[Source], config: SourceConfig, drops: Counter[str]) -> Iterator[Note]:
    """The notes of all files, one file after the other."""
    for file in files:
        yield from sources.read(file, config, drops)


def select(notes: Iterable[Note], config: SelectionConfig, drops: Counter[str]) -> Iterator[Note]:
    """The notes wanted: of the categories asked for, not of excluded patients, not empty, and each text once."""
    categories = {category.strip().lower() for category in config.categories}
    excluded = excluded_patients(config)
    seen = DigestSet()
    for note in notes:
        if categories and note.category.lower() not in categories:
            drops["other category"] += 1
        elif note.patient_id in excluded:
            drops["excluded patient"] += 1
        elif not note.text or note.text.isspace():
            drops["empty"] += 1
        elif not seen.add(content_digest(note.text)):
            drops["exact duplicate"] += 1
        else:
            yield note


def content_digest(text: str) -> bytes:
    """The 128-bit hash by which exact duplicates are known: of the text, differences of white space aside."""
    content = " ".join(text.split())
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class DigestSet:
    """A set of 128-bit digests in about 25 bytes each, where Python's own set takes 120.

    Digests with the same first two bytes lie one after the other in one byte string, which is searched through: some
    thirty digests at two million notes.
    """

    def __init__(self) -> None:
        self._rests: list[bytearray | None] = [None] * 65536

    def add(self, digest: bytes) -> bool:
        """Add a digest; False if it was there already."""
        prefix, rest = int.from_bytes(digest[:2], "big"), digest[2:]
        rests = self._rests[prefix]
        if rests is None:
            self._rests[prefix] = bytearray(rest)
            return True
        at = rests.find(rest)
        while at != -1 and at % len(rest):  # found astride of two digests
            at = rests.find(rest, at + 1)
        if at != -1:
            return False
        rests += rest
        return True


def split_of(patient_id: str, config: SelectionConfig) -> str:
    """The split of a patient: the same in every run, on every machine, with whatever other input."""
    uniform = _hash(patient_id, config, b"split") / 2**64
    if uniform < config.test_fraction:
        return "test"
    if uniform < config.test_fraction + config.validation_fraction:
        return "validation"
    return "train"


def bucket_of(patient_id: str, count: int, config: SelectionConfig) -> int:
    """The number, among `count`, of the bucket of a patient within their split."""
    return _hash(patient_id, config, b"bucket") % count


def patient_group(patient_id: str, config: SelectionConfig) -> int:
    """The 48-bit hash that stands for a patient in the examples."""
    return _hash(patient_id, config, b"group") >> 16


def _hash(patient_id: str, config: SelectionConfig, purpose: bytes) -> int:
    identifier = patient_id.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(identifier, digest_size=8, key=config.key, person=purpose).digest(), "big")


def excluded_patients(config: SelectionConfig) -> frozenset[str]:
    """The identifiers in the file of `exclude_patients`; raises `UserError` where it cannot be read."""
    path = config.exclude_patients
    if not path:
        return frozenset()
    try:
        lines = Path(path).expanduser().read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--exclude_patients: expected a file of identifiers, one a line, found {path} ({type(error).__name__})"
        ) from None
    return frozenset(filter(None, map(identifier, lines)))


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
    """A note as it lies in a spill file: five lengths, then the five fields in UTF-8."""
    values = (note.row_id, note.patient_id, note.time, note.category, note.text)
    encoded = [value.encode("utf-8", "surrogatepass") for value in values]
    return _LENGTHS.pack(*map(len, encoded)) + b"".join(encoded)
