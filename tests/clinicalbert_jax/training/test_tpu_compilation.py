"""The train step compiled for a TPU slice, without a TPU: what it sends, draws and holds. Needs libtpu, the compiler.

`make test-tpu` installs it into an environment of its own, and .ci/run does so.
"""

import importlib.util
import math
from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding
from jax.typing import DTypeLike

from clinicalbert_jax.config import Config, DataConfig, MeshConfig, ModelConfig, TrainConfig
from clinicalbert_jax.data.schema import Layout
from clinicalbert_jax.modeling import fused_attention
from clinicalbert_jax.plan import compile_ahead, hlo, topologies

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason='the TPU compiler (libtpu) is not installed here: make test-tpu, or pip install -e ".[tpu]"',
)

LENGTH, BATCH, DATA, FSDP, MICROBATCHES = 32, 64, 2, 4, 2
HEADS, WIDTH = 2, 128


@pytest.fixture(scope="module")
def compiled() -> compile_ahead.Compiled:
    """A small BERT with dropout, for eight chips: two copies of the model, each cut over four, two microbatches."""
    config = Config(
        model=ModelConfig(
            vocab_size=1000,
            hidden_size=WIDTH,
            num_hidden_layers=1,
            num_attention_heads=HEADS,
            intermediate_size=256,
            max_position_embeddings=64,
        ),
        data=DataConfig(max_seq_length=LENGTH),
        mesh=MeshConfig(data=DATA, fsdp=FSDP),
        train=TrainConfig(global_batch_size=BATCH, microbatches=MICROBATCHES),
    )
    devices = topologies.devices(topologies.parse("v5e:2x4"))
    return compile_ahead.compile_step(config, Layout("padded", LENGTH, 5), devices)


@pytest.mark.parametrize("length", [128, 512])
def test_our_attention_keeps_no_scores_in_memory(length: int) -> None:
    """Forward and backward, with dropout: it moves little more than its arguments and results."""
    sharding = SingleDeviceSharding(topologies.devices(topologies.parse("v5e:2x2"))[0])
    shape = 2048 // length, length, 12, 64

    def abstract(shape: tuple[int, ...], dtype: DTypeLike) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    def loss(query: jax.Array, key: jax.Array, value: jax.Array, ids_BxL: jax.Array, seed: jax.Array) -> jax.Array:
        dropout_key = jax.random.wrap_key_data(seed, impl="rbg")
        mixed = fused_attention.fused(query, key, value, ids_BxL, 0.1, dropout_key)
        return (mixed.astype(jnp.float32) ** 2).sum()

    arrays = [abstract(shape, jnp.bfloat16)] * 3
    lowered = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(
        *arrays, abstract(shape[:2], jnp.int32), abstract((4,), jnp.uint32)
    )
    moved = hlo.summarize(lowered.compile().as_text(), 1).memory_bytes
    assert moved < 16 * 2 * math.prod(shape)


def large(compiled: compile_ahead.Compiled, kind: str) -> Counter[tuple[tuple[int, ...], int]]:
    """Shape and number of devices of each array of a kind of collective that has more than one dimension."""
    return Counter(
        (shape, one.devices)
        for one in compiled.summary.collectives
        if one.kind == kind
        for shape in one.shapes
        if len(shape) > 1
    )


def test_each_gradient_is_reduced_once(compiled: compile_ahead.Compiled) -> None:
    """Scattered over fsdp, then what is left of it added up over data; the vectors in one go over all."""
    params = compiled.program.abstract_state.params
    cut = [leaf for leaf in jax.tree.leaves(params) if leaf.sharding.shard_shape(leaf.shape) != leaf.shape]
    whole = [leaf for leaf in jax.tree.leaves(params) if leaf.sharding.shard_shape(leaf.shape) == leaf.shape]
    assert len(cut) > 10, "the rules cut every kernel"

    collectives = compiled.summary.collectives
    reduced = {kind: [one for one in collectives if one.kind == kind] for kind in ("reduce-scatter", "all-reduce")}
    # A few small ones may come as an all-reduce of which each device keeps its part.
    scattered = sum(one.full_bytes for one in reduced["reduce-scatter"] if one.devices == FSDP)
    scattered += sum(one.full_bytes for one in reduced["all-reduce"] if one.devices == FSDP)
    figures = 4 * 100  # losses, norms
    assert 0 <= scattered - sum(4 * leaf.size for leaf in cut) <= figures
    assert sum(one.full_bytes for one in reduced["reduce-scatter"]) > 0.9 * scattered, "scattered, not added up whole"
    added = sum(one.full_bytes for one in reduced["all-reduce"] if one.devices == DATA)
    assert 0 <= added - sum(leaf.size for leaf in cut) * 4 / FSDP <= figures
    everywhere = sum(one.full_bytes for one in reduced["all-reduce"] if one.devices == DATA * FSDP)
    assert 0 <= everywhere - sum(4 * leaf.size for leaf in whole) <= figures


def test_nothing_is_sent_inside_the_accumulation(compiled: compile_ahead.Compiled) -> None:
    assert max(compiled.summary.loops) == MICROBATCHES, "there is a loop over the microbatches"
    assert all(one.times == 1 for one in compiled.summary.collectives)


def test_each_chip_draws_the_masks_of_its_own_rows(compiled: compile_ahead.Compiled) -> None:
    """Left to the partitioner, every chip would draw those of the whole batch."""
    rows = BATCH // (DATA * FSDP) // MICROBATCHES
    drawn = compiled.summary.random_shapes
    assert drawn
    assert max(map(math.prod, drawn)) <= rows * LENGTH * max(WIDTH, HEADS * LENGTH)


def test_the_optimizer_takes_its_part_of_the_memory(compiled: compile_ahead.Compiled) -> None:
    params = compiled.program.abstract_state.params
    whole = 2 * sum(4 * leaf.size for leaf in jax.tree.leaves(params))  # Adam's two
    vectors = 2 * sum(4 * leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim == 1)
    assert compiled.memory.optimizer == pytest.approx((whole - vectors) / FSDP + vectors, abs=100)
    assert compiled.memory.total < 16 * 2**30
