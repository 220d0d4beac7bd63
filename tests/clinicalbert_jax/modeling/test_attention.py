"""Every implementation of attention is the plain one, sequence by sequence, forward and backward."""

import functools
import json
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
from clinicalbert_jax.modeling import fused_attention
from clinicalbert_jax.modeling.attention import Choice, attention, dot_product, resolve, splash

HEADS, HEAD_SIZE = 2, 16
RATE = 0.1
PADDED = [[100], [256], [1], []]  # lengths of the sequences in each row; the last is what a damaged record becomes
PACKED = [[100, 30, 70], [1, 255], [200], []]

Arrays = tuple[jax.Array, jax.Array, jax.Array]


def sequence_ids(rows: list[list[int]], length: int = 256) -> np.ndarray:
    ids_BxL = np.zeros((len(rows), length), np.int32)
    for row, lengths in zip(ids_BxL, rows, strict=True):
        row[: sum(lengths)] = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    return ids_BxL


def queries_keys_values(ids_BxL: np.ndarray, heads: int = HEADS, head_size: int = HEAD_SIZE) -> Arrays:
    keys = jax.random.split(jax.random.key(0), 3)
    query, key, value = (2 * jax.random.normal(k, (*ids_BxL.shape, heads, head_size)) for k in keys)
    return query, key, value


