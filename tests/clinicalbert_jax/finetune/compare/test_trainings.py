"""The trainings of a model on a task share what is compiled."""

import dataclasses
from pathlib import Path

import pytest

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.finetune.classification.task import ClassificationConfig, Document
from clinicalbert_jax.finetune.compare import models, trainings
from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.pretrained import loading


@pytest.mark.fast
def test_seeds_fractions_rates_and_random_weights_share_what_is_compiled() -> None:
    model = ModelConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    compared = models.ComparedModel("small", loading.Source(Path("small"), is_run=False), False)
    shared: trainings.Compiled = {}
    loaded, random = (trainings.Loaded(compared, model, params, Path(), shared) for params in ({}, None))
    config = FinetuneConfig(task=ClassificationConfig())
    task = config.task.task([Document(f"d{label}", 1, "", "pain", "", (label,)) for label in "ab"])

    def compiled(config: FinetuneConfig, num_rows: int = 320, seed: int = 0, of: trainings.Loaded = loaded) -> tuple:
        run_config = config.run_config(model, "small", num_rows, seed)
        program, predictor = trainings._compiled(of, task, run_config)
        assert program.config is run_config
        return program.compiled_step, program.compiled_init, predictor

    faster = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, learning_rate=1e-3))
    first = compiled(config)
    weightless = dataclasses.replace(config, random_weights=True)
    others = [
        compiled(config, seed=3),
        compiled(config, num_rows=64),
        compiled(faster),
        compiled(weightless, of=random),
    ]
    for other in others:
        assert all(one is another for one, another in zip(first, other, strict=True))
    rounded = compiled(dataclasses.replace(config, dtype="bfloat16"))
    assert not any(one is another for one, another in zip(first, rounded, strict=True))
