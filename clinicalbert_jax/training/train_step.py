"""The training step and the evaluation step: pure functions, compiled for one mesh.

Shape legend: B batch, L length, M microbatches (see `schema.BATCH_SHAPES` for the arrays of a batch).
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from clinicalbert_jax.config import Config, OptimizerConfig
from clinicalbert_jax.modeling.dropout import key_implementation
from clinicalbert_jax.runs.state import State
from clinicalbert_jax.training import losses
from clinicalbert_jax.training.losses import Batch, Objective, Sums, total_loss
from clinicalbert_jax.training.optimizer import (
    ScheduleNumbers,
    learning_rate,
    make_optimizer,
    make_schedule,
    schedule_numbers,
)
from clinicalbert_jax.training.sharding import (
    BATCH_AXES,
    BATCH_SPEC,
    REPLICATED,
    check_batch,
    make_mesh,
    parameter_specs,
    state_shardings,
)


class Arguments(NamedTuple):
    """What runs of one compiled program may differ in beside their batches, on the devices of its mesh."""

    seed: Any  # int32 scalar
    schedule: ScheduleNumbers


def init_state(seed: jax.Array, *, objective: Objective, optimizer: optax.GradientTransformation) -> State:
    """The state before the first step. Pure: call it under `jax.jit` with shardings."""
    return state_from(objective.init(jax.random.key(seed)), optimizer=optimizer)


def state_from(params: Any, *, optimizer: optax.GradientTransformation) -> State:
    """The state before the first step, with these parameters."""
    zero = jnp.zeros((), jnp.int32)
    return State(zero, zero, zero, zero, params=params, opt_state=optimizer.init(params))


def train_step(
    state: State,
    batch: Batch,
    arguments: Arguments,
    *,
    optimizer_config: OptimizerConfig,
    microbatches: int,
    objective: Objective,
    mesh: Mesh,
) -> tuple[State, dict[str, Any]]:
    """One update on one global batch. A step whose loss or gradient is not finite changes no parameter.

    Returns the next state and what happened: the objectives' (sum, weight) pairs over the global batch, and scalars.
    """
    specs = parameter_specs(state.params)
    seed_key = jax.random.key(arguments.seed, impl=key_implementation(mesh.devices.flat[0].platform))
    key = jax.random.fold_in(seed_key, state.step)
    gradient = jax.shard_map(
        functools.partial(
            _local_gradient,
            objective=objective,
            microbatches=microbatches,
            specs=specs,
            platform=mesh.devices.flat[0].platform,
        ),
        mesh=mesh,
        in_specs=(specs, BATCH_SPEC, REPLICATED),
        out_specs=(specs, REPLICATED),
        # Gradients are summed explicitly, once: the checker would sum them at every use of a parameter.
        check_vma=False,
    )
    grads, sums = gradient(state.params, batch, key)
    grad_norm = optax.tree.norm(grads)
    finite = jnp.isfinite(grad_norm) & jnp.all(jnp.isfinite(jnp.stack(jax.tree.leaves(sums))))
    schedule = functools.partial(learning_rate, optimizer_config.schedule, arguments.schedule)
    optimizer = make_optimizer(optimizer_config, schedule)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)

    def if_finite(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, old)

    next_state = State(
        step=state.step + 1,
        updates=state.updates + finite,
        skipped_in_a_row=jnp.where(finite, 0, state.skipped_in_a_row + 1),
        returns=state.returns,
        params=if_finite(params, state.params),
        opt_state=if_finite(opt_state, state.opt_state),
    )
    num_tokens = jnp.sum(batch["sequence_ids"] > 0, dtype=jnp.float32)
    return next_state, {
        "sums": if_finite(sums, jax.tree.map(jnp.zeros_like, sums)) | {"num_tokens": (num_tokens, jnp.float32(1))},
        "grad_norm": grad_norm,
        "learning_rate": schedule(state.updates),
        "updates": next_state.updates,
        "skipped_in_a_row": next_state.skipped_in_a_row,
        "batch_tokens": jnp.float32(batch["sequence_ids"].size),
    }


def eval_step(params: Any, batch: Batch, *, objective: Objective, mesh: Mesh) -> Sums:
    """The objectives' (sum, weight) pairs over one global batch, without dropout."""
    specs = parameter_specs(params)

    def local(params_shard: Any, local_batch: Batch) -> Sums:
        return _sum_over(objective.sums(gather(params_shard, specs), local_batch, None))

    return jax.shard_map(local, mesh=mesh, in_specs=(specs, BATCH_SPEC), out_specs=REPLICATED, check_vma=False)(
        params, batch
    )


