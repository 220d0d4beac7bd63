"""Any number of labels for a text, as in coding: every label a decision of its own.

Command: python -m clinicalbert_jax.finetune --config=configs/finetune/multi_label.py --model=MODEL \\
             --train=train.jsonl --validation=dev.jsonl --workdir=RUN
Cost:    not measured
Score:   not measured
"""

from clinicalbert_jax.finetune.classification import ClassificationConfig
from clinicalbert_jax.finetune.config import FinetuneConfig


def get_config() -> FinetuneConfig:
    """The experiment."""
    return FinetuneConfig(
        task=ClassificationConfig(multi_label=True, main="micro_f1", label_column="labels", max_seq_length=128),
        epochs=5.0,
    )
