"""Sums of losses and hits against plain arithmetic."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clinicalbert_jax.training.losses import cross_entropy, total_loss


@pytest.mark.fast
@pytest.mark.parametrize(("weight", "expected"), [(0.36, 2.0), (4.0, 2.0), (0.0, 0.0)])
def test_a_loss_is_the_mean_over_any_weight(weight: float, expected: float) -> None:
    """Balanced classes weigh less than 1 each: a batch of them may weigh less than one row."""
    sums = {"task_loss": (jnp.float32(2.0 * weight), jnp.float32(weight))}
    assert float(total_loss(sums, {"task_loss": jnp.float32(weight)})) == pytest.approx(expected)


@pytest.mark.fast
@pytest.mark.parametrize("values", [3, 1000], ids=["many ties", "few ties"])
def test_hits_are_those_of_argmax_and_losses_those_of_optax(values: int) -> None:
    rng = np.random.default_rng(0)
    logits_BxNxC = rng.integers(0, values, (50, 8, 7)).astype(np.float32)
    labels_BxN = rng.integers(0, 7, (50, 8))
    weights_BxN = rng.random((50, 8)).astype(np.float32)
    loss, hits, weight = cross_entropy(jnp.array(logits_BxNxC), jnp.array(labels_BxN), jnp.array(weights_BxN))
    losses_BxN = optax.softmax_cross_entropy_with_integer_labels(logits_BxNxC, labels_BxN)
    np.testing.assert_allclose(loss, (losses_BxN * weights_BxN).sum(), rtol=1e-5)
    np.testing.assert_allclose(hits, weights_BxN[logits_BxNxC.argmax(-1) == labels_BxN].sum(), rtol=1e-5)
    np.testing.assert_allclose(weight, weights_BxN.sum(), rtol=1e-5)
