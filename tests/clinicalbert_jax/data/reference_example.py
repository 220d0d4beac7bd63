"""Any `tf.train.Example`, decoded one at a time in plain Python: slow, and independent of `tfrecord`'s fast codec."""

import struct
from collections.abc import Iterator

from clinicalbert_jax.errors import UserError

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
Values = list[int] | list[float] | list[bytes]


class MalformedExampleError(UserError):
    """Bytes that are not a `tf.train.Example`."""


def decode(payload: bytes) -> dict[str, Values]:
    """Feature name → values; raises `MalformedExampleError` for bytes that are no Example, and nothing else."""
    features: dict[str, Values] = {}
    for number, kind, message in _fields(payload):
        if (number, kind) == (1, _BYTES):
            for entry_number, entry_kind, entry in _fields(_bytes(message)):
                if (entry_number, entry_kind) == (1, _BYTES):
                    name, value = _entry(_bytes(entry))
                    features[name] = value
    return features


def _entry(message: bytes) -> tuple[str, Values]:
    name, values = "", list[int]()
    found: Values = values
    for number, kind, value in _fields(message):
        if (number, kind) == (1, _BYTES):
            try:
                name = _bytes(value).decode()
            except UnicodeDecodeError:
                raise MalformedExampleError("a feature's name is not UTF-8") from None
        elif (number, kind) == (2, _BYTES):
            found = _feature(_bytes(value))
    return name, found


def _feature(message: bytes) -> Values:
    for number, kind, value in _fields(message):
        if kind == _BYTES and number == 1:
            return [_bytes(item) for n, k, item in _fields(_bytes(value)) if (n, k) == (1, _BYTES)]
        if kind == _BYTES and number == 2:
            return list(_floats(_bytes(value)))
        if kind == _BYTES and number == 3:
            return list(_integers(_bytes(value)))
    return list[int]()


def _floats(message: bytes) -> Iterator[float]:
    for number, kind, value in _fields(message):
        if (number, kind) == (1, _BYTES):
            packed = _bytes(value)
            if len(packed) % 4:
                raise MalformedExampleError("packed floats of a size that is no multiple of four")
            yield from struct.unpack(f"<{len(packed) // 4}f", packed)
        elif (number, kind) == (1, _FIXED_32):
            yield struct.unpack("<f", _bytes(value))[0]


def _integers(message: bytes) -> Iterator[int]:
    for number, kind, value in _fields(message):
        if (number, kind) == (1, _BYTES):
            packed, at = _bytes(value), 0
            while at < len(packed):
                unsigned, at = _varint(packed, at)
                yield _signed(unsigned)
        elif (number, kind) == (1, _VARINT) and isinstance(value, int):
            yield _signed(value)


def _fields(message: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """(field number, wire type, value) of each field of a protocol buffer message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, kind, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED_64, _FIXED_32):
            size = 8 if kind == _FIXED_64 else 4
        else:
            raise MalformedExampleError(f"wire type {kind}, which no Example has")
        if at + size > len(message):
            raise MalformedExampleError("a field that ends beyond its message")
        yield number, kind, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise MalformedExampleError("a varint without an end")


def _signed(unsigned: int) -> int:
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned


def _bytes(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value
