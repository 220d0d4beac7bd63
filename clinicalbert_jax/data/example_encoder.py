"""A batch of arrays encoded as Examples in numpy; the inverse of `example_decoder`.

Shape legend: N rows, M values of a feature, W bytes of a row with room for the widest value in every column.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.data.example_wire_format import Features, Form, Length, form_of


def encode(arrays: Mapping[str, npt.NDArray], features: Features) -> tuple[bytes, npt.NDArray[np.int64]]:
    """One Example for each row of `arrays` (feature name → NxM): their bytes in a row, and where each one ends.

    Raises ValueError on a negative value in an integer feature.
    """
    form = form_of(tuple(features.items()))
    rows = len(arrays[form.integers[0]])
    values = {name: np.asarray(arrays[name]).reshape(rows, -1) for name in features}
    counts = {name: _varint_bytes(values[name]) for name in form.integers}
    lengths = _nested_lengths(form, {name: count.sum(axis=1, dtype=np.int64) for name, count in counts.items()})

    # One byte matrix with room for the widest value in every column, and which of its bytes are used. Constant bytes
    # are the same in every row; the other blocks are put over them.
    template = bytearray()
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
    bytes_NxW = np.empty((rows, len(template)), np.uint8)
    bytes_NxW[:] = np.frombuffer(bytes(template), np.uint8)
    used_NxW = np.ones(bytes_NxW.shape, np.bool_)
    for column, block, used in blocks:
        bytes_NxW[:, column : column + block.shape[1]] = block
        if used is not None:
            used_NxW[:, column : column + block.shape[1]] = used
    return np.compress(used_NxW.ravel(), bytes_NxW.ravel()).tobytes(), np.cumsum(used_NxW.sum(axis=1))


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
