"""Every setting of a preparation, checked when it is built. Whatever changes a byte of the shards is here."""

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import Any

from clinicalbert_jax.data.schema import Layout
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.options import option
from data_prep.canaries import secrets
from data_prep.examples.pairs import NUM_SPECIALS, PairConfig
from data_prep.reading.selection import SelectionConfig
from data_prep.reading.sources import SourceConfig
from data_prep.text.cleaning import check_policy

PAIRINGS = ("balanced", "hard", "google")
MASKINGS = ("static", "dynamic")
LAYOUTS = ("padded", "packed")
_PATHS = ("input", "vocab_file", "exclude_patients", "exclude_text", "salt_file", "canaries_file")
_CHECKS = ("expect_excluded",)  # no byte depends on them


@dataclass(frozen=True)
class VocabularyConfig:
    """Where the vocabulary comes from: `vocab_file` (or a tokenizer's directory), or training one on the
    corpus.

    `do_lower_case` None: as the vocabulary has it. `vocab_size` is that of one trained; `extend_vocab` is how
    many of the corpus's words are added to `vocab_file`.
    """

    vocab_file: str = option("A BERT vocab.txt, or a tokenizer's directory.", "", labelled=True)
    do_lower_case: bool | None = option("Lower-case the text; default: as the vocabulary has it.", None)
    train_vocab: bool = option("Train a WordPiece vocabulary on the notes.", False)
    vocab_size: int = option("Of the vocabulary trained.", 28_996)
    extend_vocab: int = option("Add this many of the notes' frequent words to --vocab_file.", 0)

    def __post_init__(self) -> None:
        if bool(self.vocab_file) == self.train_vocab:
            raise UserError("expected one of --vocab_file=vocab.txt and --train_vocab, found both or neither")
        if self.train_vocab and self.extend_vocab:
            raise UserError("--extend_vocab adds words to a --vocab_file: leave it out when training a vocabulary")
        _require(self.vocab_size >= 100, "vocab_size", "at least 100", self.vocab_size)
        _require(self.extend_vocab >= 0, "extend_vocab", "0 or more", self.extend_vocab)


@dataclass(frozen=True)
class CanaryConfig:
    """The invented secrets that are planted in training notes, for an audit of what a model memorises; 0: none.

    `canaries_file` is private: it says which were planted, and which were left out.
    """

    canaries: int = option("Invented secrets to plant or leave out, by a coin each, for an audit; 0: none.", 0)
    canary_form: str = option(
        "A number of nine digits, or the name and condition of an invented person.",
        secrets.NUMBER,
        choices=secrets.FORMS,
    )
    canaries_in_one_patient: bool = option("All repeats of a secret in notes of one patient; else of several.", False)
    canaries_file: str = option("The private file that says which were planted; default: beside the salt.", "")

    def __post_init__(self) -> None:
        least = secrets.MIN_CANDIDATES
        _require(self.canaries == 0 or self.canaries >= least, "canaries", f"0, or at least {least}", self.canaries)
        if not self.canaries and (self.canaries_file or self.canaries_in_one_patient):
            raise UserError("--canaries: expected the number of secrets with the other options of canaries, found none")


