"""ClinicalBERT as Alsentzer et al. (2019) trained it: from BERT-base or BioBERT, cased, on MIMIC-III.

Their settings: length 128, batch 32, 5e-5, 150,000 steps, five passes with 20 predictions. The warm-up is that of
google-research/bert's script by default; the paper does not say. Prepare the data with the cased vocabulary of the
model to start from, --pairing=google and --dupe_factor=5.

Command: python run_pretrain.py --config=configs/alsentzer_128.py --data_dir=DATA --workdir=RUN --config.init_from=BERT
Cost:    not measured
Score:   not measured
"""

from clinicalbert_jax.config import Config, DataConfig, OptimizerConfig, TrainConfig, model_preset


def get_config() -> Config:
    """The experiment."""
    return Config(
        model=model_preset("base"),
        data=DataConfig(max_seq_length=128, do_lower_case=False),
        optimizer=OptimizerConfig(name="bert_adam", learning_rate=5e-5, schedule="google", warmup_steps=10_000),
        train=TrainConfig(steps=150_000, global_batch_size=32, eval_every=5_000, checkpoint_every=5_000),
    )
