"""BERT-base at length 512, after `bert_base_128`: phase 2 of the original recipe.

Devlin et al. (2019), appendix A.2: the last 10 % of 1,000,000 steps at length 512, batch 256, Adam at 1e-4. The rate
warms up again here, since the optimizer's state is re-initialised.

Command: python run_pretrain.py --config=configs/bert_base_512.py --data_dir=DATA --workdir=RUN2 --config.init_from=RUN
Cost:    not measured
Score:   not measured
"""

from clinicalbert_jax.config import Config, DataConfig, OptimizerConfig, TrainConfig, model_preset


def get_config() -> Config:
    """The experiment."""
    return Config(
        model=model_preset("base"),
        data=DataConfig(max_seq_length=512),
        optimizer=OptimizerConfig(name="bert_adam", learning_rate=1e-4, schedule="google", warmup_steps=1_000),
        train=TrainConfig(steps=100_000, global_batch_size=256, eval_every=5_000, checkpoint_every=5_000),
    )
