"""A text longer than a row as several overlapping slices, and which of them sees the most around each place.

Shape legend: T places of the text (word pieces, say).
"""

from collections.abc import Sequence

import numpy as np


def slices(length: int, room: int, stride: int) -> list[slice]:
    """Slices of at most `room` places that begin `stride` apart and together cover `length` places.

    As the sliding window of Devlin et al. (google-research/bert, run_squad.py, `doc_stride`): all but the last are
    full, and neighbours share `room - stride` places. A text that fits is one slice, an empty one too.
    """
    if not 1 <= stride <= room:
        raise ValueError(f"expected 1 <= stride <= room, found stride {stride} and room {room}")
    overhang = max(0, length - room)
    starts = range(0, overhang + stride, stride) if overhang else range(1)
    return [slice(start, min(start + room, length)) for start in starts]


def owners(windows: Sequence[slice]) -> np.ndarray:
    """For each place the number of the window in which its context, the shorter side of the two, is longest: int32 [T].

    Between equals, the earlier window. `windows` are those of `slices`: then what follows an owner is owned by the
    same or by a later window.
    """
    places_T = np.arange(windows[-1].stop)
    owner_T = np.zeros(len(places_T), np.int32)
    context_T = np.full(len(places_T), -1)
    for number, window in enumerate(windows):
        inside = places_T[window]
        context = np.minimum(inside - window.start, window.stop - 1 - inside)
        better = context > context_T[window]
        owner_T[window] = np.where(better, number, owner_T[window])
        context_T[window] = np.where(better, context, context_T[window])
    return owner_T
