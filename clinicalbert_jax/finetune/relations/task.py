"""Relations between two spans of a text: one decision a pair, scored by F1 over the classes that are relations.

Shape legend: N rows, l length of a row, C labels, E examples.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers

from clinicalbert_jax.config import require, require_types
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune import rates
from clinicalbert_jax.finetune.inputs import span_records
from clinicalbert_jax.finetune.inputs.bad_records import BadRecords
from clinicalbert_jax.finetune.inputs.tags import Span
from clinicalbert_jax.finetune.inputs.words import Cutter
from clinicalbert_jax.finetune.relations import marking
from clinicalbert_jax.finetune.relations import scores as relation_scores
from clinicalbert_jax.finetune.rows import Rows
from clinicalbert_jax.finetune.task import Scores, Table

_SUFFIXES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Pair:
    """Two spans of a text by characters, their types as labels, and what they are to each other ('': not known)."""

    id: str
    line: int
    patient: str
    text: str
    head: Span
    tail: Span
    label: str = ""


class Decision(NamedTuple):
    """The label chosen, the probability of every label, and which text no row had room for ('': it was read whole)."""

    label: str
    probabilities: tuple[float, ...]
    unread: str  # '', 'around the spans' or 'between the spans'


@dataclass
class RelationsConfig:
    """Settings of the task. Its files are JSON lines (or one JSON array), a record a pair:

    `{"id": ..., "text": ..., "head": {"start": ..., "end": ..., "type": ...}, "tail": {...}, "label": ...,
    "patient": ...}`, offsets counted in characters (code points); id and patient may be left out.
    """

    kind: str = "relations"
    max_seq_length: int = 128  # pieces in a row, [CLS], [SEP] and markers included
    mark: str = "markers"  # how the model sees which spans are meant: 'markers' or 'blinding', see `marking`
    negative_label: str = "none"  # of pairs that are not related: no class of the scores; '': every label is one
    fresh_pooler: bool = False  # see `ClassificationConfig`

    def __post_init__(self) -> None:
        require_types("task", self)
        require(self.kind == "relations", "task.kind", "'relations'", self.kind)
        require(self.max_seq_length >= 16, "task.max_seq_length", "at least 16", self.max_seq_length)
        require(self.mark in marking.WAYS, "task.mark", f"one of {marking.WAYS}", self.mark)

    def read(self, path: Path, bad: BadRecords, annotated: bool = True) -> list[Pair]:
        """The pairs of a file; their labels only where `annotated`."""
        if span_records.suffix(path) not in _SUFFIXES:
            raise UserError(
                f"{path}: expected a file ending in {', '.join(_SUFFIXES)}, plain or with .gz; "
                "python -m clinicalbert_jax.finetune.convert makes one of a corpus"
            )
        pairs = list(_pairs(path, bad, annotated))
        if not pairs:
            raise UserError(f"{path}: expected at least one pair, found none that can be used")
        return pairs

    def task(self, examples: Sequence[Pair]) -> "Relations":
        """The task with the labels of the examples, the negative one first.

        Raises `UserError` where there are fewer than two labels, or none is the negative one.
        """
        found = sorted({pair.label for pair in examples})
        if len(found) < 2:
            lines = f"lines {examples[0].line} to {examples[-1].line}"
            raise UserError(f"expected training pairs of two labels or more, found {found[0]!r} alone ({lines})")
        if self.negative_label and self.negative_label not in found:
            raise UserError(
                f"config.task.negative_label: expected one of the training labels ({', '.join(found)}), found "
                f"{self.negative_label!r}; '' where every label is a relation"
            )
        negative = [self.negative_label] if self.negative_label else []
        return self.task_with_labels((*negative, *(label for label in found if label not in negative)))

    def task_with_labels(self, labels: tuple[str, ...]) -> "Relations":
        """The task of a trained model."""
        return Relations(labels, self.max_seq_length, self.mark, self.negative_label, self.fresh_pooler)

    def check_labels(self, task: "Relations", examples: Sequence[Pair], path: Path, bad: BadRecords) -> list[Pair]:
        """The pairs whose label the task has."""
        kept = []
        for pair in examples:
            if pair.label in task.labels:
                kept.append(pair)
            else:
                expected = ", ".join(task.labels)
                bad.found(path, pair.line, f"expected a label seen in training ({expected}), found {pair.label!r}")
        return kept


@dataclass(frozen=True)
class Relations:
    """Relations with their labels fixed."""

    labels: tuple[str, ...]
    max_seq_length: int
    mark: str
    negative_label: str
    fresh_pooler: bool = False
    head: str = "sequence"
    multi_label: bool = False
    initial_bias_C: np.ndarray | None = None
    architecture: str = "BertForSequenceClassification"

    @property
    def positives(self) -> tuple[str, ...]:
        """The labels that are relations."""
        return tuple(label for label in self.labels if label != self.negative_label)

    def rows(self, examples: Sequence[Pair], tokenizer: tokenizers.Tokenizer, annotated: bool) -> Rows:
        """A row a pair: see `marking`. Raises `UserError` for spans that are longer than a row."""
        cutter = Cutter(tokenizer)
        vocabulary = tokenizer.get_vocab()
        marks = (
            marking.marks(sorted(vocabulary, key=vocabulary.__getitem__), cutter) if self.mark == "markers" else None
        )
        input_ids, offsets = [], []
        for pair in examples:
            if marks:
                pieces = marking.marked(pair.text, pair.head, pair.tail, marks, cutter)
            else:
                pieces = marking.blinded(pair.text, pair.head, pair.tail, cutter)
            try:
                kept = marking.around(pieces, self.max_seq_length - 2)
            except ValueError as error:
                raise UserError(
                    f"pair {pair.id} (line {pair.line} of its file): {error}: raise config.task.max_seq_length, or "
                    "leave it out"
                ) from None
            input_ids.append(np.array([cutter.first, *pieces.ids_T[kept], cutter.last], np.int32))
            offsets.append(np.pad(pieces.offsets_Tx2[kept], ((1, 1), (0, 0))))
        targets = {}
        if annotated:
            labels_N = np.array([self.labels.index(pair.label) for pair in examples], np.int32)
            targets = {"labels": labels_N, "label_weights": np.ones(len(examples), np.float32)}
        segment_ids = [np.zeros_like(ids_l) for ids_l in input_ids]
        return Rows(input_ids, segment_ids, np.arange(len(examples), dtype=np.int32), offsets, row_targets=targets)

    def decode(self, examples: Sequence[Pair], rows: Rows, logits: Sequence[np.ndarray]) -> list[Decision]:
        """The likeliest label of each pair."""
        decisions = []
        for pair, offsets_lx2, logits_C in zip(examples, rows.offsets, logits, strict=True):
            exponentials_C = np.exp(np.asarray(logits_C, np.float64) - np.max(logits_C))
            probabilities_C = exponentials_C / exponentials_C.sum()
            unread = _unread(pair.text, offsets_lx2) if len(offsets_lx2) == self.max_seq_length else ""
            label = self.labels[int(np.argmax(logits_C))]
            decisions.append(Decision(label, tuple(probabilities_C.tolist()), unread))
        return decisions

    def score(self, examples: Sequence[Pair], predictions: Sequence[Decision]) -> Scores:
        """Precision, recall and F1 over the relations, the negative label being none."""
        gold, found = [pair.label for pair in examples], [decision.label for decision in predictions]
        scores = relation_scores.score(gold, found, self.labels, self.positives)
        for pair, decision in zip(examples, predictions, strict=True):
            if pair.label != decision.label:
                scores.errors.append({"id": pair.id, "label": pair.label, "found": decision.label, **_places(pair)})
        unread = [decision.unread for decision in predictions if decision.unread]
        if unread:
            rows: list[tuple[str | int, ...]] = [(where, unread.count(where)) for where in sorted(set(unread))]
            scores.tables.append(Table("Pairs whose text is longer than a row", ("left out", "pairs"), rows))
        return scores

    def counts(self, examples: Sequence[Pair], predictions: Sequence[Decision]) -> np.ndarray:
        """Relations right, found and annotated in each pair, E x 3."""
        gold, found = [pair.label for pair in examples], [decision.label for decision in predictions]
        return relation_scores.counts_ExM(gold, found, self.positives)

    def from_counts(self, sums_M: np.ndarray) -> float:
        """Micro-averaged F1."""
        return rates.of_counts(*sums_M.tolist()).f1

    def write(
        self, path: Path, examples: Sequence[Pair], predictions: Sequence[Decision], show_text: bool
    ) -> list[Path]:
        """Write PATH.jsonl: the pairs as they are read, with label and probabilities; text only where `show_text`."""
        written = path.with_name(path.name + ".jsonl")
        with written.open("w", encoding="utf-8", newline="\n") as file:
            for pair, decision in zip(examples, predictions, strict=True):
                record = {"id": pair.id, **_places(pair), "label": decision.label}
                record["probabilities"] = dict(zip(self.labels, decision.probabilities, strict=True))
                if show_text:
                    record["text"] = pair.text
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        return [written]


def _pairs(path: Path, bad: BadRecords, annotated: bool) -> Iterator[Pair]:
    seen: set[str] = set()
    for line, record in span_records.records(path, ("text", "head", "tail", *(["label"] if annotated else [])), bad):
        try:
            text = span_records.read_text(record)
            head, tail = (span_records.read_span(record[name], text, f"a {name}", "type") for name in ("head", "tail"))
            if annotated and not span_records.is_label(record["label"]):
                raise span_records.ProblemError("expected a name in the field 'label', found otherwise")
            label = record["label"] if annotated else ""
            patient = span_records.read_patient(record)
            yield Pair(span_records.read_id(record, line, seen), line, patient, text, head, tail, label)
        except span_records.ProblemError as problem:
            bad.found(path, line, str(problem))


def _places(pair: Pair) -> dict[str, dict[str, str | int]]:
    ends = {"head": pair.head, "tail": pair.tail}
    return {name: {"start": span.start, "end": span.end, "type": span.label} for name, span in ends.items()}


def _unread(text: str, offsets_lx2: np.ndarray) -> str:
    # Between its first and last piece, and outside them, is there a letter or digit that no piece stands for?
    read = sorted((start, end) for start, end in offsets_lx2.tolist() if end)
    if any(map(str.isalnum, "".join(text[end:start] for (_, end), (start, _) in pairwise(read)))):
        return "between the spans"
    return "around the spans" if any(map(str.isalnum, text[: read[0][0]] + text[read[-1][1] :])) else ""
