"""BERT-large at length 128 by LAMB with a batch of 65,536: phase 1 of NVIDIA's recipe after You et al. (2020).

NVIDIA DeepLearningExamples, BERT: 7,038 steps at 6e-3, the first 28.43 % of them
warm-up, then the square root of the line.

Command: python run_pretrain.py --config=configs/lamb_large_128.py --data_dir=DATA --workdir=RUN
         --config.train.microbatches=N
Cost:    not measured
Score:   not measured
"""

from clinicalbert_jax.config import Config, DataConfig, OptimizerConfig, TrainConfig, model_preset


def get_config() -> Config:
    """The experiment."""
    return Config(
        model=model_preset("large"),
        data=DataConfig(max_seq_length=128),
        optimizer=OptimizerConfig(name="lamb", learning_rate=6e-3, schedule="sqrt", warmup_steps=2_000),
        train=TrainConfig(steps=7_038, global_batch_size=65_536, eval_every=500, checkpoint_every=200),
    )
