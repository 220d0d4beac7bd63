"""The two pre-training objectives, as sums with their weights: whoever has all of a batch divides, once.

Shape legend: B batch, P masked positions, K sentence pairs, V vocabulary, C classes.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from clinicalbert_jax.model import Outputs

# (sum over the weighted items, sum of the weights)
Sums = dict[str, tuple[jax.Array, jax.Array]]


def pretraining_sums(outputs: Outputs, batch: Mapping[str, jax.Array]) -> Sums:
    """Loss and accuracy of masked language modelling and next sentence prediction (Devlin et al. 2019, 3.1)."""
    mlm_loss, mlm_hits, mlm_weight = _cross_entropy(
        outputs.mlm_logits_BxPxV, batch["masked_lm_ids"], batch["masked_lm_weights"]
    )
    nsp_loss, nsp_hits, nsp_weight = _cross_entropy(
        outputs.nsp_logits_BxKx2, batch["next_sentence_labels"], batch["next_sentence_weights"]
    )
    return {
        "mlm_loss": (mlm_loss, mlm_weight),
        "mlm_accuracy": (mlm_hits, mlm_weight),
        "nsp_loss": (nsp_loss, nsp_weight),
        "nsp_accuracy": (nsp_hits, nsp_weight),
    }


def total_loss(sums: Sums, weights: Mapping[str, jax.Array]) -> jax.Array:
    """MLM + NSP loss, each over the weight of the whole global batch, so that shards and microbatches add up."""
    return sum(
        (sums[name][0] / jnp.maximum(weights[name], 1.0) for name in ("mlm_loss", "nsp_loss")),
        start=jnp.float32(0),
    )


def loss_weights(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """The weights of the two losses in this batch, or part of one."""
    return {"mlm_loss": batch["masked_lm_weights"].sum(), "nsp_loss": batch["next_sentence_weights"].sum()}


def _cross_entropy(
    logits_BxNxC: jax.Array, labels_BxN: jax.Array, weights_BxN: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    log_z_BxN = jax.nn.logsumexp(logits_BxNxC, axis=-1)
    label_logits_BxN = jnp.take_along_axis(logits_BxNxC, labels_BxN[..., None], axis=-1)[..., 0]
    hits_BxN = jnp.argmax(logits_BxNxC, axis=-1) == labels_BxN
    return (
        jnp.sum((log_z_BxN - label_logits_BxN) * weights_BxN),
        jnp.sum(hits_BxN * weights_BxN),
        jnp.sum(weights_BxN),
    )
