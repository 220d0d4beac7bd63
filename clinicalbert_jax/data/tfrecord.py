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
            offsets = np.fromfile(index_path, "<u8").astype(np.int64)
            with self.path.open("rb") as file:
                size = self.path.stat().st_size
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        except OSError as error:
            raise UserError(f"expected the shard {path} and its {INDEX_SUFFIX}: {error.strerror}") from None
        fits = offsets.size >= 1 and offsets[0] == 0 and offsets[-1] == size
        if not fits or (np.diff(offsets) < _HEADER_BYTES + _FOOTER_BYTES).any():
            raise UserError(f"{index_path} does not fit its shard of {size} bytes: prepare the data again")
        self._offsets = offsets.data

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def payload(self, record: int) -> bytes:
        """The bytes of one Example, its length and checksums verified; raises `CorruptRecordError`."""
        framed = self._data[self._offsets[record] : self._offsets[record + 1]]
        payload = framed[_HEADER_BYTES:-_FOOTER_BYTES]
        if framed != _framed(payload):
            raise CorruptRecordError(self.path, record, "its length or one of its checksums is wrong")
        return payload

    def read(self, records: Sequence[int] | npt.NDArray[np.integer]) -> Arrays:
        """Feature name → NxM, as `Records.read`; raises `CorruptRecordError`."""
        return Records([self]).read(np.asarray(records, np.int64))


class Records:
    """The records of several shards of the same features, numbered consecutively in the order of the shards."""

    def __init__(self, shards: Sequence[Shard]):
        self.shards = list(shards)
        self._ends = np.cumsum([len(shard) for shard in shards], dtype=np.int64)
        self._firsts = self._ends - np.array([len(shard) for shard in shards])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def locate(self, records_N: npt.NDArray[np.int64]) -> list[tuple[Shard, int]]:
        """The shard of each record, and its number there."""
        shards_N = np.searchsorted(self._ends, records_N, side="right")
        numbers_N = records_N - self._firsts[shards_N]
        return [(self.shards[s], number) for s, number in zip(shards_N.tolist(), numbers_N.tolist(), strict=True)]

    def read(self, records_N: npt.NDArray[np.int64]) -> Arrays:
        """Feature name → NxM: float32, or integers as `decode` returns them.

        Verifies lengths and checksums; raises `CorruptRecordError` on the first record that is wrong.
        """
        located = self.locate(records_N)
        try:
            return decode([shard.payload(number) for shard, number in located], self.shards[0].features)
        except MalformedError as error:
            shard, number = located[error.row]
            raise CorruptRecordError(shard.path, number, error.reason) from None


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
    return _header(len(payload)) + payload + _masked_crc(payload)


@functools.lru_cache(maxsize=2**16)
def _header(payload_bytes: int) -> bytes:
    length = struct.pack("<Q", payload_bytes)
    return length + _masked_crc(length)


def _masked_crc(data: bytes) -> bytes:
    """The CRC-32C as TFRecord stores it: rotated and shifted, since a CRC of data that hold CRCs is weak."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF).to_bytes(4, "little")
