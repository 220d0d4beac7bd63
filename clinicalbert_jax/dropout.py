"""Dropout, for the model and for attention.

Shape legend: ... any axes, N the last one.
"""

import jax
import jax.numpy as jnp

_CHOICES = 2**16  # of 16 random bits, so that a draw of 32 serves two entries


def key_implementation(platform: str) -> str:
    """The generator whose bits cost least there.

    Accelerators have an instruction for `rbg`; on the CPU `threefry2x32` is compiled into what uses it, and is faster.
    """
    return "threefry2x32" if platform == "cpu" else "rbg"


def dropout(x_xN: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zero a share `rate` of the entries, to the nearest 1/65,536, and scale up the others; without a key, none."""
    if key is None or rate == 0:
        return x_xN
    zeroed = round(rate * _CHOICES)
    kept_xN = _choices(key, x_xN.shape) >= zeroed
    return jnp.where(kept_xN, x_xN * (_CHOICES / (_CHOICES - zeroed)), 0).astype(x_xN.dtype)


def _choices(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A number below `_CHOICES` for each entry: the lower halves of the draws, and behind them the upper ones."""
    *leading, size = shape
    draws_xM = jax.random.bits(key, (*leading, -(-size // 2)), jnp.uint32)
    return jnp.concatenate([draws_xM % _CHOICES, draws_xM // _CHOICES], axis=-1)[..., :size]
