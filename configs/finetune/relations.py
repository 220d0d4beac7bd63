"""Relations between two spans of a sentence, such as drug and adverse event.

Command: python -m clinicalbert_jax.finetune --config=configs/finetune/relations.py --model=MODEL \\
             --train=train.jsonl --validation=dev.jsonl --workdir=RUN
Cost:    10 minutes on two CPU cores for ADE and a model of 2 layers of 192, learning_rate=5e-4
Score:   F1 0.833 on the test side (docs/finetuning.md)
"""

from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.relations.task import RelationsConfig


def get_config() -> FinetuneConfig:
    """The experiment."""
    return FinetuneConfig(task=RelationsConfig(max_seq_length=128), epochs=3.0)
