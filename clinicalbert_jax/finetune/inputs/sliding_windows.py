"""A text longer than a row as several overlapping windows, and in which of them each position has most context.

Shape legend: T positions of the text (tokens, for example).
"""

from collections.abc import Sequence

import numpy as np


def slices(length: int, room: int, stride: int) -> list[slice]:
    """Slices of at most `room` positions that begin `stride` apart and cover all of `length` positions.

    As the sliding window of Devlin et al. (google-research/bert, run_squad.py, `doc_stride`): all but the last are
    full, and neighbours overlap by `room - stride` positions. A text that fits is one slice, an empty one too.
    """
    if not 1 <= stride <= room:
        raise ValueError(f"expected 1 <= stride <= room, found stride {stride} and room {room}")
    overhang = max(0, length - room)
    starts = range(0, overhang + stride, stride) if overhang else range(1)
    return [slice(start, min(start + room, length)) for start in starts]


def owners(windows: Sequence[slice]) -> np.ndarray:
    """For each position the number of the window where its context, the shorter of both sides, is longest: int32 [T].

    Between equals, the earlier window. `windows` are those of `slices`: then what follows an owner is owned by the
    same or by a later window.
    """
    positions_T = np.arange(windows[-1].stop)
    owner_T = np.zeros(len(positions_T), np.int32)
    context_T = np.full(len(positions_T), -1)
    for number, window in enumerate(windows):
        inside = positions_T[window]
        context = np.minimum(inside - window.start, window.stop - 1 - inside)
        better = context > context_T[window]
        owner_T[window] = np.where(better, number, owner_T[window])
        context_T[window] = np.where(better, context, context_T[window])
    return owner_T
