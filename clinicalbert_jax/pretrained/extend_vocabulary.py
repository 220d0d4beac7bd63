"""Rows of a model's embedding table when the data's vocabulary extends the model's."""

from collections.abc import Sequence

import numpy as np

from clinicalbert_jax.errors import UserError


def origins(old: Sequence[str], new: Sequence[str]) -> list[list[int]]:
    """For each entry of `new`, the rows of `old` that it starts from the mean of: its own, or its pieces'.

    `new` must be `old` extended: each entry of `old` keeps its id, except that an '[unused...]' one may have been
    given a meaning. Raises `UserError` otherwise.
    """
    shared = min(len(old), len(new))
    moved = [i for i in range(shared) if old[i] != new[i] and not old[i].startswith("[unused")]
    if moved or len(new) < len(old):
        where = f"entry {moved[0]} differs, {len(moved)} in all" if moved else "entries at the end are gone"
        raise UserError(
            f"expected the data's vocabulary ({len(new)} entries) to be the model's ({len(old)} entries) or an "
            f"extension of it, found another: {where}; prepare the data with the model's own vocab.txt"
        )
    ids = {entry: i for i, entry in enumerate(old)}
    return [[i] if i < shared and old[i] == new[i] else _pieces(new[i], ids) for i in range(len(new))]


def grown(rows_V: np.ndarray, origins: list[list[int]]) -> np.ndarray:
    """A table or bias of the old vocabulary as one of the new: each row the mean of those it comes from."""
    starts = np.cumsum([0, *(len(rows) for rows in origins[:-1])])
    counts = np.array([len(rows) for rows in origins], np.float32)
    sums = np.add.reduceat(rows_V[np.concatenate(origins)], starts, axis=0)
    return sums / counts.reshape(-1, *[1] * (rows_V.ndim - 1))


def _pieces(entry: str, ids: dict[str, int]) -> list[int]:
    # WordPiece's own rule: always the longest entry that fits. A continuation ('##ml') stays one.
    prefix = "##" if entry.startswith("##") and len(entry) > 2 else ""
    rest = entry.removeprefix(prefix)
    found: list[int] = []
    while rest:
        length = next((n for n in range(len(rest), 0, -1) if prefix + rest[:n] in ids), None)
        if length is None:
            return [ids["[UNK]"]]
        found.append(ids[prefix + rest[:length]])
        prefix, rest = "##", rest[length:]
    return found or [ids["[UNK]"]]
