"""A run of a few steps on the toy dataset: what export, evaluation and inference are tested on."""

from pathlib import Path

from clinicalbert_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.runs import workdir
from clinicalbert_jax.training import pretrain, train_loop
from tests import toy_dataset


def write(directory: Path, data_dir: Path, steps: int = 4) -> Path:
    """Train on `data_dir`, a `toy_dataset`, with checkpoints at `steps / 2` and `steps`; returns `directory`."""
    config = Config(
        model=ModelConfig(
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=toy_dataset.LENGTH,
        ),
        data=DataConfig(max_seq_length=toy_dataset.LENGTH),
        optimizer=OptimizerConfig(learning_rate=3e-3, schedule="constant", warmup_steps=0),
        train=TrainConfig(
            steps=steps, global_batch_size=16, dtype="float32", checkpoint_every=steps // 2, eval_every=steps
        ),
    )
    manifest = Manifest.load(data_dir)
    config = workdir.check_data(config, manifest, data_dir)
    workdir.keep(directory, config, manifest, data_dir)
    assert pretrain.pretrain(config, data_dir, directory) == train_loop.EXIT_DONE
    return directory