@dataclass(frozen=True)
class Program:
    """The functions of one experiment on one mesh, and the shapes and shardings of its state.

    Seed, length and learning rate of the run are arguments of what is compiled: `dataclasses.replace(program, config=)`
    gives the functions of another run without compiling again, where `compiled_part` of both configs is equal.
    """

    config: Config
    mesh: Mesh
    compiled_init: Any  # jitted `init_state`
    compiled_init_from: Any  # the same from given parameters
    compiled_parts: Any  # jitted, names of parts of the parameters of `init_state`
    compiled_step: Any  # jitted `train_step`
    eval_step: Callable[[Any, Batch], Sums]
    abstract_state: State

    def init(self) -> State:
        """The state before the first step, by `train.seed`."""
        return self.compiled_init(self._arguments.seed)

    def init_from(self, params: Any) -> State:
        """The state before the first step, with these parameters."""
        return self.compiled_init_from(jax.device_put(params, self.param_shardings))

    def random_parts(self, *names: str) -> Any:
        """These parts of the parameters of `init`, without drawing the others."""
        return self.compiled_parts(self._arguments.seed, names)

    @property
    def param_shardings(self) -> Any:
        """How the parameters are sharded."""
        return jax.tree.map(lambda x: x.sharding, self.abstract_state.params)

    def train_step(self, state: State, batch: Batch) -> tuple[State, dict[str, Any]]:
        """The next state, and what happened: see `train_step`. `state` is given up."""
        return self.compiled_step(state, batch, self._arguments)

    def lower_step(self, abstract_batch: Mapping[str, jax.ShapeDtypeStruct]) -> Any:
        """The train step, lowered for the mesh, on which it cannot run here."""
        replicated = NamedSharding(self.mesh, REPLICATED)
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), _arguments(self.config)
        )
        return self.compiled_step.lower(self.abstract_state, abstract_batch, abstract)

    @functools.cached_property
    def _arguments(self) -> Arguments:
        replicated = NamedSharding(self.mesh, REPLICATED)
        return jax.tree.map(
            lambda x: jax.make_array_from_callback((), replicated, lambda _: x), _arguments(self.config)
        )


def compiled_part(config: Config) -> str:
    """What of a config its compiled functions depend on."""
    optimizer = dataclasses.replace(config.optimizer, learning_rate=1.0, warmup_steps=0, cooldown_steps=0)
    train = dataclasses.replace(config.train, seed=0, steps=1, log_every=1, eval_every=1, checkpoint_every=1)
    return repr((config.model, config.data, config.mesh, optimizer, train))


def build(
    config: Config,
    devices: list[jax.Device] | None = None,
    make_objective: Callable[[Config, Mesh], Objective] = losses.pretraining,
) -> Program:
    """Check the mesh and the batch against the devices (all of them by default) and set up the functions.

    Nothing is compiled before it is first called. Raises `UserError` where mesh, batch or state do not divide.
    """
    mesh = make_mesh(config.mesh, devices)
    check_batch(config.train.global_batch_size, config.train.microbatches, mesh)
    objective = make_objective(config, mesh)
    optimizer = make_optimizer(config.optimizer, make_schedule(config.optimizer, config.train.steps))
    init = functools.partial(init_state, objective=objective, optimizer=optimizer)
    shapes = jax.eval_shape(init, np.int32(0))
    shardings = state_shardings(shapes, shapes.params, mesh)
    replicated = NamedSharding(mesh, REPLICATED)
    return Program(
        config=config,
        mesh=mesh,
        compiled_init=jax.jit(init, out_shardings=shardings),
        compiled_init_from=jax.jit(functools.partial(state_from, optimizer=optimizer), out_shardings=shardings),
        compiled_parts=jax.jit(
            lambda seed, names: {name: objective.init(jax.random.key(seed))[name] for name in names},
            static_argnums=1,
            out_shardings=replicated,
        ),
        compiled_step=jax.jit(
            functools.partial(
                train_step,
                optimizer_config=config.optimizer,
                microbatches=config.train.microbatches,
                objective=objective,
                mesh=mesh,
            ),
            out_shardings=(shardings, replicated),
            donate_argnums=0,
        ),
        eval_step=jax.jit(functools.partial(eval_step, objective=objective, mesh=mesh), out_shardings=replicated),
        abstract_state=jax.tree.map(
            lambda shape, sharding: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding),
            shapes,
            shardings,
        ),
    )