@dataclass(frozen=True)
class PrepConfig:
    """How notes become examples.

    `max_predictions_per_seq` 0: 15 % of `max_seq_length`, rounded up to a multiple of four (20 at 128, 80 at
    512). `max_sequences_per_row` counts in the packed layout alone. `near_duplicate_threshold` is the Jaccard
    similarity from which a patient's note is a copy of an earlier one; over 1 keeps all.
    """

    source: SourceConfig
    vocabulary: VocabularyConfig
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    canary: CanaryConfig = field(default_factory=CanaryConfig)
    name: str = option("Of the dataset.", "clinical_notes")
    version: str = option("Of the dataset.", "1.0.0")
    deid_policy: str = option("De-identification marks: keep, type or remove.", "keep")
    near_duplicate_threshold: float = option(
        "Similarity from which a note copies an earlier one of its patient; over 1: none.", 0.8
    )
    exclude_text: tuple[str, ...] = option(
        "Downstream test files: notes that share text with them are left out.", (), labelled=True
    )
    max_seq_length: int = option("Tokens in a row.", 128)
    max_predictions_per_seq: int = option(
        "Masked tokens in a row at most; 0: 15 % of max_seq_length, rounded up to a multiple of four.", 0
    )
    max_sequences_per_row: int = option("Pairs in a packed row at most.", 8)
    layout: str = option("One pair a row, or several.", "padded", choices=LAYOUTS)
    pairing: str = option("How next-sentence pairs are made.", "balanced", choices=PAIRINGS)
    masking: str = option("Mask now, or leave it to the trainer.", "static", choices=MASKINGS)
    whole_word_masking: bool = option("Mask all pieces of a word or none.", False)
    masked_lm_prob: float = option("The fraction of tokens that are predicted.", 0.15)
    short_seq_prob: float = option("The fraction of pairs made shorter at random.", 0.1)
    dupe_factor: int = option("Passes over the training notes, each with its own pairs and masks.", 5)
    seed: int = option("Of all that is random.", 0)

    def __post_init__(self) -> None:
        check_policy(self.deid_policy)
        _require(re.fullmatch(r"[a-z][a-z0-9_]*", self.name), "name", "letters, digits and _, such as notes", self.name)
        _require(re.fullmatch(r"\d+\.\d+\.\d+", self.version), "version", "three numbers, such as 1.0.0", self.version)
        _require(16 <= self.max_seq_length <= 2**15, "max_seq_length", "16 to 32768", self.max_seq_length)
        predictions = self.max_predictions_per_seq
        _require(0 <= predictions <= self.max_seq_length, "max_predictions_per_seq", "0 to L", predictions)
        sequences = self.max_sequences_per_row
        _require(1 <= sequences <= 128, "max_sequences_per_row", "1 to 128", sequences)
        for flag, choices in (("layout", LAYOUTS), ("pairing", PAIRINGS), ("masking", MASKINGS)):
            value = getattr(self, flag)
            _require(value in choices, flag, f"one of {', '.join(choices)}", value)
        _require(0 < self.masked_lm_prob < 1, "masked_lm_prob", "a value in (0, 1)", self.masked_lm_prob)
        _require(0 <= self.short_seq_prob <= 1, "short_seq_prob", "a value in [0, 1]", self.short_seq_prob)
        _require(1 <= self.dupe_factor <= 1000, "dupe_factor", "1 to 1000", self.dupe_factor)
        _require(
            self.near_duplicate_threshold > 0, "near_duplicate_threshold", "positive", self.near_duplicate_threshold
        )
        _require(0 <= self.seed < 2**31, "seed", "a value in [0, 2^31)", self.seed)
        if self.canary.canaries and not self.name.endswith(secrets.SUFFIX):
            object.__setattr__(self, "name", self.name + secrets.SUFFIX)
        elif self.name.endswith(secrets.SUFFIX) and not self.canary.canaries:
            raise UserError(f"--name: expected no name that ends in {secrets.SUFFIX} without --canaries, found one")

    @property
    def example_layout(self) -> Layout:
        """The shape of the examples."""
        predictions = self.max_predictions_per_seq or 4 * math.ceil(self.masked_lm_prob * self.max_seq_length / 4)
        return Layout(
            kind="packed" if self.layout == "packed" else "padded",
            max_seq_length=self.max_seq_length,
            max_predictions_per_seq=predictions,
            max_sequences_per_row=self.max_sequences_per_row if self.layout == "packed" else 1,
            masked=self.masking == "static",
        )

    @property
    def pair_config(self) -> PairConfig:
        """What `pairs.make` needs of it."""
        return PairConfig(self.pairing, self.max_seq_length - NUM_SPECIALS, self.short_seq_prob)

    def options(self) -> dict[str, Any]:
        """Every setting on which a byte depends; flat, by the name of its flag, for JSON.

        No paths: their names may be those of patients.
        """
        flat = dataclasses.asdict(self)
        for part in ("source", "vocabulary", "selection"):
            flat |= flat.pop(part)
        canary = flat.pop("canary")
        flat |= canary if canary["canaries"] else {}
        named = {name: value for name, value in flat.items() if name not in (*_PATHS, *_CHECKS)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in named.items()}


def _require(holds: object, flag: str, expected: str, found: object) -> None:
    if not holds:
        raise UserError(f"--{flag}: expected {expected}, found {found!r}")
