"""Dropout, for the model and for attention."""

import jax
import jax.numpy as jnp

_CHOICES = 2**16  # of 16 random bits, so that a draw of 32 serves two entries


def key_implementation(platform: str) -> str:
    """The fastest random generator on a platform.

    Accelerators have an instruction for `rbg`; on the CPU `threefry2x32` is compiled into what uses it, and is faster.
    """
    return "threefry2x32" if platform == "cpu" else "rbg"


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zero a fraction `rate` of the entries, to the nearest 1/65,536, and scale up the others; without a key, none."""
    if key is None or rate == 0:
        return x
    zeroed = round(rate * _CHOICES)
    kept = _choices(key, x.shape) >= zeroed
    return jnp.where(kept, x * (_CHOICES / (_CHOICES - zeroed)), 0).astype(x.dtype)


def _choices(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A number below `_CHOICES` for each entry: the lower halves of the draws, then the upper ones."""
    # Concatenated along an outer axis: along the last one, a TPU would pad half a row to a whole one.
    axis = next((axis for axis, size in enumerate(shape) if size % 2 == 0), 0)
    draws = jax.random.bits(key, (*shape[:axis], -(-shape[axis] // 2), *shape[axis + 1 :]), jnp.uint32)
    both = jnp.concatenate([draws % _CHOICES, draws // _CHOICES], axis)
    return jax.lax.slice_in_dim(both, 0, shape[axis], axis=axis)
