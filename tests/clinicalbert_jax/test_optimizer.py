"""AdamW against an independent NumPy version; schedules against their formulas; what is decayed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clinicalbert_jax import model
from clinicalbert_jax.config import ModelConfig, OptimizerConfig
from clinicalbert_jax.optimizer import decay_mask, make_optimizer, make_schedule


@pytest.mark.fast
def test_fifty_steps_of_adamw_equal_numpy() -> None:
    config = OptimizerConfig(learning_rate=1e-2, schedule="google", warmup_steps=10, clip_global_norm=1.0)
    rng = np.random.default_rng(0)
    params = {
        "dense": {"kernel": rng.normal(size=(4, 3)), "bias": rng.normal(size=3)},
        "layer_norm": {"scale": rng.normal(size=3)},
    }
    optimizer = make_optimizer(config, 50)
    ours = jax.tree.map(jnp.float32, params)
    state = optimizer.init(ours)
    first = jax.tree.map(np.zeros_like, params)
    second = jax.tree.map(np.zeros_like, params)
    decays = {"dense": {"kernel": config.weight_decay, "bias": 0.0}, "layer_norm": {"scale": 0.0}}
    for count in range(50):
        grads = jax.tree.map(lambda x: rng.normal(size=x.shape) * 3, params)
        updates, state = optimizer.update(jax.tree.map(jnp.float32, grads), state, ours)
        ours = optax.apply_updates(ours, updates)

        norm = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(grads)))
        clip = min(1.0, 1.0 / norm)
        grads = jax.tree.map(lambda g, clip=clip: g * clip, grads)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, grads)
        rate = 1e-2 * ((count + 1) / 10 if count < 10 else 1 - count / 50)
        first_hat = jax.tree.map(lambda m, count=count: m / (1 - 0.9 ** (count + 1)), first)
        second_hat = jax.tree.map(lambda v, count=count: v / (1 - 0.999 ** (count + 1)), second)
        params = jax.tree.map(
            lambda p, m, v, decay, rate=rate: p - rate * (m / (np.sqrt(v) + 1e-6) + decay * p),
            params,
            first_hat,
            second_hat,
            decays,
        )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), ours, params)


def test_schedules_at_known_steps() -> None:
    def rate(schedule: str, count: int) -> float:
        config = OptimizerConfig(learning_rate=1.0, schedule=schedule, warmup_steps=10)
        return float(make_schedule(config, 100)(count))

    for schedule in ("google", "linear", "constant"):
        assert rate(schedule, 0) == pytest.approx(0.1), "the first update moves"
        assert rate(schedule, 9) == pytest.approx(1.0)
    assert rate("google", 10) == pytest.approx(0.9), "google's line starts at step 0"
    assert rate("linear", 10) == pytest.approx(1.0)
    assert rate("linear", 55) == pytest.approx(0.5)
    assert rate("google", 55) == pytest.approx(0.45)
    assert rate("linear", 100) == rate("google", 120) == 0.0
    assert rate("constant", 10_000) == 1.0


def test_biases_and_layer_norms_are_not_decayed() -> None:
    config = ModelConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    params = jax.eval_shape(lambda: model.init(config, jax.random.key(0)))
    decayed = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, value in jax.tree_util.tree_leaves_with_path(decay_mask(params))
        if value
    }
    everything = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    }
    assert {name.rsplit("/", 1)[1] for name in decayed} == {"kernel", "embedding"}
    kept = everything - decayed
    assert all(name.endswith("bias") or "layer_norm" in name for name in kept)
    assert "layers/0/feed_forward/layer_norm/scale" in kept
    assert "mlm_head/output_bias" in kept
