"""Documents longer than a row: split into chunks, whose decisions are pooled to one for the document.

Shape legend: N rows (chunks), E documents, C labels.
"""

import numpy as np

from clinicalbert_jax.finetune.inputs import sliding_windows

POOLINGS = ("mean", "max", "readmission")

# Of Huang, Altosaar and Ranganath (arXiv:1904.05342): chunks after which the mean outweighs the maximum.
_READMISSION_SCALE = 2


def split(first: np.ndarray, second: np.ndarray | None, room: int, stride: int) -> list[tuple[np.ndarray, ...]]:
    """The tokens of a text, or of a pair, in chunks of at most `room` tokens that begin `stride` apart (0: `room`).

    Of a pair that is too long, the longer text is split, and each chunk holds the shorter one, up to half the room.
    """
    if second is None:
        return [(first[part],) for part in sliding_windows.slices(len(first), room, stride or room)]
    if len(first) + len(second) <= room:
        return [(first, second)]
    if len(first) < len(second):
        first = first[: room // 2]
        return [(first, second[part]) for part in _slices(len(second), room - len(first), stride)]
    second = second[: room // 2]
    return [(first[part], second) for part in _slices(len(first), room - len(second), stride)]


def spread(count: int, most: int) -> np.ndarray:
    """Which of `count` chunks to keep so that at most `most` (0: all) are left: evenly from the first to the last."""
    if not most or count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(np.int64)


def pool(probabilities_NxC: np.ndarray, counts_E: np.ndarray, pooling: str, independent: bool) -> np.ndarray:
    """ExC probabilities of documents from those of their chunks: the first `counts_E[0]` rows, then the next, ...

    `independent`: each label is a decision of its own. Else one of the labels holds: of two, the second is pooled
    and the first gets the rest; of more, each is pooled and the sum made 1. 'readmission' is
    (max + mean * n / c) / (1 + n / c) with c = 2, of n chunks: the more of them, the less one alone decides.
    """
    starts_E = np.concatenate([[0], np.cumsum(counts_E)[:-1]])
    mean_ExC = np.add.reduceat(probabilities_NxC, starts_E) / counts_E[:, None]
    max_ExC = np.maximum.reduceat(probabilities_NxC, starts_E)
    scaled_Ex1 = counts_E[:, None] / _READMISSION_SCALE
    pooled_ExC = {
        "mean": mean_ExC,
        "max": max_ExC,
        "readmission": (max_ExC + mean_ExC * scaled_Ex1) / (1 + scaled_Ex1),
    }[pooling]
    if independent:
        return pooled_ExC
    if pooled_ExC.shape[1] == 2:
        return np.stack([1 - pooled_ExC[:, 1], pooled_ExC[:, 1]], axis=1)
    return pooled_ExC / pooled_ExC.sum(1, keepdims=True)


def _slices(length: int, room: int, stride: int) -> list[slice]:
    return sliding_windows.slices(length, room, min(stride or room, room))
