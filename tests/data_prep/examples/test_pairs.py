"""Pairs of every policy: nothing lost, nothing split, labels even, and never the same patient twice."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicalbert_jax.data import counter_rng
from data_prep.examples import pairs
from data_prep.examples.pairs import PairConfig, Pairs
from data_prep.wordpiece.tokenizer import TokenizedNotes

LONGEST = 29


def bucket(
    documents: list[list[int]], patients: list[int], sections: list[int] | None = None, word_pieces: int = 1
) -> tuple[TokenizedNotes, np.ndarray]:
    """Documents as lists of sentence lengths; every `word_pieces`-th piece begins a word."""
    sentences = [length for document in documents for length in document]
    total = sum(sentences)
    notes = TokenizedNotes(
        ids_T=np.arange(total, dtype=np.int32),
        sentence_offsets=np.append(0, np.cumsum(sentences)).astype(np.int64),
        document_offsets=np.append(0, np.cumsum([len(document) for document in documents])).astype(np.int64),
        sections_S=np.array(sections or [0] * len(sentences), np.int32),
        patient_D=np.array(patients, np.int64),
        category_D=np.array([patient % 2 for patient in patients], np.int32),
    )
    within = np.arange(total) - np.repeat(notes.sentence_offsets[:-1], sentences)
    return notes, within % word_pieces != 0


def make(
    notes: TokenizedNotes, continues: np.ndarray, policy: str, seed: int = 0, short: float = 0.1
) -> tuple[Pairs, Counter[str]]:
    counts: Counter[str] = Counter()
    config = PairConfig(policy, LONGEST, short)
    return pairs.make(notes, continues, config, counter_rng.fold(seed), counts), counts


def random_bucket(seed: int, documents: int, patients: int, word_pieces: int) -> tuple[TokenizedNotes, np.ndarray]:
    rng = np.random.default_rng(seed)
    lengths = [rng.geometric(0.08, rng.geometric(0.2)).tolist() for _ in range(documents)]
    owners = [*range(patients), *rng.integers(0, patients, max(0, documents - patients)).tolist()][:documents]
    sections = rng.integers(0, 3, sum(map(len, lengths))).tolist()
    return bucket(lengths, owners, sections, word_pieces)


def check_segments(made: Pairs, notes: TokenizedNotes) -> None:
    """What holds of every policy."""
    assert ((made.a_start < made.a_end) & (made.b_start < made.b_end)).all()
    assert (made.sizes() <= LONGEST + 3).all()
    piece_ends = notes.sentence_offsets[notes.document_offsets]
    for start, end, document in (
        (made.a_start, made.a_end, made.a_document),
        (made.b_start, made.b_end, made.b_document),
    ):
        assert (piece_ends[document] <= start).all()
        assert (end <= piece_ends[document + 1]).all()
    is_random = made.label == 1
    same = notes.patient_D[made.a_document] == notes.patient_D[made.b_document]
    np.testing.assert_array_equal(same, ~is_random)


def times_covered(made: Pairs, notes: TokenizedNotes) -> np.ndarray:
    """How often each piece stands in a first segment or in a true next."""
    times = np.zeros(len(notes.ids_T) + 1, int)
    true = made.label == 0
    np.add.at(times, made.a_start, 1)
    np.add.at(times, made.a_end, -1)
    np.add.at(times, made.b_start[true], 1)
    np.add.at(times, made.b_end[true], -1)
    return np.cumsum(times)[:-1]


@pytest.mark.fast
@settings(max_examples=300)
@given(
    seed=st.integers(0, 10**6),
    documents=st.integers(2, 30),
    patients=st.integers(2, 10),
    word_pieces=st.integers(1, 40),
    policy=st.sampled_from(["balanced", "hard"]),
    short=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_each_piece_is_used_once_and_labels_are_even(
    seed: int, documents: int, patients: int, word_pieces: int, policy: str, short: float
) -> None:
    notes, continues = random_bucket(seed, documents, min(patients, documents), word_pieces)
    made, counts = make(notes, continues, policy, seed, short)
    check_segments(made, notes)
    covered = times_covered(made, notes)
    after_lone_word = counts["random nexts after a single word"]
    # A word longer than a row leaves no room for a second segment: its first pieces are taken.
    if word_pieces < LONGEST:
        assert (covered == 1).all()
    surplus = abs(2 * int(made.label.sum()) - len(made.label))
    assert surplus <= 1 + after_lone_word


@pytest.mark.parametrize("policy", ["balanced", "hard"])
@pytest.mark.parametrize(
    "documents",
    [[[12]] * 400, [[2]] * 400, [[200]] * 40, [[9] * 30] * 20, [[3, 40, 1]] * 100],
    ids=["one sentence a note", "two words a note", "sentences longer than rows", "long notes", "mixed"],
)
def test_labels_are_even_whatever_the_shape(policy: str, documents: list[list[int]]) -> None:
    notes, continues = bucket(documents, list(range(len(documents))))
    made, _ = make(notes, continues, policy)
    check_segments(made, notes)
    assert made.label.mean() == pytest.approx(0.5, abs=0.01)
    assert (times_covered(made, notes) == 1).all()


def test_segments_begin_and_end_with_words() -> None:
    for policy in ("balanced", "hard"):
        notes, continues = random_bucket(5, 300, 60, word_pieces=4)
        made, _ = make(notes, continues, policy)
        ends_sentence = np.isin(np.arange(len(continues) + 1), notes.sentence_offsets)
        begins_word = np.append(~continues, True) | ends_sentence
        for edge in (made.a_start, made.a_end, made.b_start, made.b_end):
            assert begins_word[edge].all()


def test_length_does_not_give_the_label_away() -> None:
    """Pairs of either label are as long on average: within 3 %. (A lone word has no true next: leave those out.)"""
    notes, continues = random_bucket(7, 3000, 500, word_pieces=1)
    made, _ = make(notes, continues, "balanced")
    made = Pairs(*(column[made.a_end - made.a_start > 1] for column in made))
    true, random_next = (made.sizes()[made.label == label].mean() for label in (0, 1))
    assert random_next == pytest.approx(true, rel=0.03)


def test_hard_nexts_are_of_the_same_section_and_category() -> None:
    rng = np.random.default_rng(0)
    documents = [[5] * 12 for _ in range(300)]
    sections = rng.integers(0, 4, 300 * 12).tolist()
    notes, continues = bucket(documents, list(range(300)), sections)
    made, counts = make(notes, continues, "hard")
    is_random = (made.label == 1) & (made.a_end - made.a_start > 1)
    # The sentence that the random next stands for is the one after the first segment.
    stands_for = np.searchsorted(notes.sentence_offsets, made.a_end[is_random], side="right") - 1
    taken = np.searchsorted(notes.sentence_offsets, made.b_start[is_random], side="right") - 1
    assert counts.keys() <= {"random nexts after a single word"}
    np.testing.assert_array_equal(notes.sections_S[taken], notes.sections_S[stands_for])
    category = notes.category_D
    np.testing.assert_array_equal(category[made.a_document], category[made.b_document])


def test_a_fallback_is_counted() -> None:
    notes, continues = bucket([[5, 5, 5]] * 20, list(range(20)), sections=list(range(60)))
    _, counts = make(notes, continues, "hard")
    assert counts["random nexts not of the same section, for want of one"] > 0
    assert counts["random nexts not of the same category, for want of one"] == 0


@pytest.mark.parametrize("policy", ["balanced", "hard"])
def test_a_single_patient_gets_true_nexts_only(policy: str) -> None:
    notes, continues = bucket([[5, 5, 5], [7], [1]], [1, 1, 1])
    made, counts = make(notes, continues, policy)
    check_segments(made, notes)
    assert not made.label.any()
    assert counts["buckets of a single patient, with true nexts only"] == 1
    assert counts["single words dropped, for want of a second segment"] == 1


def test_one_patient_with_nearly_everything() -> None:
    notes, continues = bucket([[5] * 2000, [5]], [1, 2])
    made, _ = make(notes, continues, "balanced")
    check_segments(made, notes)
    assert made.label.mean() == pytest.approx(0.5, abs=0.01)


def test_the_published_policy() -> None:
    notes, continues = random_bucket(3, 2000, 400, word_pieces=1)
    made, _ = make(notes, continues, "google")
    check_segments(made, notes)
    assert 0.5 < made.label.mean() < 0.8  # a chunk of one segment always gets a random next
    full = made.sizes() == LONGEST + 3
    assert full.mean() > 0.3  # truncation fills rows


def test_passes_differ_and_keys_decide() -> None:
    notes, continues = random_bucket(1, 50, 20, word_pieces=2)
    for policy in ("balanced", "hard", "google"):
        first, again, other = (make(notes, continues, policy, seed)[0] for seed in (1, 1, 2))
        for one, same in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, same)
        assert not np.array_equal(first.a_end, other.a_end)


def test_no_documents() -> None:
    notes, continues = bucket([], [])
    for policy in ("balanced", "hard", "google"):
        assert len(make(notes, continues, policy)[0].label) == 0
