"""Relations between two spans of a text: one decision a pair, scored by F1 over the classes that are relations.

Predicted for given pairs, or for the pairs of a document with entities, as another model finds them.

Shape legend: N rows, l length of a row, C labels, E examples.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers

from clinicalbert_jax.config import require
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.inputs import fields, record_files
from clinicalbert_jax.finetune.inputs.reading import BadRecord, Reading, suffix
from clinicalbert_jax.finetune.inputs.record_files import Record
from clinicalbert_jax.finetune.inputs.words import WordTokenizer
from clinicalbert_jax.finetune.relations import candidates, marking
from clinicalbert_jax.finetune.relations import scores as relation_scores
from clinicalbert_jax.finetune.relations.candidates import Document, Kind, Pair
from clinicalbert_jax.finetune.rows import Rows, joined
from clinicalbert_jax.finetune.task import CountTable, Scores, Task, TaskConfig, check_names, softmax


class Decision(NamedTuple):
    """The label chosen, the probability of every label, and which text did not fit in the row ('': none)."""

    label: str
    probabilities: tuple[float, ...]
    unread: str  # '', 'around the spans' or 'between the spans'


@dataclass
class RelationsConfig(TaskConfig):
    """Settings of the task. Its files are JSON lines (or one JSON array), a record a pair:

    `{"id": ..., "text": ..., "head": {"start": ..., "end": ..., "type": ...}, "tail": {...}, "label": ...,
    "patient": ...}`, offsets in characters (code points); id and patient may be left out.
    """

    kind: str = "relations"
    max_seq_length: int = 128
    mark: str = "markers"  # how the model sees which spans are meant: 'markers' or 'blinding', see `marking`
    negative_label: str = "none"  # of pairs that are not related, not counted in the scores; '': there is none
    fresh_pooler: bool = False  # see `ClassificationConfig`
    candidates: tuple[Any, ...] = ()  # of `Kind`: which pairs of a document to decide; found in the training pairs
    shortest_row = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        self.candidates = tuple(Kind(*kind) for kind in self.candidates)
        require(self.mark in marking.WAYS, "task.mark", f"one of {marking.WAYS}", self.mark)

    def read(self, path: Path, reading: Reading, annotated: bool = True) -> list[Any]:
        """The pairs of a file. Not `annotated`: pairs without their labels, and documents with entities."""
        if suffix(path) not in record_files.JSON:
            raise UserError(
                f"{path}: expected a file ending in {', '.join(record_files.JSON)} (or one of these with .gz); "
                "python -m clinicalbert_jax.finetune.convert makes one of a corpus"
            )
        if annotated:
            records = record_files.read(path, ("text", "head", "tail", "label"), reading)
            return reading.each(path, records, lambda line, record: _pair(line, record, True))

        def parse(line: int, record: Record) -> Pair | Document:
            if "entities" in record:
                if not self.candidates:
                    raise UserError(
                        "--model: expected a model that knows which pairs it was trained with, found one of an earlier "
                        "version: fine-tune it again, or give pairs"
                    )
                return candidates.document(line, record, self.candidates)
            if "head" not in record or "tail" not in record:
                raise BadRecord("expected the fields 'head' and 'tail', or 'entities', found neither")
            return _pair(line, record, False)

        return reading.each(path, record_files.read(path, ("text",), reading), parse)

    def task(self, examples: Sequence[Pair]) -> "Relations":
        """The task with the labels of the examples, the negative one first.

        Raises `UserError` where there are fewer than two labels, or none is the negative one.
        """
        counts = Counter(pair.label for pair in examples)
        check_names(counts, "the field 'label' of the pairs")
        found = sorted(counts)
        if len(found) < 2:
            raise UserError(f"expected training pairs of two labels or more, found one label in {len(examples)} pairs")
        if self.negative_label and self.negative_label not in found:
            raise UserError(
                f"config.task.negative_label: expected one of the {len(found)} training labels, found "
                f"{self.negative_label!r}; give '' where every label is a relation"
            )
        config = replace(self, candidates=candidates.kinds(examples))
        return Relations(config, tuple(sorted(found, key=self.negative_label.__ne__)))


@dataclass
class Relations(Task, of=RelationsConfig):
    """Relations with their labels fixed."""

    config: RelationsConfig

    @property
    def positives(self) -> tuple[str, ...]:
        """The labels that are relations."""
        return tuple(label for label in self.labels if label != self.config.negative_label)

    def labels_of(self, example: Pair) -> Iterable[str]:
        """The pair's label."""
        return (example.label,)

    @property
    def names(self) -> tuple[str, ...]:
        """The labels that are relations."""
        return self.positives

    def renamed(
        self, examples: Sequence[Pair], predictions: Sequence[Decision], names: Mapping[str, str]
    ) -> tuple[Task, Sequence[Pair], Sequence[Decision]]:
        """The pairs with other labels, but the same negative one."""
        return (
            replace(self, labels=tuple(dict.fromkeys(names.get(label, label) for label in self.labels))),
            [replace(pair, label=names.get(pair.label, pair.label)) for pair in examples],
            [decision._replace(label=names.get(decision.label, decision.label)) for decision in predictions],
        )

    def rows(self, examples: Sequence[Pair | Document], tokenizer: tokenizers.Tokenizer, annotated: bool) -> Rows:
        """A row a pair: see `marking`. Raises `UserError` for spans that are longer than a row."""
        word_tokenizer = WordTokenizer(tokenizer)
        marks = None
        if self.config.mark == "markers":
            vocabulary = tokenizer.get_vocab()
            marks = marking.marks(sorted(vocabulary, key=vocabulary.__getitem__), word_tokenizer)
        input_ids, segment_ids, offsets = [], [], []
        pairs = _pairs(examples)
        for _, pair in pairs:
            if marks:
                tokens = marking.marked(pair.text, pair.head, pair.tail, marks, word_tokenizer)
            else:
                tokens = marking.blinded(pair.text, pair.head, pair.tail, word_tokenizer)
            try:
                kept = marking.around(tokens, self.config.max_seq_length - 2)
            except BadRecord as problem:
                raise UserError(
                    f"the pair on line {pair.line} of its file: {problem}: raise config.task.max_seq_length, or leave "
                    "it out"
                ) from None
            ids_l, segments_l = joined(tokenizer, tokens.ids_T[kept])
            input_ids.append(ids_l)
            segment_ids.append(segments_l)
            offsets.append(np.pad(tokens.offsets_Tx2[kept], ((1, 1), (0, 0))))
        targets = {}
        if annotated:
            labels_N = np.array([self.labels.index(pair.label) for _, pair in pairs], np.int32)
            targets = {"labels": labels_N, "label_weights": np.ones(len(pairs), np.float32)}
        examples_N = np.array([number for number, _ in pairs], np.int64)
        return Rows(input_ids, segment_ids, examples_N, offsets, row_targets=targets)

    def decode(self, examples: Sequence[Pair | Document], rows: Rows, logits: Sequence[np.ndarray]) -> list[Any]:
        """The likeliest label of each pair: a decision for each example that is one, a list for each document."""
        decisions: list[list[Decision]] = [[] for _ in examples]
        for (number, pair), offsets_lx2, logits_C in zip(_pairs(examples), rows.offsets, logits, strict=True):
            unread = _unread(pair.text, offsets_lx2) if len(offsets_lx2) == self.config.max_seq_length else ""
            label = self.labels[int(np.argmax(logits_C))]
            decisions[number].append(Decision(label, tuple(softmax(logits_C).tolist()), unread))
        return [of[0] if isinstance(example, Pair) else of for example, of in zip(examples, decisions, strict=True)]

    def score(self, examples: Sequence[Pair], predictions: Sequence[Decision]) -> Scores:
        """Precision, recall and F1 over the relations; the negative label is not counted."""
        gold, found = [pair.label for pair in examples], [decision.label for decision in predictions]
        scores = relation_scores.score(gold, found, self.labels, self.positives)
        for pair, decision in zip(examples, predictions, strict=True):
            if pair.label != decision.label:
                scores.errors.append({"id": pair.id, "label": pair.label, "found": decision.label, **_spans(pair)})
        unread = [decision.unread for decision in predictions if decision.unread]
        if unread:
            rows: list[tuple[str | int, ...]] = [(where, unread.count(where)) for where in sorted(set(unread))]
            scores.tables.append(CountTable(("left out", "pairs"), rows, "Pairs whose text is longer than a row"))
        return scores

    def record(self, example: Pair | Document, prediction: Any, show_text: bool) -> dict[str, Any]:
        """The pair as it is read, with label and probabilities; a document with the pairs that are related."""
        text = {"text": example.text} if show_text else {}
        if isinstance(example, Pair):
            probabilities = dict(zip(self.labels, prediction.probabilities, strict=True))
            found = {**_spans(example), "label": prediction.label, "probabilities": probabilities}
            return {"id": example.id, **found} | text
        relations = [
            {**_spans(pair), "label": decision.label, "probability": max(decision.probabilities)}
            for pair, decision in zip(example.pairs, prediction, strict=True)
            if decision.label in self.positives
        ]
        entities = [entity._asdict() for entity in example.entities]
        return {"id": example.id, "entities": entities, "relations": relations} | text