def plain(
    qkv: Arrays, ids_BxL: np.ndarray, upstream: jax.Array, factor_BxHxLxL: np.ndarray | None = None
) -> list[np.ndarray]:
    """Output and gradients of `qkv`, each sequence and each head by itself; float64, derived by hand.

    `factor_BxHxLxL`: of dropout, for each probability.
    """
    query, key, value, above = (np.asarray(x, np.float64) for x in (*qkv, upstream))
    results = [np.zeros_like(query) for _ in range(4)]
    scale = query.shape[3] ** -0.5
    for row, head in np.ndindex(len(ids_BxL), query.shape[2]):
        for number in set(ids_BxL[row].tolist()) - {0}:
            at = row, np.flatnonzero(ids_BxL[row] == number), head
            q, k, v, d = query[at], key[at], value[at], above[at]
            weights = np.exp(q @ k.T * scale - (q @ k.T * scale).max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            factor = np.ones_like(weights)
            if factor_BxHxLxL is not None:
                factor = factor_BxHxLxL[row, head][np.ix_(at[1], at[1])]
            d_weights = d @ v.T * factor
            d_scores = weights * (d_weights - (d_weights * weights).sum(axis=1, keepdims=True)) * scale
            kept = weights * factor
            for result, part in zip(results, (kept @ v, d_scores @ k, d_scores.T @ q, kept.T @ d), strict=True):
                result[at] = part
    return results


def assert_plain(
    candidate: Callable[..., jax.Array],
    ids_BxL: np.ndarray,
    heads: int = HEADS,
    head_size: int = HEAD_SIZE,
    factor_BxHxLxL: np.ndarray | None = None,
) -> None:
    """The same for every token that is not padding, no gradient for padding, and nothing that is not finite."""
    arrays = queries_keys_values(ids_BxL, heads, head_size)
    real_BxLx1x1 = (ids_BxL != 0)[..., None, None]
    upstream = jax.random.normal(jax.random.key(1), arrays[0].shape) * real_BxLx1x1

    @jax.jit
    def candidates(upstream: jax.Array, *arrays: jax.Array) -> tuple[jax.Array, ...]:
        mixed, gradient = jax.vjp(lambda *arrays: candidate(*arrays, ids_BxL), *arrays)
        return mixed, *gradient(upstream)

    mixed, *gradients = candidates(upstream, *arrays)
    assert np.isfinite(mixed).all()
    expected = plain(arrays, ids_BxL, upstream, factor_BxHxLxL)
    for found, exact in zip((mixed * real_BxLx1x1, *gradients), expected, strict=True):
        np.testing.assert_allclose(found, exact, atol=2e-5)


@pytest.mark.fast
@pytest.mark.parametrize(("rows", "packed"), [(PADDED, False), (PADDED, True), (PACKED, True)])
@pytest.mark.parametrize("length", [256, 515])  # in one block of queries, and in three that are not equal
def test_xla(rows: list[list[int]], packed: bool, length: int) -> None:
    assert_plain(functools.partial(attention, packed=packed), sequence_ids([*rows, [length]], length))


@pytest.mark.fast
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(("rows", "packed"), [(PADDED, False), (PADDED, True), (PACKED, True)])
def test_xla_where_it_is_read_alone(rows: list[list[int]], packed: bool, dtype: jnp.dtype) -> None:
    """The same as all of it, at these positions: out of order, twice, and of padding, which attends to its row."""
    ids_BxL = sequence_ids(rows)
    arrays = [x.astype(dtype) for x in queries_keys_values(ids_BxL)]
    read_BxR = np.array([[99, 0, 0], [255, 0, 7], [0, 1, 0], [5, 0, 3]])
    of_all = attention(*arrays, ids_BxL, packed=packed)
    expected = np.stack([mixed[read] for mixed, read in zip(np.asarray(of_all, np.float32), read_BxR, strict=True)])
    found = attention(*arrays, ids_BxL, packed=packed, read_BxR=jnp.asarray(read_BxR))
    np.testing.assert_allclose(np.asarray(found, np.float32), expected, atol=1e-5 if dtype == jnp.float32 else 2e-2)


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
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("rate", [0.0, RATE])
def test_our_kernels(platform: str, rate: float) -> None:
    """Rows of two tiles on a GPU; two heads side by side on a TPU; the mask is the one that `keep_mask` says."""
    ids_BxL, heads, key = sequence_ids([[100, 20], []], 128), 4, jax.random.key(7)
    kept = np.asarray(fused_attention.keep_mask(fused_attention.draw_keys(key, len(ids_BxL), heads), 128, rate))
    assert_plain(
        lambda *args: fused_attention.fused(*args, rate, key if rate else None, platform=platform, interpret=True),
        ids_BxL,
        heads,
        head_size=64,
        factor_BxHxLxL=kept / (1 - round(rate * 2**16) / 2**16),
    )


@pytest.mark.fast
def test_the_mask_of_our_kernels_is_random() -> None:
    """The rate, and no correlation between neighbours in a row, in a column, of heads or of rows of the batch."""
    keys_2xBxH = fused_attention.draw_keys(jax.random.key(3), 4, 12)
    dropped = 1.0 - np.asarray(fused_attention.keep_mask(keys_2xBxH, 128, RATE))
    count = dropped.size
    assert abs(dropped.mean() - RATE) < 4 * np.sqrt(RATE * (1 - RATE) / count)
    for axis in range(4):
        for distance in (1, 2, 3):
            both = (dropped * np.roll(dropped, distance, axis)).mean()
            assert abs(both - RATE**2) < 5 * np.sqrt(RATE**2 / count), (axis, distance)
    by_row = dropped.mean(axis=3)
    assert by_row.std() == pytest.approx(np.sqrt(RATE * (1 - RATE) / 128), rel=0.05)
    # Two heads whose counters start one apart do not draw the same numbers one column apart.
    apart_2x1x2 = keys_2xBxH[:, :1, :2].at[0, 0, 1].set(keys_2xBxH[0, 0, 0] + 1)
    one, other = 1.0 - np.asarray(fused_attention.keep_mask(apart_2x1x2, 128, RATE))[0]
    assert all((one[:, by:] * other[:, : 128 - by]).mean() < 2 * RATE**2 for by in range(4))
    again = fused_attention.keep_mask(fused_attention.draw_keys(jax.random.key(4), 4, 12), 128, RATE)
    assert ((1.0 - np.asarray(again)) * dropped).mean() == pytest.approx(RATE**2, rel=0.05)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("implementation", "platform", "packed", "calls"),
    [
        ("cudnn", "cuda", False, ("fmhaSoftmax", "fmhaSoftmaxBackward")),
        ("cudnn", "cuda", True, ("fmhaScaleBiasSoftmax", "fmhaScaleBiasSoftmaxBackward")),
        ("splash", "tpu", True, ("tpu_custom_call",)),
        ("pallas", "tpu", True, ("tpu_custom_call",)),
        ("pallas", "cuda", True, ("cuda_forward_kernel", "cuda_query_kernel", "cuda_key_value_kernel")),
    ],
)
@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
def test_kernels_lower_for_devices_that_are_not_here(
    implementation: str, platform: str, packed: bool, calls: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    qkv = [jax.ShapeDtypeStruct((4, 128, 12, 64), jnp.bfloat16)] * 3
    ids_BxL = jax.ShapeDtypeStruct((4, 128), jnp.int32)

    def loss(query: jax.Array, key: jax.Array, value: jax.Array, ids_BxL: jax.Array) -> jax.Array:
        rate = RATE if implementation == "pallas" else 0.0
        mixed = attention(
            *(query, key, value, ids_BxL),
            implementation=implementation,
            packed=packed,
            dropout_rate=rate,
            dropout_key=jax.random.key(0) if rate else None,
        )
        return mixed.astype(jnp.float32).sum()

    # Newer releases of JAX want to know the GPU that Triton's kernels are for.
    h100 = jax.sharding.AbstractDevice(H100.device_kind, 132, "cuda") if platform == "cuda" else None
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), (), abstract_device=h100)):
        traced = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(*qkv, ids_BxL)
        text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert all(f"{call}(" in text or f'{call}"' in text for call in calls), text
    assert not re.search(r"dot_general.* -> tensor<4x12x128x128", text), "no scores in memory"


