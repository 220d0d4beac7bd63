"""Any number of labels for a text, as in coding: every label a decision of its own.

Command: python -m clinicalbert_jax.finetune --config=configs/finetune/multi_label.py --model=MODEL \\
             --train=train.jsonl --validation=dev.jsonl --workdir=RUN
Cost:    2.3 CPU minutes for 100 steps on the Hallmarks with 6 layers of 384, learning_rate=2e-4, no dropout
Score:   micro-F1 0.382 on the test file after these, task.threshold=0.1 (docs/finetuning.md)
"""

from clinicalbert_jax.finetune.classification.task import ClassificationConfig
from clinicalbert_jax.finetune.config import FinetuneConfig


def get_config() -> FinetuneConfig:
    """The experiment."""
    return FinetuneConfig(
        task=ClassificationConfig(multi_label=True, main="micro_f1", label_column="labels", max_seq_length=128),
        epochs=5.0,
    )
