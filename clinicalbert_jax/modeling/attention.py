"""Scaled dot-product attention within each sequence of a row, by the best implementation for the device.

Several sequences may share a row: `sequence_ids_BxL` numbers them 1, 2, ... and is 0 for padding, which ends the row.
A token attends to its own sequence and nothing attends to padding. The output at padding is finite and reaches no loss,
but differs between implementations: in the plain one padding attends to its whole row, as in other BERTs.

| name | runs on | by |
|---|---|---|
| `xla` | everything; dropout | two products and a softmax; scores in memory |
| `pallas` | TPU, rows of a multiple of 128 up to 512; NVIDIA, of a multiple of 64; dropout | `fused_attention` |
| `splash` | TPU, rows of a multiple of 128 | JAX's splash attention |
| `cudnn` | NVIDIA from Ampere on, bfloat16 | cuDNN's flash attention; by lengths, or a bias where rows are packed |

The bias is B x 1 x L x L, shared by heads and layers; `pallas` and `splash` take sequence ids instead.

Shape legend: B batch, L length, R positions that are read, H heads, K head size.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.modeling import fused_attention
from clinicalbert_jax.modeling.dropout import dropout
from clinicalbert_jax.modeling.fused_attention import MASKED

# What 'auto' takes, the first that can run. No device has run `pallas` yet, so it has to be asked for by name:
# `make accelerator` checks and measures it.
_PREFERRED = {"tpu": ("splash",), "gpu": ("cudnn",)}

# A CPU with a second cache of 512 KB took 12.4 ms for 2 rows of 384 as one block, 8.9 as two.
_QUERIES_A_BLOCK = 256


class Choice(NamedTuple):
    """An implementation by name, and why this one, for the first line of a run."""

    name: str
    why: str


def attention(
    query_BxLxHxK: jax.Array,
    key_BxLxHxK: jax.Array,
    value_BxLxHxK: jax.Array,
    sequence_ids_BxL: jax.Array,
    *,
    implementation: str = "xla",
    packed: bool = True,
    read_BxR: jax.Array | None = None,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """The attention output, B x L x H x K; B x R x H x K where only the positions `read_BxR` are read.

    `implementation`: a name from the table above, of one that runs here (see `resolve`). `packed` False promises that
    every row is one sequence and then padding.
    """
    arrays = query_BxLxHxK, key_BxLxHxK, value_BxLxHxK, sequence_ids_BxL
    if implementation == "xla":
        return _plain(*arrays, packed, read_BxR, dropout_rate, dropout_key)
    if implementation == "cudnn":
        mixed_BxLxHxK = dot_product(*arrays, packed, "cudnn")
    elif implementation == "splash":
        mixed_BxLxHxK = splash(*arrays)
    else:
        mixed_BxLxHxK = fused_attention.fused(*arrays, dropout_rate, dropout_key)
    return mixed_BxLxHxK if read_BxR is None else at_positions(mixed_BxLxHxK, read_BxR)


def resolve(requested: str, device: jax.Device, model: ModelConfig, dtype: str, length: int) -> Choice:
    """The implementation for training `model` on rows of `length` on such a device.

    'auto': the best that can run, judged by the device of the mesh, which need not be the process's own. Raises
    `UserError` where one is asked for by name that cannot.
    """
    if requested != "auto":
        missing = lacking(requested, device, model, dtype, length)
        if missing:
            raise UserError(f"config.train.attention={requested}: expected {missing}; 'auto' takes what can run")
        return Choice(requested, "config.train.attention")
    preferred = _PREFERRED.get(device.platform, ())
    missing_of = {name: lacking(name, device, model, dtype, length) for name in preferred}
    for name, missing in missing_of.items():
        if not missing:
            return Choice(name, f"the fastest that runs on {device.device_kind}")
    reasons = [f"{name} needs {missing}" for name, missing in missing_of.items()]
    if not lacking("pallas", device, model, dtype, length):
        reasons.append("pallas may run here, but no device has yet: train.attention=pallas")
    return Choice("xla", "; ".join(reasons) or f"the only one on {device.device_kind}")


def dot_product(
    query_BxLxHxK: jax.Array,
    key_BxLxHxK: jax.Array,
    value_BxLxHxK: jax.Array,
    sequence_ids_BxL: jax.Array,
    packed: bool,
    implementation: Literal["cudnn", "xla"],
) -> jax.Array:
    """JAX's own function for our sequences: `implementation` 'cudnn', or its 'xla' to compare with."""
    if packed:
        mask_Bx1xLxL, lengths_B = _reach(sequence_ids_BxL)[:, None], None
    else:
        # A row of padding alone would divide by zero.
        mask_Bx1xLxL, lengths_B = None, jnp.maximum(jnp.sum(sequence_ids_BxL != 0, axis=1, dtype=jnp.int32), 1)
    return jax.nn.dot_product_attention(
        query_BxLxHxK,
        key_BxLxHxK,
        value_BxLxHxK,
        mask=mask_Bx1xLxL,
        key_value_seq_lengths=lengths_B,
        implementation=implementation,
    )


