"""Continued pre-training of a small BERT on your own text, in about an hour on two CPU cores.

The shape is that of the model in init_from; prepare the data with its vocabulary. No dropout: the data are seen less
than once. For BERT-base take a lower rate: Alsentzer et al. (2019) took 5e-5.

Command: python run_pretrain.py --config=configs/continue_128.py --data_dir=DATA --workdir=RUN --config.init_from=BERT
Cost:    69 minutes of two busy CPU cores, 45 at its rate alone; 5.8 M tokens, all-MiniLM-L6-v2 (6 layers of 384)
Score:   MLM loss 2.78, NSP accuracy 93.7 % on 1,280 rows of validation patients; tasks: docs/comparison_example.md
"""

from clinicalbert_jax.config import Config, DataConfig, OptimizerConfig, TrainConfig, model_preset


def get_config() -> Config:
    """The experiment."""
    return Config(
        model=model_preset("base", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
        data=DataConfig(max_seq_length=128),
        optimizer=OptimizerConfig(learning_rate=3e-4, schedule="linear", warmup_steps=100),
        train=TrainConfig(
            steps=2_000,
            global_batch_size=32,
            dtype="float32",
            log_every=50,
            eval_every=500,
            eval_batches=40,
            checkpoint_every=100,
        ),
    )
