"""AdamW against an independent NumPy version; schedules against their formulas; what is decayed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clinicalbert_jax.config import ModelConfig, OptimizerConfig
from clinicalbert_jax.modeling import bert
from clinicalbert_jax.training.optimizer import decay_mask, make_optimizer, make_schedule


@pytest.mark.fast
@pytest.mark.parametrize("name", ["adamw", "bert_adam", "lamb"])
def test_fifty_steps_equal_numpy(name: str) -> None:
    config = OptimizerConfig(
        name=name, learning_rate=1e-2, schedule="google", warmup_steps=10, clip_global_norm=1.0, weight_decay=0.01
    )
    rng = np.random.default_rng(0)
    start = {
        "dense": {"kernel": rng.normal(size=(4, 3)), "bias": rng.normal(size=3)},
        "layer_norm": {"scale": rng.normal(size=3)},
        "unmoved": {"kernel": np.zeros((2, 2))},  # of norm 0: its trust ratio is 1
    }
    optimizer = make_optimizer(config, make_schedule(config, 50))
    ours = jax.tree.map(jnp.float32, start)
    state = optimizer.init(ours)
    theirs = {path: Reference(name, value, decayed=path[-1] == "kernel") for path, value in flat(start).items()}
    for count in range(50):
        grads = jax.tree.map(lambda x: rng.normal(size=x.shape) * 3, start)
        updates, state = optimizer.update(jax.tree.map(jnp.float32, grads), state, ours)
        ours = optax.apply_updates(ours, updates)
        norm = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(grads)))
        rate = 1e-2 * ((count + 1) / 10 if count < 10 else 1 - count / 50)
        for path, grad in flat(grads).items():
            theirs[path].step(grad * min(1.0, 1.0 / norm), rate)
    for path, value in flat(ours).items():
        np.testing.assert_allclose(value, theirs[path].value, rtol=5e-5, atol=5e-6, err_msg=str(path))


class Reference:
    """One tensor and its optimizer, written from the papers in float64."""

    def __init__(self, name: str, value: np.ndarray, decayed: bool) -> None:
        self.name, self.value, self.decayed = name, value.copy(), decayed
        self.mean, self.square, self.count = np.zeros_like(value), np.zeros_like(value), 0

    def step(self, grad: np.ndarray, rate: float) -> None:
        self.count += 1
        self.mean = 0.9 * self.mean + 0.1 * grad
        self.square = 0.999 * self.square + 0.001 * grad**2
        mean, square = self.mean, self.square
        if self.name != "bert_adam":
            mean, square = mean / (1 - 0.9**self.count), square / (1 - 0.999**self.count)
        update = mean / (np.sqrt(square) + 1e-6) + (0.01 * self.value if self.decayed else 0)
        if self.name == "lamb" and self.decayed:
            norms = np.linalg.norm(self.value), np.linalg.norm(update)
            update = update * (norms[0] / norms[1] if all(norms) else 1.0)
        self.value = self.value - rate * update


def flat(tree: dict) -> dict[tuple[str, str], np.ndarray]:
    return {(outer, inner): np.asarray(x) for outer, part in tree.items() for inner, x in part.items()}


def test_schedules_at_known_steps() -> None:
    def rate(schedule: str, count: int, cooldown_steps: int = 0) -> float:
        config = OptimizerConfig(learning_rate=1.0, schedule=schedule, warmup_steps=10, cooldown_steps=cooldown_steps)
        return float(make_schedule(config, 100)(count))

    for schedule in ("google", "linear", "sqrt", "constant"):
        assert rate(schedule, 0) == pytest.approx(0.1), "the first update moves"
        assert rate(schedule, 9) == pytest.approx(1.0)
    assert rate("google", 10) == pytest.approx(0.9), "google's line starts at step 0"
    assert rate("linear", 10) == pytest.approx(1.0)
    assert rate("linear", 55) == pytest.approx(0.5)
    assert rate("google", 55) == pytest.approx(0.45)
    assert rate("linear", 100) == rate("google", 120) == 0.0
    assert rate("constant", 10_000) == 1.0
    assert rate("sqrt", 51) == pytest.approx(0.7)
    assert [rate("constant", count, 20) for count in (80, 85, 100)] == pytest.approx([1.0, 0.5, 0.0])


def test_biases_and_layer_norms_are_not_decayed() -> None:
    config = ModelConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    params = jax.eval_shape(lambda: bert.init(config, jax.random.key(0)))
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
