"""Fifty steps of ours are fifty steps of PyTorch: loss, gradients, clipping, decay groups and Adam together."""

from pathlib import Path

import jax
import numpy as np
import pytest

from clinicalbert_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from clinicalbert_jax.data.dataset import Dataset
from clinicalbert_jax.pretrained import weight_names
from clinicalbert_jax.training import train_step
from tests import toy_dataset

STEPS, ROWS, CLIP = 50, 16, 2.0


def config_of(vocab_size: int) -> Config:
    return Config(
        model=ModelConfig(
            vocab_size=vocab_size,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=toy_dataset.LENGTH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.1,  # gradients then fall on both sides of the clip
        ),
        data=DataConfig(max_seq_length=toy_dataset.LENGTH),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, schedule="constant", warmup_steps=0, weight_decay=0.1, clip_global_norm=CLIP
        ),
        train=TrainConfig(steps=STEPS, global_batch_size=ROWS, dtype="float32", eval_every=STEPS),
    )


def test_losses_and_parameters_follow_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    import transformers

    dataset = Dataset(toy_dataset.write(tmp_path / "data"), "train")
    config = config_of(dataset.manifest.vocabulary.size)
    batches = [dataset.train_batch(0, number, ROWS, np.arange(ROWS)) for number in range(STEPS)]
    program = train_step.build(config, jax.devices()[:1])
    state = program.init()
    start = weight_names.to_huggingface(config.model, jax.device_get(state.params))

    fields = {name: getattr(config.model, name) for name in config.model.__dataclass_fields__}
    model = transformers.BertForPreTraining(transformers.BertConfig(**fields)).train()
    model.load_state_dict({name: torch.tensor(array) for name, array in start.items()}, strict=False)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for n, p in model.named_parameters() if not _undecayed(n)], "weight_decay": 0.1},
            {"params": [p for n, p in model.named_parameters() if _undecayed(n)], "weight_decay": 0.0},
        ],
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=config.optimizer.eps,
    )
    clipped = 0
    for number, batch in enumerate(batches):
        on_device = {name: array for name, array in batch.items() if name != "patient_group"}
        state, metrics = program.train_step(state, on_device)
        sums = metrics["sums"]
        ours = sum(float(sums[name][0] / sums[name][1]) for name in ("mlm_loss", "nsp_loss"))

        labels = np.full(batch["input_ids"].shape, -100)
        rows, places = np.nonzero(batch["masked_lm_weights"])
        labels[rows, batch["masked_lm_positions"][rows, places]] = batch["masked_lm_ids"][rows, places]
        loss = model(
            torch.tensor(batch["input_ids"], dtype=torch.long),
            attention_mask=torch.tensor(batch["sequence_ids"]),
            token_type_ids=torch.tensor(batch["segment_ids"]),
            labels=torch.tensor(labels),
            next_sentence_label=torch.tensor(batch["next_sentence_labels"][:, 0], dtype=torch.long),
        ).loss
        optimizer.zero_grad()
        loss.backward()
        clipped += float(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)) > CLIP
        optimizer.step()
        assert ours == pytest.approx(loss.item(), abs=1e-4), f"step {number}"

    assert 0 < clipped < STEPS  # both branches of the clip were taken
    theirs = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    end = weight_names.to_huggingface(config.model, jax.device_get(state.params))
    movement = max(np.abs(end[name] - start[name]).max() for name in start)
    difference = max(np.abs(end[name] - theirs[name]).max() for name in start)
    assert movement > 0.02
    assert difference <= 1e-3 * movement


def _undecayed(name: str) -> bool:
    return name.endswith("bias") or "LayerNorm" in name
