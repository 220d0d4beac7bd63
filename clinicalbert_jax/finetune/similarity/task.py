"""Similarity of two sentences as a number, such as 0 to 5 in clinical semantic similarity; scored by correlation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.inputs import fields, record_files
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.rows import Rows, joined, truncated
from clinicalbert_jax.finetune.similarity import scores
from clinicalbert_jax.finetune.task import REGRESSION, Example, Scores, Task, TaskConfig


@dataclass(frozen=True, repr=False)
class Pair(Example):
    """Two sentences and how similar they are (NaN: not annotated)."""

    texts: tuple[str, str]
    score: float

    @property
    def content(self) -> tuple[str, ...]:
        """Both sentences."""
        return self.texts


@dataclass
class SimilarityConfig(TaskConfig):
    """The columns of a CSV, TSV or JSON-lines file; `patient_column` '' where there is none."""

    kind: str = "similarity"
    text_column: str = "sentence1"
    text_b_column: str = "sentence2"
    score_column: str = "score"
    patient_column: str = ""
    pairs = True

    def read(self, path: Path, reading: Reading, annotated: bool = True) -> list[Pair]:
        """The pairs of a file."""

        def pair(line: int, record: record_files.Record) -> Pair:
            texts = fields.text(record, self.text_column), fields.text(record, self.text_b_column)
            score = fields.number(record, self.score_column) if annotated else np.nan
            patient = fields.patient(record, self.patient_column)
            return Pair(fields.identifier(record, f"line-{line}"), line, patient, texts, score)

        columns = [self.text_column, self.text_b_column, self.patient_column, self.score_column if annotated else ""]
        return reading.each(path, record_files.read(path, columns, reading), pair)

    def task(self, examples: Sequence[Pair]) -> "Similarity":
        """The task, whatever the scores of the examples are."""
        return Similarity(self, ("similarity",)).fitted(examples)


class Similarity(Task, of=SimilarityConfig):
    """One number for each pair, by regression; that number is the prediction."""

    problem_type = REGRESSION

    def fitted(self, examples: Sequence[Pair]) -> "Similarity":
        """With a head that starts at the mean score of these training examples."""
        mean_C = np.array([np.mean([pair.score for pair in examples])], np.float32)
        return replace(self, initial_bias_C=mean_C)

    def check_labels(self, examples: Sequence[Pair], path: Path, reading: Reading) -> list[Pair]:
        """The examples; raises `UserError` where their scores are all alike, so that nothing correlates with them."""
        if len({pair.score for pair in examples}) < 2:
            raise UserError(f"{path}: expected different scores, found one for all {len(examples)} pairs")
        return list(examples)

    def rows(self, examples: Sequence[Pair], tokenizer: tokenizers.Tokenizer, annotated: bool) -> Rows:
        """[CLS] first [SEP] second [SEP]; of a pair that is too long, the longer one is truncated first."""
        pairs = [[tokenizer.encode(t, add_special_tokens=False).ids for t in pair.texts] for pair in examples]
        room = self.config.max_seq_length - 3
        rows = [joined(tokenizer, *truncated(first, second, room)) for first, second in pairs]
        scores_N = np.array([pair.score for pair in examples], np.float32)
        targets = {"labels": scores_N, "label_weights": np.ones_like(scores_N)} if annotated else {}
        return Rows([ids for ids, _ in rows], [s for _, s in rows], np.arange(len(rows)), row_targets=targets)

    def decode(self, examples: Sequence[Pair], rows: Rows, logits: Sequence[np.ndarray]) -> list[float]:
        """The head's output."""
        return [float(logit) for (logit,) in logits]

    def score(self, examples: Sequence[Pair], predictions: Sequence[float]) -> Scores:
        """Correlations and squared error."""
        gold_E = np.array([pair.score for pair in examples])
        return scores.score([pair.id for pair in examples], gold_E, np.array(predictions))

    def record(self, example: Pair, prediction: float, show_text: bool) -> dict[str, Any]:
        """The number found."""
        return {"id": example.id, "score": prediction} | ({"texts": example.texts} if show_text else {})
