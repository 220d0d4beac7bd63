"""Masked-LM targets for a batch of rows at once; called by `data_prep` (static) and by the loader (dynamic).

After Devlin et al. (2019), section 3.1, and google-research/bert's `create_masked_lm_predictions`: 15 % of
the tokens are predicted; of these 80 % become [MASK], 10 % a random word, 10 % stay. A row's masks depend on
its key and ids alone, not on its batch.

Shape legend: N rows, L `max_seq_length`, P `max_predictions_per_seq`, V vocabulary.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.data import counter_rng

_POSITION_BITS = 16  # of a sort key, below its random bits
_LAST = np.uint64(0xFFFFFFFFFFFFFFFF)

Ids = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Policy:
    """How rows are masked.

    `unmaskable_ids` are never predicted ([PAD], [CLS], [SEP]), and do not count among the tokens of which
    `probability` is taken. Random words are drawn uniformly from `replacement_ids`.
    `continuation_V` is true for tokens that continue a word ('##...'): given, whole words are masked; None,
    single tokens.
    """

    mask_id: int
    unmaskable_ids: tuple[int, ...]
    replacement_ids: npt.NDArray[np.int32]
    max_predictions: int
    probability: float = 0.15
    continuation_V: npt.NDArray[np.bool_] | None = None
    counts_specials: bool = False  # as google's script: `probability` of the whole length, [CLS] and [SEP] included


class Masked(NamedTuple):
    """Masked rows. Unused predictions are position 0, id 0, weight 0, and stand last; positions ascend."""

    input_ids: npt.NDArray[np.integer]  # NxL
    masked_lm_positions: npt.NDArray[np.int32]  # NxP
    masked_lm_ids: npt.NDArray[np.int32]  # NxP
    masked_lm_weights: npt.NDArray[np.float32]  # NxP


def policy(
    vocabulary: list[str],
    max_predictions: int,
    *,
    probability: float = 0.15,
    whole_word: bool = False,
    google: bool = False,
) -> Policy:
    """The policy for a WordPiece vocabulary, given as its pieces in order of their ids.

    A random word is any entry but the five special ones. With `google`, as in the published script: any entry
    at all, and [CLS] and [SEP] count in the length of which 15 % is taken.
    """
    specials = {vocabulary.index(token) for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")}
    replacements = [i for i in range(len(vocabulary)) if google or i not in specials]
    return Policy(
        mask_id=vocabulary.index("[MASK]"),
        unmaskable_ids=tuple(vocabulary.index(token) for token in ("[PAD]", "[CLS]", "[SEP]")),
        replacement_ids=np.array(replacements, np.int32),
        max_predictions=max_predictions,
        probability=probability,
        continuation_V=np.array([piece.startswith("##") for piece in vocabulary]) if whole_word else None,
        counts_specials=google,
    )


def mask(keys_N: counter_rng.Keys, input_ids_NxL: Ids, policy: Policy) -> Masked:
    """Mask a batch of rows, packed or padded; `input_ids_NxL` is left as it was.

    A row of c pieces gets min(P, max(1, round(0.15 c))) predictions, and none where c = 0.
    """
    maskable_NxL = np.ones(input_ids_NxL.shape, np.bool_)
    for unmaskable in policy.unmaskable_ids:
        maskable_NxL &= input_ids_NxL != unmaskable
    counts_N = num_predictions(_num_counted(input_ids_NxL, maskable_NxL, policy), policy)
    counts_N = np.minimum(counts_N, maskable_NxL.sum(axis=1))
    if policy.continuation_V is None:
        chosen_NxP = _choose_pieces(keys_N, maskable_NxL, counts_N, policy.max_predictions)
    else:
        starts_NxL = maskable_NxL & ~policy.continuation_V[input_ids_NxL]
        starts_NxL[:, 1:] |= maskable_NxL[:, 1:] & ~maskable_NxL[:, :-1]  # a segment may begin inside a word
        chosen_NxP = _choose_words(keys_N, maskable_NxL, starts_NxL, counts_N, policy.max_predictions)
    return _replace(keys_N, input_ids_NxL, chosen_NxP, policy)


def num_predictions(pieces_N: npt.NDArray[np.integer], policy: Policy) -> npt.NDArray[np.int64]:
    """How many of so many pieces are predicted: min(P, max(1, round(0.15 c)))."""
    return np.clip(np.rint(pieces_N * policy.probability), 1, policy.max_predictions).astype(np.int64)


def _num_counted(input_ids_NxL: Ids, maskable_NxL: npt.NDArray[np.bool_], policy: Policy) -> npt.NDArray[np.int64]:
    if policy.counts_specials:
        padding_id = policy.unmaskable_ids[0]
        return (input_ids_NxL != padding_id).sum(axis=1)
    return maskable_NxL.sum(axis=1)


def _choose_pieces(
    keys_N: counter_rng.Keys,
    maskable_NxL: npt.NDArray[np.bool_],
    counts_N: npt.NDArray[np.int64],
    max_predictions: int,
) -> npt.NDArray[np.int64]:
    """NxP positions, ascending, then L where unused: the `counts_N` maskable ones of least random key."""
    length = maskable_NxL.shape[1]
    order_NxL = np.where(maskable_NxL, _random_order(keys_N, length), _LAST)
    columns = min(max_predictions, length)
    least_NxP = np.partition(order_NxL, columns - 1, axis=1)[:, :columns] if columns < length else order_NxL
    least_NxP = np.sort(least_NxP, axis=1)
    positions_NxP = (least_NxP & np.uint64((1 << _POSITION_BITS) - 1)).astype(np.int64)
    positions_NxP[np.arange(columns) >= counts_N[:, None]] = length
    return _padded(np.sort(positions_NxP, axis=1), max_predictions, length)


def _choose_words(
    keys_N: counter_rng.Keys,
    maskable_NxL: npt.NDArray[np.bool_],
    starts_NxL: npt.NDArray[np.bool_],
    counts_N: npt.NDArray[np.int64],
    max_predictions: int,
) -> npt.NDArray[np.int64]:
    """NxP positions of whole words, ascending, then L where unused; each word with the same probability.

    Taking words in random order "while they fit" starves long ones. Here every word of a row of c pieces is
    taken with probability t / c, t = `counts_N`, whatever its length, and the pieces taken are t in all: long
    words come first in the draw, so that those of a single piece make up the difference. Where there are too
    few of these, the total differs from t by less than a word; it never exceeds P.
    """
    rows, length = maskable_NxL.shape
    word_NxL = np.cumsum(starts_NxL, axis=1) - 1
    words = int(word_NxL.max(initial=0)) + 1
    cells = (word_NxL + words * np.arange(rows)[:, None])[maskable_NxL]
    size_NxW = np.bincount(cells, minlength=rows * words).reshape(rows, words)
    longest_first_NxW = (length - size_NxW).astype(np.uint64) << np.uint64(48) | _random_order(keys_N, words)
    order_NxW = np.argsort(longest_first_NxW, axis=1)
    fraction_N = counts_N / np.maximum(maskable_NxL.sum(axis=1), 1)
    draws_NxW = counter_rng.uniform(counter_rng.fold(keys_N, 1), words + 1)
    sizes_NxW = np.take_along_axis(size_NxW, order_NxW, axis=1)
    taken_NxW = np.zeros((rows, words), np.bool_)
    np.put_along_axis(taken_NxW, order_NxW, _sample(sizes_NxW, fraction_N, draws_NxW, max_predictions), axis=1)
    taken_NxL = np.take_along_axis(taken_NxW, np.maximum(word_NxL, 0), axis=1) & maskable_NxL
    chosen_NxL = np.sort(np.where(taken_NxL, np.arange(length), length), axis=1)
    return _padded(chosen_NxL[:, :max_predictions], max_predictions, length)


def _sample(
    sizes_NxW: npt.NDArray[np.int64],
    fraction_N: npt.NDArray[np.float64],
    draws_NxW: npt.NDArray[np.float64],
    max_total: int,
) -> npt.NDArray[np.bool_]:
    """NxW: which words are taken, each with probability `fraction_N`, at a total size of that fraction of all sizes.

    The cube method (Deville and Tille, "Efficient balanced sampling", 2004) with the size as its one
    constraint: two undecided words shift probability between them so that the expected total stays, until one
    is decided. Size 0 is no word. A last word that nothing is left to balance is taken by its probability,
    and words of one piece make up for it; if the total exceeds `max_total` even so, it is left out.
    """
    rows, words = sizes_NxW.shape
    every = np.arange(rows)
    taken_NxW = np.zeros((rows, words), np.bool_)
    # The first draw is for the last word, since the number of words depends on the other rows.
    held_N, held_chance_N, held_size_N = np.zeros(rows, np.int64), np.zeros(rows), np.ones(rows)
    for word in range(words):
        size_N = np.maximum(sizes_NxW[:, word], 1)
        chance_N = np.where(sizes_NxW[:, word] > 0, fraction_N, 0.0)
        # The held word's chance may rise by `up` times this one's size, while this one's falls by `up` times
        # the held one's; or the other way, by `down`.
        up_N = np.minimum((1 - held_chance_N) / size_N, chance_N / held_size_N)
        down_N = np.minimum(held_chance_N / size_N, (1 - chance_N) / held_size_N)
        rises_N = draws_NxW[:, word + 1] * (up_N + down_N) < down_N
        shift_N = np.where(rises_N, up_N, -down_N)
        new_held_N = _decided(held_chance_N + shift_N * size_N)
        new_chance_N = _decided(chance_N - shift_N * held_size_N)
        won_N = new_held_N == 1
        taken_NxW[every[won_N], held_N[won_N]] = True
        taken_NxW[:, word] = new_chance_N == 1
        settled_N = won_N | (new_held_N == 0)
        held_N = np.where(settled_N, word, held_N)
        held_size_N = np.where(settled_N, size_N, held_size_N)
        held_chance_N = np.where(settled_N, new_chance_N % 1, new_held_N)
    last_N = draws_NxW[:, 0] < held_chance_N
    taken_NxW[every[last_N], held_N[last_N]] = True
    missing_N = np.rint(fraction_N * sizes_NxW.sum(axis=1)) - (sizes_NxW * taken_NxW).sum(axis=1)
    # As much either way, so that on average they lose what they gain: no more than are taken on average.
    single_NxW = sizes_NxW == 1
    limit_N = np.floor(fraction_N * single_NxW.sum(axis=1))
    _make_up(taken_NxW, single_NxW, np.clip(missing_N, -limit_N, limit_N))
    too_many_N = last_N & ((sizes_NxW * taken_NxW).sum(axis=1) > max_total)
    taken_NxW[every[too_many_N], held_N[too_many_N]] = False
    return taken_NxW


def _make_up(
    taken_NxW: npt.NDArray[np.bool_], single_NxW: npt.NDArray[np.bool_], missing_N: npt.NDArray[np.float64]
) -> None:
    """Take as many more words of one piece as pieces are missing, or as many fewer, where there are so many."""
    give_back_NxW = taken_NxW & single_NxW
    give_back_NxW &= np.cumsum(give_back_NxW, axis=1) <= -missing_N[:, None]
    add_NxW = ~taken_NxW & single_NxW
    add_NxW &= np.cumsum(add_NxW, axis=1) <= missing_N[:, None]
    taken_NxW &= ~give_back_NxW
    taken_NxW |= add_NxW


def _decided(chance_N: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Chances with those that rounding alone keeps from 0 or 1 put there."""
    nearest_N = np.rint(chance_N)
    return np.where(np.abs(chance_N - nearest_N) < 1e-9, nearest_N, chance_N)


