"""Texts as words and their tokens (word pieces), by a BERT's own tokenizer.

A token never reaches beyond a word, and '[MASK]' in a text is text, no special token.
"""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import tokenizers

from clinicalbert_jax.errors import UserError


class Words(NamedTuple):
    """The words of a text: the ids of each one's tokens, at least one, and its characters, start and end."""

    ids: list[list[int]]
    characters: list[tuple[int, int]]


class WordTokenizer:
    """Splits texts into words and words into tokens."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_str(tokenizer.to_str())  # a copy: the caller's stays as it is
        self._tokenizer.encode_special_tokens = True

    def id(self, token: str) -> int:
        """The id of an entry of the vocabulary; raises `UserError` where it is none."""
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise UserError(f"expected a BERT vocabulary with {token}, found one without")
        return number

    def ids(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The tokens of a text and the characters that each stands for."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def text(self, text: str) -> Words:
        """The words of a text as the tokenizer splits it, at white space and around punctuation."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        ids: list[list[int]] = []
        characters: list[tuple[int, int]] = []
        word = None
        for id_, (start, end), of_word in zip(encoding.ids, encoding.offsets, encoding.word_ids, strict=True):
            if of_word != word:
                ids.append([])
                characters.append((start, end))
                word = of_word
            ids[-1].append(id_)
            characters[-1] = (characters[-1][0], end)
        return Words(ids, [(start, _with_marks(text, end)) for start, end in characters])

    def given(self, text: str, characters: Sequence[tuple[int, int]]) -> Words:
        """The tokens of given words. A word of which the tokenizer leaves nothing becomes [UNK]."""
        words = [text[start:end] for start, end in characters]
        encoding = self._tokenizer.encode(words, is_pretokenized=True, add_special_tokens=False)
        ids: list[list[int]] = [[] for _ in words]
        for id_, word in zip(encoding.ids, encoding.word_ids, strict=True):
            if word is not None:
                ids[word].append(id_)
        return Words([of_word or [self.id("[UNK]")] for of_word in ids], list(characters))


def _with_marks(text: str, end: int) -> int:
    # An uncased tokenizer drops accents that are characters of their own; they are part of the word all the same.
    while end < len(text) and unicodedata.combining(text[end]):
        end += 1
    return end
