"""Optimizers and learning-rate schedules that BERTs were trained with, named after their source."""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from clinicalbert_jax.config import OptimizerConfig

# google-research/bert, optimization.py: `exclude_from_weight_decay=["LayerNorm", "layer_norm", "bias"]`.
NOT_DECAYED = re.compile(r".*/(bias|output_bias)|.*layer_norm/.*")


class ScheduleNumbers(NamedTuple):
    """The numbers of a learning-rate schedule, float32 scalars: a compiled step takes them as arguments.

    `peak`: the highest rate. `warmup_steps`: updates of the rise. `end`: where a line reaches 0, or a cooldown begins.
    `rise`, `fall`: by how much of the peak it changes in an update.
    """

    peak: Any
    warmup_steps: Any
    end: Any
    rise: Any
    fall: Any


def make_optimizer(config: OptimizerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Clip by global norm, adapt, decay decoupled from the gradient, then the schedule. Counts its updates itself.

    'adamw': Loshchilov and Hutter (2019). 'bert_adam': the same without bias correction, as google-research/bert has
    it. 'lamb': You et al. (2020), algorithm 2, its trust ratio on the decayed parameters only, as in the authors' code.
    """
    adapt = {
        "adamw": lambda: optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps),
        "bert_adam": lambda: scale_by_bert_adam(config.b1, config.b2, config.eps),
        "lamb": lambda: optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps),
    }[config.name]()
    by_layer = [optax.masked(optax.scale_by_trust_ratio(), decay_mask)] if config.name == "lamb" else []
    return optax.chain(
        clip_by_global_norm(config.clip_global_norm),
        adapt,
        optax.add_decayed_weights(config.weight_decay, mask=decay_mask),
        *by_layer,
        optax.scale_by_learning_rate(schedule),
    )


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """Scale the gradients so that their global norm is at most `max_norm` (Pascanu et al. 2013).

    By one factor: optax's divides each gradient, and compilers do not repeat a division in all that read its result,
    but store it, in a kernel of its own for each parameter.
    """

    def update(grads: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        del params
        factor = max_norm / jnp.maximum(optax.tree.norm(grads), max_norm)
        return jax.tree.map(lambda grad: grad * factor, grads), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def scale_by_bert_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam without bias correction (google-research/bert, optimization.py): the first steps are the largest."""

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(grads: Any, state: optax.ScaleByAdamState, params: Any = None) -> tuple[Any, optax.ScaleByAdamState]:
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, grads)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mean, square)
        return updates, optax.ScaleByAdamState(state.count + 1, mean, square)

    return optax.GradientTransformation(init, update)


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Learning rate by the number of updates already made; `steps` is where a falling schedule reaches 0."""
    return functools.partial(learning_rate, config.schedule, schedule_numbers(config, steps))


def schedule_numbers(config: OptimizerConfig, steps: int) -> ScheduleNumbers:
    """The numbers of a config's schedule, for `learning_rate`."""
    falls_over = {"linear": steps - config.warmup_steps, "constant": config.cooldown_steps}.get(config.schedule, steps)
    numbers = ScheduleNumbers(
        peak=config.learning_rate,
        warmup_steps=config.warmup_steps,
        end=steps - config.cooldown_steps,
        rise=np.float32(1) / np.float32(max(config.warmup_steps, 1)),
        fall=np.float32(1) / np.float32(falls_over) if falls_over else 0,
    )
    return ScheduleNumbers(*map(np.float32, numbers))


def learning_rate(name: str, numbers: ScheduleNumbers, count: Any) -> jax.Array:
    """The learning rate after `count` updates.

    Each schedule rises over `warmup_steps` updates, and then:
    'google' follows the line from the peak at update 0 to 0 at the last one, so that it drops a little where the
    warm-up ends (google-research/bert, optimization.py); 'linear' falls from the peak at the end of the warm-up;
    'sqrt' is the square root of google's line (NVIDIA's LAMB recipe, degree 0.5); 'constant' stays, and falls by
    1 - sqrt over the last `cooldown_steps` (Hägele et al. 2024).
    """
    updates = jnp.asarray(count, jnp.float32)
    line = jnp.maximum(1 - updates * numbers.fall, 0.0)
    falling = {
        "google": lambda: line,
        "sqrt": lambda: jnp.sqrt(line),
        "linear": lambda: jnp.maximum((numbers.end - updates) * numbers.fall, 0.0),
        "constant": lambda: jnp.maximum(1 - jnp.sqrt(jnp.maximum(updates - numbers.end, 0.0) * numbers.fall), 0.0),
    }[name]()
    return numbers.peak * jnp.where(updates < numbers.warmup_steps, (updates + 1) * numbers.rise, falling)


def at_start_of_schedule(opt_state: Any) -> Any:
    """The state with its moments and the schedule back at 0."""

    def is_schedule(node: Any) -> bool:
        return isinstance(node, optax.ScaleByScheduleState)

    def reset(node: Any) -> Any:
        return optax.ScaleByScheduleState(jnp.zeros_like(node.count)) if is_schedule(node) else node

    return jax.tree.map(reset, opt_state, is_leaf=is_schedule)


def decay_mask(params: Any) -> Any:
    """True for each parameter that is decayed."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not NOT_DECAYED.fullmatch(jax.tree_util.keystr(path, simple=True, separator="/")), params
    )