def _arguments(config: Config) -> Arguments:
    return Arguments(np.int32(config.train.seed), schedule_numbers(config.optimizer, config.train.steps))


def _local_gradient(
    params_shard: Any,
    batch: Batch,
    key: jax.Array,
    *,
    objective: Objective,
    microbatches: int,
    specs: Any,
    platform: str,
) -> tuple[Any, Sums]:
    """On one device: gather the parameters, add up the microbatches' gradients, reduce once at the end."""
    params = gather(params_shard, specs)
    # Each loss is divided by its weight in the whole global batch, so that uneven mask counts on devices or in
    # microbatches give the same gradient as one large batch.
    weights = _sum_over(objective.weights(batch))
    key = jax.random.fold_in(key, jax.lax.axis_index(BATCH_AXES))

    def loss(params: Any, microbatch: Batch, key: jax.Array) -> tuple[jax.Array, Sums]:
        sums = objective.sums(params, microbatch, key)
        return total_loss(sums, weights), sums

    def add(total: Any, numbered: tuple[jax.Array, Batch]) -> tuple[Any, Sums]:
        number, microbatch = numbered
        grads, sums = jax.grad(loss, has_aux=True)(params, microbatch, jax.random.fold_in(key, number))
        return jax.tree.map(jnp.add, total, grads), sums

    if platform == "cpu" and objective.positions_on_a_cpu is not None:
        rows, length = batch["input_ids"].shape
        microbatches *= _parts(rows // microbatches, length, max(length, objective.positions_on_a_cpu))
    if microbatches == 1:
        total, sums = jax.grad(loss, has_aux=True)(params, batch, jax.random.fold_in(key, 0))
    else:
        split = jax.tree.map(lambda x: x.reshape(microbatches, x.shape[0] // microbatches, *x.shape[1:]), dict(batch))
        zeros = jax.tree.map(jnp.zeros_like, params)
        total, sums_M = jax.lax.scan(add, zeros, (jnp.arange(microbatches), split))
        sums = jax.tree.map(lambda sum_M: sum_M.sum(axis=0), sums_M)
    return _reduce(total, specs), _sum_over(sums)


def _parts(rows: int, length: int, most: int) -> int:
    """The fewest equal parts of so many rows with `most` positions each, or half as many; else 1."""
    fitting = (n for n in range(1, rows + 1) if rows % n == 0 and most <= 2 * (rows // n * length) <= 2 * most)
    return min(fitting, default=1)


def gather(params_shard: Any, specs: Any) -> Any:
    """Inside `shard_map`: the whole parameters, from this device's shards."""

    def whole(shard: jax.Array, spec: PartitionSpec) -> jax.Array:
        if "fsdp" not in spec or "fsdp" not in _sharded_axes():
            return shard
        return jax.lax.all_gather(shard, "fsdp", axis=spec.index("fsdp"), tiled=True)

    return jax.tree.map(whole, params_shard, specs)


def _reduce(grads: Any, specs: Any) -> Any:
    def reduce(grad: jax.Array, spec: PartitionSpec) -> jax.Array:
        if "fsdp" not in spec or "fsdp" not in _sharded_axes():
            return _sum_over(grad)
        scattered = jax.lax.psum_scatter(grad, "fsdp", scatter_dimension=spec.index("fsdp"), tiled=True)
        return jax.lax.psum(scattered, "data") if "data" in _sharded_axes() else scattered

    return jax.tree.map(reduce, grads, specs)


def _sum_over(tree: Any) -> Any:
    return jax.lax.psum(tree, _sharded_axes()) if _sharded_axes() else tree


def _sharded_axes() -> tuple[str, ...]:
    """The axes with more than one device: XLA copies the operand of a collective over a single device."""
    return tuple(axis for axis in BATCH_AXES if jax.lax.axis_size(axis) > 1)
