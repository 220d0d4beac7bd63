"""TFRecord shards of fixed-shape Examples, written and read by the batch in numpy, without TensorFlow.

A record is a length (uint64), its masked CRC-32C, the payload and its masked CRC-32C, all little-endian. The
payload is a `tf.train.Example` of a form (`example_form`) that lets whole batches be coded with a few numpy calls.

Shape legend: N records, M values of a feature, W bytes of a row with room for the longest record or the widest values.
"""

import mmap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from clinicalbert_jax.data import crc32c
from clinicalbert_jax.data.crc32c import FOOTER_BYTES, HEADER_BYTES
from clinicalbert_jax.data.example_decoder import Bytes, MalformedError, decode, decode_within, slack, windows
from clinicalbert_jax.data.example_wire_format import Arrays, Features, Form, Length, form_of, most_bytes
from clinicalbert_jax.errors import UserError

INDEX_SUFFIX = ".index"
_WRONG_HEADER = "its length or the checksum of its length is wrong"
_WRONG_FOOTER = "its checksum is wrong"
_WRITE_ROWS = 1024  # encoded at a time, so that the working arrays stay in the cache

__all__ = ["CorruptRecordError", "MalformedError", "Records", "Shard", "decode", "encode", "write_shard"]


class CorruptRecordError(UserError):
    """A record that cannot be read: `path` and `record` say which, the message what is wrong with it."""

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
                self.data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")
        except OSError as error:
            raise UserError(f"expected the shard {path} and its {INDEX_SUFFIX}: {error.strerror}") from None
        fits = self.offsets.size >= 1 and self.offsets[0] == 0 and self.offsets[-1] == size
        if not fits or (np.diff(self.offsets) < HEADER_BYTES + FOOTER_BYTES).any():
            raise UserError(f"{index_path} does not fit its shard of {size} bytes: prepare the data again")

    def __len__(self) -> int:
        return self.offsets.size - 1

    def payload(self, index: int) -> bytes:
        """The bytes of one Example, its length and checksums verified; raises `CorruptRecordError`."""
        record = bytes(self.data[self.offsets[index] : self.offsets[index + 1]])
        payload = record[HEADER_BYTES:-FOOTER_BYTES]
        if record[:HEADER_BYTES] != crc32c.headers(np.array([len(payload)])).tobytes():
            raise CorruptRecordError(self.path, index, _WRONG_HEADER)
        crc = crc32c.of_each(payload, [0], [len(payload)])
        if record[-FOOTER_BYTES:] != crc32c.masked(crc).astype("<u4").tobytes():
            raise CorruptRecordError(self.path, index, _WRONG_FOOTER)
        return payload

    def read(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> Arrays:
        """Feature name → NxM, as `Records.read`; raises `CorruptRecordError`."""
        return Records([self]).read(np.asarray(indices, np.int64))


class Records:
    """The records of shards of the same features, numbered through, in the order of the shards."""

    def __init__(self, shards: Sequence[Shard]):
        self.shards = list(shards)
        self._features = self.shards[0].features
        self._offsets = np.concatenate([shard.offsets for shard in shards])
        self._ends = np.cumsum([len(shard) for shard in shards], dtype=np.int64)
        self._firsts = self._ends - np.array([len(shard) for shard in shards])
        self._memory = _Memory([shard.data for shard in shards])
        largest = max(int(np.diff(shard.offsets).max(initial=HEADER_BYTES + FOOTER_BYTES)) for shard in shards)
        # An index that is wrong may tell of a record of any size.
        self._width = min(largest, HEADER_BYTES + most_bytes(self._features) + FOOTER_BYTES)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def locate(self, records_N: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The shard of each record, and its number there."""
        shards_N = np.searchsorted(self._ends, records_N, side="right")
        return shards_N, records_N - self._firsts[shards_N]

    def read(self, records_N: npt.NDArray[np.int64]) -> Arrays:
        """Feature name → NxM: float32, or integers, as `decode` gives them.

        Verifies lengths and checksums; raises `CorruptRecordError` on the first record that is wrong.
        """
        shards_N, numbers_N = self.locate(records_N)
        places_N = records_N + shards_N  # a shard has one offset more than records
        ends_N = self._offsets[places_N + 1]
        sizes_N = ends_N - self._offsets[places_N]
        try:
            if (sizes_N > self._width).any():
                raise MalformedError(int(np.argmax(sizes_N > self._width)), _WRONG_HEADER)
            return _read_rows(self._memory.before(shards_N, ends_N, self._width), sizes_N, self._features)
        except MalformedError as error:
            path, number = self.shards[shards_N[error.row]].path, int(numbers_N[error.row])
            raise CorruptRecordError(path, number, error.reason) from None


class _Memory:
    """Memory-mapped files, read from by one call for all: as one array, from the lowest of their addresses on.

    What lies between the files is never touched.
    """

    def __init__(self, files: Sequence[memoryview]):
        self._files = [np.frombuffer(file, np.uint8) for file in files]
        addresses = np.array([file.ctypes.data for file in self._files], np.int64)
        self._lowest = self._files[int(np.argmin(addresses))]
        self._starts = addresses - addresses.min()
        self._size = int((self._starts + [file.size for file in self._files]).max())

    def before(self, files_N: npt.NDArray[np.int64], ends_N: npt.NDArray[np.int64], width: int) -> Bytes:
        """NxW: the `width` bytes before each end; what would lie before the start of the file is 0."""
        memory = as_strided(self._lowest, (self._size,), (1,), writeable=False)
        starts_N = self._starts[files_N] + ends_N - width
        outside_N = ends_N < width
        if not outside_N.any():
            return windows(memory, starts_N, width)
        rows_NxW = np.zeros((len(ends_N), width), np.uint8)
        rows_NxW[~outside_N] = windows(memory, starts_N[~outside_N], width)
        for row in np.flatnonzero(outside_N):
            rows_NxW[row, width - ends_N[row] :] = self._files[files_N[row]][: ends_N[row]]
        return rows_NxW


def _read_rows(rows_NxW: Bytes, sizes_N: npt.NDArray[np.int64], features: Features) -> Arrays:
    """What records hold that are the ends of rows, each of its size; raises `MalformedError`. The rows are changed."""
    rows, width = rows_NxW.shape
    ends_N = width * np.arange(1, rows + 1)
    payloads_N, footers_N = ends_N - sizes_N + HEADER_BYTES, ends_N - FOOTER_BYTES
    headers_Nx12 = rows_NxW.reshape(-1)[(payloads_N - HEADER_BYTES)[:, None] + np.arange(HEADER_BYTES)]
    stored_N = rows_NxW[:, width - FOOTER_BYTES :].copy().view("<u4")[:, 0]
    # Whatever lies before a payload does not count.
    before_N = (width - sizes_N + HEADER_BYTES).astype(np.int32)
    longest = int(before_N.max(initial=0))
    rows_NxW[:, :longest] *= np.arange(longest, dtype=np.int32) >= before_N[:, None]

    lengths_N = footers_N - payloads_N
    wrong_header_N = (headers_Nx12 != crc32c.headers(lengths_N)).any(axis=1)
    framed = b"".join([rows_NxW.data, slack(features)])
    if wrong_header_N.any() or not crc32c.all_right(framed, width, lengths_N, stored_N):
        crcs_N = crc32c.of_each(framed, payloads_N.tolist(), footers_N.tolist())
        row = int(np.argmax(wrong_header_N | (crcs_N != crc32c.unmasked(stored_N))))
        raise MalformedError(row, _WRONG_HEADER if wrong_header_N[row] else _WRONG_FOOTER)
    return decode_within(np.frombuffer(framed, np.uint8), payloads_N, footers_N, features)


def write_shard(path: Path, batches: Iterable[Arrays], features: Features) -> int:
    """Write the records of `batches` (feature name → NxM) to `path` and their offsets beside it; returns how
    many.

    Values of int64 features must lie in [0, 2^63).
    """
    offsets = [np.zeros(1, np.int64)]
    with path.open("wb") as file:
        for batch in batches:
            for start in range(0, len(next(iter(batch.values()))), _WRITE_ROWS):
                rows = {name: batch[name][start : start + _WRITE_ROWS] for name in features}
                records, ends_N = encode(rows, features)
                file.write(records)
                offsets.append(offsets[-1][-1] + ends_N)
    offsets_M = np.concatenate(offsets)
    offsets_M.astype("<u8").tofile(path.with_name(path.name + INDEX_SUFFIX))
    return offsets_M.size - 1


def encode(arrays: Mapping[str, npt.NDArray], features: Features) -> tuple[bytearray, npt.NDArray[np.int64]]:
    """Framed records, one after the other, and where each one ends; arrays are NxM by feature name."""
    form = form_of(tuple(features.items()))
    rows = len(arrays[form.integers[0]])
    values = {name: np.asarray(arrays[name]).reshape(rows, -1) for name in features}
    counts = {name: _varint_bytes(values[name]) for name in form.integers}
    lengths = _nested_lengths(form, {name: count.sum(axis=1, dtype=np.int64) for name, count in counts.items()})

    # One byte matrix with room for the widest value in every column, and which of its bytes are used. Constant bytes
    # are the same in every row; the other blocks are put over them.
    template = bytearray(HEADER_BYTES)
    blocks: list[tuple[int, npt.NDArray, npt.NDArray | None]] = []
    for piece in form.pieces:
        if isinstance(piece, bytes):
            template += piece
            continue
        if isinstance(piece, Length):
            lengths_Nx1 = lengths[piece][:, None]
            block, used = _varints(lengths_Nx1, _varint_bytes(lengths_Nx1))
        elif piece in counts:
            block, used = _varints(values[piece], counts[piece])
        else:
            block, used = np.ascontiguousarray(values[piece], "<f4").view(np.uint8), None
        blocks.append((len(template), block, used))
        template += bytes(block.shape[1])
    template += bytes(FOOTER_BYTES)
    bytes_NxW = np.empty((rows, len(template)), np.uint8)
    bytes_NxW[:] = np.frombuffer(bytes(template), np.uint8)
    used_NxW = np.ones(bytes_NxW.shape, np.bool_)
    for column, block, used in blocks:
        bytes_NxW[:, column : column + block.shape[1]] = block
        if used is not None:
            used_NxW[:, column : column + block.shape[1]] = used
    records = bytearray(np.compress(used_NxW.ravel(), bytes_NxW.ravel()))
    ends_N = np.cumsum(used_NxW.sum(axis=1))
    _frame(records, ends_N)
    return records, ends_N


def _nested_lengths(form: Form, packed: dict[str, npt.NDArray[np.int64]]) -> dict[Length, npt.NDArray[np.int64]]:
    """Every length of a batch, N each, from the number of bytes of each integer feature's values."""
    lengths: dict[Length, npt.NDArray[np.int64]] = {}
    total_N = np.full(len(packed[form.integers[0]]), form.tail_T.size, np.int64)
    for name in form.integers:
        inner_N = packed[name]
        lengths[Length(name, 4)] = inner_N
        for depth in (3, 2):
            inner_N = 1 + _varint_bytes(inner_N) + inner_N  # a tag and the length of what was inner
            lengths[Length(name, depth)] = inner_N
        entry_N = 2 + len(name) + 1 + _varint_bytes(inner_N) + inner_N
        lengths[Length(name, 1)] = entry_N
        total_N += 1 + _varint_bytes(entry_N) + entry_N
    lengths[Length("", 0)] = total_N
    return lengths


def _varint_bytes(values: npt.NDArray) -> npt.NDArray[np.uint8]:
    """How many bytes each value takes as a varint."""
    sizes = np.ones(values.shape, np.uint8)
    largest = int(values.max(initial=0))
    if int(values.min(initial=0)) < 0:
        raise ValueError("a negative value in an integer feature")
    bits = 7
    while largest >> bits:
        sizes += values >= 1 << bits
        bits += 7
    return sizes


def _varints(
    values_NxM: npt.NDArray, sizes_NxM: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_] | None]:
    """NxMw bytes, w the widest varint among them, and which of these bytes are used (None: all)."""
    rows, count = values_NxM.shape
    width = int(sizes_NxM.max(initial=1))
    if width == 1:
        return values_NxM.astype(np.uint8), None
    values_NxM = values_NxM.astype(np.uint32 if width <= 4 else np.uint64)
    bytes_NxMxW = np.empty((rows, count, width), np.uint8)
    used_NxMxW = np.empty((rows, count, width), np.bool_)
    for place in range(width):
        more_NxM = sizes_NxM > place + 1
        bytes_NxMxW[:, :, place] = ((values_NxM >> (7 * place)) & 0x7F).astype(np.uint8) | (
            more_NxM.view(np.uint8) << 7
        )
        used_NxMxW[:, :, place] = sizes_NxM > place
    return bytes_NxMxW.reshape(rows, -1), used_NxMxW.reshape(rows, -1)


def _frame(records: bytearray, ends_N: npt.NDArray[np.int64]) -> None:
    """Fill in the header and footer of each record, in place."""
    data, whole = np.frombuffer(records, np.uint8), bytes(records)
    starts_N = np.concatenate([[0], ends_N[:-1]]).astype(np.int64)
    crcs_N = crc32c.of_each(whole, (starts_N + HEADER_BYTES).tolist(), (ends_N - FOOTER_BYTES).tolist())
    headers_Nx12 = crc32c.headers(ends_N - starts_N - HEADER_BYTES - FOOTER_BYTES)
    data[starts_N[:, None] + np.arange(HEADER_BYTES)] = headers_Nx12
    data[ends_N[:, None] + np.arange(-FOOTER_BYTES, 0)] = crc32c.masked(crcs_N).astype("<u4")[:, None].view(np.uint8)