def test_all_kernels_on_a_gpu() -> None:
    if not shutil.which("nvidia-smi"):
        pytest.skip("no NVIDIA GPU on this machine: its kernels are lowered above, not run")
    environment = {name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    spec = {"lengths": [128], "kinds": ["padded", "packed"], "rates": [0.0, RATE], "heads": 2, "head_size": 64}
    command = [sys.executable, "-m", "benchmarks.accelerator_checks", "attention", json.dumps(spec)]
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert [result for result in found["results"] if not result["passed"]] == []
    assert {result["implementation"] for result in found["results"]} == {"xla", "cudnn", "pallas"}


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
        (H100, 0.0, "bfloat16", 128, Choice("cudnn", "the fastest that runs on NVIDIA H100 80GB HBM3")),
        (
            H100,
            0.1,
            "bfloat16",
            128,
            Choice(
                "xla",
                "cudnn needs model.attention_probs_dropout_prob=0, found 0.1; "
                "pallas may run here, but no device has yet: train.attention=pallas",
            ),
        ),
        (H100, 0.0, "float32", 128, "xla"),
        (H100, 0.0, "bfloat16", 77, Choice("xla", "cudnn needs data.max_seq_length even, found 77")),
        (V100, 0.0, "bfloat16", 128, "xla"),
        (MI300, 0.0, "bfloat16", 128, Choice("xla", "cudnn needs an NVIDIA GPU, found AMD Instinct MI300X")),
        (V5E, 0.0, "bfloat16", 512, Choice("splash", "the fastest that runs on TPU v5 lite")),
        (V5E, 0.0, "float32", 512, "splash"),
        (V5E, 0.1, "bfloat16", 128, "xla"),
        (
            V5E,
            0.1,
            "bfloat16",
            512,
            Choice(
                "xla",
                "splash needs model.attention_probs_dropout_prob=0, found 0.1; "
                "pallas may run here, but no device has yet: train.attention=pallas",
            ),
        ),
        (V5E, 0.1, "bfloat16", 300, "xla"),
        (V5E, 0.0, "bfloat16", 640, "splash"),
        (V5E, 0.1, "bfloat16", 640, "xla"),
        (CPU, 0.1, "bfloat16", 512, Choice("xla", "the only one on cpu")),
    ],
)
def test_auto_goes_by_the_device(
    where: jax.Device, dropout: float, dtype: str, length: int, expected: str | Choice
) -> None:
    found = resolve("auto", where, model_of(dropout), dtype, length)
    assert found == expected if isinstance(expected, Choice) else found.name == expected


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
        ("pallas", CPU, model_of(), "bfloat16", 128, r"a TPU or an NVIDIA GPU, found cpu"),
        ("pallas", MI300, model_of(), "bfloat16", 128, r"a TPU or an NVIDIA GPU, found AMD"),
        ("pallas", H100, model_of(), "bfloat16", 96, r"data.max_seq_length a multiple of 64, found 96"),
        ("pallas", V5E, model_of(), "bfloat16", 64, r"data.max_seq_length a multiple of 128, found 64"),
        ("pallas", V5E, model_of(), "bfloat16", 640, r"data.max_seq_length at most 512, found 640"),
        ("pallas", V5E, model_of(heads=4), "bfloat16", 128, r"heads of 16, 32, 64 or 128, found 192"),
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
