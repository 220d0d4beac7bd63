"""One fine-tuning experiment as a dataclass; what `configs/finetune/*.py` return. Loads no JAX."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from clinicalbert_jax.config import (
    Config,
    DataConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    require,
    require_types,
)
from clinicalbert_jax.finetune.classification.task import ClassificationConfig
from clinicalbert_jax.finetune.entities.task import EntitiesConfig
from clinicalbert_jax.finetune.questions.task import QuestionsConfig
from clinicalbert_jax.finetune.relations.task import RelationsConfig
from clinicalbert_jax.finetune.similarity.task import SimilarityConfig
from clinicalbert_jax.finetune.task import TaskConfig

TASKS: tuple[type[TaskConfig], ...] = (
    EntitiesConfig,
    RelationsConfig,
    ClassificationConfig,
    QuestionsConfig,
    SimilarityConfig,
)


def task_config(settings: dict[str, Any]) -> TaskConfig:
    """The inverse of `dataclasses.asdict`, by the field `kind`. Raises KeyError or TypeError for anything else."""
    kinds = {task.kind: task for task in TASKS}
    return kinds[settings["kind"]](**settings)


@dataclass
class FinetuneConfig:
    """A task, and how a model is trained for it. Each seed is a separate run, with its own order of the data and head.

    A run takes `epochs` passes over the rows, or `max_steps` updates where these are not 0; the learning rate rises
    over the fraction `warmup_fraction` of them and then follows the optimizer's schedule. It is evaluated
    `evaluations_per_epoch` times an epoch and at its end, and ends early after `patience` evaluations without a better
    main score (0: never). The best of the evaluated models is the result. `random_weights`: start from the model's
    shape and vocabulary, but not its weights, as a baseline for pre-training.
    """

    task: "TaskConfig" = field(default_factory=EntitiesConfig)  # of one of TASKS
    epochs: float = 3.0
    max_steps: int = 0
    evaluations_per_epoch: float = 1.0
    patience: int = 0
    seeds: tuple[int, ...] = (0,)
    random_weights: bool = False
    global_batch_size: int = 16
    microbatches: int = 1
    dtype: str = "float32"  # of activations
    warmup_fraction: float = 0.1
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    log_every: int = 20
    profile: bool = False
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=5e-5, schedule="linear", warmup_steps=0)
    )
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self) -> None:
        require_types("", self)
        require(isinstance(self.task, TASKS), "task", "the settings of a task", type(self.task).__name__)
        require(self.epochs > 0, "epochs", "a positive value", self.epochs)
        require(self.max_steps >= 0, "max_steps", "0 (by epochs) or more", self.max_steps)
        require(self.evaluations_per_epoch > 0, "evaluations_per_epoch", "positive", self.evaluations_per_epoch)
        require(self.patience >= 0, "patience", "0 (never) or more", self.patience)
        numbers = bool(self.seeds) and all(type(seed) is int and 0 <= seed < 2**31 for seed in self.seeds)
        require(numbers and len(set(self.seeds)) == len(self.seeds), "seeds", "different numbers", self.seeds)
        require(0 <= self.warmup_fraction < 1, "warmup_fraction", "a value in [0, 1)", self.warmup_fraction)
        require(self.optimizer.warmup_steps == 0, "optimizer.warmup_steps", "0: see warmup_fraction", "another")
        ModelConfig(hidden_dropout_prob=self.hidden_dropout_prob)
        ModelConfig(attention_probs_dropout_prob=self.attention_probs_dropout_prob)

    def run_config(self, model: ModelConfig, init_from: str, num_rows: int, seed: int) -> Config:
        """The config of the run of one seed."""
        steps_per_epoch = num_rows / self.global_batch_size
        steps = self.max_steps or max(1, round(self.epochs * steps_per_epoch))
        evaluate_every = min(steps, max(1, round(steps_per_epoch / self.evaluations_per_epoch)))
        return Config(
            init_from="" if self.random_weights else init_from,
            profile=self.profile,
            model=dataclasses.replace(
                model,
                hidden_dropout_prob=self.hidden_dropout_prob,
                attention_probs_dropout_prob=self.attention_probs_dropout_prob,
            ),
            data=DataConfig(max_seq_length=self.task.max_seq_length),
            optimizer=dataclasses.replace(self.optimizer, warmup_steps=int(self.warmup_fraction * steps)),
            mesh=self.mesh,
            train=TrainConfig(
                steps=steps,
                global_batch_size=self.global_batch_size,
                microbatches=self.microbatches,
                seed=seed,
                dtype=self.dtype,
                log_every=self.log_every,
                eval_every=evaluate_every,
                checkpoint_every=evaluate_every,
                keep_checkpoints=1,
            ),
        )
