"""Checksums of many records at once: what they say is what each record's own says."""

import struct

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.data import crc32c


def rows_of(payloads: list[bytes], width: int) -> tuple[bytearray, np.ndarray, np.ndarray]:
    """The rows, the lengths and the footers that `all_right` is asked about."""
    footers = crc32c.masked(np.array([google_crc32c.value(payload) for payload in payloads], np.uint32))
    framed = [payload + struct.pack("<I", footer) for payload, footer in zip(payloads, footers.tolist(), strict=True)]
    return bytearray(b"".join(row.rjust(width, b"\0") for row in framed)), np.array([*map(len, payloads)]), footers


@pytest.mark.fast
@given(
    st.lists(st.binary(max_size=40), min_size=1, max_size=13), st.integers(0, 9), st.sampled_from([0, 4, 31]), st.data()
)
def test_right_rows_are_right_and_any_flipped_bit_is_wrong(
    payloads: list[bytes], wider: int, zeros: int, data: st.DataObject
) -> None:
    width = max(map(len, payloads)) + crc32c.FOOTER_BYTES + wider
    rows, lengths_N, footers_N = rows_of(payloads, width)
    assert crc32c.all_right(bytes(rows) + bytes(zeros), width, lengths_N, footers_N)
    bit = data.draw(st.integers(0, 8 * len(rows) - 1))
    rows[bit // 8] ^= 1 << bit % 8
    assert not crc32c.all_right(bytes(rows) + bytes(zeros), width, lengths_N, footers_N)


@pytest.mark.fast
def test_a_wrong_checksum_and_two_exchanged_are_found() -> None:
    rows, lengths_N, footers_N = rows_of([b"fever", b"cough", b"chest"], 12)
    for row in range(3):
        wrong_N = footers_N.copy()
        wrong_N[row] += 1
        assert not crc32c.all_right(bytes(rows), 12, lengths_N, wrong_N)
    exchanged = rows[12:24] + rows[:12] + rows[24:]
    assert not crc32c.all_right(bytes(exchanged), 12, lengths_N, footers_N)


def test_no_rows_at_all() -> None:
    assert crc32c.all_right(b"", 16, np.zeros(0, np.int64), np.zeros(0, np.uint32))


@pytest.mark.parametrize("length", [0, 1, 300, 2**16 + 5])
def test_headers_are_lengths_with_their_masked_checksum(length: int) -> None:
    size = struct.pack("<Q", length)
    crc = google_crc32c.value(size)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    (header,) = crc32c.headers(np.array([length]))
    assert bytes(header) == size + struct.pack("<I", masked)
    assert crc32c.unmasked(np.array([masked], np.uint32)) == [crc]
