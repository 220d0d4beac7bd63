"""BERT-base (12 layers, 768 wide) at length 128, from random weights: phase 1 of the original recipe.

Devlin et al. (2019), appendix A.2: batch 256, Adam at 1e-4 with 10,000 steps of warm-up and linear decay, weight
decay 0.01, dropout 0.1, 1,000,000 steps of which 90 % at length 128.

Command: python run_pretrain.py --config=configs/bert_base_128.py --data_dir=DATA --workdir=RUN
Cost:    not measured
Score:   not measured
"""

from clinicalbert_jax.config import Config, DataConfig, OptimizerConfig, TrainConfig, model_preset


def get_config() -> Config:
    """The experiment."""
    return Config(
        model=model_preset("base"),
        data=DataConfig(max_seq_length=128),
        optimizer=OptimizerConfig(name="bert_adam", learning_rate=1e-4, schedule="google", warmup_steps=10_000),
        train=TrainConfig(
            steps=900_000, global_batch_size=256, dtype="bfloat16", eval_every=5_000, checkpoint_every=5_000
        ),
    )
