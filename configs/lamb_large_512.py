"""BERT-large at length 512 by LAMB with a batch of 32,768, after `lamb_large_128`: phase 2 of NVIDIA's recipe.

NVIDIA DeepLearningExamples, BERT: 1,563 steps at 4e-3, the first 12.8 % of them
warm-up, then the square root of the line.

Command: python run_pretrain.py --config=configs/lamb_large_512.py --data_dir=DATA --workdir=RUN2 --config.init_from=RUN
         --config.train.microbatches=N
Cost:    not measured
Score:   not measured
"""

from clinicalbert_jax.config import Config, DataConfig, OptimizerConfig, TrainConfig, model_preset


def get_config() -> Config:
    """The experiment."""
    return Config(
        model=model_preset("large"),
        data=DataConfig(max_seq_length=512),
        optimizer=OptimizerConfig(name="lamb", learning_rate=4e-3, schedule="sqrt", warmup_steps=200),
        train=TrainConfig(steps=1_563, global_batch_size=32_768, eval_every=200, checkpoint_every=100),
    )
