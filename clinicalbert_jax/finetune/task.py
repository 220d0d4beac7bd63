"""The base classes of a downstream task, and the scores that tasks share.

A task is two classes: its settings (`TaskConfig`), which read files and know the labels, and, with the labels fixed, a
`Task`, which turns examples into rows, logits into predictions, and predictions into scores and files. Training,
sharding, checkpoints, prediction and results are the same for all tasks. See docs/adding_a_task.md.

Shape legend: N rows, l length of a row, C labels, E examples, M counts.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tokenizers

from clinicalbert_jax.config import require, require_types
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output, directory_lock
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.rows import Rows
from clinicalbert_jax.report.table import Table

# Labels that are more, more different or longer than this (in words; in words on average) are text in the wrong column.
_MANY_LABELS, _MOST_DIFFERENT, _LONGEST_LABEL, _MEAN_LABEL = 10, 0.7, 20, 8
# The heads, each with the class of transformers that has it.
ARCHITECTURES = {
    "token": "BertForTokenClassification",
    "sequence": "BertForSequenceClassification",
    "span": "BertForQuestionAnswering",
}
# What a 'sequence' head decides, by the names of `problem_type` in transformers.
ONE_LABEL, SEVERAL_LABELS, REGRESSION = "single_label_classification", "multi_label_classification", "regression"


@dataclass(frozen=True)
class Example:
    """One record of a file. `line` is where it begins, from 1; `patient` is '' where the data name none."""

    id: str
    line: int
    patient: str

    @property
    def document(self) -> str:
        """What is resampled as one: all examples of a patient, else the example by itself."""
        return self.patient or self.id

    @property
    def content(self) -> tuple[str, ...]:
        """What the model reads of it, as the file has it."""
        return (self.text,)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class RateTable(Table):
    """A table of rates and the counts they are made of; each row is shown where the value named in `keys` is."""

    keys: Sequence[str] = ()


@dataclass(frozen=True)
class CountTable(Table):
    """A table of counts. `labels`: of a matrix of these labels, whose diagonal and margins stand elsewhere too."""

    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Scores:
    """How good predictions are: `values` by name (NaN: not defined), of which training maximises `values[main]`.

    `of_sums` computes that one from sums over examples of `counts_ExM`, so that examples can be resampled. `tables`
    and `curves` (lines through (x, y) points, by title and name) are for the result page. `errors` lists what was
    wrong, each a dict of ids, labels and character offsets.

    What the page may show follows from counts that a reader could work out (see `page_scores`): `made_of`, those of a
    value, by its name; `of_labels`, those of the values 'LABEL/...', whose sums over labels are known too; `means`
    names the values that are means over labels.
    """

    values: dict[str, float]
    main: str
    counts_ExM: np.ndarray = field(repr=False)
    of_sums: Callable[[np.ndarray], float]
    tables: list[Table] = field(default_factory=list)
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)
    made_of: dict[str, Sequence[int]] = field(default_factory=dict)
    of_labels: dict[str, Sequence[int]] = field(default_factory=dict)
    means: set[str] = field(default_factory=set)
    is_pooled: bool = False  # whether several labels were scored as one


@dataclass
class TaskConfig:
    """The settings of a task. A subclass is a dataclass with defaults for `kind` and `max_seq_length`."""

    kind: str = ""
    max_seq_length: int = 128  # tokens in a row, special ones included
    shortest_row: ClassVar[int] = 8
    task_type: ClassVar[type["Task"]]  # whose settings these are
    fresh_pooler = False  # whether the pooler is re-initialised, as the head is
    group_column = ""  # the column by which rows of a file are joined to one example
    pairs = False  # whether rows hold two texts, so that the model needs two segment types

    def __post_init__(self) -> None:
        kind = type(self).kind
        require_types("task", self)
        require(self.kind == kind, "task.kind", repr(kind), self.kind)
        shortest = self.shortest_row
        require(self.max_seq_length >= shortest, "task.max_seq_length", f"at least {shortest}", self.max_seq_length)

    def read(self, path: Path, reading: Reading, annotated: bool = True) -> list[Any]:
        """The examples of a file, in its order; without their labels unless `annotated`. Raises `UserError`."""
        raise NotImplementedError

    def task(self, examples: Sequence[Any]) -> "Task":
        """The task with the labels that the training examples have; raises `UserError` where they are too few."""
        raise NotImplementedError

    def task_with_labels(self, labels: tuple[str, ...]) -> "Task":
        """The task with the labels of a trained model."""
        return self.task_type(self, labels)


@dataclass
class Task:
    """A task with its labels fixed. Its predictions are of its own type, one for each example.

    The head 'token' makes a decision for every token, 'sequence' one for every row, 'span' finds a start and an end.
    """

    config: Any
    labels: tuple[str, ...]  # the names of the logits
    initial_bias_C: np.ndarray | None = field(default=None, kw_only=True)  # of the head, float32; None: zeros
    head: ClassVar[str] = "sequence"
    problem_type = ONE_LABEL  # what a 'sequence' head decides

    def __init_subclass__(cls, of: type[TaskConfig]) -> None:
        of.task_type = cls

    @property
    def architecture(self) -> str:
        """The class of the exported model in transformers."""
        return ARCHITECTURES[self.head]

    def fitted(self, examples: Sequence[Any]) -> "Task":
        """The task with what it takes from training examples beside the labels, such as how often each occurs."""
        return self

    def labels_of(self, example: Any) -> Iterable[str]:
        """Those of `labels` that an annotated example needs."""
        return ()

    def check_labels(self, examples: Sequence[Any], path: Path, reading: Reading) -> list[Any]:
        """The examples whose labels the task has; the others are bad records."""
        known, kept = set(self.labels), []
        for example in examples:
            if known.issuperset(self.labels_of(example)):
                kept.append(example)
            else:
                reading.found(path, example.line, f"expected labels seen in training ({len(known)}), found another")
        return kept

    def rows(self, examples: Sequence[Any], tokenizer: tokenizers.Tokenizer, annotated: bool) -> Rows:
        """The model's input; with targets where `annotated`.

        Annotated rows are for training: a task may leave out some rows of a long example there. Predictions are made
        from rows that are not.
        """
        raise NotImplementedError

    def decode(self, examples: Sequence[Any], rows: Rows, logits: Sequence[np.ndarray]) -> list[Any]:
        """Predictions from the logits of each row: l x C ('token', and 'span' with C = 2: start, end) or C."""
        raise NotImplementedError

    def score(self, examples: Sequence[Any], predictions: Sequence[Any]) -> Scores:
        """How good the predictions are, by the annotation of the examples."""
        raise NotImplementedError

    @property
    def names(self) -> tuple[str, ...]:
        """The strings from the data that the scores name."""
        return ()

    def names_in(self, example: Any) -> Iterable[str]:
        """Those of `names` that an annotated example has."""
        return self.labels_of(example)

    def renamed(
        self, examples: Sequence[Any], predictions: Sequence[Any], names: Mapping[str, str]
    ) -> tuple["Task", Sequence[Any], Sequence[Any]]:
        """The same with other `names`, of which several may become one."""
        return self, examples, predictions

    def record(self, example: Any, prediction: Any, show_text: bool) -> dict[str, Any]:
        """A prediction as an object of JSON; with text of the example only where `show_text`."""
        raise NotImplementedError

    def files(self, examples: Sequence[Any], predictions: Sequence[Any], show_text: bool) -> dict[str, Iterable[str]]:
        """The lines of each file of predictions, by the end of its name."""
        pairs = zip(examples, predictions, strict=True)
        return {".jsonl": (json_line(self.record(example, found, show_text)) for example, found in pairs)}

    def write(
        self,
        path: Path,
        examples: Sequence[Any],
        predictions: Sequence[Any],
        show_text: bool,
        overwrite: bool = False,
        inputs: Sequence[Path] = (),
    ) -> list[Path]:
        """Write predictions to files whose names begin with `path`, as `atomic_output.file` does; returns them.

        One lock for all of them: they are predictions of one process.
        """
        written = []
        with directory_lock.held(path, "--output", beside=True):
            for end, lines in self.files(examples, predictions, show_text).items():
                written.append(path.with_name(path.name + end))
                with (
                    atomic_output.file(written[-1], overwrite, inputs) as partial,
                    partial.open("w", encoding="utf-8", newline="\n") as file,
                ):
                    file.writelines(lines)
        return written


def check_names(counts: Mapping[str, int], field: str) -> None:
    """Raise `UserError` where labels, with how often each occurs, are text: sentences, or nearly all different."""
    words = [len(label.split()) for label in counts]
    different = len(counts) > _MANY_LABELS and len(counts) > _MOST_DIFFERENT * sum(counts.values())
    if different or max(words, default=0) > _LONGEST_LABEL or sum(words) > _MEAN_LABEL * len(words):
        raise UserError(
            f"{field}: expected labels, found what looks like text ({len(counts):,} different values in "
            f"{sum(counts.values()):,}, the longest of {max(words)} words): name the field that holds labels"
        )


def json_line(document: Any) -> str:
    """A line of a file of JSON lines."""
    return json.dumps(document, ensure_ascii=False) + "\n"


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis, float64."""
    exponentials = np.exp(np.asarray(logits, np.float64) - np.max(logits, -1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


class Rates(NamedTuple):
    """Three rates, each 0 where it would divide by 0."""

    precision: float
    recall: float
    f1: float


def rates(right: float, found: float, annotated: float) -> Rates:
    """From how many were right, found and annotated, as seqeval and scikit-learn compute them (`zero_division=0`)."""
    precision = right / found if found else 0.0
    recall = right / annotated if annotated else 0.0
    return Rates(precision, recall, f1(precision, recall))


def f1(precision: float, recall: float) -> float:
    """Their harmonic mean; 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def f1_scores(title: str, counts: Mapping[str, Sequence[int]], counts_ExM: np.ndarray) -> Scores:
    """Micro average, macro average and every label's rates.

    `counts` are items right, found and annotated by label, `counts_ExM` the same by example.
    """
    by_label = {label: rates(*of_label) for label, of_label in counts.items()}
    sums = counts_ExM.sum(0).tolist()
    micro = rates(*sums)
    macro = Rates(*np.mean([*by_label.values()], axis=0).tolist()) if by_label else Rates(0.0, 0.0, 0.0)
    values = {**micro._asdict(), **{f"macro_{name}": value for name, value in macro._asdict().items()}}
    values |= {f"{label}/{name}": v for label, one in by_label.items() for name, v in one._asdict().items()}
    rows: list[tuple[str | int, ...]] = [(label, *counts[label], *_percent(by_label[label])) for label in counts]
    rows += [("micro average", *sums, *_percent(micro)), ("macro average", "", "", "", *_percent(macro))]
    header = ("label", "right", "found", "annotated", "precision", "recall", "F1")
    table = RateTable(header, rows, title, [*(f"{label}/f1" for label in counts), "f1", "macro_f1"])
    return Scores(
        values,
        "f1",
        counts_ExM,
        lambda sums_M: rates(*sums_M.tolist()).f1,
        [table],
        made_of=dict.fromkeys(Rates._fields, parts(*sums)),
        of_labels={label: parts(*of_label) for label, of_label in counts.items()},
        means={f"macro_{name}" for name in Rates._fields},
    )


def parts(right: int, found: int, annotated: int) -> tuple[int, int, int]:
    """The counts that rates are made of: right, wrong and missed."""
    return int(right), int(found - right), int(annotated - right)


def _percent(of: Rates) -> tuple[str, ...]:
    return tuple(f"{rate:.1%}" for rate in of)
