"""The training step: the same on any mesh and under accumulation, skips what is not finite, shards all its state."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from clinicalbert_jax.config import Config, DataConfig, MeshConfig, ModelConfig, OptimizerConfig, TrainConfig
from clinicalbert_jax.data.dataset import Dataset
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.runs.state import State
from clinicalbert_jax.training import losses, train_step
from clinicalbert_jax.training.sharding import local_rows, put_batch, state_shardings
from tests import toy_dataset


def config_with(*, fsdp: int = 1, microbatches: int = 1, dropout: float = 0.0, steps: int = 20) -> Config:
    return Config(
        model=ModelConfig(
            vocab_size=len(toy_dataset.VOCABULARY),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        ),
        data=DataConfig(max_seq_length=toy_dataset.LENGTH),
        optimizer=OptimizerConfig(learning_rate=1e-3, schedule="linear", warmup_steps=5),
        mesh=MeshConfig(fsdp=fsdp),
        train=TrainConfig(steps=steps, global_batch_size=16, microbatches=microbatches, dtype="float32"),
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset(toy_dataset.write(tmp_path_factory.mktemp("data") / "toy"), "train")


def uneven(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The batch with most predictions of its first half, and some of its pairs, taken away."""
    batch["masked_lm_weights"][:8, 1:] = 0
    batch["next_sentence_weights"][2:5] = 0
    return batch


def run(
    config: Config,
    dataset: Dataset,
    num_devices: int,
    make_objective: Callable[[Config, Mesh], losses.Objective] = losses.pretraining,
) -> tuple[list[tuple[float, float]], State]:
    program = train_step.build(config, jax.devices()[:num_devices], make_objective)
    state, size = program.init(), config.train.global_batch_size
    rows_R = local_rows(size, program.mesh)
    means = []
    for number in range(config.train.steps):
        batch = uneven(dataset.train_batch(0, number, size, rows_R))
        state, happened = program.train_step(state, put_batch(batch, program.mesh))
        sums = jax.device_get(happened["sums"])
        means.append(tuple(float(sums[name][0] / sums[name][1]) for name in ("mlm_loss", "nsp_loss")))
    return means, state


@pytest.fixture(scope="module")
def on_one_device(dataset: Dataset) -> tuple[list[tuple[float, float]], State]:
    return run(config_with(), dataset, 1)


@pytest.mark.fast
@pytest.mark.parametrize(("num_devices", "fsdp", "microbatches"), [(8, 1, 1), (4, 2, 1), (2, 1, 4)])
def test_losses_do_not_depend_on_the_mesh_or_on_accumulation(
    dataset: Dataset,
    on_one_device: tuple[list[tuple[float, float]], State],
    num_devices: int,
    fsdp: int,
    microbatches: int,
) -> None:
    expected, expected_state = on_one_device
    found, state = run(config_with(fsdp=fsdp, microbatches=microbatches), dataset, num_devices)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert expected[-1][0] < expected[0][0] - 0.02, "it learns at all"
    for one, other in zip(jax.tree.leaves(expected_state.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(other, one, atol=2e-4)


@pytest.mark.fast
def test_a_cpu_computes_the_gradient_in_parts_where_the_objective_says_so(
    dataset: Dataset, on_one_device: tuple[list[tuple[float, float]], State]
) -> None:
    parts_of = {(8, 384): 4, (16, 128): 4, (5, 128): 1, (7, 384): 7, (16, 512): 16, (19, 128): 1, (13, 64): 1}
    assert {shape: train_step._parts(*shape, most=768) for shape in parts_of} == parts_of

    def in_parts(config: Config, mesh: Mesh) -> losses.Objective:
        return dataclasses.replace(losses.pretraining(config, mesh), positions_on_a_cpu=4 * toy_dataset.LENGTH)

    programs = [train_step.build(config_with(), jax.devices()[:1], make) for make in (losses.pretraining, in_parts)]
    batch = dataset.train_batch(0, 0, 16, np.arange(16))
    lowered = [one.compiled_step.lower(one.abstract_state, batch, one._arguments).as_text() for one in programs]
    assert lowered[1].count("stablehlo.while") == lowered[0].count("stablehlo.while") + 1
    found, _ = run(config_with(), dataset, 1, in_parts)
    np.testing.assert_allclose(found, on_one_device[0], rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "bert_adam", "lamb"])
def test_parameters_and_optimizer_slots_are_cut_alike(optimizer: str) -> None:
    config = config_with(fsdp=4)
    config.optimizer.name = optimizer
    program = train_step.build(config)
    state = program.init()
    kernel = state.params["layers"]["0"]["attention"]["query"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (8, 32)
    moments = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state)
        if jax.tree_util.keystr(path, simple=True, separator="/").endswith("layers/0/attention/query/kernel")
    ]
    assert len(moments) == 2, "Adam's two"
    assert all(moment.sharding == kernel.sharding for moment in moments)


def test_a_state_that_belongs_to_no_parameter_is_an_error() -> None:
    program = train_step.build(config_with())
    params = program.abstract_state.params
    with pytest.raises(UserError, match="belongs to no parameter"):
        state_shardings({"strange": jnp.zeros(3)}, params, program.mesh)


