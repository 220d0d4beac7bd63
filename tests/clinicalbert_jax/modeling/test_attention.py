"""Every implementation of attention is the plain one, sequence by sequence, forward and backward."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from clinicalbert_jax.config import ModelConfig, TrainConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.modeling.attention import attention, dot_product, resolve, splash

HEADS, HEAD_SIZE = 2, 16
PADDED = [[100], [256], [1], []]  # lengths of the sequences in each row; the last is what a damaged record becomes
PACKED = [[100, 30, 70], [1, 255], [200], []]

Arrays = tuple[jax.Array, jax.Array, jax.Array]


def sequence_ids(rows: list[list[int]], length: int = 256) -> np.ndarray:
    ids_BxL = np.zeros((len(rows), length), np.int32)
    for row, lengths in zip(ids_BxL, rows, strict=True):
        row[: sum(lengths)] = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    return ids_BxL


def queries_keys_values(ids_BxL: np.ndarray, heads: int = HEADS) -> Arrays:
    keys = jax.random.split(jax.random.key(0), 3)
    query, key, value = (2 * jax.random.normal(k, (*ids_BxL.shape, heads, HEAD_SIZE)) for k in keys)
    return query, key, value


def plain(qkv: Arrays, ids_BxL: np.ndarray, upstream: jax.Array) -> list[np.ndarray]:
    """Output and gradients of `qkv`, each sequence and each head by itself; float64, derived by hand."""
    query, key, value, above = (np.asarray(x, np.float64) for x in (*qkv, upstream))
    results = [np.zeros_like(query) for _ in range(4)]
    scale = HEAD_SIZE**-0.5
    for row, head in np.ndindex(len(ids_BxL), query.shape[2]):
        for number in set(ids_BxL[row].tolist()) - {0}:
            at = row, np.flatnonzero(ids_BxL[row] == number), head
            q, k, v, d = query[at], key[at], value[at], above[at]
            weights = np.exp(q @ k.T * scale - (q @ k.T * scale).max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            d_weights = d @ v.T
            d_scores = weights * (d_weights - (d_weights * weights).sum(axis=1, keepdims=True)) * scale
            for result, part in zip(results, (weights @ v, d_scores @ k, d_scores.T @ q, weights.T @ d), strict=True):
                result[at] = part
    return results


def assert_plain(candidate: Callable[..., jax.Array], ids_BxL: np.ndarray, heads: int = HEADS) -> None:
    """The same for every token that is not padding, no gradient for padding, and nothing that is not finite."""
    arrays = queries_keys_values(ids_BxL, heads)
    real_BxLx1x1 = (ids_BxL != 0)[..., None, None]
    upstream = jax.random.normal(jax.random.key(1), arrays[0].shape) * real_BxLx1x1

    @jax.jit
    def candidates(upstream: jax.Array, *arrays: jax.Array) -> tuple[jax.Array, ...]:
        mixed, gradient = jax.vjp(lambda *arrays: candidate(*arrays, ids_BxL), *arrays)
        return mixed, *gradient(upstream)

    mixed, *gradients = candidates(upstream, *arrays)
    assert np.isfinite(mixed).all()
    expected = plain(arrays, ids_BxL, upstream)
    for found, exact in zip((mixed * real_BxLx1x1, *gradients), expected, strict=True):
        np.testing.assert_allclose(found, exact, atol=2e-5)


@pytest.mark.fast
@pytest.mark.parametrize("rows", [PADDED, PACKED])
def test_xla(rows: list[list[int]]) -> None:
    assert_plain(attention, sequence_ids(rows))


@pytest.mark.fast
@pytest.mark.parametrize(("rows", "packed"), [(PADDED, False), (PADDED, True), (PACKED, True)])
def test_jax_is_told_our_sequences(rows: list[list[int]], packed: bool) -> None:
    """What cuDNN gets, computed by the other implementation of the same function."""
    assert_plain(lambda *args: dot_product(*args, packed, "xla"), sequence_ids(rows))


@pytest.mark.fast
@pytest.mark.parametrize("rows", [PADDED, PACKED])
def test_splash(rows: list[list[int]]) -> None:
    assert_plain(lambda *args: splash(*args, interpret=True), sequence_ids(rows))


def test_splash_over_several_tiles() -> None:
    assert_plain(lambda *args: splash(*args, interpret=True), sequence_ids([[300, 57]], 640), heads=1)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("implementation", "platform", "packed", "calls"),
    [
        ("cudnn", "cuda", False, ("fmhaSoftmax", "fmhaSoftmaxBackward")),
        ("cudnn", "cuda", True, ("fmhaScaleBiasSoftmax", "fmhaScaleBiasSoftmaxBackward")),
        ("splash", "tpu", True, ("tpu_custom_call",)),
    ],
)
def test_kernels_lower_for_devices_that_are_not_here(
    implementation: str, platform: str, packed: bool, calls: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    qkv = [jax.ShapeDtypeStruct((4, 128, 12, 64), jnp.bfloat16)] * 3
    ids_BxL = jax.ShapeDtypeStruct((4, 128), jnp.int32)

    def loss(query: jax.Array, key: jax.Array, value: jax.Array, ids_BxL: jax.Array) -> jax.Array:
        mixed = attention(query, key, value, ids_BxL, implementation=implementation, packed=packed)
        return mixed.astype(jnp.float32).sum()

    traced = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(*qkv, ids_BxL)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert all(f"{call}(" in text or f'{call}"' in text for call in calls), text
    assert not re.search(r"dot_general.* -> tensor<4x12x128x128", text), "no scores in memory"


def test_cudnn_on_a_gpu() -> None:
    if not shutil.which("nvidia-smi"):
        pytest.skip("no NVIDIA GPU on this machine: cuDNN's attention is lowered above, not run")
    environment = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    subprocess.run([sys.executable, "-m", "tests.clinicalbert_jax.modeling.cudnn_on_gpu"], check=True, env=environment)


def device(platform: str, kind: str, **attributes: object) -> jax.Device:
    version = "cuda 13000" if kind.startswith(("NVIDIA", "Tesla")) else platform
    client = SimpleNamespace(platform_version=version)
    return SimpleNamespace(platform=platform, device_kind=kind, client=client, **attributes)  # type: ignore[return-value]


H100 = device("gpu", "NVIDIA H100 80GB HBM3", compute_capability="9.0")
V100 = device("gpu", "Tesla V100-SXM2-16GB", compute_capability="7.0")
MI300 = device("gpu", "AMD Instinct MI300X", compute_capability="gfx942")
V5E = device("tpu", "TPU v5 lite")
CPU = device("cpu", "cpu")


def model_of(dropout: float = 0.0, heads: int = 12) -> ModelConfig:
    return ModelConfig(num_attention_heads=heads, attention_probs_dropout_prob=dropout)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("where", "dropout", "dtype", "length", "expected"),
    [
        (H100, 0.0, "bfloat16", 128, "cudnn"),
        (H100, 0.1, "bfloat16", 128, "xla"),
        (H100, 0.0, "float32", 128, "xla"),
        (H100, 0.0, "bfloat16", 77, "xla"),
        (V100, 0.0, "bfloat16", 128, "xla"),
        (MI300, 0.0, "bfloat16", 128, "xla"),
        (V5E, 0.0, "bfloat16", 512, "splash"),
        (V5E, 0.0, "float32", 512, "splash"),
        (V5E, 0.0, "bfloat16", 128, "xla"),
        (V5E, 0.0, "bfloat16", 300, "xla"),
        (V5E, 0.1, "bfloat16", 512, "xla"),
        (CPU, 0.0, "bfloat16", 512, "xla"),
    ],
)
def test_auto_goes_by_the_device(where: jax.Device, dropout: float, dtype: str, length: int, expected: str) -> None:
    assert resolve("auto", where, model_of(dropout), dtype, length) == expected


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "where", "model", "dtype", "length", "complaint"),
    [
        ("cudnn", H100, model_of(dropout=0.1), "bfloat16", 128, r"model.attention_probs_dropout_prob=0, found 0.1"),
        ("cudnn", H100, model_of(), "float32", 128, r"train.dtype=bfloat16, found float32"),
        ("cudnn", H100, model_of(heads=4), "bfloat16", 128, r"heads of a multiple of 8, at most 128, found 192"),
        ("cudnn", H100, model_of(), "bfloat16", 77, r"data.max_seq_length even, found 77"),
        ("cudnn", V100, model_of(), "bfloat16", 128, r"compute capability 8.0 \(Ampere\) or newer, found 7.0"),
        ("cudnn", MI300, model_of(), "bfloat16", 128, r"an NVIDIA GPU, found AMD Instinct MI300X"),
        ("cudnn", V5E, model_of(), "bfloat16", 128, r"an NVIDIA GPU, found TPU v5 lite"),
        ("splash", H100, model_of(), "bfloat16", 128, r"a TPU, found NVIDIA H100"),
        ("splash", V5E, model_of(), "bfloat16", 300, r"data.max_seq_length a multiple of 128, found 300"),
    ],
)
def test_what_cannot_run_is_refused_by_name(
    name: str, where: jax.Device, model: ModelConfig, dtype: str, length: int, complaint: str
) -> None:
    with pytest.raises(UserError, match=rf"^config.train.attention={name}: expected .*{complaint}.*; 'auto'"):
        resolve(name, where, model, dtype, length)


@pytest.mark.fast
def test_a_name_that_does_not_exist_is_refused_when_the_config_is_built() -> None:
    with pytest.raises(UserError, match=r"^config.train.attention: expected one of .*, found 'flash'"):
        TrainConfig(attention="flash")
