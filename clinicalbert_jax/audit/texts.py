"""The windows of text that an audit scores: of patients in the training split, and of as many in the test split.

They are restored from the shards. On both sides they are the rows of one pass over the notes (the first one of the
training split), so that the same process made both; a second segment that is a random next belongs to another patient
and is left out. Which note a window is of cannot be told from the shards.

Shape legend: W windows, T tokens, R runs of 13 words, D texts of rows.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.data import counter_rng
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.data.tfrecord import Arrays, Shard
from data_prep.overlap import shard_texts, splits
from data_prep.overlap.spelling import Spelling
from data_prep.sharding.shards import rows_of_first_pass
from data_prep.wordpiece.tokenizer import Tokenizer

MEMBERS, OTHERS = "train", "test"  # the splits
MIN_TOKENS = 8  # of a window
_GIVEN = 0.5  # of a window's runs: from so many on the patient has given its text already
_ROWS_AT_ONCE = 4096

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Texts of one patient each: window w is `ids_T[offset_W[w] : offset_W[w + 1]]`, its first `first_W` tokens the
    first segment.

    `key_W` draws a window's masks: of its patient and text, so that they are the same whatever side the patient is on.
    `is_shared_W`: a run of 13 words of it is in the notes of another patient too, of either split. `times_W`: in how
    many places of the training notes its middle run stands; 0 for a non-member, and where it is too short to tell.
    """

    ids_T: Ints
    offset_W: Ints
    first_W: Ints
    key_W: counter_rng.Keys
    patient_W: Ints
    category_W: Ints
    is_member_W: npt.NDArray[np.bool_]
    is_shared_W: npt.NDArray[np.bool_]
    times_W: Ints

    @property
    def length_W(self) -> Ints:
        """Tokens of each window."""
        return np.diff(self.offset_W)


@dataclass(frozen=True)
class _Window:
    ids: Ints
    first: int
    key: int
    patient: int
    category: int
    is_member: bool
    runs: npt.NDArray[np.uint64]


def read(
    data_dir: Path,
    manifest: Manifest,
    tokenizer: Tokenizer,
    num_patients: int,
    most: int,
    seed: int,
    planted: Sequence[npt.NDArray[np.integer]] = (),
) -> Windows:
    """At most `most` windows of each of `num_patients` patients on each side, chosen by `seed`.

    A window whose text the patient has given already is skipped. The sentences of `planted` canaries are no text of a
    patient, and are taken out. Raises `UserError` for a dataset of an earlier
    version, which does not say which rows are of the first pass.
    """
    windows: list[_Window] = []
    for split in (MEMBERS, OTHERS):
        chosen = _chosen_patients(data_dir, manifest, split, num_patients, seed)
        windows += _windows_of(data_dir, manifest, tokenizer, split, chosen, most, seed, planted)
    is_shared_W, times_W = _met_elsewhere(data_dir, manifest, tokenizer, windows)
    return Windows(
        ids_T=np.concatenate([np.empty(0, np.int64), *(one.ids for one in windows)]).astype(np.int64),
        offset_W=np.concatenate([[0], np.cumsum([len(one.ids) for one in windows])]).astype(np.int64),
        first_W=np.array([one.first for one in windows], np.int64),
        key_W=np.array([one.key for one in windows], np.uint64),
        patient_W=np.array([one.patient for one in windows], np.int64),
        category_W=np.array([one.category for one in windows], np.int64),
        is_member_W=np.array([one.is_member for one in windows], bool),
        is_shared_W=is_shared_W,
        times_W=times_W,
    )