def _random_order(keys_N: counter_rng.Keys, length: int) -> npt.NDArray[np.uint64]:
    """NxL sort keys: random bits above, the position below, so that the values alone tell where they came
    from.
    """
    room = np.uint64(_POSITION_BITS)
    return (counter_rng.bits(keys_N, length) >> (room + room) << room) | np.arange(length, dtype=np.uint64)


def _padded(positions_NxC: npt.NDArray[np.int64], max_predictions: int, unused: int) -> npt.NDArray[np.int64]:
    missing = max_predictions - positions_NxC.shape[1]
    return np.pad(positions_NxC, ((0, 0), (0, missing)), constant_values=unused) if missing else positions_NxC


def _replace(keys_N: counter_rng.Keys, input_ids_NxL: Ids, chosen_NxP: npt.NDArray[np.int64], policy: Policy) -> Masked:
    """Put [MASK], a random word or the piece itself at each chosen position (L: unused)."""
    rows, length = input_ids_NxL.shape
    used_NxP = chosen_NxP < length
    positions_NxP = np.where(used_NxP, chosen_NxP, 0)
    original_NxP = np.take_along_axis(input_ids_NxL, positions_NxP, axis=1)
    draws_Nx2P = counter_rng.uniform(counter_rng.fold(keys_N, 2), 2 * policy.max_predictions)
    fate_NxP, word_NxP = np.split(draws_Nx2P, 2, axis=1)
    words_NxP = policy.replacement_ids[(word_NxP * len(policy.replacement_ids)).astype(np.int64)]
    new_NxP = np.where(fate_NxP < 0.8, policy.mask_id, np.where(fate_NxP < 0.9, words_NxP, original_NxP))

    masked_NxL = input_ids_NxL.copy()
    row_NxP = np.broadcast_to(np.arange(rows)[:, None], used_NxP.shape)
    masked_NxL[row_NxP[used_NxP], positions_NxP[used_NxP]] = new_NxP[used_NxP]
    return Masked(
        input_ids=masked_NxL,
        masked_lm_positions=positions_NxP.astype(np.int32),
        masked_lm_ids=np.where(used_NxP, original_NxP, 0).astype(np.int32),
        masked_lm_weights=used_NxP.astype(np.float32),
    )
