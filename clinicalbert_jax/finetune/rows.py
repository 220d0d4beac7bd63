"""Rows of a downstream dataset, in memory, and batches of them as a pure function of (rows, seed, step).

Short rows share a packed row, as sequences numbered 1, 2, ... by `sequence_ids`: nothing is padded that need not be.

Shape legend: N rows, l the length of one row, B rows of a global batch; R packed rows, L their length, K the most rows
in one of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tokenizers

from clinicalbert_jax.data import counter_rng
from clinicalbert_jax.data.dataset import Batch
from clinicalbert_jax.data.shuffle import permute

_LENGTHS = (*range(16, 129, 16), 160, 192, 224, 256, 320, 384, 448, 512)
# Of packed rows, where the model has so many positions. In longer ones attention costs more than padding does.
_PACKED_LENGTH = 128
_SHORTEST = 16  # on average, of the rows that share a packed one; more of them are not packed together


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

    @property
    def lengths_N(self) -> np.ndarray:
        """Tokens of each row."""
        return np.array([len(ids) for ids in self.input_ids])


def packed_length(longest: int, max_position_embeddings: int) -> int:
    """The length of packed rows for rows of at most `longest` tokens; padding after a row has positions as well."""
    fitting = next((length for length in _LENGTHS if longest <= length <= max_position_embeddings), longest)
    return max(fitting, min(_PACKED_LENGTH, max_position_embeddings))


def most_in_one(length: int) -> int:
    """How many rows a packed row of `length` holds at most, K."""
    return max(1, length // _SHORTEST)


def pack(lengths_B: np.ndarray, length: int) -> list[list[int]]:
    """The numbers of the rows that share each packed row of `length`: best fit, the longest first."""
    most = most_in_one(length)
    packed: list[list[int]] = []
    open_by_room: list[list[int]] = [[] for _ in range(length + 1)]  # numbers of packed rows with so many tokens left
    rooms = 0  # the rooms that have any, as bits
    for number in np.argsort(-lengths_B, kind="stable").tolist():
        needed = int(lengths_B[number])
        if fitting := rooms >> needed:
            room = needed + (fitting & -fitting).bit_length() - 1
            into = open_by_room[room].pop()
            rooms &= ~(0 if open_by_room[room] else 1 << room)
        else:
            room, into = length, len(packed)
            packed.append([])
        packed[into].append(number)
        if len(packed[into]) < most and room > needed:
            open_by_room[room - needed].append(into)
            rooms |= 1 << room - needed
    return packed


def batch_of(rows: Rows, packed: Sequence[Sequence[int]], length: int, most: int) -> Batch:
    """The arrays of these packed rows, each given by the numbers of its rows; an empty one is padding.

    Ids and token targets are R x L; `first_positions`, where each row begins, and row targets are R x K x ....
    """
    shape_RxL, shape_RxK = (len(packed), length), (len(packed), most)
    of_tokens = {"input_ids": rows.input_ids, "segment_ids": rows.segment_ids, **rows.token_targets}
    batch = {name: np.zeros(shape_RxL, arrays[0].dtype) for name, arrays in of_tokens.items()}
    batch["sequence_ids"] = np.zeros(shape_RxL, np.int32)
    batch["first_positions"] = np.zeros(shape_RxK, np.int32)
    batch |= {name: np.zeros(shape_RxK + of.shape[1:], of.dtype) for name, of in rows.row_targets.items()}
    for row, numbers in enumerate(packed):
        start = 0
        for place, number in enumerate(numbers):
            end = start + len(rows.input_ids[number])
            for name, arrays in of_tokens.items():
                batch[name][row, start:end] = arrays[number]
            batch["sequence_ids"][row, start:end] = place + 1
            batch["first_positions"][row, place] = start
            for name, target_NxC in rows.row_targets.items():
                batch[name][row, place] = target_NxC[number]
            start = end
    return batch


class RowBatches:
    """Batches of rows for training, in shuffled order. Each is packed for itself: it holds the rows it would anyway."""

    def __init__(self, rows: Rows, length: int, sizes: Sequence[int] = (), multiple: int = 1) -> None:
        """`length`: of packed rows. `sizes`: how many of them a batch is filled up to, else to a `multiple`."""
        self.rows = rows
        self.num_examples = len(rows)
        self.corrupt: set[tuple[str, int]] = set()  # none: all rows are in memory
        self._length, self._sizes, self._multiple = length, sizes, multiple
        self._lengths_N = rows.lengths_N

    rows_per_read = 1  # nothing is gained by more

    def for_steps(self, steps: int, batch_size: int, price: float) -> "RowBatches":
        """The same rows, with sizes chosen for so many batches; see `chosen_sizes`."""
        known = min(steps, 1000)  # by the order of one seed, so that all seeds have the same
        orders = (self.order(0, step, batch_size) for step in range(known))
        needed_S = np.array([len(pack(self._lengths_N[order_B], self._length)) for order_B in orders])
        sizes = chosen_sizes(needed_S, self._multiple, price * known / steps)
        return RowBatches(self.rows, self._length, sizes, self._multiple)

    def train_batches(self, seed: int, steps: Sequence[int], batch_size: int, rows_R: np.ndarray) -> list[Batch]:
        """Of the batch of each of `steps` the part of the process that would hold rows `rows_R` of an unpacked one."""
        return [self._train_batch(seed, step, batch_size, rows_R) for step in steps]

    def _train_batch(self, seed: int, step: int, batch_size: int, rows_R: np.ndarray) -> Batch:
        order_B = self.order(seed, step, batch_size)
        packed = [order_B[numbers].tolist() for numbers in pack(self._lengths_N[order_B], self._length)]
        # Another seed may need more than any batch that was foreseen.
        size = next((size for size in self._sizes if size >= len(packed)), _up_to(self._multiple, len(packed)))
        packed += [[]] * (size - len(packed))
        held = np.isin(np.arange(size) * batch_size // size, rows_R)  # each device has the same share of both
        chosen = [numbers for numbers, is_held in zip(packed, held, strict=True) if is_held]
        return batch_of(self.rows, chosen, self._length, most_in_one(self._length))

    def records(self, seed: int, step: int, batch_size: int) -> list[str]:
        """The examples in the global batch of `step`, by number."""
        return [f"example:{self.rows.examples_N[number]}" for number in self.order(seed, step, batch_size)]

    def order(self, seed: int, step: int, batch_size: int) -> np.ndarray:
        """The numbers of the rows in the global batch of `step`: epoch after epoch, each in an order of its own."""
        epochs_B, positions_B = np.divmod(np.int64(step) * batch_size + np.arange(batch_size), self.num_examples)
        return permute(positions_B, self.num_examples, counter_rng.fold(seed, epochs_B))


def chosen_sizes(needed_S: np.ndarray, multiple: int, price: float) -> tuple[int, ...]:
    """The sizes to fill batches up to that cost least, where they need `needed_S` packed rows; multiples of `multiple`.

    A size costs `price` packed rows for its compilation, and every batch its size. The largest fits all of them.
    """
    sizes = range(multiple, _up_to(multiple, int(needed_S.max())) + 1, multiple)
    counts = np.bincount((needed_S - 1) // multiple, minlength=len(sizes))
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]  # for all batches that fit the first sizes
    for last, size in enumerate(sizes, start=1):
        best.append(
            min(
                (best[first][0] + price + float(counts[first:last].sum()) * size, (*best[first][1], size))
                for first in range(last)
            )
        )
    return best[-1][1]


def _up_to(multiple: int, count: int) -> int:
    return -(-count // multiple) * multiple
