"""The form that all Examples of the same features share: which bytes are constant, where values and lengths stand.

A record's payload is a `tf.train.Example` whose features stand in the order of the schema. Up to its last integer
feature such an Example is a run of base-128 varints of constant number, since every tag and every letter of a
name is a one-byte varint too; what follows (the float features) has a constant size.

Shape legend: C varints of a record (its columns), T bytes of its tail.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.schema import Feature

MAX_VARINT_BYTES = 9  # our integers are below 2^63; ten bytes are a negative number, which no feature has

Features = Mapping[str, Feature]
Arrays = dict[str, npt.NDArray]


class Length(NamedTuple):
    """A varint that counts the bytes of what follows it: of the example, or of one feature at one depth."""

    feature: str
    depth: int  # 0: the example; 1: the map entry; 2: its value; 3: the list; 4: the packed values


class Form(NamedTuple):
    """What all Examples of some features have in common; see the module."""

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
def form_of(features: tuple[tuple[str, Feature], ...]) -> Form:
    """The form of Examples of `features`, in this order: integers first, none empty; raises `ValueError` otherwise."""
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
) -> Form:
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
            max_size += [MAX_VARINT_BYTES] * count
    tail, tail_constant = bytearray(), bytearray()
    for piece in pieces[first_of_tail:]:
        if isinstance(piece, bytes):
            tail, tail_constant = tail + piece, tail_constant + b"\xff" * len(piece)
        else:
            assert isinstance(piece, str)
            starts[piece] = len(tail)
            tail, tail_constant = (array + bytes(4 * features[piece].length) for array in (tail, tail_constant))
    return Form(
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


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded) + bytes([value])
