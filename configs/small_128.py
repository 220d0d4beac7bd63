"""BERT-tiny on a few thousand real notes and a full vocabulary: under an hour on two CPU cores, to see it learn.

The weights start at 0.08 instead of BERT's 0.02: a model this narrow otherwise spends most of the hour on a plateau.

Command: python run_pretrain.py --config=configs/small_128.py --data_dir=DATA --workdir=RUN
Cost:    about 34 minutes for 2,000 steps on two CPU cores that others shared
Score:   MTSamples in MIMIC-III's form (1,689 training notes, bert-base-cased vocabulary), held-out patients:
         MLM loss 5.315 [5.234, 5.384] against a unigram entropy of 6.711, NSP accuracy 75.3 % [73.1 %, 77.9 %]
"""

from clinicalbert_jax.config import Config, DataConfig, OptimizerConfig, TrainConfig, model_preset


def get_config() -> Config:
    """The experiment."""
    return Config(
        model=model_preset("tiny", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.08),
        data=DataConfig(max_seq_length=128),
        optimizer=OptimizerConfig(learning_rate=2e-3, schedule="linear", warmup_steps=200),
        train=TrainConfig(
            steps=2_000,
            global_batch_size=32,
            dtype="float32",
            log_every=50,
            eval_every=1_000,
            eval_batches=40,
            checkpoint_every=500,
        ),
    )
