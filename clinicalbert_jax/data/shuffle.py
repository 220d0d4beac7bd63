"""The order of examples in an epoch: a permutation that needs no table."""

import functools

import numpy as np

from clinicalbert_jax.data import counter_rng

BLOCK = 16_384  # positions permuted at a time
_FEISTEL_ROUNDS = 6


def permute(positions: np.ndarray, size: int, keys: np.ndarray) -> np.ndarray:
    """The image of each of `positions` in [0, size) under the permutation that its key selects; needs no table.

    A Feistel network over the next even power of two, walked until it is below `size` (Black and Rogaway, "Ciphers with
    arbitrary finite domains", 2002: fewer than four steps on average).
    """
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    half_mask = np.uint64((1 << half_bits) - 1)
    shift = np.uint64(half_bits)
    keys = np.asarray(keys)
    rounds = [counter_rng.fold(number, keys) for number in range(_FEISTEL_ROUNDS)]
    walking, landed = positions.astype(np.uint64), np.empty(positions.shape, np.int64)
    where = np.arange(positions.size)
    while where.size:
        left, right = walking >> shift, walking & half_mask
        for key in rounds:
            left, right = right, left ^ (counter_rng.fold(right, onto=key[where] if key.ndim else key) & half_mask)
        walking = (left << shift) | right
        landed[where] = walking  # for good where it is inside
        outside = np.flatnonzero(walking >= size)
        walking, where = walking[outside], where[outside]
    return landed


@functools.lru_cache(maxsize=16)
def permuted_block(size: int, seed: int, epoch: int, block: int) -> np.ndarray:
    """The examples at a block of positions in an epoch: a block costs little more than one batch of it."""
    positions = np.arange(block * BLOCK, min((block + 1) * BLOCK, size))
    return permute(positions, size, counter_rng.fold(seed, epoch))
