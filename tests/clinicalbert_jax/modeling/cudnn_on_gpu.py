"""cuDNN's attention on this machine's GPU against the plain one: what test_attention.py runs where there is one."""

import jax
import jax.numpy as jnp
import numpy as np

from clinicalbert_jax.modeling.attention import attention
from tests.clinicalbert_jax.modeling.test_attention import PACKED, PADDED, queries_keys_values, sequence_ids

assert jax.devices()[0].platform == "gpu", f"expected a GPU, found {jax.devices()[0].platform}: install jax[cuda13]"


def both_ways(rows: list[list[int]], packed: bool, dtype: type, implementation: str) -> tuple[jax.Array, ...]:
    """Output and gradients, of real tokens alone."""
    ids_BxL = sequence_ids(rows)
    real_BxLx1x1 = (ids_BxL != 0)[..., None, None]
    arrays = [array.astype(dtype) for array in queries_keys_values(ids_BxL)]
    upstream = jax.random.normal(jax.random.key(1), arrays[0].shape, dtype) * real_BxLx1x1
    mixed, gradient = jax.vjp(
        lambda *qkv: attention(*qkv, ids_BxL, implementation=implementation, packed=packed), *arrays
    )
    assert np.isfinite(mixed.astype(jnp.float32)).all()
    return mixed * real_BxLx1x1, *gradient(upstream)


for rows, packed in ((PADDED, False), (PACKED, True)):
    exact = both_ways(rows, packed, jnp.float32, "xla")
    rounded = both_ways(rows, packed, jnp.bfloat16, "xla")
    ours = both_ways(rows, packed, jnp.bfloat16, "cudnn")
    for name, expected, plain, found in zip(("output", "dq", "dk", "dv"), exact, rounded, ours, strict=True):
        error, usual = jnp.abs(expected - found).max(), jnp.abs(expected - plain).max()
        assert error <= 2 * usual, f"{name}, packed={packed}: off by {error}, plain bfloat16 by {usual}"
print("cuDNN's attention is the plain one")
