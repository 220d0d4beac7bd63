"""TFRecord shards of fixed-shape Examples, written and read in numpy, without TensorFlow.

A record is a length (uint64), its masked CRC-32C, the payload and its masked CRC-32C, all little-endian. The payload
is a `tf.train.Example` (see `example_wire_format`). Records are read and checked one at a time; their payloads are
decoded as a batch.

Shape legend: N records, M values of a feature.
"""

import functools
import itertools
import mmap
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import google_crc32c
import numpy as np
import numpy.typing as npt

from clinicalbert_jax.data import example_encoder
from clinicalbert_jax.data.example_decoder import MalformedError, decode
from clinicalbert_jax.data.example_wire_format import Arrays, Features
from clinicalbert_jax.errors import UserError

INDEX_SUFFIX = ".index"
_HEADER_BYTES = 12  # the length and its checksum
_FOOTER_BYTES = 4  # the checksum of the payload
_ROWS_PER_WRITE = 1024  # rows encoded at a time, so that the working arrays stay in the cache


class CorruptRecordError(UserError):
    """A record that cannot be read: `path` and `record` say which one, `reason` what is wrong with it."""

    def __init__(self, path: Path | str, record: int, reason: str):
        self.path, self.record, self.reason = path, record, reason
        super().__init__(f"record {record} of {path}: {reason}; prepare the data again, or restore the file")

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.record, self.reason)


class Shard:
    """A TFRecord file with its offset index, open for random access; the file is memory-mapped.

    Raises `UserError` where the file or its index is missing, or the index does not fit the file.
    """

    def __init__(self, path: Path, features: Features):
        self.path, self.features = Path(path), dict(features)
        index_path = self.path.with_name(self.path.name + INDEX_SUFFIX)
        try:
            self.offsets = np.fromfile(index_path, "<u8").astype(np.int64)
            with self.path.open("rb") as file:
                size = self.path.stat().st_size
                self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        except OSError as error:
            raise UserError(f"expected the shard {path} and its {INDEX_SUFFIX}: {error.strerror}") from None
        fits = self.offsets.size >= 1 and self.offsets[0] == 0 and self.offsets[-1] == size
        if not fits or (np.diff(self.offsets) < _HEADER_BYTES + _FOOTER_BYTES).any():
            raise UserError(
                f"{path}: expected as many bytes as its {INDEX_SUFFIX} says, found {size:,}, so that one of the two is "
                "truncated or another's: restore both or prepare the data again"
            )

    def __len__(self) -> int:
        return self.offsets.size - 1

    def read(self, records: Sequence[int] | npt.NDArray[np.integer]) -> Arrays:
        """Feature name → NxM, as `Records.read`; raises `CorruptRecordError`."""
        return Records([self]).read(np.asarray(records, np.int64))


class Records:
    """The records of several shards of the same features, numbered consecutively in the order of the shards."""

    def __init__(self, shards: Sequence[Shard]):
        self.shards = list(shards)
        self._data = [shard.data for shard in shards]
        self._offsets = np.concatenate([shard.offsets for shard in shards])
        self._ends = np.cumsum([len(shard) for shard in shards], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def locate(self, record: int) -> tuple[Path, int]:
        """The file of a record, and its number there."""
        shard = int(np.searchsorted(self._ends, record, side="right"))
        return self.shards[shard].path, record - int(self._ends[shard]) + len(self.shards[shard])

    def read(self, records_N: npt.NDArray[np.int64]) -> Arrays:
        """Feature name → NxM: float32, or integers as `decode` returns them.

        Verifies lengths and checksums; raises `CorruptRecordError` on the first record that is wrong.
        """
        try:
            return decode(self.payloads(records_N), self.shards[0].features)
        except MalformedError as error:
            raise CorruptRecordError(*self.locate(int(records_N[error.row])), error.reason) from None

    def payloads(self, records_N: npt.NDArray[np.int64]) -> list[bytes]:
        """The bytes of each Example, as `read` verifies them."""
        shards_N = np.searchsorted(self._ends, records_N, side="right")
        at_N = records_N + shards_N  # among the offsets, of which each shard has one more than records
        bounds = zip(shards_N.tolist(), self._offsets[at_N].tolist(), self._offsets[at_N + 1].tolist(), strict=True)
        records = [self._data[shard][start:end] for shard, start, end in bounds]
        payloads = [record[_HEADER_BYTES:-_FOOTER_BYTES] for record in records]
        headers = [_header(len(payload)) for payload in payloads]
        are_right = [record[:_HEADER_BYTES] for record in records] == headers
        if not are_right or b"".join([record[-_FOOTER_BYTES:] for record in records]) != _footers(payloads):
            row = next(row for row, payload in enumerate(payloads) if records[row] != _framed(payload))
            raise CorruptRecordError(*self.locate(int(records_N[row])), "its length or one of its checksums is wrong")
        return payloads


def write_shard(path: Path, batches: Iterable[Arrays], features: Features) -> int:
    """Write the records of `batches` (feature name → NxM) to `path` and their offsets beside it; returns how many.

    Values of int64 features must lie in [0, 2^63).
    """
    sizes = [0]
    with path.open("wb") as file:
        for batch in batches:
            for start in range(0, len(next(iter(batch.values()))), _ROWS_PER_WRITE):
                rows = {name: batch[name][start : start + _ROWS_PER_WRITE] for name in features}
                records = encode(rows, features)
                file.write(b"".join(records))
                sizes += map(len, records)
    np.cumsum(sizes, dtype="<u8").tofile(path.with_name(path.name + INDEX_SUFFIX))
    return len(sizes) - 1


def encode(arrays: Mapping[str, npt.NDArray], features: Features) -> list[bytes]:
    """One record for each row of `arrays` (feature name → NxM)."""
    payloads, ends_N = example_encoder.encode(arrays, features)
    return [_framed(payloads[start:end]) for start, end in itertools.pairwise([0, *ends_N.tolist()])]


def _framed(payload: bytes) -> bytes:
    return _header(len(payload)) + payload + _footers([payload])


@functools.lru_cache(maxsize=2**16)
def _header(payload_bytes: int) -> bytes:
    length = struct.pack("<Q", payload_bytes)
    return length + _footers([length])


def _footers(payloads: Sequence[bytes]) -> bytes:
    """The CRC-32C of each payload as TFRecord stores it: rotated and shifted, since CRCs of data with CRCs are weak."""
    crcs_N = np.array([google_crc32c.value(payload) for payload in payloads], np.uint32)
    return ((crcs_N >> 15 | crcs_N << 17) + np.uint32(0xA282EAD8)).astype("<u4").tobytes()
