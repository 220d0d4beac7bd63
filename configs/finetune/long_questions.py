"""Answers to questions about long articles, from few annotated questions and cloze questions made of the articles.

Command: python -m benchmarks.questions.cloze --questions=qa/covid_qa/train.json \\
             --text=text/medical_text.jsonl.gz --output=QA
         python -m clinicalbert_jax.finetune --config=configs/finetune/long_questions.py --model=MODEL \\
             --train=QA/train.json --validation=QA/validation.json --workdir=RUN
         python -m benchmarks.questions.score --runs=RUN/seed-0 --data=qa/covid_qa/dev.json --stride=80 --most=100
Cost:    21 minutes of training on one busy CPU core for COVID-QA and all-MiniLM-L6-v2; scoring takes 4
Score:   F1 0.279 [0.081, 0.477] on 100 questions of dev; random weights 0.045 (docs/finetuning.md)
"""

from clinicalbert_jax.config import OptimizerConfig
from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.questions.task import QuestionsConfig


def get_config() -> FinetuneConfig:
    """The experiment."""
    return FinetuneConfig(
        task=QuestionsConfig(
            max_seq_length=128, stride=56, max_question_tokens=32, negative_windows=1, max_answer_length=60
        ),
        max_steps=600,
        evaluations_per_epoch=0.25,  # at the end alone: windows are many
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        optimizer=OptimizerConfig(learning_rate=4e-4, schedule="linear", warmup_steps=0),
    )
