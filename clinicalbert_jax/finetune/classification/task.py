"""Classification: one label, several, or a binary outcome for a text or a pair of texts, however long.

Shape legend: N rows (chunks), E examples, C labels.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers

from clinicalbert_jax.config import require
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.classification import chunks
from clinicalbert_jax.finetune.classification import report as classification_report
from clinicalbert_jax.finetune.inputs import fields, record_files
from clinicalbert_jax.finetune.inputs.reading import BadRecord, Reading
from clinicalbert_jax.finetune.inputs.record_files import Record
from clinicalbert_jax.finetune.rows import Rows, joined
from clinicalbert_jax.finetune.task import (
    ONE_LABEL,
    SEVERAL_LABELS,
    Example,
    Scores,
    Task,
    TaskConfig,
    check_names,
    softmax,
)

_AT_ONCE = 256  # documents whose tokenization is in memory in the library's own, large form


@dataclass(frozen=True)
class Document(Example):
    """A text, or a pair of texts, with its labels (none where it is not annotated).

    `parts` of the text are split into chunks each by itself; () where it is all one.
    """

    text: str = field(repr=False)
    text_b: str = field(repr=False)  # '' where there is no second
    labels: tuple[str, ...]
    parts: tuple[str, ...] = field(default=(), repr=False)

    @property
    def content(self) -> tuple[str, ...]:
        """The text, and the second one where there is one."""
        return (self.text, self.text_b) if self.text_b else (self.text,)


class Decision(NamedTuple):
    """The labels given to a document, and the probability of every label there is."""

    labels: tuple[str, ...]
    probabilities_C: np.ndarray


@dataclass
class ClassificationConfig(TaskConfig):
    """Settings of classification, and the columns (or fields) that hold the data.

    A document longer than a row is split into chunks that begin `stride` tokens apart (0: none overlap). In training
    each carries the document's label, and at most `max_training_chunks` (0: all) of a document are used, spread
    evenly; all are when it predicts, and `pooling` ('mean', 'max', 'readmission' of Huang et al.) makes one decision.
    Without `multi_label` a document has one label; of two, `positive_label` ('': the last in the alphabet) is the
    outcome. It, or a label of several, is given from the probability `threshold` on. `class_weights` 'balanced'
    weighs an example by 1 / (its label's fraction). `main` is the score that training maximises.
    In CSV the labels of a document are joined by `label_separator`, in JSON lines they are a list. Where no column
    is named 'id', the line is the id. `text_b_column` and `patient_column` '' say that there is none. Rows with
    the same value in `group_column`, such as the notes of an admission, are one document with that id: their texts are
    joined in the file's order, and labels and patient must be the same. With `group_rows` 'apart' no chunk holds text
    of two rows, as where rows are chunks already. `fresh_pooler`: the layer over the first token, which next sentence
    prediction trained for itself, is re-initialised, after Zhang et al. 2021, "Revisiting Few-sample BERT Fine-tuning".
    """

    kind: str = "classification"
    max_seq_length: int = 128
    multi_label: bool = False
    fresh_pooler: bool = False
    stride: int = 0
    pooling: str = "mean"
    max_training_chunks: int = 8
    class_weights: str = "none"
    positive_label: str = ""
    threshold: float = 0.5
    main: str = "macro_f1"
    text_column: str = "text"
    text_b_column: str = ""
    label_column: str = "label"
    label_separator: str = ";"
    id_column: str = "id"
    patient_column: str = ""
    group_column: str = ""
    group_rows: str = "joined"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.pairs = bool(self.text_b_column)
        room = self.max_seq_length - 2
        require(0 <= self.stride <= room, "task.stride", f"0 (no overlap) to {room}", self.stride)
        for name, choices in (
            ("pooling", chunks.POOLINGS),
            ("class_weights", ("none", "balanced")),
            ("main", classification_report.MAIN_SCORES),
            ("group_rows", ("joined", "apart")),
        ):
            require(getattr(self, name) in choices, f"task.{name}", f"one of {choices}", getattr(self, name))
        require(self.max_training_chunks >= 0, "task.max_training_chunks", "0 (all) or more", self.max_training_chunks)
        require(0 < self.threshold < 1, "task.threshold", "a value in (0, 1)", self.threshold)
        for name in ("text_column", "label_column", "label_separator", "id_column"):
            require(bool(getattr(self, name)), f"task.{name}", "a name", getattr(self, name))
        require(not (self.group_column and self.text_b_column), "task.group_column", "'' for pairs", self.group_column)
        if self.multi_label:
            require(self.pooling != "readmission", "task.pooling", "'mean' or 'max' with multi_label", self.pooling)
            require(self.class_weights == "none", "task.class_weights", "'none' with multi_label", self.class_weights)
            require(not self.positive_label, "task.positive_label", "'' with multi_label", self.positive_label)

    def read(self, path: Path, reading: Reading, annotated: bool = True) -> list[Document]:
        """The documents of a CSV, TSV or JSON-lines file, plain or gzipped; raises `UserError`."""
        required = [self.text_column, self.text_b_column, self.patient_column, *[self.label_column] * annotated]
        required += [self.id_column] if self.id_column != "id" and not self.group_column else []
        records = record_files.read(path, [*required, self.group_column], reading)
        rows = reading.each(
            path, records, lambda line, record: self._document(line, record, annotated), not self.group_column
        )
        return _grouped(path, rows, reading, self.group_rows == "apart") if self.group_column else rows

    def task(self, examples: Sequence[Document]) -> "Classification":
        """The task with the labels of the training examples; raises `UserError` where there is nothing to tell apart.

        Labels are in the order of the alphabet, but of two the positive one comes second.
        """
        counts = Counter(label for example in examples for label in example.labels)
        check_names(counts, f"config.task.label_column={self.label_column}")
        labels = sorted(counts)
        if not labels or (len(labels) == 1 and not self.multi_label):
            raise UserError(
                f"training data: expected two labels or more in {self.label_column!r}, found {len(labels)} in "
                f"{len(examples)} examples"
            )
        if self.positive_label:
            require(
                len(labels) == 2 and self.positive_label in labels,
                "task.positive_label",
                f"'' or one of two labels ({len(labels)} there are)",
                self.positive_label,
            )
            labels.sort(key=self.positive_label.__eq__)
        return Classification(self, tuple(labels)).fitted(examples)

    def _document(self, line: int, record: Record, annotated: bool) -> Document:
        text = fields.text(record, self.text_column)
        text_b = fields.text(record, self.text_b_column) if self.text_b_column else ""
        labels = self._labels(record) if annotated else ()
        patient = fields.patient(record, self.patient_column)
        group = fields.patient(record, self.group_column, "the document that the row is of")
        id_ = group or fields.identifier(record, f"line-{line}", self.id_column)
        return Document(id_, line, patient, text, text_b, labels)

    def _labels(self, record: Record) -> tuple[str, ...]:
        if not self.multi_label:
            return (fields.name(record, self.label_column),)
        given = record[self.label_column]
        if isinstance(given, str):
            given = given.split(self.label_separator) if given.strip() else []
        if not isinstance(given, list):
            raise BadRecord(f"expected a list of labels in {self.label_column!r}, found otherwise")
        return tuple(sorted({fields.name({self.label_column: label}, self.label_column) for label in given}))


@dataclass
class Classification(Task, of=ClassificationConfig):
    """Classification with its labels known; the row's first token decides.

    Of several labels the head starts at each one's log-odds in the training data: at even odds, where labels are rare,
    the first steps would train the encoder to predict none (Lin et al. 2017, section 3.3).
    """

    config: ClassificationConfig
    weights: dict[str, float] = field(default_factory=dict)  # of training examples by label, where not 1

    def __post_init__(self) -> None:
        self.problem_type = SEVERAL_LABELS if self.config.multi_label else ONE_LABEL
        if self.config.pooling == "readmission" and len(self.labels) != 2:
            raise UserError(
                f"config.task.pooling: expected 'mean' or 'max' for {len(self.labels)} labels, found 'readmission', "
                "which is for a binary outcome"
            )

    def fitted(self, examples: Sequence[Document]) -> "Classification":
        """With the class weights and the head's first log-odds of these training examples."""
        counts = Counter(label for example in examples for label in example.labels)
        weights, bias_C = {}, None
        if self.config.class_weights == "balanced":
            weights = {label: len(examples) / (len(self.labels) * count) for label, count in counts.items()}
        if self.config.multi_label:
            given_C = np.array([counts[label] for label in self.labels])
            bias_C = np.log((given_C + 1) / (len(examples) - given_C + 1)).astype(np.float32)
        return replace(self, weights=weights, initial_bias_C=bias_C)

    def labels_of(self, example: Document) -> Iterable[str]:
        """The document's labels."""
        return example.labels

    @property
    def names(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    def renamed(
        self, examples: Sequence[Document], predictions: Sequence[Decision], names: Mapping[str, str]
    ) -> tuple[Task, Sequence[Document], Sequence[Decision]]:
        """The documents with other labels; one of several labels has their sum of probabilities, or their highest."""
        labels = tuple(dict.fromkeys(names[label] for label in self.labels))
        numbers_C = np.array([labels.index(names[label]) for label in self.labels])
        joined = np.maximum if self.config.multi_label else np.add

        def other(labels_of: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(dict.fromkeys(names[label] for label in labels_of))

        decisions = []
        for decision in predictions:
            probabilities_C = np.zeros(len(labels))
            joined.at(probabilities_C, numbers_C, decision.probabilities_C)
            decisions.append(Decision(other(decision.labels), probabilities_C))
        documents = [replace(document, labels=other(document.labels)) for document in examples]
        return replace(self, labels=labels), documents, decisions

    def rows(self, examples: Sequence[Document], tokenizer: tokenizers.Tokenizer, annotated: bool) -> Rows:
        """[CLS] text [SEP], or [CLS] text [SEP] second text [SEP], a row a chunk; not all of a document in training."""
        most = self.config.max_training_chunks if annotated else 0
        input_ids, segment_ids, numbers = [], [], []
        for number, (parts, second) in enumerate(_tokenized(examples, tokenizer)):
            room = self.config.max_seq_length - (2 if second is None else 3)
            of_text = [chunk for part in parts for chunk in chunks.split(part, second, room, self.config.stride)]
            for chunk in chunks.spread(len(of_text), most):
                ids_l, segments_l = joined(tokenizer, *of_text[chunk])
                input_ids.append(ids_l)
                segment_ids.append(segments_l)
                numbers.append(number)
        examples_N = np.array(numbers, np.int64)
        targets = self._targets(examples, examples_N) if annotated else {}
        return Rows(input_ids, segment_ids, examples_N, row_targets=targets)

    def decode(self, examples: Sequence[Document], rows: Rows, logits: Sequence[np.ndarray]) -> list[Decision]:
        """One decision a document, pooled over its chunks."""
        if not examples:
            return []
        logits_NxC = np.stack(logits).astype(np.float64)
        probabilities_NxC = _sigmoid(logits_NxC) if self.config.multi_label else softmax(logits_NxC)
        counts_E = np.bincount(rows.examples_N, minlength=len(examples))
        pooled_ExC = chunks.pool(probabilities_NxC, counts_E, self.config.pooling, self.config.multi_label)
        return [Decision(self._given(probabilities_C), probabilities_C) for probabilities_C in pooled_ExC]

    def score(self, examples: Sequence[Document], predictions: Sequence[Decision]) -> Scores:
        """Accuracy, F1, areas under curves, calibration, confusions, and the documents that were decided wrongly."""
        truth_ExC, decided_ExC = self._given_labels(examples), self._given_labels(predictions)
        probabilities_ExC = np.stack([prediction.probabilities_C for prediction in predictions])
        scores = classification_report.scores(
            self.labels, truth_ExC, decided_ExC, probabilities_ExC, self.config.multi_label, self.config.main
        )
        for example, prediction in zip(examples, predictions, strict=True):
            if set(example.labels) != set(prediction.labels):
                scores.errors.append(
                    {
                        "id": example.id,
                        "line": example.line,
                        "annotated": list(example.labels),
                        "given": list(prediction.labels),
                        "probabilities": self._probabilities({*example.labels, *prediction.labels}, prediction),
                    }
                )
        return scores

    def record(self, example: Document, prediction: Decision, show_text: bool) -> dict[str, Any]:
        """The labels given and the probability of each label."""
        given = {"labels": prediction.labels} if self.config.multi_label else {"label": prediction.labels[0]}
        record = {"id": example.id, **given, "probabilities": self._probabilities(self.labels, prediction)}
        if show_text:
            record |= {"text": example.text} | ({"text_b": example.text_b} if example.text_b else {})
        return record

    def _targets(self, examples: Sequence[Document], examples_N: np.ndarray) -> dict[str, np.ndarray]:
        truth_ExC = self._given_labels(examples)
        if self.config.multi_label:
            weights_N = np.ones(len(examples_N), np.float32)
            return {"labels": truth_ExC[examples_N].astype(np.float32), "label_weights": weights_N}
        labels_N = truth_ExC.argmax(1).astype(np.int32)[examples_N]
        weights_C = np.array([self.weights.get(label, 1.0) for label in self.labels], np.float32)
        return {"labels": labels_N, "label_weights": weights_C[labels_N]}

    def _given(self, probabilities_C: np.ndarray) -> tuple[str, ...]:
        if self.config.multi_label:
            return tuple(self.labels[c] for c in np.flatnonzero(probabilities_C >= self.config.threshold))
        if len(self.labels) == 2:
            return (self.labels[int(probabilities_C[1] >= self.config.threshold)],)
        return (self.labels[int(probabilities_C.argmax())],)

    def _given_labels(self, labelled: Sequence[Document | Decision]) -> np.ndarray:
        numbers = {label: number for number, label in enumerate(self.labels)}
        given_ExC = np.zeros((len(labelled), len(self.labels)), bool)
        for given_C, one in zip(given_ExC, labelled, strict=True):
            given_C[[numbers[label] for label in one.labels]] = True
        return given_ExC

    def _probabilities(self, labels: Sequence[str] | set[str], prediction: Decision) -> dict[str, float]:
        shown = zip(self.labels, prediction.probabilities_C.tolist(), strict=True)
        return {label: round(probability, 6) for label, probability in shown if label in labels}


def _grouped(path: Path, rows: Sequence[Document], reading: Reading, apart: bool) -> list[Document]:
    groups: dict[str, list[Document]] = {}
    for row in rows:
        first = groups.setdefault(row.id, [row])[0]
        if (row.labels, row.patient) != (first.labels, first.patient):
            problem = "expected the labels and the patient of the earlier rows of the group, found others"
            reading.found(path, row.line, problem)
        elif row is not first:
            groups[row.id].append(row)
    texts = [[row.text for row in of_group] for of_group in groups.values()]
    return [
        replace(of_group[0], text="\n".join(of_texts), parts=tuple(of_texts) if apart else ())
        for of_group, of_texts in zip(groups.values(), texts, strict=True)
    ]


def _tokenized(
    documents: Sequence[Document], tokenizer: tokenizers.Tokenizer
) -> Iterator[tuple[list[np.ndarray], np.ndarray | None]]:
    """The tokens of each document's parts, and of its second text where there is one."""
    for start in range(0, len(documents), _AT_ONCE):
        some = documents[start : start + _AT_ONCE]
        texts = [[*(document.parts or (document.text,)), document.text_b] for document in some]
        encoded = iter(tokenizer.encode_batch_fast([one for of in texts for one in of], add_special_tokens=False))
        for document, of_document in zip(some, texts, strict=True):
            *parts, second = (np.array(next(encoded).ids, np.int32) for _ in of_document)
            yield parts, second if document.text_b else None


def _sigmoid(logits_NxC: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * logits_NxC))
