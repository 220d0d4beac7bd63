"""Copy-forward: notes of a patient that repeat an earlier one nearly word for word.

MinHash (Broder 1997) over runs of five words finds candidates among a patient's notes; the exact Jaccard similarity
of their shingles decides. Only patients with several notes cost anything.

Shape legend: N notes kept so far, H hash functions, S shingles.
"""

from collections.abc import Sequence

import numpy as np

from clinicalbert_jax.data import counter_rng
from data_prep.overlap.shingles import shingles

SHINGLE_WORDS = 5
_NUM_HASHES = 64
_CHUNK = 4096  # shingles hashed at a time, so that a note of any length fits in memory
# The estimate of 64 hashes strays by 0.05 (one standard deviation) at a similarity of 0.8.
_MARGIN = 0.2
_MULTIPLIERS_H = counter_rng.mix(np.arange(1, _NUM_HASHES + 1, dtype=np.uint64)) | np.uint64(1)


def keep(patients: Sequence[str], texts: Sequence[str], threshold: float = 0.8) -> np.ndarray:
    """For each note whether to keep it: bool, one a note.

    `patients` are equal for notes of one patient, which stand together, in the order of time. A note goes if its
    Jaccard similarity with one kept before it is at least `threshold`; a threshold over 1 keeps all.
    """
    kept = np.ones(len(texts), bool)
    start = 0
    for end in range(1, len(texts) + 1):
        if end == len(texts) or patients[end] != patients[start]:
            if end - start > 1 and threshold <= 1:
                kept[start:end] = _keep_of_patient(texts[start:end], threshold)
            start = end
    return kept


def similarity(a_S: np.ndarray, b_S: np.ndarray) -> float:
    """Jaccard similarity of two sets of shingles, 0 where either is empty."""
    if not len(a_S) or not len(b_S):
        return 0.0
    common = np.intersect1d(a_S, b_S, assume_unique=True).size
    return common / (len(a_S) + len(b_S) - common)


def _keep_of_patient(texts: Sequence[str], threshold: float) -> list[bool]:
    kept: list[bool] = []
    sketches_NxH = np.empty((8, _NUM_HASHES), np.uint32)
    sets: list[np.ndarray] = []
    for text in texts:
        shingles_S = shingles(text, SHINGLE_WORDS)
        if not len(shingles_S):
            kept.append(True)  # too short to be told from another
            continue
        sketch_H = minhash(shingles_S)
        shared_N = (sketches_NxH[: len(sets)] == sketch_H).mean(axis=1)
        candidates = np.flatnonzero(shared_N >= threshold - _MARGIN)
        repeats = any(similarity(sets[candidate], shingles_S) >= threshold for candidate in candidates)
        kept.append(not repeats)
        if not repeats:
            if len(sets) == len(sketches_NxH):
                sketches_NxH = np.concatenate([sketches_NxH, np.empty_like(sketches_NxH)])
            sketches_NxH[len(sets)] = sketch_H
            sets.append(shingles_S)
    return kept


def minhash(shingles_S: np.ndarray) -> np.ndarray:
    """The MinHash sketch of a set of shingles: uint32 [H]."""
    sketch_H = np.full(_NUM_HASHES, np.iinfo(np.uint64).max, np.uint64)
    for start in range(0, len(shingles_S), _CHUNK):
        hashes_SxH = shingles_S[start : start + _CHUNK, None] * _MULTIPLIERS_H
        sketch_H = np.minimum(sketch_H, hashes_SxH.min(axis=0))
    return (sketch_H >> np.uint64(32)).astype(np.uint32)
