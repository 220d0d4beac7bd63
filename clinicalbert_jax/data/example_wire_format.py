"""The wire format that all Examples of the same features share: which bytes are constant, where values and lengths are.

A record's payload is a `tf.train.Example` whose features are in the order of the schema: first the integer ones, each a
header and then values as base-128 varints, and then the float ones, the tail, which has a constant size.

Shape legend: R numbers of bytes that the values of a feature may take, W bytes, T bytes of the tail.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.data.schema import Feature

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
    floats: dict[str, int]  # first byte in the tail
    tail_T: npt.NDArray[np.uint8]
    constant_T: npt.NDArray[np.bool_]  # false where the tail is a value
    least_bytes: int  # of what comes before the tail


class Heads(NamedTuple):
    """The bytes before the values of an integer feature, for each number of bytes that the values may take.

    R runs from one byte per value to the most that they may take.
    """

    lengths: npt.NDArray[np.int64]  # R: the first length in the header, ascending
    sizes: npt.NDArray[np.int64]  # R: of the header, in bytes
    bytes_RxW: npt.NDArray[np.uint8]  # the headers, padded with zeros
    used_RxW: npt.NDArray[np.bool_]  # false in the padding
    of_single_bytes: npt.NDArray[np.uint8]  # the first of them
    window: int  # bytes that hold any header and, after it, values of one byte each


@functools.lru_cache(maxsize=32)
def form_of(features: tuple[tuple[str, Feature], ...]) -> Form:
    """The form of Examples of `features`, in this order: integers first, none empty; raises `ValueError` otherwise."""
    integers = tuple(name for name, feature in features if feature.dtype == "int64")
    names = tuple(name for name, _ in features)
    if not integers or names[: len(integers)] != integers or any(f.length < 1 for _, f in features):
        raise ValueError("features must be int64 first and then float32, one int64 at least, none empty")
    pieces: list[bytes | str | Length] = [b"\x0a", Length("", 0)]
    tail, constant, floats, least = b"", b"", {}, 2
    for name, feature in features:
        if not name.isascii() or len(name) > 127:
            raise ValueError(f"feature name {name!r} is not short ASCII")
        if feature.dtype == "int64":
            pieces += [b"\x0a", Length(name, 1), _key(name) + b"\x12", Length(name, 2)]
            pieces += [b"\x1a", Length(name, 3), b"\x0a", Length(name, 4), name]
            least += len(_head(name, feature.length)[1]) + feature.length
        else:
            size = 4 * feature.length
            packed = b"\x0a" + _varint(size)
            list_ = b"\x12" + _varint(len(packed) + size) + packed
            value = b"\x12" + _varint(len(list_) + size) + list_
            head = b"\x0a" + _varint(len(_key(name)) + len(value) + size) + _key(name) + value
            pieces += [head, name]
            floats[name] = len(tail) + len(head)
            tail, constant = tail + head + bytes(size), constant + b"\1" * len(head) + bytes(size)
    tail_T, constant_T = np.frombuffer(tail, np.uint8), np.frombuffer(constant, np.bool_)
    return Form(tuple(pieces), integers, floats, tail_T, constant_T, least)


@functools.lru_cache(maxsize=128)
def heads_of(name: str, count: int) -> Heads:
    """The headers of an integer feature of `count` values."""
    lengths, heads = zip(*(_head(name, size) for size in range(count, MAX_VARINT_BYTES * count + 1)), strict=True)
    width = max(map(len, heads))
    return Heads(
        lengths=np.array(lengths),
        sizes=np.array([len(head) for head in heads]),
        bytes_RxW=np.frombuffer(b"".join(head.ljust(width, b"\0") for head in heads), np.uint8).reshape(-1, width),
        used_RxW=np.arange(width) < np.array([len(head) for head in heads])[:, None],
        of_single_bytes=np.frombuffer(heads[0], np.uint8),
        window=width + count,
    )


def _head(name: str, size: int) -> tuple[int, bytes]:
    """Its first length, and the bytes before values of `size` bytes in total."""
    packed = b"\x0a" + _varint(size)
    list_ = b"\x1a" + _varint(len(packed) + size) + packed
    entry = _key(name) + b"\x12" + _varint(len(list_) + size) + list_
    return len(entry) + size, b"\x0a" + _varint(len(entry) + size) + entry


def _key(name: str) -> bytes:
    return b"\x0a" + bytes([len(name)]) + name.encode()


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded) + bytes([value])
