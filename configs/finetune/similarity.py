"""How similar two sentences are, such as 0 to 5 in clinical semantic similarity.

Command: python -m clinicalbert_jax.finetune --config=configs/finetune/similarity.py --model=MODEL \\
             --train=train.tsv --validation=dev.tsv --workdir=RUN
Cost:    not measured
Score:   not measured
"""

from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.similarity.task import SimilarityConfig


def get_config() -> FinetuneConfig:
    """The experiment."""
    return FinetuneConfig(task=SimilarityConfig(max_seq_length=128), epochs=3.0)
