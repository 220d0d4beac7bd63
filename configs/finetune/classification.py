"""One label for a document, long ones by chunks.

Command: python -m clinicalbert_jax.finetune --config=configs/finetune/classification.py --model=MODEL \\
             --train=train.csv.gz --validation=dev.csv.gz --workdir=RUN
Cost:    1.7 CPU minutes for 60 steps on MTSamples with 6 layers of 384 and rows of 128, learning_rate=3e-4, no dropout
Score:   macro-F1 0.239 on dev after these (docs/benchmarks.md)
"""

from clinicalbert_jax.finetune.classification.task import ClassificationConfig
from clinicalbert_jax.finetune.config import FinetuneConfig


def get_config() -> FinetuneConfig:
    """The experiment."""
    return FinetuneConfig(task=ClassificationConfig(max_seq_length=256), epochs=3.0)
