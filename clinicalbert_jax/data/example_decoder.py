"""Examples of one wire format, decoded in numpy, a batch at a time.

An integer feature starts where the one before it ended. Its first length gives the number of bytes of its values, which
determines every other byte of its header: the headers of a batch are compared with what they must be, and its values
are copied as rows of bytes, which are searched for ends only where values take several bytes. Any other record is
refused.

Shape legend: N records, M values of a feature, W bytes, T bytes of a record's tail.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.data.example_wire_format import MAX_VARINT_BYTES, Arrays, Features, Heads, form_of, heads_of

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

_OTHER = "a length in it is wrong, or it is not an example of the dataset's features"


class MalformedError(ValueError):
    """Row `row` of a batch is not an Example of the expected features."""

    def __init__(self, row: int, reason: str):
        self.row, self.reason = row, reason
        super().__init__(f"row {row}: {reason}")


def decode(payloads: Sequence[bytes], features: Features) -> Arrays:
    """Feature name → NxM: float32, or integers, as int32 where none takes more than four bytes and else as int64.

    Raises `MalformedError` on the first Example of another form.
    """
    form = form_of(tuple(features.items()))
    if not payloads:
        return {name: np.zeros((0, feature.length), feature.dtype) for name, feature in features.items()}
    integers = [name for name, feature in features.items() if feature.dtype == "int64"]
    # Headers are read at their greatest size: that many bytes must follow the last Example.
    padding = bytes(max(heads_of(name, features[name].length).window for name in integers))
    data = np.frombuffer(b"".join([*payloads, padding]), np.uint8)
    ends_N = np.cumsum([len(payload) for payload in payloads])
    starts_N = np.append(0, ends_N[:-1])
    tails_N = ends_N - form.tail_T.size
    _refuse(tails_N - starts_N < form.least_bytes, "it is shorter than an example of these features")
    length_N = _lengths(_windows(data, starts_N, 5))
    at_N = starts_N + 2 + (length_N >= 2**7) + (length_N >= 2**14) + (length_N >= 2**21)
    _refuse((data[starts_N] != 0x0A) | (length_N != ends_N - at_N), _OTHER)

    arrays: Arrays = {}
    for name, feature in features.items():
        if feature.dtype == "int64":
            arrays[name], at_N = _integers(data, at_N, tails_N, heads_of(name, feature.length), feature.length)
    _refuse(at_N != tails_N, "it does not have the dataset's number of values")
    if form.tail_T.size:
        tail_NxT = _windows(data, tails_N, form.tail_T.size)
        _refuse((tail_NxT != form.tail_T) & form.constant_T, "its float features are not the dataset's")
    for name, start in form.floats.items():
        floats_NxM = np.ascontiguousarray(tail_NxT[:, start : start + 4 * features[name].length]).view("<f4")
        arrays[name] = floats_NxM.astype(np.float32)
    return arrays


def _integers(
    data: Bytes, at_N: Offsets, tails_N: Offsets, heads: Heads, count: int
) -> tuple[npt.NDArray[np.signedinteger], Offsets]:
    """The values of the feature that starts at `at_N`, NxM, and where it ends, which is not after `tails_N`."""
    rows_NxW = _windows(data, at_N, heads.window)
    head = heads.of_single_bytes
    if (rows_NxW[:, : len(head)] == head).all():  # one byte per value in every row, as in most features
        end_N = at_N + len(head) + count
        values_NxM = rows_NxW[:, len(head) : len(head) + count]
        _refuse(values_NxM >= 0x80, _OTHER)
        _refuse(end_N > tails_N, _OTHER)
        return values_NxM.astype(np.int32), end_N

    length_N = _lengths(rows_NxW)
    number_N = np.minimum(np.searchsorted(heads.lengths, length_N), len(heads.lengths) - 1)
    starts_N = at_N + heads.sizes[number_N]
    sizes_N = number_N + count  # in bytes, of the values
    _refuse((heads.lengths[number_N] != length_N) | (starts_N + sizes_N > tails_N), _OTHER)
    head_NxW = rows_NxW[:, : heads.bytes_RxW.shape[1]]
    _refuse((head_NxW != heads.bytes_RxW[number_N]) & heads.used_RxW[number_N], _OTHER)
    return _varints(_windows(data, starts_N, int(sizes_N.max())), sizes_N, count), starts_N + sizes_N


def _varints(rows_NxW: Bytes, sizes_N: Offsets, count: int) -> npt.NDArray[np.signedinteger]:
    """The M varints that the first `sizes_N` bytes of each row must be; int32 where all take at most four bytes."""
    rows, width = rows_NxW.shape
    ends_varint_NxW = rows_NxW < 0x80
    shortest = int(sizes_N.min())
    ends_varint_NxW[:, shortest:] &= np.arange(shortest, width, dtype=np.int32) < sizes_N.astype(np.int32)[:, None]
    last = np.flatnonzero(ends_varint_NxW)
    starts_N = np.arange(rows) * width
    if last.size != rows * count or (last[count - 1 :: count] != starts_N + sizes_N - 1).any():
        found_N = np.diff(np.searchsorted(last, starts_N + sizes_N), prepend=0)
        _refuse((found_N != count) | (rows_NxW[np.arange(rows), sizes_N - 1] >= 0x80), _OTHER)

    # Four bytes from the start of every varint at once; the varint ends at the first end among them.
    data = np.concatenate([rows_NxW.ravel(), np.zeros(MAX_VARINT_BYTES + 3, np.uint8)])
    words = np.ndarray(data.size - 3, "<u4", data, strides=(1,))
    buffer = np.empty(1 + last.size, np.uint32)
    words[1:].take(last, out=buffer[1:], mode="clip")  # a varint starts after the end of the one before it,
    words_NxM = buffer[:-1].reshape(rows, count)
    words_NxM[:, 0] = words[starts_N]  # or where its row starts
    values_NxM, open_NxM = _group(words_NxM)
    if not open_NxM.any():
        return values_NxM.view(np.int32)

    first_NxM = np.concatenate([starts_N[:, None], last.reshape(rows, count)[:, :-1] + 1], axis=1)
    wide_NxM = values_NxM.astype(np.int64)
    for skipped in (4, 8):
        words_NxM = np.where(open_NxM, words.take(first_NxM + skipped), 0)
        if skipped + 1 == MAX_VARINT_BYTES:
            _refuse((words_NxM & 0x80) != 0, _OTHER)
        values_NxM, open_NxM = _group(words_NxM)
        wide_NxM |= values_NxM.astype(np.int64) << (7 * skipped)
    return wide_NxM


def _group(words: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
    """The 28 bits or fewer of the varint that starts each little-endian word, and whether it continues after the word.

    The words are overwritten: a pass over them that allocates takes twice the time.
    """
    ends = ~words
    ends &= 0x80808080
    used = ends - 1
    used ^= ends  # all bits where there is no end
    used &= 0x7F7F7F7F
    words &= used
    high = np.bitwise_and(words, 0x7F007F00, out=used)  # the higher of two groups of 7 bits moves down by one bit,
    high >>= 1
    words -= high
    high = np.right_shift(words, 16, out=used)  # and the higher of two groups of 14 bits by two
    high *= 0xC000
    words -= high
    return words, ends == 0


def _lengths(rows_NxW: Bytes) -> Offsets:
    """The varint after the first byte of each row; -1, which is no length, where it has more than four bytes."""
    length_N, open_N = _group(rows_NxW[:, 1:5].copy().view("<u4")[:, 0])
    return np.where(open_N, -1, length_N.astype(np.int64))


def _windows(data: Bytes, starts_N: Offsets, width: int) -> Bytes:
    """The `width` bytes from each start, NxW."""
    if not starts_N.size:
        return np.empty((0, width), np.uint8)
    # As items of `width` bytes, which numpy copies whole, without holding the GIL.
    ones = np.ndarray(data.size - width + 1, f"V{width}", data, strides=(1,))[starts_N]
    return ones.view(np.uint8).reshape(-1, width)


def _refuse(wrong: npt.NDArray[np.bool_], reason: str) -> None:
    """Raise `MalformedError` on the first row of `wrong`, N or NxM, in which anything is true."""
    if wrong.any():
        raise MalformedError(int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1))), reason)
