"""BERT-tiny (2 layers, 128 wide) at length 128: minutes on a laptop's CPU. The demo and the tests use it.

Command: python run_pretrain.py --config=configs/tiny_128.py --data_dir=DATA --workdir=RUN
Cost:    not measured
Score:   not measured
"""

from clinicalbert_jax.config import Config, DataConfig, OptimizerConfig, TrainConfig, model_preset


def get_config() -> Config:
    """The experiment."""
    return Config(
        model=model_preset("tiny", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
        data=DataConfig(max_seq_length=128),
        optimizer=OptimizerConfig(learning_rate=1e-3, schedule="linear", warmup_steps=100),
        train=TrainConfig(
            steps=1_000,
            global_batch_size=32,
            dtype="float32",
            log_every=50,
            eval_every=500,
            checkpoint_every=250,
        ),
    )
