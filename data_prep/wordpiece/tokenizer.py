"""Sentences to ids by a BERT's own tokenizer.

Shape legend: T tokens, S sentences, D documents, W words.
"""

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from clinicalbert_jax.tokenizer_files.settings import Settings, is_uncased
from data_prep.text.sentences import Sentences

# Preparation runs one process a core; threads inside each would only stand in each other's way.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_CHUNK = 4096  # texts whose words are in memory at a time
_MAX_CHARACTERS = 500_000  # of the words whose pieces are stored


@dataclass(frozen=True)
class TokenizedNotes:
    """A bucket of documents as arrays; everything after it is integer arithmetic.

    `ids_T` int32: all pieces of all sentences, in order, without specials. `sentence_offsets` int64 [S+1] into
    `ids_T`, no sentence empty; `document_offsets` int64 [D+1] into sentences, no document empty. `sections_S` int32:
    hash of the header a sentence stands under, 0 for none. `patient_D` int64 and `category_D` int32 as given.
    """

    ids_T: np.ndarray
    sentence_offsets: np.ndarray
    document_offsets: np.ndarray
    sections_S: np.ndarray
    patient_D: np.ndarray
    category_D: np.ndarray


class Tokenizer:
    """BERT's tokenizer for notes. Text is text: '[MASK]' in a note gives no special token.

    Raises `UserError` for an added token with white space: `ids` tokenizes one word at a time.
    """

    def __init__(self, settings: Settings) -> None:
        if any(len(token.content.split()) != 1 for token in settings.added_tokens):
            raise UserError(
                "--vocab_file: expected added tokens without white space, found one with: data preparation does not "
                "support them, so remove it from the files of the tokenizer"
            )
        self.settings = settings
        self.vocabulary = settings.tokens
        self.id_of = {token: number for number, token in enumerate(self.vocabulary)}
        self._fast = bert_tokenizer.build(settings, special_tokens=False)
        self._words: dict[str, int] = {}  # word -> number
        self._offsets = np.zeros(1, np.int64)
        self._pieces = np.empty(0, np.int32)  # of word w: self._pieces[offsets[w] : offsets[w + 1]]
        self._num_characters = 0

    def ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Pieces of all texts one after the other, int32 [T], and how many each text has, int64 [S].

        BERT's tokenization first splits at white space and then never looks beyond: so each distinct word is
        tokenized once, and a text is the pieces of its words.
        """
        parts = [self._ids(texts[start : start + _CHUNK]) for start in range(0, len(texts), _CHUNK)]
        if not parts:
            return np.empty(0, np.int32), np.empty(0, np.int64)
        return np.concatenate([ids_T for ids_T, _ in parts]), np.concatenate([pieces_S for _, pieces_S in parts])

    def _ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        words = [text.split() for text in texts]
        words_S = np.fromiter(map(len, words), np.int64, len(words))
        self._learn(set(chain.from_iterable(words)))
        words_W = np.fromiter(map(self._words.__getitem__, chain.from_iterable(words)), np.int64, int(words_S.sum()))
        begin_W = self._offsets[words_W]
        pieces_W = self._offsets[words_W + 1] - begin_W
        ends_W = np.cumsum(np.concatenate([np.zeros(1, np.int64), pieces_W]))
        ids_T = self._pieces[np.arange(ends_W[-1]) + np.repeat(begin_W - ends_W[:-1], pieces_W)]
        return ids_T, np.diff(ends_W[np.cumsum(np.concatenate([np.zeros(1, np.int64), words_S]))])

    def _learn(self, words: set[str]) -> None:
        """Store the pieces of words not known yet. The store is emptied when full, so that memory stays bounded."""
        if self._num_characters > _MAX_CHARACTERS:
            self._words, self._offsets, self._pieces = {}, np.zeros(1, np.int64), np.empty(0, np.int32)
            self._num_characters = 0
        new = sorted(words - self._words.keys())
        ids = [one.ids for one in self._fast.encode_batch_fast(new, add_special_tokens=False)]
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        self._words.update(zip(new, range(len(self._words), len(self._words) + len(new)), strict=True))
        self._offsets = np.concatenate([self._offsets, self._offsets[-1] + np.cumsum(lengths)])
        self._pieces = np.concatenate(
            [self._pieces, np.fromiter(chain.from_iterable(ids), np.int32, int(lengths.sum()))]
        )
        self._num_characters += sum(map(len, new))

    def is_continuation(self) -> np.ndarray:
        """For each id whether it continues a word ('##...'): bool [V]."""
        return np.array([token.startswith("##") for token in self.vocabulary])


def load(path: str | Path, do_lower_case: bool | None = None) -> Tokenizer:
    """The tokenizer of a `vocab.txt` or of a directory, as `bert_tokenizer.read` finds it.

    Raises `UserError` where the casing, as the files say it or as `do_lower_case` asks, contradicts the vocabulary,
    and for an added token with white space.
    """
    settings = bert_tokenizer.read(path)
    shown = is_uncased(settings.entries)
    asked = settings.do_lower_case if do_lower_case is None else do_lower_case
    if asked != shown:
        kinds = {True: "uncased (no entry has a capital letter)", False: "cased (entries have capital letters)"}
        raise UserError(
            f"{path} is {kinds[shown]}, but do_lower_case={asked} was asked for, which would make "
            f"{'capitalised words' if shown else 'its capitalised entries'} "
            f"{'unknown' if shown else 'unreachable'}: give do_lower_case={shown}, or another vocabulary"
        )
    if asked != settings.do_lower_case:
        raise UserError(
            f"--do_lower_case={asked}: the files of {path} say do_lower_case={settings.do_lower_case}: correct "
            "them, or drop the flag"
        )
    return Tokenizer(settings)


def tokenize(
    tokenizer: Tokenizer,
    documents: Sequence[Sentences],
    patient_D: Sequence[int] | np.ndarray,
    category_D: Sequence[int] | np.ndarray,
) -> TokenizedNotes:
    """A bucket's documents as ids. Sentences without a piece go, and then documents without a sentence.

    The number of documents dropped is `len(documents) - len(result.patient_D)`.
    """
    texts = [text for document in documents for text in document.texts]
    ids_T, pieces_S = tokenizer.ids(texts)
    sections_S = np.fromiter(
        (_section_id(section) for document in documents for section in document.sections), np.int32, len(texts)
    )
    document_of_S = np.repeat(np.arange(len(documents)), [len(document.texts) for document in documents])
    kept_S = pieces_S > 0
    sentences_D = np.bincount(document_of_S[kept_S], minlength=len(documents))
    kept_D = sentences_D > 0
    return TokenizedNotes(
        ids_T=ids_T,
        sentence_offsets=_offsets(pieces_S[kept_S]),
        document_offsets=_offsets(sentences_D[kept_D]),
        sections_S=sections_S[kept_S],
        patient_D=np.asarray(patient_D, np.int64)[kept_D],
        category_D=np.asarray(category_D, np.int32)[kept_D],
    )


def _section_id(section: str) -> int:
    return zlib.crc32(section.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF if section else 0


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
