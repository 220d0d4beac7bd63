"""The demo: BERT-tiny on 2,000 synthetic notes with a vocabulary of 2,000, in minutes on two CPU cores.

Command: make demo
Cost:    not measured
Score:   not measured
"""

from clinicalbert_jax.config import Config, DataConfig, OptimizerConfig, TrainConfig, model_preset


def get_config() -> Config:
    """The experiment."""
    return Config(
        model=model_preset("tiny", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
        data=DataConfig(max_seq_length=128),
        optimizer=OptimizerConfig(learning_rate=2e-3, schedule="linear", warmup_steps=100),
        train=TrainConfig(
            steps=1_200,
            global_batch_size=32,
            dtype="float32",
            log_every=50,
            eval_every=600,
            eval_batches=20,
            checkpoint_every=600,
        ),
    )