def test_a_batch_that_is_not_finite_changes_nothing_but_the_step(dataset: Dataset) -> None:
    config = config_with(dropout=0.1)
    program = train_step.build(config, jax.devices()[:2])
    rows_R = np.arange(16)
    batch = dataset.train_batch(0, 0, 16, rows_R)
    state, _ = program.train_step(program.init(), put_batch(batch, program.mesh))
    before = jax.device_get(state)
    batch["masked_lm_weights"][3, 0] = np.nan
    state, happened = program.train_step(state, put_batch(batch, program.mesh))
    after = jax.device_get(state)
    assert happened["skipped_in_a_row"] == 1
    assert (after.step, after.updates) == (2, 1)
    jax.tree.map(np.testing.assert_array_equal, (after.params, after.opt_state), (before.params, before.opt_state))


def test_the_gradient_is_that_of_the_plain_loss(dataset: Dataset) -> None:
    """Without shard_map, accumulation or a mesh: mean MLM loss plus mean NSP loss over the batch."""
    from clinicalbert_jax.modeling import bert

    config = config_with()
    program = train_step.build(config, jax.devices()[:4])
    state = program.init()
    rows_R = np.arange(16)
    batch = uneven(dataset.train_batch(0, 0, 16, rows_R))

    def loss(params: dict) -> jax.Array:
        outputs = bert.apply(
            config.model,
            params,
            batch["input_ids"],
            batch["segment_ids"],
            batch["sequence_ids"],
            batch["masked_lm_positions"],
            batch["next_sentence_positions"],
        )
        mlm = optax.softmax_cross_entropy_with_integer_labels(outputs.mlm_logits_BxPxV, batch["masked_lm_ids"])
        nsp = optax.softmax_cross_entropy_with_integer_labels(outputs.nsp_logits_BxKx2, batch["next_sentence_labels"])
        return jnp.average(mlm, weights=batch["masked_lm_weights"]) + jnp.average(
            nsp, weights=batch["next_sentence_weights"]
        )

    expected = optax.tree.norm(jax.jit(jax.grad(loss))(jax.device_get(state.params)))
    _, happened = program.train_step(state, put_batch(batch, program.mesh))
    np.testing.assert_allclose(happened["grad_norm"], expected, rtol=1e-4)


def test_a_mesh_or_a_batch_that_does_not_divide_is_one_clear_line() -> None:
    with pytest.raises(UserError, match=r"config.mesh: expected data × fsdp to equal the 8 devices"):
        train_step.build(config_with(fsdp=3))
    with pytest.raises(UserError, match=r"global_batch_size: expected a multiple of 8 devices × 4 microbatches"):
        train_step.build(config_with(microbatches=4))


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """What XLA compiled since the test began, or since it was cleared: one entry each, of whatever size."""
    seen: list[str] = []

    def listen(event: str, _: float, **__: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.fast
def test_nothing_is_compiled_after_the_first_step(dataset: Dataset, compilations: list[str]) -> None:
    program = train_step.build(config_with(dropout=0.1), jax.devices()[:2])
    state, rows_R = program.init(), np.arange(16)
    for number in range(4):
        batch = dataset.train_batch(0, number, 16, rows_R)
        state, happened = program.train_step(state, put_batch(batch, program.mesh))
        jax.device_get(happened)
        if number == 0:
            assert compilations, "the listener hears of the step itself"
            compilations.clear()
    assert not compilations


@pytest.mark.fast
def test_a_run_of_another_seed_length_and_rate_needs_no_compiling(dataset: Dataset, compilations: list[str]) -> None:
    def steps(program: train_step.Program) -> tuple[Any, Any]:
        state, rows_R = program.init(), np.arange(16)
        for number in range(3):
            batch = put_batch(dataset.train_batch(0, number, 16, rows_R), program.mesh)
            state, happened = program.train_step(state, batch)
        return jax.device_get((state, happened["learning_rate"]))

    config, other = config_with(dropout=0.1), config_with(dropout=0.1, steps=31)
    other.train.seed, other.optimizer.learning_rate, other.optimizer.warmup_steps = 5, 3e-3, 2
    other.train.log_every, other.train.eval_every, other.train.checkpoint_every = 2, 3, 4
    assert train_step.compiled_part(config) == train_step.compiled_part(other)
    program = train_step.build(config, jax.devices()[:2])
    first, _ = steps(program)
    expected, rate = steps(train_step.build(other, jax.devices()[:2]))
    compilations.clear()
    found = steps(dataclasses.replace(program, config=other))
    assert not compilations
    jax.tree.map(np.testing.assert_array_equal, found, (expected, rate))
    assert rate == pytest.approx(3e-3)  # of the third update
    kernels = [state.params["layers"]["0"]["attention"]["query"]["kernel"] for state in (first, expected)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01, "another seed"


def test_what_is_compiled_is_known_from_the_config() -> None:
    config = config_with()
    for other in (config_with(microbatches=2), config_with(fsdp=2), config_with(dropout=0.1)):
        assert train_step.compiled_part(config) != train_step.compiled_part(other)
    for part, name, value in (("optimizer", "b1", 0.8), ("optimizer", "name", "lamb"), ("train", "dtype", "bfloat16")):
        other = config_with()
        setattr(getattr(other, part), name, value)
        assert train_step.compiled_part(config) != train_step.compiled_part(other)


def test_attention_that_cannot_run_is_one_clear_line_before_compiling(compilations: list[str]) -> None:
    config = config_with()
    config.train.attention = "splash"
    with pytest.raises(UserError, match=r"^config.train.attention=splash: expected a TPU, found cpu; 'auto' takes"):
        train_step.build(config)
    assert not compilations
