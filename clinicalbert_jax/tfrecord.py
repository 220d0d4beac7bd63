"""TFRecord shards of fixed-shape Examples, written and read by the batch in numpy, without TensorFlow.

A record is a length (uint64), its masked CRC-32C, the payload and its masked CRC-32C, all little-endian. The
payload is a `tf.train.Example` whose features stand in the order of the schema. Up to its last integer
feature such an Example is a run of base-128 varints of constant number, since every tag and every letter of a
name is a one-byte varint too; what follows (the float features) has a constant size. So whole batches are
coded with a few numpy calls, and a record that does not have this form is refused.

Shape legend: N records, M values of a feature, C varints of a record (its columns), T bytes of its tail.
"""

import functools
import mmap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np
import numpy.typing as npt

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.schema import Feature

INDEX_SUFFIX = ".index"
_HEADER_BYTES = 12
_FOOTER_BYTES = 4
_MAX_VARINT_BYTES = 9  # our integers are below 2^63; ten bytes are a negative number, which no feature has
_WRITE_ROWS = 1024  # encoded at a time, so that the working arrays stay in the cache

Features = Mapping[str, Feature]
Arrays = dict[str, npt.NDArray]


class CorruptRecordError(UserError):
    """A record that cannot be read: `path` and `record` say which, the message what is wrong with it."""

    def __init__(self, path: Path | str, record: int, reason: str):
        self.path, self.record, self.reason = path, record, reason
        super().__init__(f"record {record} of {path}: {reason}; prepare the data again, or restore the file")

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.record, self.reason)


class MalformedError(ValueError):
    """Row `row` of a batch is not an Example of the expected features."""

    def __init__(self, row: int, reason: str):
        self.row, self.reason = row, reason
        super().__init__(f"row {row}: {reason}")