def splash(
    query_BxLxHxK: jax.Array,
    key_BxLxHxK: jax.Array,
    value_BxLxHxK: jax.Array,
    sequence_ids_BxL: jax.Array,
    interpret: bool = False,
) -> jax.Array:
    """Splash attention; L is a multiple of 128. `interpret` runs the kernel on any device, slowly."""
    # Half a second to import, for one kind of device.
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask

    _, length, heads, head_size = query_BxLxHxK.shape
    block = next(size for size in (512, 384, 256, 128) if length % size == 0)
    kernel = splash_attention_kernel.make_splash_mha_single_device(
        splash_attention_mask.MultiHeadMask([splash_attention_mask.FullMask((length, length))] * heads),
        # One backward kernel for all three gradients: rows are so short that a tile or a few hold all keys.
        block_sizes=splash_attention_kernel.BlockSizes(
            block_q=block, block_kv=block, block_q_dkv=block, block_kv_dkv=block, use_fused_bwd_kernel=True
        ),
        interpret=interpret,
    )
    # The kernel takes one row, heads first, and scales nothing.
    rows = [x.swapaxes(1, 2) for x in (query_BxLxHxK * head_size**-0.5, key_BxLxHxK, value_BxLxHxK)]
    segments = splash_attention_kernel.SegmentIds(sequence_ids_BxL, sequence_ids_BxL)
    return jax.vmap(kernel)(*rows, segment_ids=segments).swapaxes(1, 2)


