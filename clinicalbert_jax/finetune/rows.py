"""Rows of a downstream dataset, in memory, and batches of them as a pure function of (rows, seed, step).

Shape legend: N rows, l the length of one row, B global batch, R rows of it that this process holds, L padded length.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tokenizers

from clinicalbert_jax.data import counter_rng
from clinicalbert_jax.data.dataset import Batch
from clinicalbert_jax.data.shuffle import permute

# A batch is padded to the first of these that its longest row fits, or of the fewer that `chosen_lengths` takes.
LENGTHS = (*range(16, 129, 16), 160, 192, 224, 256, 320, 384, 448, 512)


def chosen_lengths(longest_N: np.ndarray, price: float, compiled: Collection[int] = ()) -> tuple[int, ...]:
    """The lengths to pad batches to that cost least, where `longest_N` are their longest rows.

    A length costs `price` positions of a row for its compilation, unless it is in `compiled`, and every batch its
    length. The largest fits all of them.
    """
    largest = int(longest_N.max())
    lengths = [length for length in LENGTHS if length < largest]
    lengths.append(next((length for length in LENGTHS if length >= largest), largest))
    counts = np.bincount(np.searchsorted(lengths, longest_N), minlength=len(lengths))
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]  # for all batches that fit the first lengths
    for last, length in enumerate(lengths, start=1):
        own = 0.0 if length in compiled else price
        best.append(
            min(
                (best[first][0] + own + float(counts[first:last].sum()) * length, (*best[first][1], length))
                for first in range(last)
            )
        )
    return best[-1][1]


def joined(tokenizer: tokenizers.Tokenizer, *parts: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[CLS] part [SEP] part [SEP]: the ids and segments of a row, int32. All after the first [SEP] is segment 1."""
    first, last = ([tokenizer.token_to_id(token)] for token in ("[CLS]", "[SEP]"))
    ids = np.concatenate([first, *(ids for part in parts for ids in (part, last))]).astype(np.int32)
    return ids, (np.arange(len(ids)) > len(parts[0]) + 1).astype(np.int32)


def truncated(first: Sequence[int], second: Sequence[int], room: int) -> tuple[Sequence[int], Sequence[int]]:
    """The beginnings of two texts that have room for so many tokens together; the longer text is truncated first."""
    first = first[: max(room - len(second), room // 2)]
    return first, second[: room - len(first)]


@dataclass(frozen=True)
class Rows:
    """What the model reads, one entry a row; a long example makes several rows.

    `input_ids` and `segment_ids` hold int32 arrays of the rows' own lengths, special tokens included. `token_targets`
    hold arrays of the same lengths, filled with 0 in a batch; `row_targets` one entry of a fixed shape a row. `heads`
    says which targets a head needs; rows without annotation have none. `examples_N` is the number of each row's
    example. `offsets`, where a task needs them, are the characters of the example's text that each token stands for,
    l x 2; (0, 0) for special tokens and for text without a label.
    """

    input_ids: Sequence[np.ndarray]
    segment_ids: Sequence[np.ndarray]
    examples_N: np.ndarray
    offsets: Sequence[np.ndarray] = ()
    token_targets: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)
    row_targets: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.input_ids)

    def take(self, order: np.ndarray) -> "Rows":
        """The rows of these numbers, in this order."""

        def of(sequence: Sequence[np.ndarray]) -> list[np.ndarray]:
            return [sequence[number] for number in order]

        return Rows(
            of(self.input_ids),
            of(self.segment_ids),
            self.examples_N[order],
            of(self.offsets) if self.offsets else (),
            {name: of(target) for name, target in self.token_targets.items()},
            {name: target[order] for name, target in self.row_targets.items()},
        )


class RowBatches:
    """Batches of `Rows`, for training in shuffled order and for prediction in the rows' own order."""

    def __init__(self, rows: Rows, lengths: Sequence[int] = LENGTHS) -> None:
        self.rows = rows
        self._lengths = lengths  # to pad to
        self.num_examples = len(rows)
        self.corrupt: set[tuple[str, int]] = set()  # none: all rows are in memory
        self._lengths_N = np.array([len(ids) for ids in rows.input_ids])

    rows_per_read = 1  # nothing is gained by more

    def train_batches(self, seed: int, steps: Sequence[int], batch_size: int, rows_R: np.ndarray) -> list[Batch]:
        """Rows `rows_R` of the global batch of each of `steps`."""
        return [self.train_batch(seed, step, batch_size, rows_R) for step in steps]

    def train_batch(self, seed: int, step: int, batch_size: int, rows_R: np.ndarray) -> Batch:
        """Rows `rows_R` of the global batch of `step`: epoch after epoch, each in an order of its own."""
        return self._batch(self._order(seed, step, batch_size), rows_R, np.ones(batch_size, np.float32))

    def eval_batch(self, number: int, batch_size: int, rows_R: np.ndarray) -> Batch:
        """Rows of the `number`-th batch in the rows' own order; past the end, rows without weight."""
        positions_B = number * batch_size + np.arange(batch_size)
        inside_B = positions_B < self.num_examples
        return self._batch(np.where(inside_B, positions_B, 0), rows_R, inside_B.astype(np.float32))

    def for_steps(self, steps: int, batch_size: int, price: float) -> "RowBatches":
        """The same rows, with lengths chosen for so many batches of training; see `chosen_lengths`."""
        # By the order of one seed, so that all seeds have the same.
        known = min(steps, 1000)
        longest_N = np.array([self._lengths_N[self._order(0, step, batch_size)].max() for step in range(known)])
        longest_N = np.append(longest_N, self._lengths_N.max())  # which another order may meet
        return RowBatches(self.rows, chosen_lengths(longest_N, price * known / steps))

    def records(self, seed: int, step: int, batch_size: int) -> list[str]:
        """The examples in the global batch of `step`, by number."""
        return [f"example:{self.rows.examples_N[number]}" for number in self._order(seed, step, batch_size)]

    def _order(self, seed: int, step: int, batch_size: int) -> np.ndarray:
        epochs_B, positions_B = np.divmod(np.int64(step) * batch_size + np.arange(batch_size), self.num_examples)
        return permute(positions_B, self.num_examples, counter_rng.fold(seed, epochs_B))

    def _batch(self, numbers_B: np.ndarray, rows_R: np.ndarray, weights_B: np.ndarray) -> Batch:
        # Every process pads to the longest row of the whole batch, its own or not: they run one program.
        longest = int(self._lengths_N[numbers_B].max())
        length = next((length for length in self._lengths if length >= longest), longest)
        numbers_R = numbers_B[rows_R]
        batch = {
            "input_ids": _padded([self.rows.input_ids[n] for n in numbers_R], length),
            "segment_ids": _padded([self.rows.segment_ids[n] for n in numbers_R], length),
            "sequence_ids": (np.arange(length) < self._lengths_N[numbers_R, None]).astype(np.int32),
            "row_weights": weights_B[rows_R],
        }
        batch |= {name: _padded([t[n] for n in numbers_R], length) for name, t in self.rows.token_targets.items()}
        return batch | {name: target[numbers_R] for name, target in self.rows.row_targets.items()}


def _padded(arrays: Sequence[np.ndarray], length: int) -> np.ndarray:
    padded_RxL = np.zeros((len(arrays), length), arrays[0].dtype)
    for row_L, array in zip(padded_RxL, arrays, strict=True):
        row_L[: len(array)] = array
    return padded_RxL