def _met_elsewhere(
    data_dir: Path, manifest: Manifest, tokenizer: Tokenizer, windows: list[_Window]
) -> tuple[npt.NDArray[np.bool_], Ints]:
    """`is_shared_W` and `times_W` of the windows, by reading the first pass of both splits."""
    first_W = np.concatenate([[0], np.cumsum([len(one.runs) for one in windows])]).astype(np.int64)
    run_R = np.concatenate([np.empty(0, np.uint64), *(one.runs for one in windows)])
    patient_R = np.repeat([one.patient for one in windows], np.diff(first_W)).astype(np.int64)
    wanted, of_R = np.unique(run_R, return_inverse=True)  # from here on, R are those that are wanted
    owner_R = np.zeros(len(wanted), np.int64)
    owner_R[of_R] = patient_R
    spelling = Spelling(tokenizer)
    is_shared_R, times_R = np.zeros(len(wanted), bool), np.zeros(len(wanted), np.int64)
    np.logical_or.at(is_shared_R, of_R, owner_R[of_R] != patient_R)
    for split in (MEMBERS, OTHERS) if len(wanted) else ():
        for rows in _rows(data_dir, manifest, split):
            texts = shard_texts.of_rows(rows, tokenizer)
            found_R, text_R = texts.runs(spelling)
            at_R = np.minimum(np.searchsorted(wanted, found_R), len(wanted) - 1)
            is_met_R = (wanted[at_R] == found_R) & ~texts.is_other_D[text_R]
            at_R, text_R = at_R[is_met_R], text_R[is_met_R]
            group_R = rows["patient_group"][texts.row_D[text_R], texts.pair_D[text_R]]
            np.logical_or.at(is_shared_R, at_R, owner_R[at_R] != group_R)
            if split == MEMBERS:
                times_R += np.bincount(at_R, minlength=len(times_R))
    is_shared_W, times_W = np.zeros(len(windows), bool), np.zeros(len(windows), np.int64)
    for number, one in enumerate(windows):
        inside_R = of_R[first_W[number] : first_W[number + 1]]
        if len(inside_R):
            is_shared_W[number] = is_shared_R[inside_R].any()
            times_W[number] = times_R[inside_R[len(inside_R) // 2]] if one.is_member else 0
    return is_shared_W, times_W


def _rows(data_dir: Path, manifest: Manifest, split: str) -> Iterator[Arrays]:
    """The rows of the first pass over the notes of a split."""
    features = manifest.layout.features()
    for number, shard in enumerate(manifest.splits[split].shards):
        wanted_N = rows_of_first_pass(manifest, split, number)
        opened = Shard(data_dir / shard.file, features)
        for start in range(0, len(wanted_N), _ROWS_AT_ONCE):
            yield opened.read(wanted_N[start : start + _ROWS_AT_ONCE])


def _chosen_patients(data_dir: Path, manifest: Manifest, split: str, count: int, seed: int) -> Ints:
    """So many of the patients of a split, or all of them."""
    groups = np.empty(0, np.int64)
    for rows in _rows(data_dir, manifest, split):
        groups = np.union1d(groups, rows["patient_group"][_is_pair(rows)])
    order = np.argsort(counter_rng.fold(seed, groups), kind="stable")
    return np.sort(groups[order[:count]])


def _is_pair(rows: Arrays) -> npt.NDArray[np.bool_]:
    if "next_sentence_weights" in rows:
        return rows["next_sentence_weights"] > 0
    return rows["input_mask"][:, :1] > 0


def _windows_of(
    data_dir: Path,
    manifest: Manifest,
    tokenizer: Tokenizer,
    split: str,
    chosen: Ints,
    most: int,
    seed: int,
    planted: Sequence[npt.NDArray[np.integer]],
) -> list[_Window]:
    """The windows of the chosen patients of a split, by patient."""
    found: dict[int, list[_Window]] = {group: [] for group in chosen.tolist()}
    sentences = [one.astype(np.int64).tobytes() for one in planted]
    spelling = Spelling(tokenizer)
    for rows in _rows(data_dir, manifest, split):
        texts = shard_texts.of_rows(rows, tokenizer)
        start_D = np.concatenate([[0], texts.end_D[:-1]])
        group_D = rows["patient_group"][texts.row_D, texts.pair_D]
        category_D = rows["note_category"][texts.row_D, texts.pair_D]
        wanted_D = np.isin(group_D, chosen) & ~texts.is_other_D & (texts.end_D - start_D >= MIN_TOKENS)
        for text in np.flatnonzero(wanted_D).tolist():
            tokens = slice(int(start_D[text]), int(texts.end_D[text]))
            is_kept_T = _without(texts.ids_T[tokens].astype(np.int64), sentences)
            ids_T = texts.ids_T[tokens][is_kept_T].astype(np.int64)
            if len(ids_T) < MIN_TOKENS:
                continue
            begins_T, end = texts.begins_T[tokens][is_kept_T], np.array([len(ids_T)])
            window = _Window(
                ids_T,
                int((texts.segment_T[tokens][is_kept_T] == 0).sum()),
                _key(ids_T, int(group_D[text])),
                int(group_D[text]),
                int(category_D[text]),
                split == MEMBERS,
                splits.runs(spelling.hashes(ids_T, begins_T), begins_T, end)[0],
            )
            found[window.patient].append(window)
    return [window for group in found for window in _fresh(found[group], most, seed)]


def _key(ids_T: Ints, patient: int) -> int:
    digest = hashlib.blake2b(ids_T.tobytes(), digest_size=8).digest()
    return int(counter_rng.fold(patient, int.from_bytes(digest, "little")))


def _without(ids_T: Ints, sentences: Sequence[bytes]) -> npt.NDArray[np.bool_]:
    """Which tokens belong to none of the sentences, as a whole or, of a window that is inside of one, as a part."""
    is_kept_T, whole = np.ones(len(ids_T), bool), ids_T.tobytes()
    for sentence in sentences:
        if whole in sentence:
            return np.zeros(len(ids_T), bool)
        at = whole.find(sentence)
        while at >= 0:
            if at % ids_T.itemsize == 0:
                is_kept_T[at // ids_T.itemsize : (at + len(sentence)) // ids_T.itemsize] = False
            at = whole.find(sentence, at + 1)
    return is_kept_T


def _fresh(windows: list[_Window], most: int, seed: int) -> Iterator[_Window]:
    """The first windows in a random order whose text was not given before; the order is that of their texts' keys."""
    runs, texts = np.empty(0, np.uint64), set[bytes]()
    for window in sorted(windows, key=lambda one: int(counter_rng.fold(seed, one.key))):
        if most <= 0:
            return
        given = np.isin(window.runs, runs).mean() if len(window.runs) else 0.0
        if given < _GIVEN and window.ids.tobytes() not in texts:
            runs = np.union1d(runs, window.runs)
            texts.add(window.ids.tobytes())
            most -= 1
            yield window
