"""One label for a document, long ones by chunks.

Command: python -m clinicalbert_jax.finetune --config=configs/finetune/classification.py --model=MODEL \\
             --train=train.csv.gz --validation=dev.csv.gz --workdir=RUN
Cost:    not measured
Score:   not measured
"""

from clinicalbert_jax.finetune.classification import ClassificationConfig
from clinicalbert_jax.finetune.config import FinetuneConfig


def get_config() -> FinetuneConfig:
    """The experiment."""
    return FinetuneConfig(task=ClassificationConfig(max_seq_length=256), epochs=3.0)
