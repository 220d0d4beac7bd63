"""The gradient by patient of `benchmarks.privacy.clipping` against one gradient for each patient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.privacy import clipping
from clinicalbert_jax.training.losses import Objective, total_loss

pytestmark = pytest.mark.fast


def test_the_gradient_of_each_patient_is_clipped() -> None:
    """Of a linear model: patients of several rows, with and without a bound."""

    def sums(params: dict, batch: dict, key: object) -> dict:
        weight_B = batch["weight"]
        error_B = (batch["x"] @ params["w"] - batch["y"]) ** 2
        return {"loss": (jnp.sum(error_B * weight_B), jnp.sum(weight_B))}

    objective = Objective(lambda key: {}, lambda batch: {"loss": batch["weight"].sum()}, sums)
    random = np.random.default_rng(0)
    batch = {"x": random.normal(size=(6, 3)), "y": random.normal(size=6), "weight": np.arange(1.0, 7.0)}
    params, patient_B = {"w": random.normal(size=3)}, np.array([0, 1, 0, 2, 1, 0])

    def gradient(of: np.ndarray) -> np.ndarray:
        rows = batch | {"weight": np.where(of, batch["weight"], 0.0)}
        return np.asarray(jax.grad(lambda p: total_loss(sums(p, rows, None), objective.weights(batch)))(params)["w"])

    each = [gradient(patient_B == patient) for patient in range(3)]
    norms = [np.linalg.norm(one) for one in each]
    most = float(np.median(norms))
    for bound, expected in (
        (np.inf, gradient(patient_B >= 0)),
        (most, sum(g * min(1, most / n) for g, n in zip(each, norms, strict=True))),
    ):
        found, norm_B = clipping.by_patient(params, batch, patient_B, bound, objective=objective)
        np.testing.assert_allclose(found["w"], expected, rtol=1e-5)
        np.testing.assert_allclose(norm_B, [*norms, 0, 0, 0], rtol=1e-5)
    assert min(norms) < most < max(norms)
