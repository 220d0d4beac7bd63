"""Named entities, such as conditions and medications, from CoNLL files or character spans.

Command: python -m clinicalbert_jax.finetune --config=configs/finetune/entities.py --model=MODEL \\
             --train=train.tsv --validation=devel.tsv --workdir=RUN
Cost:    1.2 CPU minutes for 60 steps on NCBI disease with 6 layers of 384, learning_rate=2e-4, no dropout
Score:   F1 0.541 on devel after these (docs/benchmarks.md)
"""

from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.entities.task import EntitiesConfig


def get_config() -> FinetuneConfig:
    """The experiment."""
    return FinetuneConfig(task=EntitiesConfig(max_seq_length=128), epochs=3.0)
