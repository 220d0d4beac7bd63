"""Random numbers that are a pure function of a key, in numpy: the same on every machine, in any order, in any
batch.

A key is a uint64. `fold` makes one from integers (seed, epoch, record, ...); `bits` and `uniform` draw from
it. The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
2014).

Shape legend: N keys, C draws a key.
"""

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MASK_64 = 0xFFFFFFFFFFFFFFFF

Keys = npt.NDArray[np.uint64]

_NONE = np.zeros((), np.uint64)


def fold(*parts: int | npt.NDArray[np.integer], onto: Keys = _NONE) -> Keys:
    """A key from integers, in their order; arrays among them are broadcast, and give an array of keys.

    `fold(a, b, c)` is `fold(c, onto=fold(a, b))`.
    """
    key = onto
    with np.errstate(over="ignore"):
        for part in parts:
            if isinstance(part, int):
                part = np.array(part & _MASK_64, np.uint64)
            key = mix((key ^ mix(part.astype(np.uint64) + _GOLDEN)) + _GOLDEN)
    return key


def bits(keys_N: Keys, count: int) -> npt.NDArray[np.uint64]:
    """NxC uniform uint64, C = `count`."""
    with np.errstate(over="ignore"):
        counters_C = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
        return mix(np.asarray(keys_N, np.uint64)[..., None] + counters_C)


def uniform(keys_N: Keys, count: int) -> npt.NDArray[np.float64]:
    """NxC uniform in [0, 1), C = `count`."""
    return (bits(keys_N, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finalizer, of uint64: a bijection under which one flipped bit flips every other half the time."""
    x = x ^ (x >> np.uint64(30))
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x
