"""ClinicalBERT as Huang et al. (2019) trained it, phase 2: length 512, after `huang_128`.

Their settings: 100,000 steps more at length 512 and 2e-5. Batch and warm-up as in `huang_128`.

Command: python run_pretrain.py --config=configs/huang_512.py --data_dir=DATA --workdir=RUN2 --config.init_from=RUN
Cost:    not measured
Score:   not measured
"""

from clinicalbert_jax.config import Config, DataConfig, OptimizerConfig, TrainConfig, model_preset


def get_config() -> Config:
    """The experiment."""
    return Config(
        model=model_preset("base"),
        data=DataConfig(max_seq_length=512, do_lower_case=True),
        optimizer=OptimizerConfig(name="bert_adam", learning_rate=2e-5, schedule="google", warmup_steps=10_000),
        train=TrainConfig(steps=100_000, global_batch_size=32, eval_every=5_000, checkpoint_every=5_000),
    )
