"""A vocabulary of one's own: trained on the corpus, or an existing one extended by the corpus's frequent words.

A vocabulary travels with the model, so it must not tell of any one patient: a word enters only when the notes of
enough patients hold it, and pieces are learned from such words alone.
"""

import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.report.suppression import MIN_PATIENTS
from clinicalbert_jax.tokenizer_files.settings import MAX_WORD_CHARACTERS, SPECIAL_TOKENS, Settings, normalizer

_MAX_TRAINING_WORDS = 20_000_000


@dataclass
class WordCounts:
    """For each word, as BERT's tokenizer splits them: occurrences, and patients in whose notes it occurs."""

    occurrences: Counter[str] = field(default_factory=Counter)
    patients: Counter[str] = field(default_factory=Counter)

    def add(self, other: "WordCounts") -> None:
        """Add the counts over other patients' notes, such as another bucket's."""
        self.occurrences.update(other.occurrences)
        self.patients.update(other.patients)

    def common(self, min_patients: int = MIN_PATIENTS) -> list[tuple[str, int]]:
        """(word, occurrences) of the words of at least `min_patients` patients, the most frequent first."""
        words = [(word, self.occurrences[word]) for word, held in self.patients.items() if held >= min_patients]
        return sorted(words, key=lambda word_and_count: (-word_and_count[1], word_and_count[0]))


def count_words(patients: Sequence[str], texts: Sequence[str], settings: Settings) -> WordCounts:
    """Count the words of cleaned notes, as a tokenizer of these settings sees them; `patients[i]` is the patient of
    `texts[i]`.

    All notes of a patient must be counted in one call, since a patient counts once for a word.
    """
    from tokenizers import pre_tokenizers

    normalized, splitter = normalizer(settings), pre_tokenizers.BertPreTokenizer()
    words_of: dict[str, list[str]] = {}
    occurrences: Counter[str] = Counter()
    by_patient: dict[str, set[str]] = {}
    for patient, text in zip(patients, texts, strict=True):
        chunks = text.split()
        occurrences.update(chunks)
        by_patient.setdefault(patient, set()).update(chunks)
    counts = WordCounts()
    for chunk, count in occurrences.items():
        words_of[chunk] = [word for word, _ in splitter.pre_tokenize_str(normalized.normalize_str(chunk))]
        for word in words_of[chunk]:
            counts.occurrences[word] += count
    for chunks_held in by_patient.values():
        counts.patients.update({word for chunk in chunks_held for word in words_of[chunk]})
    return counts


def train(counts: WordCounts, vocab_size: int, do_lower_case: bool, min_patients: int = MIN_PATIENTS) -> list[str]:
    """A WordPiece vocabulary of at most `vocab_size` entries: the same for the same counts.

    Printable ASCII is always in it. Raises `UserError` when it does not fit, or when no word has patients enough.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    words = [(word, count) for word, count in counts.common(min_patients) if len(word) <= MAX_WORD_CHARACTERS]
    if not words:
        raise UserError(
            f"--train_vocab: expected words that the notes of at least {min_patients} patients hold, found none: "
            "give more notes, or a --vocab_file"
        )
    ascii_ = string.ascii_lowercase + string.digits + ("" if do_lower_case else string.ascii_uppercase)
    first = sorted({*ascii_, *string.punctuation, *(c for word, _ in words for c in word)})
    later = sorted({*ascii_, *(c for word, _ in words for c in word[1:])})
    # Given in order: left to itself the trainer numbers '##x' in the order of a randomly seeded hash table.
    fixed = [*SPECIAL_TOKENS, *first, *(f"##{character}" for character in later)]
    if vocab_size < len(fixed):
        raise UserError(f"--vocab_size: expected at least {len(fixed)}, one for each character, found {vocab_size}")
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=2, show_progress=False, special_tokens=fixed
    )
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator(_repeated(words), trainer)
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def extend(
    vocabulary: Sequence[str], counts: WordCounts, num_words: int, min_patients: int = MIN_PATIENTS
) -> list[str]:
    """`vocabulary` followed by the corpus's most frequent whole words that it splits: at most `num_words`.

    The entries there keep their ids, so weights trained with them stay valid.
    """
    known = set(vocabulary)
    new = [word for word, _ in counts.common(min_patients) if word not in known and len(word) > 1]
    return [*vocabulary, *new[:num_words]]


def _repeated(words: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Texts in which each word occurs as often as counted, in proportion where the corpus is very large."""
    words = list(words)
    scale = max(1.0, sum(count for _, count in words) / _MAX_TRAINING_WORDS)
    for word, count in words:
        times = max(1, round(count / scale))
        text = (word + " ") * min(times, 1000)
        for _ in range(times // 1000):
            yield text
        yield (word + " ") * (times % 1000)
