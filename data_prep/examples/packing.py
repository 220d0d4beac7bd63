"""Rows from pairs: which pair goes to which row, and the arrays of a batch of rows.

A padded row holds one pair; a packed one several, placed best-fit with three capacities: tokens (L),
predictions (P) and pairs (K).

Shape legend: N pairs, R rows, L `max_seq_length`, K `max_sequences_per_row`, T pieces of the bucket.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.data.schema import Layout
from data_prep.examples.pairs import Pairs


class Specials(NamedTuple):
    """Ids of the tokens that frame a pair."""

    pad: int
    cls: int
    sep: int


class Placement(NamedTuple):
    """Which pairs each row holds: row r has pairs `pair_N[offsets_R[r] : offsets_R[r + 1]]`, from left to
    right.

    `column_N` is where in its row the [CLS] of a pair stands, by the pair's number. No row is empty.
    """

    pair_N: npt.NDArray[np.int64]
    offsets_R: npt.NDArray[np.int64]  # R + 1 of them
    column_N: npt.NDArray[np.int64]

    @property
    def num_rows(self) -> int:
        """R."""
        return self.offsets_R.size - 1


def one_a_row(num_pairs: int) -> Placement:
    """The placement of the padded layout."""
    return Placement(np.arange(num_pairs), np.arange(num_pairs + 1), np.zeros(num_pairs, np.int64))


def best_fit(sizes_N: npt.NDArray[np.int64], predictions_N: npt.NDArray[np.int64], layout: Layout) -> Placement:
    """Place pairs in decreasing size, each in the fullest row with room for it; equal sizes keep their order.

    `sizes_N` are in tokens, at most L each; `predictions_N` is what masking will ask of each, at most P.
    """
    room_P, room_K = layout.max_predictions_per_seq, layout.max_sequences_per_row
    open_rows: list[list[int]] = [[] for _ in range(layout.max_seq_length + 1)]  # by free tokens
    nonempty = 0  # bit b: there is an open row of b free tokens
    predictions: list[int] = []
    pairs: list[int] = []
    row_N, column_N = np.empty(len(sizes_N), np.int64), np.empty(len(sizes_N), np.int64)
    order_N = np.argsort(-sizes_N, kind="stable")
    wants = predictions_N.tolist()
    for pair, size in zip(order_N.tolist(), sizes_N[order_N].tolist(), strict=True):
        row, free = -1, layout.max_seq_length
        candidates = nonempty >> size << size
        while candidates:
            least = (candidates & -candidates).bit_length() - 1
            if predictions[open_rows[least][-1]] + wants[pair] <= room_P:
                row, free = open_rows[least].pop(), least
                if not open_rows[least]:
                    nonempty &= ~(1 << least)
                break
            candidates &= candidates - 1
        if row < 0:
            row = len(pairs)
            pairs.append(0)
            predictions.append(0)
        row_N[pair], column_N[pair] = row, layout.max_seq_length - free
        pairs[row] += 1
        predictions[row] += wants[pair]
        if pairs[row] < room_K:
            open_rows[free - size].append(row)
            nonempty |= 1 << (free - size)
    pair_N = np.lexsort((column_N, row_N))
    return Placement(pair_N, np.append(0, np.cumsum(np.array(pairs, np.int64))), column_N)


def rows(
    pairs: Pairs,
    placement: Placement,
    wanted_R: npt.NDArray[np.int64],
    ids_T: npt.NDArray[np.int32],
    layout: Layout,
    specials: Specials,
) -> tuple[dict[str, npt.NDArray], npt.NDArray[np.int64]]:
    """The rows `wanted_R`, in that order, as unmasked arrays of the packed schema (see
    `schema.BATCH_SHAPES`).

    Returned besides: RxK numbers of the pairs in each, -1 where there is none.
    """
    length, most = layout.max_seq_length, layout.max_sequences_per_row
    pair_N, to_N, slot_N = _pairs_in(placement, wanted_R)
    a_start_N, b_start_N = pairs.a_start[pair_N], pairs.b_start[pair_N]
    a_size_N, b_size_N = pairs.a_end[pair_N] - a_start_N, pairs.b_end[pair_N] - b_start_N
    size_N = a_size_N + b_size_N + 3

    # Every token of every pair: which pair it is of, and its place in it.
    start_N = to_N * length + placement.column_N[pair_N]
    first_N = np.cumsum(size_N) - size_N
    place = np.arange(size_N.sum()) - np.repeat(first_N, size_N)
    cell = place + np.repeat(start_N, size_N)
    in_b = place > np.repeat(a_size_N + 1, size_N)
    source = place + np.where(in_b, np.repeat(b_start_N - a_size_N - 2, size_N), np.repeat(a_start_N - 1, size_N))
    tokens = ids_T.take(source, mode="clip")  # the three special tokens have no source, and are set next
    tokens[first_N] = specials.cls
    tokens[first_N + a_size_N + 1] = specials.sep
    tokens[first_N + size_N - 1] = specials.sep

    input_ids_RxL = np.full((len(wanted_R), length), specials.pad, np.int32)
    input_ids_RxL.ravel()[cell] = tokens
    segment_ids_RxL = np.zeros((len(wanted_R), length), np.int32)
    segment_ids_RxL.ravel()[cell] = in_b
    sequence_ids_RxL = np.zeros((len(wanted_R), length), np.int32)
    sequence_ids_RxL.ravel()[cell] = np.repeat(slot_N + 1, size_N)

    pair_RxK = np.full((len(wanted_R), most), -1, np.int64)
    pair_RxK[to_N, slot_N] = pair_N
    positions_RxK = np.zeros((len(wanted_R), most), np.int32)
    positions_RxK[to_N, slot_N] = placement.column_N[pair_N]
    used_RxK = pair_RxK >= 0
    arrays = {
        "input_ids": input_ids_RxL,
        "segment_ids": segment_ids_RxL,
        "sequence_ids": sequence_ids_RxL,
        "next_sentence_positions": positions_RxK,
        "next_sentence_labels": np.where(used_RxK, pairs.label[pair_RxK], 0),
        "next_sentence_weights": used_RxK.astype(np.float32),
    }
    return arrays, pair_RxK


def _pairs_in(
    placement: Placement, wanted_R: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The pairs of rows `wanted_R`: their numbers, the place of their row in `wanted_R`, and their place in
    the row.
    """
    first_R = placement.offsets_R[wanted_R]
    count_R = placement.offsets_R[wanted_R + 1] - first_R
    to_N = np.repeat(np.arange(len(wanted_R)), count_R)
    slot_N = np.arange(len(to_N)) - np.repeat(np.cumsum(count_R) - count_R, count_R)
    return placement.pair_N[first_R[to_N] + slot_N], to_N, slot_N
