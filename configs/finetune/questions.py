"""Answers to questions as spans of long documents, from SQuAD files.

Command: python -m clinicalbert_jax.finetune --config=configs/finetune/questions.py --model=MODEL \\
             --train=train.json --validation=dev.json --workdir=RUN
Cost:    not measured
Score:   not measured
"""

from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.questions.task import QuestionsConfig


def get_config() -> FinetuneConfig:
    """The experiment."""
    return FinetuneConfig(task=QuestionsConfig(max_seq_length=384), epochs=2.0)
