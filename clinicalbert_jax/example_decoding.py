"""Examples of one form, decoded by the batch in numpy: every varint of a batch is found at once, and cut out by column.

A record that does not have the form is refused.

Shape legend: N records, M values of a feature, C varints of a record (its columns), T bytes of its tail.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.example_form import MAX_VARINT_BYTES, Arrays, Features, Form, form_of

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]


class MalformedError(ValueError):
    """Row `row` of a batch is not an Example of the expected features."""

    def __init__(self, row: int, reason: str):
        self.row, self.reason = row, reason
        super().__init__(f"row {row}: {reason}")


def decode(payloads: Sequence[bytes], features: Features) -> Arrays:
    """Feature name → NxM int64 or float32. Raises `MalformedError` on the first Example of another form."""
    ends_N = np.cumsum(np.fromiter(map(len, payloads), np.int64, len(payloads)))
    return decode_within(np.frombuffer(b"".join(payloads), np.uint8), ends_N, features)


def decode_within(data: Bytes, ends_N: Places, features: Features, before: int = 0, after: int = 0) -> Arrays:
    """The same for Examples in one array, with `before` and `after` bytes of something else around each of them.

    `ends_N`: where what belongs to a record ends, the bytes after it included.
    """
    form = form_of(tuple(features.items()))
    if not ends_N.size:
        return {name: np.zeros((0, feature.length), feature.dtype) for name, feature in features.items()}
    starts_N = np.concatenate([[0], ends_N[:-1]]) + before
    tails_N = ends_N - after - form.tail_T.size
    short_N = tails_N - starts_N < form.template_C.size
    _refuse(short_N, "it is shorter than an example of these features")

    is_last = data < 0x80  # the last byte of a varint, unless it lies outside of them
    for places_N, width in ((starts_N - before, before), (tails_N, form.tail_T.size + after)):
        if width:
            _windows(is_last, width)[places_N] = False
    last_NxC = _by_record(np.flatnonzero(is_last), data, tails_N, form.template_C.size)
    _check_constants(form, data, starts_N, last_NxC)
    tail_NxT = _windows(data, form.tail_T.size)[tails_N] if form.tail_T.size else np.empty((len(ends_N), 0), np.uint8)
    _refuse(((tail_NxT ^ form.tail_T) & form.constant_T).any(axis=1), "its float features are not the dataset's")
    _check_lengths(form, data, last_NxC)

    arrays: Arrays = {}
    for name, feature in features.items():
        start = form.starts[name]
        if feature.dtype == "int64":
            end = start + feature.length
            first_N = last_NxC[:, start - 1] + 1
            if (last_NxC[:, end - 1] - first_N == feature.length - 1).all():  # a byte each, as in most features
                arrays[name] = _windows(data, feature.length)[first_N].astype(np.int64)
            else:
                arrays[name] = _integers(data, last_NxC[:, start - 1 : end - 1], last_NxC[:, start:end])
        else:
            floats_NxM = np.ascontiguousarray(tail_NxT[:, start : start + 4 * feature.length]).view("<f4")
            arrays[name] = floats_NxM.astype(np.float32)
    return arrays


def _by_record(last: Places, data: Bytes, tails_N: Places, columns: int) -> Places:
    """NxC positions of the last byte of each varint; raises `MalformedError` where a record has another number."""
    if last.size == tails_N.size * columns:
        last_NxC = last.reshape(tails_N.size, columns)
        if (last_NxC[:, -1] == tails_N - 1).all():
            return last_NxC
    found_N = np.diff(np.searchsorted(last, tails_N), prepend=0)
    _refuse((found_N != columns) | (data[tails_N - 1] >= 0x80), "it does not have the dataset's number of values")
    raise AssertionError("unreachable: every record has its number of varints")


def _check_constants(form: Form, data: Bytes, starts_N: Places, last_NxC: Places) -> None:
    """Every constant must be there, as a varint of one byte."""
    columns = np.flatnonzero(form.constant_C)[1:]
    last_NxK = last_NxC[:, columns]
    wrong_NxK = (data[last_NxK] != form.template_C[columns]) | (last_NxK - last_NxC[:, columns - 1] != 1)
    wrong_N = (last_NxC[:, 0] != starts_N) | (data[starts_N] != form.template_C[0])
    _refuse(wrong_N | wrong_NxK.any(axis=1), "its bytes are not an example of the dataset's features")


def _check_lengths(form: Form, data: Bytes, last_NxC: Places) -> None:
    """Every length must be what lies between it and the end of what it counts."""
    columns = form.length_columns
    tail_bytes_F = np.where(form.length_ends == form.template_C.size - 1, form.length_tails, 0)
    expected_NxF = last_NxC[:, form.length_ends] - last_NxC[:, columns] + tail_bytes_F
    found_NxF = _integers(data, last_NxC[:, columns - 1], last_NxC[:, columns])
    _refuse((found_NxF != expected_NxF).any(axis=1), "a length in it is wrong")


def _integers(data: Bytes, before_NxM: Places, last_NxM: Places) -> npt.NDArray[np.int64]:
    """The values of varints, each from behind a position to one, as they are: most take a byte or two."""
    size_NxM = last_NxM - before_NxM
    longest = int(size_NxM.max(initial=1))
    _refuse((size_NxM > MAX_VARINT_BYTES).any(axis=1), "its bytes are not an example of the dataset's features")
    narrow = np.int32 if longest <= 4 else np.int64  # the faster
    values_NxM: npt.NDArray[np.signedinteger] = data[last_NxM].astype(narrow)
    for back in range(1, longest):
        higher_NxM = values_NxM << 7
        higher_NxM |= data.take(last_NxM - back, mode="clip") & 0x7F
        np.copyto(values_NxM, higher_NxM, where=size_NxM > back)
    return values_NxM.astype(np.int64, copy=False)


def _windows(array: npt.NDArray, width: int) -> npt.NDArray:
    """Row i: the `width` bytes of `array` from i on, without a copy. Indexing it copies whole rows, which is fast."""
    # sliding_window_view does the same, more carefully, in as much time as all the rest of a small batch takes.
    return np.ndarray((array.size - width + 1, width), array.dtype, array, strides=(1, 1))


def _refuse(wrong_N: npt.ArrayLike, reason: str) -> None:
    if np.any(wrong_N):
        raise MalformedError(int(np.argmax(wrong_N)), reason)
