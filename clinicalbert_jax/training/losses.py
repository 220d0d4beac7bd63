"""Losses and accuracies as weighted sums with the sums of the weights, divided once, over the whole batch.

Shape legend: B batch, P masked positions, K sentence pairs, V vocabulary, C classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from clinicalbert_jax.config import Config
from clinicalbert_jax.modeling import attention, bert

Batch = Mapping[str, jax.Array]
# (sum over the weighted items, sum of the weights); the names that end in `_loss` are minimised, added up
Sums = dict[str, tuple[jax.Array, jax.Array]]


@dataclass(frozen=True)
class Objective:
    """A kind of training as three pure functions, which `train_step` compiles for any mesh.

    `init(key)`: the first parameters. `weights(batch)`: the weight of each loss in a batch, or in a part of one, by the
    names of `sums`. `sums(params, batch, dropout_key)`: losses and accuracies; without a key there is no dropout.
    `positions_on_a_cpu`: how many at most a CPU computes at once, where the batch divides into equal parts of half as
    many or more; None: all of the batch.
    """

    init: Callable[[jax.Array], bert.Params]
    weights: Callable[[Batch], dict[str, jax.Array]]
    sums: Callable[[bert.Params, Batch, jax.Array | None], Sums]
    positions_on_a_cpu: int | None = None


def pretraining(config: Config, mesh: Mesh) -> Objective:
    """Masked language modelling and next sentence prediction (Devlin et al. 2019, 3.1).

    Raises `UserError` for an attention implementation that the mesh's devices cannot run.
    """
    train = config.train
    length = config.data.max_seq_length
    implementation = attention.resolve(train.attention, mesh.devices.flat[0], config.model, train.dtype, length).name

    def init(key: jax.Array) -> bert.Params:
        return bert.init(config.model, key)

    def weights(batch: Batch) -> dict[str, jax.Array]:
        return {"mlm_loss": batch["masked_lm_weights"].sum(), "nsp_loss": batch["next_sentence_weights"].sum()}

    def sums(params: bert.Params, batch: Batch, dropout_key: jax.Array | None) -> Sums:
        outputs = bert.apply(
            config.model,
            params,
            batch["input_ids"],
            batch["segment_ids"],
            batch["sequence_ids"],
            batch["masked_lm_positions"],
            batch["next_sentence_positions"],
            dtype=jnp.dtype(train.dtype),
            dropout_key=dropout_key,
            implementation=implementation,
            remat=train.remat,
        )
        mlm_loss, mlm_hits, mlm_weight = cross_entropy(
            outputs.mlm_logits_BxPxV, batch["masked_lm_ids"], batch["masked_lm_weights"]
        )
        nsp_loss, nsp_hits, nsp_weight = cross_entropy(
            outputs.nsp_logits_BxKx2, batch["next_sentence_labels"], batch["next_sentence_weights"]
        )
        return {
            "mlm_loss": (mlm_loss, mlm_weight),
            "mlm_accuracy": (mlm_hits, mlm_weight),
            "nsp_loss": (nsp_loss, nsp_weight),
            "nsp_accuracy": (nsp_hits, nsp_weight),
        }

    return Objective(init, weights, sums)


def total_loss(sums: Sums, weights: Mapping[str, jax.Array]) -> jax.Array:
    """The sum of the losses, each over its weight in the global batch, so that shards and microbatches add up."""
    return sum(
        (sums[name][0] / jnp.where(weights[name] > 0, weights[name], 1.0) for name in weights), start=jnp.float32(0)
    )


def cross_entropy(
    logits_BxNxC: jax.Array, labels_BxN: jax.Array, weights_BxN: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Weighted sums of the cross-entropy in nats and of hits, and the sum of the weights."""
    losses_BxN, hits_BxN = token_cross_entropy(logits_BxNxC, labels_BxN)
    return jnp.sum(losses_BxN * weights_BxN), jnp.sum(hits_BxN * weights_BxN), jnp.sum(weights_BxN)


def token_cross_entropy(logits_BxNxC: jax.Array, labels_BxN: jax.Array) -> tuple[jax.Array, jax.Array]:
    """For each label the cross-entropy in nats, and whether its logit is the highest."""
    log_z_BxN = jax.nn.logsumexp(logits_BxNxC, axis=-1)
    label_logits_BxN = jnp.take_along_axis(logits_BxNxC, labels_BxN[..., None], axis=-1)[..., 0]
    # argmax == label, in a form that every backend vectorises: no logit is higher, nor equal and earlier.
    higher_BxNxC = logits_BxNxC > label_logits_BxN[..., None]
    equal_BxNxC = logits_BxNxC == label_logits_BxN[..., None]
    earlier_BxNxC = jnp.arange(logits_BxNxC.shape[-1]) < labels_BxN[..., None]
    return log_z_BxN - label_logits_BxN, ~jnp.any(higher_BxNxC | (equal_BxNxC & earlier_BxNxC), axis=-1)
