import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.overlap import near_duplicates, shingles
from data_prep.overlap.near_duplicates import keep, similarity

WORDS = [f"word{number}" for number in range(5000)]


def text(seed, length=300):
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def changed(original, share, seed=0):
    """A copy with about `share` of its words replaced."""
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) if rng.random() < share else word for word in original.split())


def exact(a, b, num_words=near_duplicates.SHINGLE_WORDS):
    """Jaccard similarity by sets of tuples of words."""
    sets = []
    for one in (a, b):
        words = one.lower().split()
        sets.append({tuple(words[i : i + num_words]) for i in range(len(words) - num_words + 1)})
    return len(sets[0] & sets[1]) / max(1, len(sets[0] | sets[1]))


@given(st.lists(st.sampled_from("abc"), max_size=30), st.lists(st.sampled_from("abc"), max_size=30))
def test_similarity_is_jaccard_of_runs_of_words(a, b):
    a_S, b_S = (shingles.shingles(" ".join(words), 2) for words in (a, b))
    expected = exact(" ".join(a), " ".join(b), 2) if len(a_S) and len(b_S) else 0.0
    assert similarity(a_S, b_S) == pytest.approx(expected)


@pytest.mark.fast
def test_copies_of_a_patient_go_and_those_of_others_stay():
    note, other = text(1), text(2)
    copy = changed(note, 0.01)
    assert exact(note, copy) > 0.85
    assert keep(["1", "1", "1", "2"], [note, other, copy, copy]).tolist() == [True, True, False, True]


def test_case_punctuation_and_white_space_make_no_difference():
    note = text(1)
    assert keep(["1", "1"], [note, note.upper().replace(" ", ",\n ")]).tolist() == [True, False]


def test_the_threshold_is_that_of_the_exact_similarity():
    """Against all pairs compared exactly, for copies of every degree."""
    for seed in range(60):
        note = text(seed)
        copy = changed(note, seed / 60 * 0.1, seed)
        assert keep(["1", "1"], [note, copy], 0.7).tolist() == [True, exact(note, copy) < 0.7], seed


def test_a_copy_is_compared_with_notes_kept_only():
    """A slow drift is cut where it leaves the last note kept, not carried on from copy to copy."""
    drift = [text(0)]
    for seed in range(12):
        drift.append(changed(drift[-1], 0.02, seed))
    kept = keep(["1"] * len(drift), drift)
    last, expected = drift[0], [True]
    kept_so_far = [last]
    for note in drift[1:]:
        expected.append(all(exact(before, note) < 0.8 for before in kept_so_far))
        if expected[-1]:
            kept_so_far.append(note)
    assert kept.tolist() == expected
    assert 1 < sum(expected) < len(drift)


def test_short_notes_are_never_copies_and_a_threshold_over_one_keeps_all():
    assert keep(["1"] * 3, ["ok now", "ok now", ""]).all()
    assert keep(["1"] * 2, [text(1)] * 2, threshold=1.01).all()
    assert keep([], []).tolist() == []


def test_the_estimate_is_unbiased():
    pairs = [(text(seed), changed(text(seed), 0.03, seed)) for seed in range(200)]
    errors = []
    for a, b in pairs:
        a_H, b_H = (near_duplicates.minhash(shingles.shingles(one, 5)) for one in (a, b))
        errors.append((a_H == b_H).mean() - exact(a, b))
    assert abs(np.mean(errors)) < 4 * np.std(errors) / np.sqrt(len(errors))
    assert np.std(errors) < 0.07  # sqrt(0.75 * 0.25 / 64) = 0.054


def test_many_notes_of_one_patient():
    texts = [text(seed, 60) for seed in range(300)]
    assert keep(["1"] * 600, texts + texts).tolist() == [True] * 300 + [False] * 300


def test_a_sketch_does_not_depend_on_the_chunk(monkeypatch):
    hashes_S = shingles.shingles(text(1, 9000), 5)
    whole_H = near_duplicates.minhash(hashes_S)
    monkeypatch.setattr(near_duplicates, "_CHUNK", 100)
    assert (near_duplicates.minhash(hashes_S) == whole_H).all()


def test_hashes_of_words_do_not_depend_on_what_was_hashed_before(monkeypatch):
    expected = shingles.shingles(text(1), 5)
    monkeypatch.setattr(shingles, "_MAX_CACHED_WORDS", 10)
    shingles._word_hashes.clear()
    assert (shingles.shingles(text(1), 5) == expected).all()
    assert len(shingles._word_hashes) <= 10
