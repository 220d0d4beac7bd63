"""Four layers of 256 at length 128: an hour or less on two CPU cores, to see learning on a few thousand real notes.

Command: python run_pretrain.py --config=configs/small_128.py --data_dir=DATA --workdir=RUN
Cost:    not measured
Score:   not measured
"""

from clinicalbert_jax.config import Config, DataConfig, OptimizerConfig, TrainConfig, model_preset


def get_config() -> Config:
    """The experiment."""
    return Config(
        model=model_preset("mini", hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.0),
        data=DataConfig(max_seq_length=128),
        optimizer=OptimizerConfig(learning_rate=1e-3, schedule="linear", warmup_steps=200),
        train=TrainConfig(
            steps=4_000, global_batch_size=32, dtype="float32", log_every=50, eval_every=500, checkpoint_every=500
        ),
    )
