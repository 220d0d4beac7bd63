"""Named entities: a tag for every word, from CoNLL files or character spans; scored by whole entities.

A word's tag is decided at its first token. A document longer than a row makes overlapping rows, and each word is
decided, in training and in prediction alike, in the one where it has most context; in the others it is context only.

Shape legend: N rows, l length of a row, W words (of a document, or those decided in a row), C tags, E examples.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers

from clinicalbert_jax.config import require
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.entities import conll, documents
from clinicalbert_jax.finetune.entities import scores as entity_scores
from clinicalbert_jax.finetune.entities.documents import Document
from clinicalbert_jax.finetune.inputs import sliding_windows, tags
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.inputs.tags import Span
from clinicalbert_jax.finetune.inputs.words import Words, WordTokenizer
from clinicalbert_jax.finetune.rows import Rows, joined
from clinicalbert_jax.finetune.task import Scores, Task, TaskConfig, check_names


class Tagged(NamedTuple):
    """The entities found in a document, and the words they were found by, all by characters."""

    entities: tuple[Span, ...]
    words: tuple[tuple[int, int], ...]


@dataclass
class EntitiesConfig(TaskConfig):
    """Settings of the task. Files ending in .tsv, .conll, .bio, .iob or .txt are CoNLL, .jsonl and .json hold spans.

    A JSON record: `{"id": ..., "text": ..., "entities": [{"start": ..., "end": ..., "label": ...}], "patient": ...}`,
    offsets in characters (code points), entities without overlap; id and patient may be left out.
    """

    kind: str = "entities"
    max_seq_length: int = 128
    stride: int = 0  # tokens from the start of one window over a long document to the next; 0: half a window
    scheme: str = ""  # of tags, 'IOB2' or 'IOBES'; '': as in the training file, IOB2 for character spans

    def __post_init__(self) -> None:
        super().__post_init__()
        room = self.max_seq_length - 2
        require(0 <= self.stride <= room, "task.stride", f"0 (half a window) to max_seq_length-2={room}", self.stride)
        require(self.scheme in ("", *tags.SCHEMES), "task.scheme", f"'' or one of {tags.SCHEMES}", self.scheme)

    def read(self, path: Path, reading: Reading, annotated: bool = True) -> list[Document]:
        """The documents of a file. Not `annotated`: of CoNLL the first column, of .txt one text a line."""
        return documents.read(path, self.scheme, reading, annotated)

    def task(self, examples: Sequence[Document]) -> "Entities":
        """The task with every type of entity that the examples have; raises `UserError` where they have none."""
        types = Counter(entity.label for document in examples for entity in document.entities)
        check_names(types, "the types of the entities")
        if not types:
            raise UserError(f"expected training texts with entities, found none in {len(examples)} texts")
        scheme = self.scheme or next((d.scheme for d in examples if d.scheme), tags.SCHEMES[0])
        return Entities(self, tags.all_tags(types, scheme))


@dataclass
class Entities(Task, of=EntitiesConfig):
    """Entities with their tags fixed: a decision for every word."""

    config: EntitiesConfig
    head = "token"

    def labels_of(self, example: Document) -> Iterable[str]:
        """The tag that begins each entity."""
        return (f"B-{entity.label}" for entity in example.entities)

    @property
    def names(self) -> tuple[str, ...]:
        """The types of the entities."""
        return tuple(sorted(tags.types(self.labels)))

    def names_in(self, example: Document) -> Iterable[str]:
        """The types of its entities."""
        return (entity.label for entity in example.entities)

    def renamed(
        self, examples: Sequence[Document], predictions: Sequence[Tagged], names: Mapping[str, str]
    ) -> tuple[Task, Sequence[Document], Sequence[Tagged]]:
        """The entities with other types."""

        def other(entities: Iterable[Span]) -> tuple[Span, ...]:
            return tuple(entity._replace(label=names[entity.label]) for entity in entities)

        others = (tag if tag == tags.OUTSIDE else f"{tag[:2]}{names[tag[2:]]}" for tag in self.labels)
        return (
            replace(self, labels=tuple(dict.fromkeys(others))),
            [replace(document, entities=other(document.entities)) for document in examples],
            [tagged._replace(entities=other(tagged.entities)) for tagged in predictions],
        )

    def rows(self, examples: Sequence[Document], tokenizer: tokenizers.Tokenizer, annotated: bool) -> Rows:
        """Rows of the documents. Only a token at which a word is decided has offsets: those of the whole word."""
        word_tokenizer = WordTokenizer(tokenizer)
        number_of = {tag: number for number, tag in enumerate(self.labels)}
        input_ids: list[np.ndarray] = []
        segment_ids: list[np.ndarray] = []
        offsets: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        weights: list[np.ndarray] = []
        numbers: list[int] = []
        for number, document in enumerate(examples):
            words = _words(document, word_tokenizer)
            characters_Wx2 = np.array(words.characters, np.int32).reshape(-1, 2)
            labels_W = np.zeros(len(characters_Wx2), np.int32)
            if annotated:
                word_spans = _on_words(document.entities, words.characters)
                labels_W[:] = [number_of[tag] for tag in tags.of_spans(word_spans, len(labels_W), self.scheme)]
            for ids, positions, chosen in self._windows(words):
                ids_l, segments_l = joined(tokenizer, ids)
                numbers.append(number)
                input_ids.append(ids_l)
                segment_ids.append(segments_l)
                offsets.append(_placed(characters_Wx2[chosen], positions, len(ids_l)))
                labels.append(_placed(labels_W[chosen], positions, len(ids_l)))
                weights.append(_placed(np.ones(len(chosen), np.float32), positions, len(ids_l)))
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
        split = sum(_splits_word(d.entities, p.words) for d, p in zip(examples, predictions, strict=True))
        return entity_scores.score([document.id for document in examples], gold, found, split)

    def record(self, example: Document, prediction: Tagged, show_text: bool) -> dict[str, Any]:
        """A document with its entities by characters."""
        record = {"id": example.id, "entities": [entity._asdict() for entity in prediction.entities]}
        return record | ({"text": example.text} if show_text else {})

    def files(
        self, examples: Sequence[Document], predictions: Sequence[Tagged], show_text: bool
    ) -> dict[str, Iterable[str]]:
        """Beside the JSON lines a CoNLL file; unless `show_text`, its words are characters ('17-24')."""
        sentences = self._sentences(examples, predictions, show_text)
        return super().files(examples, predictions, show_text) | {".conll": conll.lines(sentences)}

    def _sentences(
        self, examples: Sequence[Document], predictions: Sequence[Tagged], show_text: bool
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        for document, found in zip(examples, predictions, strict=True):
            shown = [document.text[s:e] if show_text else f"{s}-{e}" for s, e in found.words]
            word_spans = _on_words(found.entities, found.words)
            yield document.id, shown, tags.of_spans(word_spans, len(shown), self.scheme)

    def _windows(self, words: Words) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        """The text's ids in each row, the positions in it of the words decided there, and these words' numbers."""
        ids = [id_ for of_word in words.ids for id_ in of_word]
        firsts_W = np.cumsum([0, *map(len, words.ids)])[:-1]
        room = self.config.max_seq_length - 2
        windows = sliding_windows.slices(len(ids), room, self.config.stride or room // 2)
        owners_W = sliding_windows.owners(windows)[firsts_W]
        for number, window in enumerate(windows):
            chosen = np.flatnonzero(owners_W == number)
            yield ids[window], firsts_W[chosen] - window.start + 1, chosen


def _words(document: Document, tokenizer: WordTokenizer) -> Words:
    return tokenizer.text(document.text) if document.words is None else tokenizer.given(document.text, document.words)


def _placed(values_W: np.ndarray, positions_W: np.ndarray, length: int) -> np.ndarray:
    """Values of words at their positions in a row, 0 elsewhere."""
    row_l = np.zeros((length, *values_W.shape[1:]), values_W.dtype)
    row_l[positions_W] = values_W
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


def _splits_word(entities: Sequence[Span], characters: Sequence[tuple[int, int]]) -> int:
    # Such an entity can be learned from, by the words that it touches, but never be found exactly.
    starts, ends = {start for start, _ in characters}, {end for _, end in characters}
    return sum(entity.start not in starts or entity.end not in ends for entity in entities)
