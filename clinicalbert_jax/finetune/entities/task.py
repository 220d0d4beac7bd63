"""Named entities: a tag for every word, from CoNLL files or character spans; scored by whole entities.

A word's tag is decided at its first piece. A document longer than a row makes overlapping rows, and each word is
decided, in training and in prediction alike, in the one where it has most context; elsewhere it is context only.

Shape legend: N rows, l length of a row, W words (of a document, or those decided in a row), C tags, E examples.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers

from clinicalbert_jax.config import require, require_types
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune import rates
from clinicalbert_jax.finetune.entities import conll, documents
from clinicalbert_jax.finetune.entities import scores as entity_scores
from clinicalbert_jax.finetune.entities.documents import Document
from clinicalbert_jax.finetune.inputs import sliding_windows, tags
from clinicalbert_jax.finetune.inputs.bad_records import BadRecords
from clinicalbert_jax.finetune.inputs.tags import Span
from clinicalbert_jax.finetune.inputs.words import Cutter, Words
from clinicalbert_jax.finetune.rows import Rows
from clinicalbert_jax.finetune.task import Scores


class Tagged(NamedTuple):
    """The entities found in a document, and the words they were found by, all by characters."""

    entities: tuple[Span, ...]
    words: tuple[tuple[int, int], ...]


@dataclass
class EntitiesConfig:
    """Settings of the task. Files ending in .tsv, .conll, .bio, .iob or .txt are CoNLL, .jsonl and .json hold spans.

    A JSON record: `{"id": ..., "text": ..., "entities": [{"start": ..., "end": ..., "label": ...}], "patient": ...}`,
    offsets counted in characters (code points), entities without overlap; id and patient may be left out.
    """

    kind: str = "entities"
    max_seq_length: int = 128  # pieces in a row, [CLS] and [SEP] included
    stride: int = 0  # pieces from the start of one window over a long document to that of the next; 0: half a window
    scheme: str = ""  # of tags, 'IOB2' or 'IOBES'; '': as in the training file, IOB2 for character spans

    def __post_init__(self) -> None:
        require_types("task", self)
        require(self.kind == "entities", "task.kind", "'entities'", self.kind)
        require(self.max_seq_length >= 8, "task.max_seq_length", "at least 8", self.max_seq_length)
        room = self.max_seq_length - 2
        require(0 <= self.stride <= room, "task.stride", f"0 (half a window) to max_seq_length-2={room}", self.stride)
        require(self.scheme in ("", *tags.SCHEMES), "task.scheme", f"'' or one of {tags.SCHEMES}", self.scheme)

    def read(self, path: Path, bad: BadRecords, annotated: bool = True) -> list[Document]:
        """The documents of a file. Not `annotated`: of CoNLL the first column, of .txt one text a line."""
        return documents.read(path, self.scheme, bad, annotated)

    def task(self, examples: Sequence[Document]) -> "Entities":
        """The task with every type of entity that the examples have; raises `UserError` where they have none."""
        types = {entity.label for document in examples for entity in document.entities}
        if not types:
            raise UserError(f"expected training texts with entities, found none in {len(examples)} texts")
        scheme = self.scheme or next((d.scheme for d in examples if d.scheme), tags.SCHEMES[0])
        return self.task_with_labels(tags.all_tags(types, scheme))

    def task_with_labels(self, labels: tuple[str, ...]) -> "Entities":
        """The task of a trained model."""
        return Entities(labels, self.max_seq_length, self.stride)

    def check_labels(
        self, task: "Entities", examples: Sequence[Document], path: Path, bad: BadRecords
    ) -> list[Document]:
        """The documents whose types of entities the task knows."""
        known = tags.types(task.labels)
        kept = []
        for document in examples:
            unseen = sorted({entity.label for entity in document.entities} - known)
            if unseen:
                expected = ", ".join(sorted(known))
                bad.found(path, document.line, f"expected the types seen in training ({expected}), found {unseen[0]!r}")
            else:
                kept.append(document)
        return kept


@dataclass(frozen=True)
class Entities:
    """Entities with their tags fixed: a decision for every word."""

    labels: tuple[str, ...]
    max_seq_length: int
    stride: int
    head: str = "token"
    multi_label: bool = False
    initial_bias_C: np.ndarray | None = None
    fresh_pooler: bool = False  # it is not used
    architecture: str = "BertForTokenClassification"

    def rows(self, examples: Sequence[Document], tokenizer: tokenizers.Tokenizer, annotated: bool) -> Rows:
        """Rows of the documents. Only a piece at which a word is decided has offsets: those of the whole word."""
        cutter = Cutter(tokenizer)
        number_of = {tag: number for number, tag in enumerate(self.labels)}
        input_ids: list[np.ndarray] = []
        offsets: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        weights: list[np.ndarray] = []
        numbers: list[int] = []
        for number, document in enumerate(examples):
            words = _words(document, cutter)
            characters_Wx2 = np.array(words.characters, np.int32).reshape(-1, 2)
            labels_W = np.zeros(len(characters_Wx2), np.int32)
            if annotated:
                word_spans = _on_words(document.entities, words.characters)
                labels_W[:] = [number_of[tag] for tag in tags.of_spans(word_spans, len(labels_W), self.scheme)]
            for ids_l, places, chosen in self._windows(words, cutter):
                numbers.append(number)
                input_ids.append(ids_l)
                offsets.append(_placed(characters_Wx2[chosen], places, len(ids_l)))
                labels.append(_placed(labels_W[chosen], places, len(ids_l)))
                weights.append(_placed(np.ones(len(chosen), np.float32), places, len(ids_l)))
        segment_ids = [np.zeros_like(ids_l) for ids_l in input_ids]
        targets = {"labels": labels, "label_weights": weights} if annotated else {}
        return Rows(input_ids, segment_ids, np.array(numbers, np.int32), offsets, targets)

    @property
    def scheme(self) -> str:
        """Of the labels."""
        return tags.scheme_of(self.labels)

    def decode(self, examples: Sequence[Document], rows: Rows, logits: Sequence[np.ndarray]) -> list[Tagged]:
        """The likeliest tag of each word, then the entities that `tags.spans` (strict) finds in them."""
        words: list[list[tuple[int, int]]] = [[] for _ in examples]
        word_tags: list[list[str]] = [[] for _ in examples]
        for number, offsets_lx2, logits_lxC in zip(rows.examples_N, rows.offsets, logits, strict=True):
            decided = np.flatnonzero(offsets_lx2[:, 1])
            words[number] += [(start, end) for start, end in offsets_lx2[decided].tolist()]
            word_tags[number] += [self.labels[tag] for tag in np.asarray(logits_lxC)[decided].argmax(-1)]
        found = []
        for characters, one in zip(words, word_tags, strict=True):
            entities = [
                Span(characters[start][0], characters[end - 1][1], label)
                for start, end, label in tags.spans(one, self.scheme)
            ]
            found.append(Tagged(tuple(entities), tuple(characters)))
        return found

    def score(self, examples: Sequence[Document], predictions: Sequence[Tagged]) -> Scores:
        """Entities that are right in both ends and type, as seqeval counts them in strict mode."""
        gold = [document.entities for document in examples]
        found = [prediction.entities for prediction in predictions]
        split = sum(_cuts_word(d.entities, p.words) for d, p in zip(examples, predictions, strict=True))
        return entity_scores.score([document.id for document in examples], gold, found, split)

    def counts(self, examples: Sequence[Document], predictions: Sequence[Tagged]) -> np.ndarray:
        """Entities right, found and annotated in each document, E x 3."""
        gold = [document.entities for document in examples]
        return entity_scores.counts_ExM(gold, [prediction.entities for prediction in predictions])

    def from_counts(self, sums_M: np.ndarray) -> float:
        """Micro-averaged F1."""
        return rates.of_counts(*sums_M.tolist()).f1

    def write(
        self, path: Path, examples: Sequence[Document], predictions: Sequence[Tagged], show_text: bool
    ) -> list[Path]:
        """Write PATH.jsonl, a record a document with its entities by characters, and PATH.conll, a word a line.

        Not `show_text`: in the CoNLL file a word's characters ('17-24') stand for the word.
        """
        as_json, as_conll = (path.with_name(path.name + suffix) for suffix in (".jsonl", ".conll"))
        with as_json.open("w", encoding="utf-8", newline="\n") as file:
            for document, found in zip(examples, predictions, strict=True):
                record = {"id": document.id, "entities": [entity._asdict() for entity in found.entities]}
                if show_text:
                    record["text"] = document.text
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        conll.write(as_conll, self._sentences(examples, predictions, show_text))
        return [as_json, as_conll]

    def _sentences(
        self, examples: Sequence[Document], predictions: Sequence[Tagged], show_text: bool
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        for document, found in zip(examples, predictions, strict=True):
            shown = [document.text[s:e] if show_text else f"{s}-{e}" for s, e in found.words]
            word_spans = _on_words(found.entities, found.words)
            yield document.id, shown, tags.of_spans(word_spans, len(shown), self.scheme)

    def _windows(self, words: Words, cutter: Cutter) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Ids of each row, the places in it of the words decided there, and the numbers of these words."""
        pieces = [piece for ids in words.pieces for piece in ids]
        lengths = [len(ids) for ids in words.pieces]
        firsts_W = np.cumsum([0, *lengths[:-1]]) if lengths else np.empty(0, np.int64)
        room = self.max_seq_length - 2
        cuts = sliding_windows.slices(len(pieces), room, self.stride or room // 2)
        owners_W = sliding_windows.owners(cuts)[firsts_W]
        for number, cut in enumerate(cuts):
            chosen = np.flatnonzero(owners_W == number)
            ids_l = np.array([cutter.first, *pieces[cut], cutter.last], np.int32)
            yield ids_l, firsts_W[chosen] - cut.start + 1, chosen


def _words(document: Document, cutter: Cutter) -> Words:
    return cutter.text(document.text) if document.words is None else cutter.given(document.text, document.words)


def _placed(values_W: np.ndarray, places_W: np.ndarray, length: int) -> np.ndarray:
    """Values of words at their places in a row, 0 elsewhere."""
    row_l = np.zeros((length, *values_W.shape[1:]), values_W.dtype)
    row_l[places_W] = values_W
    return row_l


def _on_words(entities: Sequence[Span], characters: Sequence[tuple[int, int]]) -> list[Span]:
    """Entities as runs of words. A word goes to the first entity that holds a character of it; one may get none."""
    found, word = [], 0
    for start, end, label in sorted(entities):
        while word < len(characters) and characters[word][1] <= start:
            word += 1
        first = word
        while word < len(characters) and characters[word][0] < end:
            word += 1
        if word > first:
            found.append(Span(first, word, label))
    return found


def _cuts_word(entities: Sequence[Span], characters: Sequence[tuple[int, int]]) -> int:
    # Such an entity can be learned from, by the words that it touches, but never be found exactly.
    starts, ends = {start for start, _ in characters}, {end for _, end in characters}
    return sum(entity.start not in starts or entity.end not in ends for entity in entities)
