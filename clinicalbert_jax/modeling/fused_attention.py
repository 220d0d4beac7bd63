"""Attention with dropout as Pallas kernels that keep the scores on the chip.

Dropout's mask is a function of a key, a row, a head and a position, so that the backward pass draws it again instead of
reading it. cuDNN's fused attention has dropout too, but its mask comes from a counter inside the compiled program: a
resumed run would draw other masks, and a recomputed forward pass other ones than the backward pass.

On a TPU a kernel holds all keys of a row, and heads side by side up to 128 lanes. On an NVIDIA GPU (Pallas's Triton
backend) it takes the keys tile by tile, as in FlashAttention-2 (Dao 2023).

Shape legend: B batch, L length, H heads, K head size, T tile of L, W lanes of a TPU tile (128 or K).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

MASKED = -1e9  # the score of a masked-out key
CHOICES = 2**16  # the rate of dropout is exact to one part in so many

TILE = 64  # queries and keys at a time, on a GPU
LANES = 128
_TPU_POSITIONS = 512  # of one or several rows in one step of the grid


class _Settings(NamedTuple):
    platform: str
    zeroed: int  # of CHOICES
    interpret: bool


def fused(
    query_BxLxHxK: jax.Array,
    key_BxLxHxK: jax.Array,
    value_BxLxHxK: jax.Array,
    sequence_ids_BxL: jax.Array,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
    *,
    platform: str | None = None,
    interpret: bool = False,
) -> jax.Array:
    """The attention output, B x L x H x K; padding attends to padding.

    `platform` 'tpu' or 'cuda': whose kernels; default: those of the platform that this is compiled for. `interpret`
    runs them on any device, slowly.
    """
    zeroed = 0 if dropout_key is None else round(dropout_rate * CHOICES)
    keys_2xBxH = draw_keys(dropout_key, len(query_BxLxHxK), query_BxLxHxK.shape[2])
    arrays = query_BxLxHxK, key_BxLxHxK, value_BxLxHxK, sequence_ids_BxL, keys_2xBxH
    run = {name: functools.partial(_attention, _Settings(name, zeroed, interpret)) for name in ("cuda", "tpu")}
    return run[platform](*arrays) if platform else jax.lax.platform_dependent(*arrays, **run)


def draw_keys(dropout_key: jax.Array | None, batch: int, heads: int) -> jax.Array:
    """Two numbers for each row and head, from which its mask follows, 2 x B x H."""
    if dropout_key is None:
        return jnp.zeros((2, batch, heads), jnp.int32)
    return jax.lax.bitcast_convert_type(jax.random.bits(dropout_key, (2, batch, heads), jnp.uint32), jnp.int32)


def keep_mask(keys_2xBxH: jax.Array, length: int, dropout_rate: float) -> jax.Array:
    """Which probabilities the kernels keep, B x H x L x L: for comparison with plain arithmetic."""
    offset_BxHx1x1, factor_BxHx1x1 = keys_2xBxH[..., None, None]
    index_L = jnp.arange(length, dtype=jnp.int32)
    return _kept(offset_BxHx1x1, factor_BxHx1x1, index_L[:, None], index_L, length, round(dropout_rate * CHOICES))


def _kept(offset: Any, factor: Any, query_index: Any, key_index: Any, length: int, zeroed: int) -> jax.Array:
    """Whether the random number of (query, key) is at least `zeroed`, of CHOICES; all arguments broadcast.

    A counter on a random odd stride from a random offset, then the 32-bit finaliser 'lowbias32' (Wellons 2018).
    Signed integers, since a TPU's kernels know no others; products wrap.
    """
    stride = factor | np.int32(1)
    bits = query_index * (stride * np.int32(length)) + (key_index * stride + offset)
    bits = (bits ^ _shifted(bits, 16)) * np.int32(0x7FEB352D)
    bits = (bits ^ _shifted(bits, 15)) * np.int32(0x846CA68B - 2**32)
    return _shifted(bits, 16) >= np.int32(zeroed)


def _shifted(bits: jax.Array, count: int) -> jax.Array:
    return jax.lax.shift_right_logical(bits, jnp.full_like(bits, count))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(settings: _Settings, q: Any, k: Any, v: Any, ids: Any, keys: Any) -> jax.Array:
    return _attention_forward(settings, q, k, v, ids, keys)[0]


def _attention_forward(settings: _Settings, *arrays: Any) -> tuple[jax.Array, Any]:
    forward = _tpu_forward if settings.platform == "tpu" else _cuda_forward
    output, kept = forward(settings, *arrays)
    return output, (*arrays, kept)


def _attention_backward(settings: _Settings, residuals: Any, upstream: jax.Array) -> tuple[Any, ...]:
    backward: Any = _tpu_backward if settings.platform == "tpu" else _cuda_backward
    return (*backward(settings, *residuals, upstream), None, None)


_attention.defvjp(_attention_forward, _attention_backward)


# NVIDIA: a program of the grid has one head of one row, and T queries (T keys, for the gradients of keys and values).


def _cuda_forward(settings: _Settings, q: Any, k: Any, v: Any, ids: Any, keys: Any) -> tuple[jax.Array, Any]:
    batch, length, heads, _ = q.shape
    log_sums = jax.ShapeDtypeStruct((batch, heads, length), jnp.float32)
    output, log_sums_BxHxL = _cuda_call(
        _cuda_forward_kernel,
        settings,
        (q, k, v, ids, ids, keys),
        ("tile", "all", "all", "tile", "all", "keys"),
        (q, log_sums),
        ("tile", "tile"),
    )
    return output, (output, log_sums_BxHxL)


def _cuda_backward(
    settings: _Settings, q: Any, k: Any, v: Any, ids: Any, keys: Any, saved: Any, upstream: Any
) -> tuple[jax.Array, ...]:
    output, log_sums_BxHxL = saved
    both_BxLxH = jnp.sum(output.astype(jnp.float32) * upstream.astype(jnp.float32), axis=-1)
    deltas_BxHxL = both_BxLxH.swapaxes(1, 2)
    arrays = q, k, v, upstream, log_sums_BxHxL, deltas_BxHxL, ids, ids, keys
    queries = ("tile", "all", "all", "tile", "tile", "tile", "tile", "all", "keys")
    (d_query,) = _cuda_call(_cuda_query_kernel, settings, arrays, queries, (q,), ("tile",))
    others = ("all", "tile", "tile", "all", "all", "all", "all", "tile", "keys")
    d_key, d_value = _cuda_call(_cuda_key_value_kernel, settings, arrays, others, (k, v), ("tile", "tile"))
    return d_query, d_key, d_value


def _cuda_call(
    kernel: Any, settings: _Settings, arrays: Any, parts: tuple[str, ...], results: Any, result_parts: tuple[str, ...]
) -> Any:
    """Run a kernel over tiles, rows and heads. `parts`: what each program gets of an array."""
    batch, length, heads, head_size = arrays[0].shape
    tile = min(TILE, length)

    def spec(array: Any, part: str) -> pl.BlockSpec:
        size = tile if part == "tile" else length
        at = (lambda i: i) if part == "tile" else (lambda i: 0)
        if part == "keys":
            return pl.BlockSpec((2, None, None), lambda i, b, h: (0, b, h))
        if array.ndim == 4:
            return pl.BlockSpec((None, size, None, head_size), lambda i, b, h: (b, at(i), h, 0))
        if array.ndim == 3:
            return pl.BlockSpec((None, None, size), lambda i, b, h: (b, h, at(i)))
        return pl.BlockSpec((None, size), lambda i, b, h: (b, at(i)))

    from jax.experimental.pallas import triton  # of one kind of device

    return pl.pallas_call(
        functools.partial(kernel, tile=tile, length=length, scale=head_size**-0.5, zeroed=settings.zeroed),
        grid=(length // tile, batch, heads),
        in_specs=[spec(array, part) for array, part in zip(arrays, parts, strict=True)],
        out_specs=[spec(array, part) for array, part in zip(results, result_parts, strict=True)],
        out_shape=[jax.ShapeDtypeStruct(array.shape, array.dtype) for array in results],
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=2),
        interpret=settings.interpret,
        name=kernel.__name__.strip("_"),
    )(*arrays)


def _cuda_forward_kernel(
    q_ref: Any, k_ref: Any, v_ref: Any, id_ref: Any, key_id_ref: Any, keys_ref: Any, out_ref: Any, log_sum_ref: Any,
    *, tile: int, length: int, scale: float, zeroed: int,
) -> None:  # fmt: skip
    q_TxK, id_Tx1 = q_ref[...], id_ref[...][:, None]
    index_T = jnp.arange(tile, dtype=jnp.int32)
    rows_Tx1 = (pl.program_id(0) * tile + index_T)[:, None]

    def add(number: Any, carry: Any) -> Any:
        out_TxK, top_T, sum_T = carry
        at = pl.ds(number * tile, tile)
        scores_TxT = _dot_nt(q_TxK, k_ref[at, :]) * scale
        scores_TxT = jnp.where(id_Tx1 == key_id_ref[at][None, :], scores_TxT, MASKED)
        new_top_T = jnp.maximum(top_T, jnp.max(scores_TxT, axis=1))
        weights_TxT = jnp.exp(scores_TxT - new_top_T[:, None])
        shrink_T = jnp.exp(top_T - new_top_T)
        sum_T = shrink_T * sum_T + jnp.sum(weights_TxT, axis=1)
        columns_1xT = (number * tile + index_T)[None, :]
        weights_TxT = _dropped(weights_TxT, keys_ref, rows_Tx1, columns_1xT, length, zeroed)
        out_TxK = shrink_T[:, None] * out_TxK + _dot(weights_TxT.astype(q_TxK.dtype), v_ref[at, :])
        return out_TxK, new_top_T, sum_T

    start = jnp.zeros(q_TxK.shape, jnp.float32), jnp.full(tile, 2 * MASKED, jnp.float32), jnp.zeros(tile, jnp.float32)
    out_TxK, top_T, sum_T = jax.lax.fori_loop(0, length // tile, add, start)
    out_ref[...] = (out_TxK / sum_T[:, None]).astype(out_ref.dtype)
    log_sum_ref[...] = top_T + jnp.log(sum_T)


def _cuda_query_kernel(
    q_ref: Any, k_ref: Any, v_ref: Any, up_ref: Any, log_sum_ref: Any, delta_ref: Any, id_ref: Any, key_id_ref: Any,
    keys_ref: Any, dq_ref: Any, *, tile: int, length: int, scale: float, zeroed: int,
) -> None:  # fmt: skip
    q_TxK, up_TxK, id_Tx1 = q_ref[...], up_ref[...], id_ref[...][:, None]
    log_sum_Tx1, delta_Tx1 = log_sum_ref[...][:, None], delta_ref[...][:, None]
    index_T = jnp.arange(tile, dtype=jnp.int32)
    rows_Tx1 = (pl.program_id(0) * tile + index_T)[:, None]

    def add(number: Any, dq_TxK: Any) -> Any:
        at = pl.ds(number * tile, tile)
        k_TxK = k_ref[at, :]
        scores_TxT = jnp.where(id_Tx1 == key_id_ref[at][None, :], _dot_nt(q_TxK, k_TxK) * scale, MASKED)
        columns_1xT = (number * tile + index_T)[None, :]
        d_weights_TxT = _dropped(_dot_nt(up_TxK, v_ref[at, :]), keys_ref, rows_Tx1, columns_1xT, length, zeroed)
        d_scores_TxT = jnp.exp(scores_TxT - log_sum_Tx1) * (d_weights_TxT - delta_Tx1)
        return dq_TxK + _dot(d_scores_TxT.astype(q_TxK.dtype), k_TxK)

    dq_TxK = jax.lax.fori_loop(0, length // tile, add, jnp.zeros(q_TxK.shape, jnp.float32))
    dq_ref[...] = (dq_TxK * scale).astype(dq_ref.dtype)


def _cuda_key_value_kernel(
    q_ref: Any, k_ref: Any, v_ref: Any, up_ref: Any, log_sum_ref: Any, delta_ref: Any, id_ref: Any, key_id_ref: Any,
    keys_ref: Any, dk_ref: Any, dv_ref: Any, *, tile: int, length: int, scale: float, zeroed: int,
) -> None:  # fmt: skip
    # Transposed, keys by queries, so that no product takes a transposed tile of scores.
    k_TxK, v_TxK, key_id_Tx1 = k_ref[...], v_ref[...], key_id_ref[...][:, None]
    index_T = jnp.arange(tile, dtype=jnp.int32)
    columns_Tx1 = (pl.program_id(0) * tile + index_T)[:, None]

    def add(number: Any, carry: Any) -> Any:
        dk_TxK, dv_TxK = carry
        at = pl.ds(number * tile, tile)
        q_TxK, up_TxK = q_ref[at, :], up_ref[at, :]
        scores_TxT = jnp.where(key_id_Tx1 == id_ref[at][None, :], _dot_nt(k_TxK, q_TxK) * scale, MASKED)
        weights_TxT = jnp.exp(scores_TxT - log_sum_ref[at][None, :])
        rows_1xT = (number * tile + index_T)[None, :]
        dropped_TxT = _dropped(weights_TxT, keys_ref, rows_1xT, columns_Tx1, length, zeroed)
        dv_TxK += _dot(dropped_TxT.astype(q_TxK.dtype), up_TxK)
        d_weights_TxT = _dropped(_dot_nt(v_TxK, up_TxK), keys_ref, rows_1xT, columns_Tx1, length, zeroed)
        d_scores_TxT = weights_TxT * (d_weights_TxT - delta_ref[at][None, :])
        return dk_TxK + _dot(d_scores_TxT.astype(q_TxK.dtype), q_TxK), dv_TxK

    zeros = jnp.zeros(k_TxK.shape, jnp.float32)
    dk_TxK, dv_TxK = jax.lax.fori_loop(0, length // tile, add, (zeros, zeros))
    dk_ref[...] = (dk_TxK * scale).astype(dk_ref.dtype)
    dv_ref[...] = dv_TxK.astype(dv_ref.dtype)


def _dropped(x: Any, keys_ref: Any, rows: Any, columns: Any, length: int, zeroed: int) -> Any:
    if not zeroed:
        return x
    kept = _kept(keys_ref[0], keys_ref[1], rows, columns, length, zeroed)
    return jnp.where(kept, x * (CHOICES / (CHOICES - zeroed)), 0.0)


# TPU: a step of the grid has all positions of one or several rows, and as many heads as 128 lanes hold. A head is taken
# from the lanes by zeroing the others: the matrix unit is 128 wide, so that this costs nothing.


def _tpu_forward(settings: _Settings, q: Any, k: Any, v: Any, ids: Any, keys: Any) -> tuple[jax.Array, Any]:
    (output,) = _tpu_call(_tpu_forward_kernel, settings, (q, k, v), ids, keys, 1)
    return output, ()


def _tpu_backward(
    settings: _Settings, q: Any, k: Any, v: Any, ids: Any, keys: Any, _: Any, upstream: Any
) -> tuple[jax.Array, ...]:
    return tuple(_tpu_call(_tpu_backward_kernel, settings, (q, k, v, upstream), ids, keys, 3))


def _tpu_call(kernel: Any, settings: _Settings, arrays: Any, ids: Any, keys: Any, num_results: int) -> Any:
    batch, length, heads, head_size = arrays[0].shape
    lanes = max(LANES, head_size)
    each = lanes // head_size  # heads in one step
    rows = next(n for n in (4, 2, 1) if batch % n == 0 and (n == 1 or n * length <= _TPU_POSITIONS))
    wide = pl.BlockSpec((rows, length, lanes), lambda b, h: (b, 0, h))
    specs = [
        pl.BlockSpec((2, rows, each, 1, 1), lambda b, h: (0, b, h, 0, 0)),
        pl.BlockSpec((rows, length, 1), lambda b, h: (b, 0, 0)),
        pl.BlockSpec((rows, 1, length), lambda b, h: (b, 0, 0)),
    ]
    shape = jax.ShapeDtypeStruct((batch, length, heads * head_size), arrays[0].dtype)
    results = pl.pallas_call(
        functools.partial(kernel, head_size=head_size, zeroed=settings.zeroed),
        grid=(batch // rows, heads // each),
        in_specs=specs + [wide] * len(arrays),
        out_specs=[wide] * num_results,
        out_shape=[shape] * num_results,
        interpret=settings.interpret,
        name=kernel.__name__.strip("_"),
    )(keys[..., None, None], ids[:, :, None], ids[:, None, :], *(x.reshape(shape.shape) for x in arrays))
    return [x.reshape(arrays[0].shape) for x in results]


def _tpu_forward_kernel(
    keys_ref: Any, id_ref: Any, key_id_ref: Any, q_ref: Any, k_ref: Any, v_ref: Any, out_ref: Any,
    *, head_size: int, zeroed: int,
) -> None:  # fmt: skip
    for row in range(q_ref.shape[0]):
        reach_LxL = id_ref[row] == key_id_ref[row]
        out_LxW: Any = 0.0
        for head, in_head_LxW in _heads(q_ref[row], head_size):
            kept_LxL = _tpu_kept(keys_ref, row, head, reach_LxL, zeroed)
            weights_LxL = _softmax(_dot_nt(jnp.where(in_head_LxW, q_ref[row], 0), k_ref[row]), reach_LxL, head_size)
            value_LxW = jnp.where(in_head_LxW, v_ref[row], 0)
            out_LxW += _dot(_masked(weights_LxL, kept_LxL, zeroed).astype(value_LxW.dtype), value_LxW)
        out_ref[row] = out_LxW.astype(out_ref.dtype)


def _tpu_backward_kernel(
    keys_ref: Any, id_ref: Any, key_id_ref: Any, q_ref: Any, k_ref: Any, v_ref: Any, up_ref: Any,
    dq_ref: Any, dk_ref: Any, dv_ref: Any, *, head_size: int, zeroed: int,
) -> None:  # fmt: skip
    for row in range(q_ref.shape[0]):
        reach_LxL = id_ref[row] == key_id_ref[row]
        dq_LxW, dk_LxW, dv_LxW = (jnp.zeros(q_ref.shape[1:], jnp.float32) for _ in range(3))
        for head, in_head_LxW in _heads(q_ref[row], head_size):
            q_LxW, k_LxW, up_LxW = (jnp.where(in_head_LxW, ref[row], 0) for ref in (q_ref, k_ref, up_ref))
            kept_LxL = _tpu_kept(keys_ref, row, head, reach_LxL, zeroed)
            weights_LxL = _softmax(_dot_nt(q_LxW, k_LxW), reach_LxL, head_size)
            d_weights_LxL = _masked(_dot_nt(up_LxW, v_ref[row]), kept_LxL, zeroed)
            delta_Lx1 = jnp.sum(weights_LxL * d_weights_LxL, axis=1, keepdims=True)
            d_scores_LxL = (weights_LxL * (d_weights_LxL - delta_Lx1) * head_size**-0.5).astype(q_LxW.dtype)
            dq_LxW += _dot(d_scores_LxL, k_LxW)
            dk_LxW += _dot_tn(d_scores_LxL, q_LxW)
            dv_LxW += _dot_tn(_masked(weights_LxL, kept_LxL, zeroed).astype(q_LxW.dtype), up_LxW)
        for ref, gradient_LxW in ((dq_ref, dq_LxW), (dk_ref, dk_LxW), (dv_ref, dv_LxW)):
            ref[row] = gradient_LxW.astype(ref.dtype)


def _heads(x_LxW: Any, head_size: int) -> list[tuple[int, Any]]:
    """The number of each head in a tile, and where its lanes are."""
    lane_LxW = jax.lax.broadcasted_iota(jnp.int32, x_LxW.shape, 1)
    return [
        (head, (lane_LxW >= head * head_size) & (lane_LxW < (head + 1) * head_size))
        for head in range(x_LxW.shape[1] // head_size)
    ]


def _softmax(products_LxL: Any, reach_LxL: Any, head_size: int) -> Any:
    scores_LxL = jnp.where(reach_LxL, products_LxL * head_size**-0.5, MASKED)
    weights_LxL = jnp.exp(scores_LxL - jnp.max(scores_LxL, axis=1, keepdims=True))
    return weights_LxL / jnp.sum(weights_LxL, axis=1, keepdims=True)


def _tpu_kept(keys_ref: Any, row: int, head: int, like_LxL: Any, zeroed: int) -> Any:
    if not zeroed:
        return None
    query_LxL, key_LxL = (jax.lax.broadcasted_iota(jnp.int32, like_LxL.shape, axis) for axis in range(2))
    return _kept(keys_ref[0, row, head], keys_ref[1, row, head], query_LxL, key_LxL, like_LxL.shape[1], zeroed)


def _masked(x_LxL: Any, kept_LxL: Any, zeroed: int) -> Any:
    return x_LxL if kept_LxL is None else jnp.where(kept_LxL, x_LxL * (CHOICES / (CHOICES - zeroed)), 0.0)


def _dot(a: Any, b: Any) -> Any:
    return _product(a, b, (1, 0))


def _dot_nt(a: Any, b: Any) -> Any:
    return _product(a, b, (1, 1))


def _dot_tn(a: Any, b: Any) -> Any:
    return _product(a, b, (0, 0))


def _product(a: Any, b: Any, axes: tuple[int, int]) -> Any:
    contracted = (axes[0],), (axes[1],)
    return jax.lax.dot_general(a, b, (contracted, ((), ())), preferred_element_type=jnp.float32)
