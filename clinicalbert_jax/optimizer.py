"""Learning-rate schedules, the decay mask and AdamW, as BERT was trained with them."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from clinicalbert_jax.config import OptimizerConfig

# google-research/bert, optimization.py: `exclude_from_weight_decay=["LayerNorm", "layer_norm", "bias"]`.
NOT_DECAYED = re.compile(r".*/(bias|output_bias)|.*layer_norm/.*")


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Clip by global norm, Adam, decoupled decay, then the schedule. Counts its updates itself."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_global_norm),
        optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps),
        optax.add_decayed_weights(config.weight_decay, mask=decay_mask),
        optax.scale_by_learning_rate(make_schedule(config, steps)),
    )


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Learning rate by the number of updates already made; `steps` is where a falling schedule reaches 0.

    Each rises over `warmup_steps` updates, and then:
    'google' follows the line from `learning_rate` at update 0 to 0 at `steps`, so that it drops a little where the
    warm-up ends (google-research/bert, optimization.py); 'linear' falls from `learning_rate` at the end of the
    warm-up; 'constant' stays.
    """

    def schedule(count: Any) -> jax.Array:
        updates = jnp.asarray(count, jnp.float32)
        rising = (updates + 1) / max(config.warmup_steps, 1)
        if config.schedule == "constant":
            falling = jnp.ones_like(updates)
        elif config.schedule == "linear":
            falling = (steps - updates) / (steps - config.warmup_steps)
        else:
            falling = 1 - updates / steps
        return config.learning_rate * jnp.where(updates < config.warmup_steps, rising, jnp.maximum(falling, 0.0))

    return schedule


def decay_mask(params: Any) -> Any:
    """True for each parameter that is decayed."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not NOT_DECAYED.fullmatch(jax.tree_util.keystr(path, simple=True, separator="/")),
        params,
    )
