"""Overlaps of splits: runs of 13 words, found again wherever they stand, and never across notes."""

import itertools

import numpy as np
import pytest

from data_prep.overlap import splits
from data_prep.wordpiece.tokenizer import TokenizedNotes


def notes_of(documents: list[list[int]]) -> TokenizedNotes:
    """Documents as lists of ids, cut into sentences of six pieces."""
    sentences = [[min(6, len(d) - at) for at in range(0, len(d), 6)] for d in documents]
    lengths = list(itertools.chain(*sentences))
    return TokenizedNotes(
        ids_T=np.array(list(itertools.chain(*documents)), np.int32),
        sentence_offsets=np.append(0, np.cumsum(lengths)),
        document_offsets=np.append(0, np.cumsum([len(s) for s in sentences])),
        sections_S=np.zeros(len(lengths), np.int32),
        patient_D=np.arange(len(documents)),
        category_D=np.zeros(len(documents), np.int32),
    )


def sample(documents: list[list[int]], one_in: int = 1) -> np.ndarray:
    notes = notes_of(documents)
    return splits.sample(notes, notes.ids_T >= 1_000_000, one_in)


def test_a_shared_passage_is_found() -> None:
    passage = list(range(100, 130))
    one, other = sample([list(range(50)), [*range(200, 220), *passage]]), sample([[*passage, *range(300, 350)]])
    assert len(one) == (50 - 12) + (50 - 12)
    assert np.isin(other, one).sum() == 30 - 12
    assert splits.fraction(other, one) == 18 / 68
    assert splits.fraction(one, one) == 1
    nothing = np.empty(0, np.uint64)
    assert splits.fraction(nothing, one) == splits.fraction(one, nothing) == 0


def test_no_run_crosses_notes() -> None:
    assert len(sample([list(range(12)), list(range(12, 24))])) == 0
    assert len(sample([list(range(13))])) == 1


def test_words_count_not_pieces() -> None:
    word = [5, 1_000_001, 1_000_002]
    assert len(sample([word * 12])) == 0
    assert len(sample([[*word, *range(12)]])) == 1


def test_order_matters_and_sampling_thins() -> None:
    forward = sample([list(range(40))])
    assert not np.isin(sample([list(range(40))[::-1]]), forward).any()
    many = [list(range(20_000))]
    assert len(sample(many, 10)) == pytest.approx(len(sample(many)) / 10, rel=0.1)
    assert np.isin(sample(many, 10), sample(many)).all()


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [np.random.default_rng(seed).integers(0, 50, 5 + 7 * seed).tolist() for seed in range(40)]
    whole = sample(documents)
    for pieces in (1, 100, 1000):
        monkeypatch.setattr(splits, "_BLOCK_PIECES", pieces)
        np.testing.assert_array_equal(sample(documents), whole)


def test_a_sample_is_about_a_million_runs_whatever_the_input() -> None:
    for num_bytes in (10**6, 10**9, 4 * 10**9):
        assert num_bytes / 6 / splits.sampling_rate(num_bytes) < 1.4 * 2**20
