"""Each head is Hugging Face's: the same weights and batches give the same fifty losses and the same predictions."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pytest

from clinicalbert_jax.config import Config, DataConfig, MeshConfig, ModelConfig, OptimizerConfig, TrainConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune import finetuned_model, heads, predictor
from clinicalbert_jax.finetune.predictor import Predictor
from clinicalbert_jax.finetune.rows import RowBatches, Rows, batch_of
from clinicalbert_jax.finetune.task import ONE_LABEL, REGRESSION, SEVERAL_LABELS
from clinicalbert_jax.pretrained import weight_names
from clinicalbert_jax.training import sharding, train_step
from clinicalbert_jax.training.sharding import make_mesh

STEPS, BATCH, LABELS, LENGTH = 50, 8, 5, 64
MODEL = ModelConfig(
    vocab_size=100,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=64,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    initializer_range=0.1,
)
KINDS = {
    "token": ("BertForTokenClassification", "token", ONE_LABEL),
    "sequence": ("BertForSequenceClassification", "sequence", ONE_LABEL),
    "multi_label": ("BertForSequenceClassification", "sequence", SEVERAL_LABELS),
    "regression": ("BertForSequenceClassification", "sequence", REGRESSION),
    "span": ("BertForQuestionAnswering", "span", ONE_LABEL),
}


def config(**train: object) -> Config:
    return Config(
        model=MODEL,
        data=DataConfig(max_seq_length=48),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, schedule="constant", warmup_steps=0, weight_decay=0.1, clip_global_norm=2.0
        ),
        train=TrainConfig(**{"steps": STEPS, "global_batch_size": BATCH, "dtype": "float32"} | train),
    )


def some_rows(head: str, problem_type: str, count: int = 60) -> Rows:
    """Random rows of 5 to 48 tokens, so that every batch has padding; not all tokens of a 'token' row have a label."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 49, count)
    ids = [rng.integers(1, MODEL.vocab_size, length).astype(np.int32) for length in lengths]
    segments = [(np.arange(length) > length // 2).astype(np.int32) for length in lengths]
    weights_N = np.ones(count, np.float32)
    token_targets, row_targets = {}, {}
    if head == "token":
        token_targets = {
            "labels": [rng.integers(0, LABELS, length).astype(np.int32) for length in lengths],
            "label_weights": [(rng.random(length) < 0.7).astype(np.float32) for length in lengths],
        }
    elif head == "span":
        starts_N = rng.integers(0, lengths)
        row_targets = {"start_positions": starts_N.astype(np.int32), "label_weights": weights_N}
        row_targets["end_positions"] = rng.integers(starts_N, lengths).astype(np.int32)
    elif problem_type == SEVERAL_LABELS:
        labels_NxC = (rng.random((count, LABELS)) < 0.4).astype(np.float32)
        row_targets = {"labels": labels_NxC, "label_weights": weights_N}
    elif problem_type == REGRESSION:
        row_targets = {"labels": rng.uniform(0, 5, count).astype(np.float32), "label_weights": weights_N}
    else:
        row_targets = {"labels": rng.integers(0, LABELS, count).astype(np.int32), "label_weights": weights_N}
    offsets = [np.zeros((length, 2), np.int64) for length in lengths]
    return Rows(ids, segments, np.arange(count), offsets, token_targets, row_targets)


def build(kind: str, devices: int = 1, **train: object) -> train_step.Program:
    _, head, problem_type = KINDS[kind]
    outputs = {"span": 2, "regression": 1}.get(kind, LABELS)
    return train_step.build(config(**train), jax.devices()[:devices], heads.objective(head, outputs, problem_type))


def assert_equal(first: Any, second: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_a_state_from_given_parameters_is_the_first_one_with_them() -> None:
    program = build("token", devices=2)
    state = program.init()
    parts = program.random_parts("task_head", "pooler")
    assert_equal(parts, {name: state.params[name] for name in parts})
    found = program.init_from(state.params | {"task_head": jax.tree.map(np.ones_like, state.params["task_head"])})
    assert_equal(found.params["layers"], state.params["layers"])
    assert float(found.params["task_head"]["kernel"].min()) == 1
    assert_equal(found.opt_state, state.opt_state)
    assert jax.tree.map(lambda x: x.sharding, found) == jax.tree.map(lambda x: x.sharding, state)


@pytest.mark.parametrize("kind", KINDS)
def test_fifty_losses_and_the_predictions_are_those_of_hugging_face(kind: str) -> None:
    torch = pytest.importorskip("torch")
    import transformers

    architecture, head, problem_type = KINDS[kind]
    program = build(kind)
    state = program.init()
    rows = some_rows(head, problem_type)
    batches = RowBatches(rows, LENGTH).for_steps(STEPS, BATCH, price=1e9)

    fields = {name: getattr(MODEL, name) for name in MODEL.__dataclass_fields__}
    outputs = {"span": 2, "regression": 1}.get(kind, LABELS)
    theirs_config = transformers.BertConfig(**fields, num_labels=outputs)
    theirs_config.problem_type = problem_type
    theirs = getattr(transformers, architecture)(theirs_config).train()
    _load(torch, theirs, head, state.params)

    decayed = [p for n, p in theirs.named_parameters() if not (n.endswith("bias") or "LayerNorm" in n)]
    others = [p for n, p in theirs.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, eps=1e-6)
    losses = []
    for number in range(STEPS):
        state, happened = program.train_step(state, *batches.train_batches(0, [number], BATCH, np.arange(BATCH)))
        total, weight = happened["sums"]["task_loss"]
        batch = padded(rows, batches.order(0, number, BATCH))
        found = theirs(**_inputs(torch, batch), **_labels(torch, kind, batch))
        loss = _without_padding(torch, found, batch) if kind == "span" else found.loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 2.0)
        optimizer.step()
        losses.append(loss.item())
        assert float(total / weight) == pytest.approx(loss.item(), abs=1e-4), f"step {number}"
    assert np.mean(losses[-10:]) < np.mean(losses[:10])

    ours_logits = Predictor(head, MODEL, make_mesh(config().mesh, jax.devices()[:1]))(state.params, rows)
    _load(torch, theirs.eval(), head, state.params)  # small differences have grown in fifty steps
    for number, logits in enumerate(ours_logits):
        with torch.no_grad():
            found = theirs(**_inputs(torch, padded(rows, [number])))
        expected = torch.stack([found.start_logits, found.end_logits], -1) if head == "span" else found.logits
        np.testing.assert_allclose(logits, expected[0].numpy(), atol=1e-4)


def padded(rows: Rows, numbers: Sequence[int]) -> dict[str, np.ndarray]:
    """These rows as other programs have them: each alone, padded to the longest."""
    length = max(len(rows.input_ids[number]) for number in numbers)
    batch = batch_of(rows, [[number] for number in numbers], length, most=1)
    return batch | {name: batch[name][:, 0] for name in rows.row_targets}


def _without_padding(torch: Any, found: Any, batch: dict[str, np.ndarray]) -> Any:
    """The loss of a span, where theirs would be over the padding too."""
    outside = torch.tensor(batch["sequence_ids"] == 0)
    both = [
        torch.nn.functional.cross_entropy(logits.masked_fill(outside, -torch.inf), torch.tensor(batch[name]).long())
        for name, logits in (("start_positions", found.start_logits), ("end_positions", found.end_logits))
    ]
    return sum(both) / 2


def _load(torch: Any, theirs: Any, head: str, params: Any) -> None:
    params = jax.device_get(params)
    encoder = {name: params[name] for name in heads.ENCODER_PARTS}
    tensors = weight_names.to_huggingface(MODEL, encoder, parts=finetuned_model.PARTS[head])
    layer = finetuned_model.LAYERS[head]
    tensors |= {f"{layer}.weight": params["task_head"]["kernel"].T.copy(), f"{layer}.bias": params["task_head"]["bias"]}
    theirs.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()}, strict=True)


