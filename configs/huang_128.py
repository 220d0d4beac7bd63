"""ClinicalBERT as Huang et al. (2019) trained it, phase 1: from BERT-base, uncased, on MIMIC-III.

Their settings: 100,000 steps at length 128 and 2e-5, three passes; then `huang_512`. Batch and warm-up are those of
google-research/bert's script by default; the paper does not say. Prepare the data with the uncased vocabulary,
--pairing=google and --dupe_factor=3.

Command: python run_pretrain.py --config=configs/huang_128.py --data_dir=DATA --workdir=RUN --config.init_from=BERT
Cost:    not measured
Score:   not measured
"""

from clinicalbert_jax.config import Config, DataConfig, OptimizerConfig, TrainConfig, model_preset


def get_config() -> Config:
    """The experiment."""
    return Config(
        model=model_preset("base"),
        data=DataConfig(max_seq_length=128, do_lower_case=True),
        optimizer=OptimizerConfig(name="bert_adam", learning_rate=2e-5, schedule="google", warmup_steps=10_000),
        train=TrainConfig(steps=100_000, global_batch_size=32, eval_every=5_000, checkpoint_every=5_000),
    )