class Shard:
    """A TFRecord file with its offset index, open for random access; the file is memory-mapped.

    Raises `UserError` where the file or its index is missing, or the index does not fit the file.
    """

    def __init__(self, path: Path, features: Features):
        self.path, self.features = Path(path), dict(features)
        index_path = self.path.with_name(self.path.name + INDEX_SUFFIX)
        try:
            self._offsets = np.fromfile(index_path, "<u8").astype(np.int64)
            with self.path.open("rb") as file:
                size = self.path.stat().st_size
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        except OSError as error:
            raise UserError(f"expected the shard {path} and its {INDEX_SUFFIX}: {error.strerror}") from None
        fits = self._offsets.size >= 1 and self._offsets[0] == 0 and self._offsets[-1] == size
        if not fits or (np.diff(self._offsets) < _HEADER_BYTES + _FOOTER_BYTES).any():
            raise UserError(f"{index_path} does not fit its shard of {size} bytes: prepare the data again")

    def __len__(self) -> int:
        return self._offsets.size - 1

    def payload(self, index: int) -> bytes:
        """The bytes of one Example, its lengths and checksums verified; raises `CorruptRecordError`."""
        start, end = int(self._offsets[index]), int(self._offsets[index + 1])
        record = self._bytes[start:end]
        payload = record[_HEADER_BYTES:-_FOOTER_BYTES]
        if record[:_HEADER_BYTES] != _header(len(payload)):
            raise CorruptRecordError(self.path, index, "its length or the checksum of its length is wrong")
        if record[-_FOOTER_BYTES:] != _masked_crc(payload):
            raise CorruptRecordError(self.path, index, "its checksum is wrong")
        return payload

    def read(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> Arrays:
        """Feature name → NxM int64 or float32, for the records `indices`; raises `CorruptRecordError`."""
        indices = [int(index) for index in indices]
        try:
            return decode([self.payload(index) for index in indices], self.features)
        except MalformedError as error:
            raise CorruptRecordError(self.path, indices[error.row], error.reason) from None


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
    form = _form(tuple(features.items()))
    rows = len(arrays[form.integers[0]])
    values = {name: np.asarray(arrays[name]).reshape(rows, -1) for name in features}
    counts = {name: _varint_bytes(values[name]) for name in form.integers}
    lengths = _nested_lengths(form, {name: count.sum(axis=1, dtype=np.int64) for name, count in counts.items()})

    # One byte matrix with room for the widest value in every column, and which of its bytes are used. Constant bytes
    # are the same in every row; the other blocks are put over them.
    template = bytearray(_HEADER_BYTES)
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
    template += bytes(_FOOTER_BYTES)
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


def decode(payloads: Sequence[bytes], features: Features) -> Arrays:
    """Feature name → NxM int64 or float32. Raises `MalformedError` on the first Example of another form."""
    form = _form(tuple(features.items()))
    if not payloads:
        return {name: np.zeros((0, feature.length), feature.dtype) for name, feature in features.items()}
    split = [len(payload) - form.tail_T.size for payload in payloads]
    for row, end in enumerate(split):
        if end < form.template_C.size:
            raise MalformedError(row, "it is shorter than an example of these features")
    head = np.frombuffer(b"".join([p[:end] for p, end in zip(payloads, split, strict=True)]), np.uint8)
    tails = b"".join([p[end:] for p, end in zip(payloads, split, strict=True)])
    tail_NxT = np.frombuffer(tails, np.uint8).reshape(len(payloads), form.tail_T.size)

    ends_N = np.cumsum(split)
    last_NxC = _varint_ends(head, ends_N, form.template_C.size)
    size_NxC = np.diff(last_NxC.ravel(), prepend=-1).reshape(last_NxC.shape)
    low_NxC = head[last_NxC]
    wrong_NxC = (size_NxC > form.max_size_C) | ((low_NxC ^ form.template_C) & form.constant_C).astype(np.bool_)
    _refuse(wrong_NxC.any(axis=1), "its bytes are not an example of the dataset's features")
    _refuse(((tail_NxT ^ form.tail_T) & form.constant_T).any(axis=1), "its float features are not the dataset's")

    def integers(columns: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        values, sizes = low_NxC[:, columns].astype(np.int64), size_NxC[:, columns]
        for back in range(1, int(sizes.max(initial=1))):
            higher = values << 7 | head[last_NxC[:, columns] - back] & 0x7F
            values = np.where(sizes > back, higher, values)
        return values

    # Every length must be what lies between it and the end of what it counts.
    tail_bytes_F = np.where(form.length_ends == form.template_C.size - 1, form.length_tails, 0)
    expected_NxF = last_NxC[:, form.length_ends] - last_NxC[:, form.length_columns] + tail_bytes_F
    _refuse((integers(form.length_columns) != expected_NxF).any(axis=1), "a length in it is wrong")

    arrays: Arrays = {}
    for name, feature in features.items():
        start = form.starts[name]
        if feature.dtype == "int64":
            arrays[name] = integers(slice(start, start + feature.length))
        else:
            floats_NxM = np.ascontiguousarray(tail_NxT[:, start : start + 4 * feature.length]).view("<f4")
            arrays[name] = floats_NxM.astype(np.float32)
    return arrays


class Length(NamedTuple):
    """A varint that counts the bytes of what follows it: of the example, or of one feature at one depth."""

    feature: str
    depth: int  # 0: the example; 1: the map entry; 2: its value; 3: the list; 4: the packed values


class _Form(NamedTuple):
    """What all Examples of some features have in common; see the module's docstring."""

    pieces: tuple[bytes | str | Length, ...]  # in order: constant bytes, values of a feature, lengths
    integers: tuple[str, ...]
    names: tuple[str, ...]
    starts: dict[str, int]  # first column of an integer feature; first byte in the tail of a float one
    template_C: npt.NDArray[np.uint8]
    constant_C: npt.NDArray[np.uint8]  # 0xFF where a column is a constant byte, 0 where a value
    max_size_C: npt.NDArray[np.int64]
    length_columns: npt.NDArray[np.int64]
    length_ends: npt.NDArray[np.int64]  # the column in which what a length counts ends
    length_tails: npt.NDArray[np.int64]  # bytes of the tail that it counts besides
    tail_T: npt.NDArray[np.uint8]
    constant_T: npt.NDArray[np.uint8]


@functools.lru_cache(maxsize=32)
def _form(features: tuple[tuple[str, Feature], ...]) -> _Form:
    integers = tuple(name for name, feature in features if feature.dtype == "int64")
    names = tuple(name for name, _ in features)
    if not integers or names[: len(integers)] != integers or any(f.length < 1 for _, f in features):
        raise ValueError("features must be int64 first and then float32, one int64 at least, none empty")
    pieces: list[bytes | str | Length] = [b"\x0a", Length("", 0)]
    for name, feature in features:
        if not name.isascii() or len(name) > 127:
            raise ValueError(f"feature name {name!r} is not short ASCII")
        key = b"\x0a" + bytes([len(name)]) + name.encode()
        if feature.dtype == "int64":
            pieces += [b"\x0a", Length(name, 1), key + b"\x12", Length(name, 2)]
            pieces += [b"\x1a", Length(name, 3), b"\x0a", Length(name, 4), name]
        else:
            packed = b"\x0a" + _varint(4 * feature.length)
            floats = b"\x12" + _varint(len(packed) + 4 * feature.length) + packed
            value = b"\x12" + _varint(len(floats) + 4 * feature.length) + floats
            pieces += [b"\x0a" + _varint(len(key) + len(value) + 4 * feature.length) + key + value, name]
    return _layout_of(pieces, dict(features), integers, names)


def _layout_of(
    pieces: list[bytes | str | Length],
    features: dict[str, Feature],
    integers: tuple[str, ...],
    names: tuple[str, ...],
) -> _Form:
    first_of_tail = len(pieces) - 2 * (len(names) - len(integers))
    template, constant, max_size, lengths = bytearray(), bytearray(), list[int](), list[tuple[Length, int]]()
    starts: dict[str, int] = {}
    ends: dict[str, int] = {}
    for piece in pieces[:first_of_tail]:
        if isinstance(piece, bytes):
            template, constant = template + piece, constant + b"\xff" * len(piece)
            max_size += [1] * len(piece)
        else:
            if isinstance(piece, str):
                starts[piece] = len(template)
                count = features[piece].length
                ends[piece] = len(template) + count - 1
            else:
                lengths.append((piece, len(template)))
                count = 1
            template, constant = template + bytes(count), constant + bytes(count)
            max_size += [_MAX_VARINT_BYTES] * count
    tail, tail_constant = bytearray(), bytearray()
    for piece in pieces[first_of_tail:]:
        if isinstance(piece, bytes):
            tail, tail_constant = tail + piece, tail_constant + b"\xff" * len(piece)
        else:
            assert isinstance(piece, str)
            starts[piece] = len(tail)
            tail, tail_constant = (array + bytes(4 * features[piece].length) for array in (tail, tail_constant))
    return _Form(
        pieces=tuple(pieces),
        integers=integers,
        names=names,
        starts=starts,
        template_C=np.frombuffer(bytes(template), np.uint8),
        constant_C=np.frombuffer(bytes(constant), np.uint8),
        max_size_C=np.array(max_size),
        length_columns=np.array([column for _, column in lengths]),
        length_ends=np.array([ends.get(length.feature, len(template) - 1) for length, _ in lengths]),
        length_tails=np.array([len(tail) if length.depth == 0 else 0 for length, _ in lengths]),
        tail_T=np.frombuffer(bytes(tail), np.uint8),
        constant_T=np.frombuffer(bytes(tail_constant), np.uint8),
    )


def _nested_lengths(form: _Form, packed: dict[str, npt.NDArray[np.int64]]) -> dict[Length, npt.NDArray[np.int64]]:
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


def _varint_ends(head: npt.NDArray[np.uint8], ends_N: npt.NDArray, columns: int) -> npt.NDArray[np.int64]:
    """NxC positions of the last byte of each varint; raises `MalformedError` where a record has another
    number.
    """
    last = np.flatnonzero(head < 0x80)
    if last.size == ends_N.size * columns:
        last_NxC = last.reshape(ends_N.size, columns)
        if (last_NxC[:, -1] == ends_N - 1).all():
            return last_NxC
    found_N = np.diff(np.searchsorted(last, ends_N), prepend=0)
    _refuse((found_N != columns) | (head[ends_N - 1] >= 0x80), "it does not have the dataset's number of values")
    raise AssertionError("unreachable: every record has its number of varints")


def _refuse(wrong_N: npt.ArrayLike, reason: str) -> None:
    if np.any(wrong_N):
        raise MalformedError(int(np.argmax(wrong_N)), reason)


def _frame(records: bytearray, ends_N: npt.NDArray[np.int64]) -> None:
    """Fill in the header and footer of each record, in place."""
    view = memoryview(records)
    start = 0
    for end in ends_N.tolist():
        first, last = start + _HEADER_BYTES, end - _FOOTER_BYTES
        view[start:first] = _header(last - first)
        view[last:end] = _masked_crc(bytes(view[first:last]))
        start = end


@functools.lru_cache(maxsize=65536)
def _header(length: int) -> bytes:
    encoded = length.to_bytes(8, "little")
    return encoded + _masked_crc(encoded)


def _masked_crc(payload: bytes) -> bytes:
    crc = google_crc32c.value(payload)
    return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded) + bytes([value])
