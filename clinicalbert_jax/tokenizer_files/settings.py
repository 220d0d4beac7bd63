"""Everything that the files of a BERT tokenizer say, as one value."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tokenizers import normalizers

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_WORD_CHARACTERS = 100  # a longer word is [UNK] to BERT


@dataclass(frozen=True)
class AddedToken:
    """A token that is found in the text before WordPiece; the fields are those of `tokenizers.AddedToken`."""

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False


@dataclass(frozen=True)
class Settings:
    """A BERT tokenizer. Its special tokens are always `SPECIAL_TOKENS`.

    `entries` is the WordPiece vocabulary, in the order of the ids. `strip_accents` None: as `do_lower_case`.
    `added_tokens` are those beside BERT's own, in the order of their ids; of those that are not among the entries the
    ids follow theirs. `model_max_length` None: not known.
    """

    entries: tuple[str, ...]
    do_lower_case: bool
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True
    added_tokens: tuple[AddedToken, ...] = ()
    model_max_length: int | None = None

    @property
    def tokens(self) -> tuple[str, ...]:
        """Every token in the order of the ids: the entries, then the added tokens that are no entries."""
        known = set(self.entries)
        return (*self.entries, *(token.content for token in self.added_tokens if token.content not in known))

    def differences(self, other: "Settings") -> Iterator[tuple[str, object, object]]:
        """Name and both values of each setting by which the two make different tokens of a text; not the entries."""
        for name in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"):
            ours, theirs = getattr(_explicit(self), name), getattr(_explicit(other), name)
            if ours != theirs:
                yield name, ours, theirs
        if self.added_tokens != other.added_tokens:
            yield "added tokens", f"{len(self.added_tokens)} tokens", f"{len(other.added_tokens)} tokens, not the same"


def _explicit(settings: Settings) -> Settings:
    if settings.strip_accents is not None:
        return settings
    return dataclasses.replace(settings, strip_accents=settings.do_lower_case)


def is_uncased(entries: Iterable[str]) -> bool:
    """Whether no entry but the bracketed ones has a capital letter."""
    return not any(entry != entry.lower() for entry in entries if not entry.startswith("["))


def normalizer(settings: Settings) -> normalizers.Normalizer:
    """What is done to the characters of a text before it is split into words."""
    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.tokenize_chinese_chars,
        strip_accents=settings.strip_accents,
        lowercase=settings.do_lower_case,
    )
