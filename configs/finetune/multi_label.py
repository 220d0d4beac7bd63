"""Any number of labels for a text, as in coding: every label a decision of its own.

Command: python -m clinicalbert_jax.finetune --config=configs/finetune/multi_label.py --model=MODEL \\
             --train=train.jsonl --validation=dev.jsonl --workdir=RUN
Cost:    9 minutes on two CPU cores for the Hallmarks and a model of 2 layers of 192, learning_rate=1e-3, fresh_pooler
Score:   micro-F1 0.557 on the test side (docs/finetuning.md)
"""

from clinicalbert_jax.finetune.classification.task import ClassificationConfig
from clinicalbert_jax.finetune.config import FinetuneConfig


def get_config() -> FinetuneConfig:
    """The experiment."""
    return FinetuneConfig(
        task=ClassificationConfig(multi_label=True, main="micro_f1", label_column="labels", max_seq_length=128),
        epochs=5.0,
    )
