"""A small run in this process, and one that stopped half-way, for the tests of faults."""

from pathlib import Path

from clinicalbert_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.runs import workdir
from clinicalbert_jax.training.pretrain import pretrain as start
from clinicalbert_jax.training.stop_request import StopRequest
from tests import toy_dataset


def small_config(steps: int = 12, **overrides: object) -> Config:
    return Config(
        model=ModelConfig(
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            hidden_dropout_prob=0.1,
            attention_probs_dropout_prob=0.1,
        ),
        data=DataConfig(max_seq_length=toy_dataset.LENGTH, on_corrupt=str(overrides.pop("on_corrupt", "stop"))),
        optimizer=OptimizerConfig(learning_rate=2e-3, schedule="constant", warmup_steps=3),
        train=TrainConfig(
            **{
                "steps": steps,
                "global_batch_size": 8,
                "dtype": "float32",
                "log_every": 2,
                "eval_every": 6,
                "checkpoint_every": 3,
            }
            | overrides
        ),
    )


def pretrain(config: Config, data_dir: Path, run: Path, stop: StopRequest | None = None) -> int:
    """What run_pretrain.py does once its flags are read."""
    manifest = Manifest.load(data_dir)
    config = workdir.check_data(config, manifest, data_dir)
    workdir.check_same_run(run, config, manifest)
    return start(config, data_dir, run, stop=stop)
