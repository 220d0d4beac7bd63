"""One label for a document, long ones by chunks.

Command: python -m clinicalbert_jax.finetune --config=configs/finetune/classification.py --model=MODEL \\
             --train=train.csv.gz --validation=dev.csv.gz --workdir=RUN
Cost:    8 minutes on two CPU cores for MTSamples and a model of 2 layers of 192, learning_rate=1e-3, fresh_pooler
Score:   accuracy 0.778, macro-F1 0.534 on dev (docs/finetuning.md)
"""

from clinicalbert_jax.finetune.classification.task import ClassificationConfig
from clinicalbert_jax.finetune.config import FinetuneConfig


def get_config() -> FinetuneConfig:
    """The experiment."""
    return FinetuneConfig(task=ClassificationConfig(max_seq_length=256), epochs=3.0)
