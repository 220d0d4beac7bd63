"""The trainings of a model on a task share what is compiled."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.finetune.classification.task import Classification, ClassificationConfig, Document
from clinicalbert_jax.finetune.compare import models, tasks_file, trainings
from clinicalbert_jax.finetune.compare.data import TaskData
from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.rows import Rows
from clinicalbert_jax.finetune.similarity.task import Pair, SimilarityConfig
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.training.stop_request import StopRequest
from tests.clinicalbert_jax.finetune.compare import toy_comparison


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


class TrainedError(Exception):
    """Raised in place of a training."""


@pytest.mark.fast
@pytest.mark.parametrize("multi_label", [False, True])
def test_what_a_small_part_is_trained_with_is_counted_in_that_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, multi_label: bool
) -> None:
    """The head's first bias and the class weights: who has few labels does not know those of many more."""
    toy_comparison.write_model(tmp_path / "model", 8)
    (model,) = models.find((f"small={tmp_path / 'model/bert'}",), ())
    labels = [("rare",) if n % 8 == 0 else ("common",) for n in range(64)]
    documents = [Document(f"d{n}", n, "", f"pain {n}", "", labels[n]) for n in range(64)]
    examples = {"train": documents, "validation": documents[:8], "test": documents[:8]}
    settings = ClassificationConfig(
        max_seq_length=32, multi_label=multi_label, class_weights="none" if multi_label else "balanced"
    )
    config = FinetuneConfig(task=settings)
    files = dict.fromkeys(examples, tmp_path / "model/vocab.txt")
    task = config.task.task(documents)
    whole = TaskData(tasks_file.ComparedTask("t", files, 0.0, (config,)), task, examples)
    loaded = trainings.load(model, {})
    used: list[tuple[Classification, Rows]] = []

    def trained(config: object, program: object, task: Any, data: object, rows: dict[str, Rows], *_: object) -> None:
        used.append((task, rows["train"]))
        raise TrainedError

    monkeypatch.setattr(trainings.run, "training_job", trained)
    for fraction in (1.0, 0.25):
        training = trainings.Training("t", "small", fraction, 0, 0)
        with pytest.raises(TrainedError):
            trainings.train(training, whole, loaded, trainings.rows_of(whole, loaded), tmp_path, StopRequest())
    (all_, _), (part, rows) = used
    num_rare = sum(one.labels == ("rare",) for one in whole.training_part(0.25, 0))
    assert 0 < num_rare < 16
    assert num_rare != 2
    assert all_.labels == part.labels == ("common", "rare")
    if multi_label:
        given_C = np.array([16 - num_rare, num_rare])
        np.testing.assert_allclose(part.initial_bias_C, np.log((given_C + 1) / (17 - given_C)), rtol=1e-6)
        np.testing.assert_array_equal(all_.initial_bias_C, task.initial_bias_C)
    else:
        expected = sorted([16 / (2 * num_rare), 16 / (2 * (16 - num_rare))])
        np.testing.assert_allclose(np.unique(rows.row_targets["label_weights"]), expected, rtol=1e-6)


@pytest.mark.fast
def test_similarity_begins_at_the_mean_of_its_part() -> None:
    pairs = [Pair(f"{n}", n, "", ("a", "b"), float(n)) for n in range(5)]
    task = SimilarityConfig().task(pairs)
    assert task.initial_bias_C == 2.0
    assert task.fitted(pairs[:2]).initial_bias_C == 0.5