def _pairs(examples: Sequence[Pair | Document]) -> list[tuple[int, Pair]]:
    """Every pair with the number of its example."""
    pairs_of = ((example,) if isinstance(example, Pair) else example.pairs for example in examples)
    return [(number, pair) for number, pairs in enumerate(pairs_of) for pair in pairs]


def _pair(line: int, record: Record, annotated: bool) -> Pair:
    text = fields.text(record, "text")
    head, tail = (fields.span(record[name], text, f"a {name}", "type") for name in ("head", "tail"))
    label = fields.name(record, "label") if annotated else ""
    return Pair(
        fields.identifier(record, str(line)),
        line,
        fields.optional_patient(record),
        text,
        head,
        tail,
        label,
    )


def _spans(pair: Pair) -> dict[str, Any]:
    spans = {"head": pair.head, "tail": pair.tail}
    return {name: {"start": span.start, "end": span.end, "type": span.label} for name, span in spans.items()}


def _unread(text: str, offsets_lx2: np.ndarray) -> str:
    # Is there a letter or digit without a token between the first and the last token, or outside them?
    read = sorted((start, end) for start, end in offsets_lx2.tolist() if end)
    if any(map(str.isalnum, "".join(text[end:start] for (_, end), (start, _) in pairwise(read)))):
        return "between the spans"
    return "around the spans" if any(map(str.isalnum, text[: read[0][0]] + text[read[-1][1] :])) else ""
