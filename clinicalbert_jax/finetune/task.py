"""What a downstream task supplies; training, sharding, checkpoints, prediction and results are the same for all.

Shape legend: N rows, l length of a row, C labels, E examples, M counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import tokenizers

from clinicalbert_jax.finetune.inputs.bad_records import BadRecords
from clinicalbert_jax.finetune.rows import Rows


@dataclass(frozen=True)
class Table:
    """A table of the result page; every cell is a name, a label, a number or an id, never text of a record."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str | int, ...]]


@dataclass(frozen=True)
class Scores:
    """What predictions are worth: `values` by name in [0, 1] (or NaN), `values[main]` the one training goes by.

    `tables` and `curves` (lines through (x, y) points, by title and name) are for the result page. `errors` lists
    what was wrong, each a dict of ids, labels and character offsets.
    """

    values: dict[str, float]
    main: str
    tables: list[Table] = field(default_factory=list)
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)


@runtime_checkable
class Example(Protocol):
    """One annotated (or merely given) record of a file."""

    id: str
    line: int  # where it begins in its file, from 1
    patient: str  # '' where the data do not name patients


class Task(Protocol):
    """One downstream use of a BERT, its settings and labels fixed. Its predictions are of its own type, one an example.

    The head 'token' makes a decision for every token, 'sequence' one for every row, 'span' finds a start and an end.
    """

    @property
    def head(self) -> str:
        """'token', 'sequence' or 'span'."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the logits; of a span head 'start' and 'end'."""

    @property
    def multi_label(self) -> bool:
        """With a sequence head: whether every label is a decision of its own."""

    @property
    def initial_bias_C(self) -> np.ndarray | None:
        """Where the bias of the head begins, float32; None: at 0."""

    @property
    def fresh_pooler(self) -> bool:
        """Whether the pooler begins at random, as the head does."""

    @property
    def architecture(self) -> str:
        """The class of the exported model in transformers."""

    def rows(self, examples: Sequence[Any], tokenizer: tokenizers.Tokenizer, annotated: bool) -> Rows:
        """The model's input; with targets where `annotated`.

        Annotated rows are for training: a task may leave out some rows of a long example there. Predictions are made
        from rows that are not.
        """

    def decode(self, examples: Sequence[Any], rows: Rows, logits: Sequence[np.ndarray]) -> list[Any]:
        """Predictions from the logits of each row: l x C ('token', and 'span' with C = 2: start, end) or C."""

    def score(self, examples: Sequence[Any], predictions: Sequence[Any]) -> Scores:
        """How good the predictions are, by the annotation of the examples."""

    def counts(self, examples: Sequence[Any], predictions: Sequence[Any]) -> np.ndarray:
        """E x M: what each example adds to the sums that `from_counts` makes the main score of. For the bootstrap."""

    def from_counts(self, sums_M: np.ndarray) -> float:
        """The main score."""

    def write(self, path: Path, examples: Sequence[Any], predictions: Sequence[Any], show_text: bool) -> list[Path]:
        """Write predictions to files beginning with `path`; with their text only where `show_text`. Returns them."""


class TaskConfig(Protocol):
    """The settings of a task: a dataclass, validated when built, with the field `kind` and these methods."""

    kind: str

    def read(self, path: Path, bad: BadRecords, annotated: bool = True) -> list[Any]:
        """The examples of a file, in its order; not `annotated`: as given to a finished model. Raises `UserError`."""

    def task(self, examples: Sequence[Any]) -> Task:
        """The task with the labels that the (training) examples have."""

    def task_with_labels(self, labels: tuple[str, ...]) -> Task:
        """The task with labels already known, those of a trained model."""

    def check_labels(self, task: Task, examples: Sequence[Any], path: Path, bad: BadRecords) -> list[Any]:
        """The examples whose labels the task has; one unseen in training is told by file and line."""
