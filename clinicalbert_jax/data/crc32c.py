"""The checksums of TFRecord: CRC-32C of many records at a time.

A CRC is linear. Started at 0 it stays 0 over bytes of 0, and that of two strings in a row is that of the first, moved
on over as many bytes of 0 as the second has, XOR that of the second. So one call over all records in a row shows
whether all of their checksums are right: what it returns must be what these, moved on and combined, make.

Shape legend: N records.
"""

import functools
from collections.abc import Iterable

import google_crc32c
import numpy as np
import numpy.typing as npt

HEADER_BYTES = 12  # the length of a record as uint64, and the masked checksum of these bytes
FOOTER_BYTES = 4  # the masked checksum of its payload

_DELTA = np.uint32(0xA282EAD8)
_ONES = 0xFFFFFFFF

Crcs = npt.NDArray[np.uint32]


def of_each(data: bytes, starts: Iterable[int], ends: Iterable[int]) -> Crcs:
    """The checksum of each part of `data`."""
    return np.array([google_crc32c.value(data[start:end]) for start, end in zip(starts, ends, strict=True)], np.uint32)


def masked(crcs_N: Crcs) -> Crcs:
    """Checksums as TFRecord stores them: turned and shifted, since checksums of checksums would be of little use."""
    return (crcs_N >> np.uint32(15) | crcs_N << np.uint32(17)) + _DELTA


def unmasked(crcs_N: Crcs) -> Crcs:
    """The inverse."""
    turned_N = crcs_N - _DELTA
    return turned_N << np.uint32(15) | turned_N >> np.uint32(17)


def headers(lengths_N: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Nx12: what stands before payloads of these lengths."""
    bits = max(10, int(lengths_N.max(initial=0)).bit_length())
    return _headers_below(bits)[lengths_N] if bits <= 16 else _headers_of(lengths_N)


def all_right(data: bytes, width: int, lengths_N: npt.NDArray[np.int64], footers_N: Crcs) -> bool:
    """Whether the payloads in `data` have the checksums that their footers store.

    `data` holds N rows of `width` bytes and then zeros, four at least or none: a row is zeros, a payload of `lengths_N`
    bytes, and its footer. That several wrong records pass together is as unlikely as for one, 1 in 2^32.
    """
    payloads_N = unmasked(footers_N) ^ _of_zeros(int(lengths_N.max(initial=0)))[lengths_N]  # as if started at 0
    crcs = _moved_on(payloads_N ^ footers_N, FOOTER_BYTES)
    zeros = len(data) - width * len(crcs)
    while len(crcs) > 1:
        if len(crcs) % 2:
            crcs = np.append(np.uint32(0), crcs)
        crcs = _moved_on(crcs[::2], width) ^ crcs[1::2]
        width *= 2
    expected = _moved_on(crcs, zeros) if zeros else crcs
    return not len(crcs) or int(expected[0]) == _from_zero(data)


def _moved_on(crcs_N: Crcs, count: int) -> Crcs:
    """Checksums after `count` more bytes of 0, four or more."""
    first, second, third, fourth = _table(count)
    return first[crcs_N & 255] ^ second[crcs_N >> 8 & 255] ^ third[crcs_N >> 16 & 255] ^ fourth[crcs_N >> 24]


@functools.lru_cache(maxsize=256)
def _table(count: int) -> npt.NDArray[np.uint32]:
    """4x256: what becomes of each byte of a checksum, since four bytes of data do to it what it does to itself."""
    table = np.zeros((4, 256), np.uint32)
    for place, bit in np.ndindex(4, 8):
        one = 1 << bit
        table[place, one : 2 * one] = table[place, :one] ^ np.uint32(
            _from_zero((one << 8 * place).to_bytes(4, "little") + bytes(count - 4))
        )
    return table


def _from_zero(data: bytes) -> int:
    """The CRC that starts at 0 and ends without inversion."""
    return google_crc32c.extend(_ONES, data) ^ _ONES


@functools.lru_cache(maxsize=8)
def _of_zeros_below(bits: int) -> Crcs:
    crcs = [0]
    for _ in range((1 << bits) - 1):
        crcs.append(google_crc32c.extend(crcs[-1], b"\0"))
    return np.array(crcs, np.uint32)


def _of_zeros(longest: int) -> Crcs:
    """The checksum of as many bytes of 0 as its place says, up to `longest` at least."""
    return _of_zeros_below(max(10, longest.bit_length()))


@functools.lru_cache(maxsize=8)
def _headers_below(bits: int) -> npt.NDArray[np.uint8]:
    return _headers_of(np.arange(1 << bits))


def _headers_of(lengths_N: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    bytes_Nx8 = lengths_N.astype("<u8")[:, None].view(np.uint8)
    crcs_N = of_each(bytes_Nx8.tobytes(), range(0, bytes_Nx8.size, 8), range(8, bytes_Nx8.size + 1, 8))
    return np.concatenate([bytes_Nx8, masked(crcs_N).astype("<u4")[:, None].view(np.uint8)], axis=1)
