"""Relations between two spans of a sentence, such as drug and adverse event.

Command: python -m clinicalbert_jax.finetune --config=configs/finetune/relations.py --model=MODEL \\
             --train=train.jsonl --validation=dev.jsonl --workdir=RUN
Cost:    not measured
Score:   not measured
"""

from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.relations import RelationsConfig


def get_config() -> FinetuneConfig:
    """The experiment."""
    return FinetuneConfig(task=RelationsConfig(max_seq_length=128), epochs=3.0)
