"""BERT-large (24 layers, 1024 wide) at length 128, from random weights: phase 1 of the original recipe.

Devlin et al. (2019), appendix A.2, as for `bert_base_128`.

Command: python run_pretrain.py --config=configs/bert_large_128.py --data_dir=DATA --workdir=RUN
Cost:    not measured
Score:   not measured
"""

from clinicalbert_jax.config import Config, DataConfig, OptimizerConfig, TrainConfig, model_preset


def get_config() -> Config:
    """The experiment."""
    return Config(
        model=model_preset("large"),
        data=DataConfig(max_seq_length=128),
        optimizer=OptimizerConfig(name="bert_adam", learning_rate=1e-4, schedule="google", warmup_steps=10_000),
        train=TrainConfig(steps=900_000, global_batch_size=256, eval_every=5_000, checkpoint_every=5_000),
    )
