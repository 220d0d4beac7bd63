"""Named entities, such as conditions and medications, from CoNLL files or character spans.

Command: python -m clinicalbert_jax.finetune --config=configs/finetune/entities.py --model=MODEL \\
             --train=train.tsv --validation=devel.tsv --workdir=RUN
Cost:    6 minutes on two CPU cores for NCBI disease and a model of 2 layers of 192, learning_rate=5e-4
Score:   F1 0.567 on devel (docs/finetuning.md)
"""

from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.entities.task import EntitiesConfig


def get_config() -> FinetuneConfig:
    """The experiment."""
    return FinetuneConfig(task=EntitiesConfig(max_seq_length=128), epochs=3.0)
