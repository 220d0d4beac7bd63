"""Relations between two spans of a sentence, such as drug and adverse event.

Command: python -m clinicalbert_jax.finetune --config=configs/finetune/relations.py --model=MODEL \\
             --train=train.jsonl --validation=dev.jsonl --workdir=RUN
Cost:    3.4 CPU minutes for 200 steps on ADE with 6 layers of 384, learning_rate=2e-4, no dropout
Score:   F1 0.908 on the test file after these (docs/finetuning.md)
"""

from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.relations.task import RelationsConfig


def get_config() -> FinetuneConfig:
    """The experiment."""
    return FinetuneConfig(task=RelationsConfig(max_seq_length=128), epochs=3.0)