def _plain(
    query_BxLxHxK: jax.Array,
    key_BxLxHxK: jax.Array,
    value_BxLxHxK: jax.Array,
    sequence_ids_BxL: jax.Array,
    packed: bool,
    read_BxR: jax.Array | None,
    dropout_rate: float,
    dropout_key: jax.Array | None,
) -> jax.Array:
    query_BxRxHxK = query_BxLxHxK if read_BxR is None else at_positions(query_BxLxHxK, read_BxR)
    # In a row of one sequence it is the same for all tokens that attend.
    reach_BxRxL = _reach(sequence_ids_BxL, read_BxR) if packed else (sequence_ids_BxL != 0)[:, None]
    if value_BxLxHxK.dtype != jnp.float32:
        return _in_few_bytes(query_BxRxHxK, key_BxLxHxK, value_BxLxHxK, reach_BxRxL, dropout_rate, dropout_key)
    # Without dropout a CPU computes a block in one kernel, fastest where the scores of a head stay in its cache.
    num_blocks = 1 if dropout_rate and dropout_key is not None else -(-query_BxRxHxK.shape[1] // _QUERIES_A_BLOCK)
    queries = jnp.array_split(query_BxRxHxK, num_blocks, axis=1)
    reaches = jnp.array_split(reach_BxRxL, num_blocks, axis=1) if packed else [reach_BxRxL] * num_blocks
    mixed = [
        _in_few_passes(block_BxRxHxK, key_BxLxHxK, value_BxLxHxK, block_BxRxL, dropout_rate, dropout_key)
        for block_BxRxHxK, block_BxRxL in zip(queries, reaches, strict=True)
    ]
    return jnp.concatenate(mixed, axis=1)


def _in_few_passes(
    query_BxRxHxK: jax.Array,
    key_BxLxHxK: jax.Array,
    value_BxLxHxK: jax.Array,
    reach_BxRxL: jax.Array,
    dropout_rate: float,
    dropout_key: jax.Array | None,
) -> jax.Array:
    # Passes over the scores cost a CPU more than the products: scale and normalise outside of them, and add the mask,
    # whose gradient is then no pass. With the heads in front, a CPU's compiler makes one kernel of all that reads them.
    query_BxHxRxK, key_BxHxLxK, value_BxHxLxK = (x.swapaxes(1, 2) for x in (query_BxRxHxK, key_BxLxHxK, value_BxLxHxK))
    scaled_BxHxRxK = query_BxHxRxK * query_BxHxRxK.shape[-1] ** -0.5
    scores_BxHxRxL = jnp.einsum("bhrk,bhlk->bhrl", scaled_BxHxRxK, key_BxHxLxK)
    scores_BxHxRxL += jnp.where(reach_BxRxL, 0.0, MASKED)[:, None]
    highest_BxHxRx1 = jax.lax.stop_gradient(scores_BxHxRxL.max(axis=-1, keepdims=True))
    weights_BxHxRxL = jnp.exp(scores_BxHxRxL - highest_BxHxRx1)
    total_BxHxRx1 = weights_BxHxRxL.sum(axis=-1, keepdims=True)
    weights_BxHxRxL = dropout(weights_BxHxRxL, dropout_rate, dropout_key)
    return (jnp.einsum("bhrl,bhlk->bhrk", weights_BxHxRxL, value_BxHxLxK) / total_BxHxRx1).swapaxes(1, 2)


def _in_few_bytes(
    query_BxRxHxK: jax.Array,
    key_BxLxHxK: jax.Array,
    value_BxLxHxK: jax.Array,
    reach_BxRxL: jax.Array,
    dropout_rate: float,
    dropout_key: jax.Array | None,
) -> jax.Array:
    # In bfloat16 an accelerator waits for memory: keep for the gradient what has two bytes.
    scale = query_BxRxHxK.shape[-1] ** -0.5
    scores_BxHxRxL = jnp.einsum("brhk,blhk->bhrl", query_BxRxHxK, key_BxLxHxK, preferred_element_type=jnp.float32)
    scores_BxHxRxL = jnp.where(reach_BxRxL[:, None], scores_BxHxRxL * scale, MASKED)
    probabilities_BxHxRxL = jax.nn.softmax(scores_BxHxRxL, axis=-1).astype(value_BxLxHxK.dtype)
    probabilities_BxHxRxL = dropout(probabilities_BxHxRxL, dropout_rate, dropout_key)
    return jnp.einsum("bhrl,blhk->brhk", probabilities_BxHxRxL, value_BxLxHxK)


def _reach(sequence_ids_BxL: jax.Array, read_BxR: jax.Array | None = None) -> jax.Array:
    """Whether the first token, of those that are read, attends to the second, B x R x L."""
    reader_BxR = sequence_ids_BxL if read_BxR is None else at_positions(sequence_ids_BxL, read_BxR)
    from_BxRx1, to_Bx1xL = reader_BxR[:, :, None], sequence_ids_BxL[:, None, :]
    return ((from_BxRx1 == to_Bx1xL) | (from_BxRx1 == 0)) & (to_Bx1xL != 0)


def at_positions(x_BxL: jax.Array, read_BxR: jax.Array) -> jax.Array:
    """The values at these positions, B x R and whatever axes follow."""
    return jnp.take_along_axis(x_BxL, jnp.expand_dims(read_BxR, tuple(range(2, x_BxL.ndim))), axis=1)


def lacking(implementation: str, device: jax.Device, model: ModelConfig, dtype: str, length: int) -> str | None:
    """What `implementation` lacks to train `model` on rows of `length` on such a device, in words, or None."""
    if implementation == "xla":
        return None
    if implementation != "pallas" and model.attention_probs_dropout_prob:
        return f"model.attention_probs_dropout_prob=0, found {model.attention_probs_dropout_prob}"
    on_tpu, on_nvidia = device.platform == "tpu", device.platform == "gpu" and "cuda" in device.client.platform_version
    devices = {"splash": on_tpu, "cudnn": on_nvidia, "pallas": on_tpu or on_nvidia}
    if not devices[implementation]:
        kinds = {"splash": "a TPU", "cudnn": "an NVIDIA GPU", "pallas": "a TPU or an NVIDIA GPU"}
        return f"{kinds[implementation]}, found {device.device_kind}"
    if on_nvidia and float(device.compute_capability) < 8.0:
        return f"a GPU of compute capability 8.0 (Ampere) or newer, found {device.compute_capability}"
    if implementation == "cudnn" and dtype != "bfloat16":
        return f"train.dtype=bfloat16, found {dtype}"
    return _lacking_shape(implementation, on_tpu, model, length)


def _lacking_shape(implementation: str, on_tpu: bool, model: ModelConfig, length: int) -> str | None:
    head_size = model.hidden_size // model.num_attention_heads
    heads = f"{head_size} (model.hidden_size / num_attention_heads)"
    if implementation == "cudnn" and (head_size % 8 or head_size > 128):
        return f"heads of a multiple of 8, at most 128, found {heads}"
    if implementation == "pallas" and head_size not in (16, 32, 64, 128):
        return f"heads of 16, 32, 64 or 128, found {heads}"
    if implementation == "pallas" and on_tpu and model.hidden_size % 128:
        return f"model.hidden_size a multiple of 128, found {model.hidden_size}"
    if implementation == "pallas" and on_tpu and length > 512:
        return f"data.max_seq_length at most 512, found {length}"
    multiple = 2 if implementation == "cudnn" else 128 if on_tpu else 64
    wanted = "even" if multiple == 2 else f"a multiple of {multiple}"
    return f"data.max_seq_length {wanted}, found {length}" if length % multiple else None