def _inputs(torch: Any, batch: dict[str, np.ndarray]) -> dict[str, Any]:
    names = {"input_ids": "input_ids", "token_type_ids": "segment_ids", "attention_mask": "sequence_ids"}
    return {theirs: torch.tensor(batch[ours], dtype=torch.long) for theirs, ours in names.items()}


def _labels(torch: Any, kind: str, batch: dict[str, np.ndarray]) -> dict[str, Any]:
    if kind == "span":
        return {n: torch.tensor(batch[n], dtype=torch.long) for n in ("start_positions", "end_positions")}
    labels = batch["labels"]
    if kind == "token":
        labels = np.where(batch["label_weights"] > 0, labels, -100)
    return {
        "labels": torch.tensor(labels, dtype=torch.float32 if kind in ("multi_label", "regression") else torch.long)
    }


@pytest.mark.fast
@pytest.mark.parametrize("kind", KINDS)
def test_devices_microbatches_and_parts_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Token labels are uneven over devices and parts: the loss and the update are still those of the whole batch."""
    rows = RowBatches(some_rows(*KINDS[kind][1:]), LENGTH, multiple=8)
    results = []
    for devices, microbatches, positions in ((1, 1, BATCH * LENGTH), (2, 2, LENGTH)):
        monkeypatch.setattr(heads, "_POSITIONS_ON_A_CPU", positions)
        program = build(kind, devices, microbatches=microbatches)
        state = program.init()
        losses = []
        for number in range(3):
            state, happened = program.train_step(state, *rows.train_batches(0, [number], BATCH, np.arange(BATCH)))
            total, weight = happened["sums"]["task_loss"]
            losses.append(float(total / weight))
        results.append((losses, jax.device_get(state.params)))
    (losses, params), (other_losses, other_params) = results
    np.testing.assert_allclose(losses, other_losses, rtol=1e-5)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=2e-4), params, other_params)


@pytest.mark.fast
def test_no_rows_have_no_logits() -> None:
    """As of a note without a pair of entities."""
    rows = some_rows("token", ONE_LABEL, 0)
    program = build("token")
    assert Predictor("token", MODEL, program.mesh)(program.init().params, rows) == []


@pytest.mark.fast
def test_padding_has_positions_in_any_model() -> None:
    """Positions that a model has not would be NaN, and with them the whole row."""
    model = dataclasses.replace(MODEL, max_position_embeddings=45)
    params = heads.init(model, LABELS, jax.random.key(0))
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, MODEL.vocab_size, length).astype(np.int32) for length in (44, 3)]
    rows = Rows(ids, [np.zeros_like(one) for one in ids], np.arange(2))
    assert all(np.isfinite(one).all() for one in Predictor("token", model, make_mesh(MeshConfig()))(params, rows))
    params["task_head"]["bias"] += np.nan
    with pytest.raises(UserError, match="expected finite logits"):
        Predictor("token", model, make_mesh(MeshConfig()))(params, rows)


@pytest.mark.fast
def test_parameters_of_numpy_are_put_on_the_devices_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As arguments they would be copied for every batch, on an accelerator from the host."""
    rows, program = some_rows("token", ONE_LABEL, 2 * BATCH), build("token")
    params = jax.device_get(program.init().params)

    def put_batch(*args: Any) -> Any:
        with jax.transfer_guard_host_to_device("allow"):
            return sharding.put_batch(*args)

    monkeypatch.setattr(predictor, "put_batch", put_batch)
    with jax.transfer_guard_host_to_device("disallow"):
        assert len(Predictor("token", MODEL, program.mesh)(params, rows)) == len(rows)


@pytest.mark.fast
def test_class_weights_are_those_of_a_weighted_cross_entropy() -> None:
    rows = some_rows("sequence", False, BATCH)
    weights_B = np.linspace(0.5, 2.0, BATCH).astype(np.float32)
    rows.row_targets["label_weights"][:] = weights_B
    program = build("sequence")
    batch = batch_of(rows, [[number] for number in range(BATCH)], LENGTH, most=1)
    params = program.init().params
    logits_BxC = np.stack(Predictor("sequence", MODEL, program.mesh)(params, rows))
    log_p_BxC = logits_BxC - np.log(np.exp(logits_BxC).sum(-1, keepdims=True))
    expected = -(weights_B * log_p_BxC[np.arange(BATCH), rows.row_targets["labels"]]).sum() / weights_B.sum()
    total, weight = program.eval_step(params, batch)["task_loss"]
    assert float(total / weight) == pytest.approx(expected, rel=1e-5)
