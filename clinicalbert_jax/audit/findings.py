"""Membership: how well scores tell patients whose notes were trained on from those whose notes were not.

By patient (the mean over the patient's tokens) and by pair (a window), of all text and of text that no other patient
has, by category, length and repeats. Subsets with fewer than `MIN_PATIENTS` patients on a side are left out.

Shape legend: W windows, M members, N non-members.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.audit import membership
from clinicalbert_jax.audit.membership import MIN_PATIENTS, Estimate
from clinicalbert_jax.audit.texts import Windows

ALPHAS = (0.01, 0.001)
LOSS, RATIO = "loss", "ratio"  # the attacks
MOST_EXPOSED = 10
_ROC_POINTS = 200

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def membership_findings(
    windows: Windows, loss_W: Floats, reference_W: Floats | None, categories: Sequence[str]
) -> dict[str, Any]:
    """Everything about membership, as plain values."""
    scores = {LOSS: -loss_W} | ({} if reference_W is None else {RATIO: reference_W - loss_W})
    every_W = np.ones(len(loss_W), bool)
    attacks = {
        name: {
            unit: {
                "all_text": _told_apart(windows, score_W, every_W, unit),
                "own_text": _told_apart(windows, score_W, ~windows.is_shared_W, unit),
            }
            for unit in ("patient", "pair")
        }
        for name, score_W in scores.items()
    }
    # The stronger attack, for that is the one to fear: a reference may have seen the same notes, and hide what is kept.
    strongest = max(scores, key=lambda name: _auc_by_patient(windows, scores[name]))
    score_W = scores[strongest]
    sides = _sides(windows, score_W, every_W, "patient")
    return {
        "attacks": attacks,
        "roc": {name: _roc(windows, one_W) for name, one_W in scores.items()},
        "strongest": strongest,
        "by_category": {
            name: found
            for number, name in enumerate(categories)
            if (found := _told_apart(windows, score_W, windows.category_W == number, "pair"))
        },
        "by_length": _by_length(windows, score_W),
        "by_times": _by_times(windows, score_W),
        "most_exposed": _most_exposed(*sides[:2]),
        "fraction_of_shared_windows": float(windows.is_shared_W.mean()),
        "smallest_visible_auc": membership.smallest_visible_auc(len(sides[0]), len(sides[1])),
    }


def num_patients(windows: Windows) -> tuple[int, int]:
    """Of members and of non-members."""
    is_member_W = windows.is_member_W
    return len(np.unique(windows.patient_W[is_member_W])), len(np.unique(windows.patient_W[~is_member_W]))


def _sides(
    windows: Windows, score_W: Floats, chosen_W: Mask, unit: str
) -> tuple[Floats, Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Scores of members and of non-members, and their patients."""
    found: list[Any] = []
    for is_member in (True, False):
        where_W = chosen_W & (windows.is_member_W == is_member)
        score, patient, weight = score_W[where_W], windows.patient_W[where_W], windows.length_W[where_W]
        if unit == "patient":
            patient, number = np.unique(patient, return_inverse=True)
            score = np.bincount(number, score * weight) / np.maximum(np.bincount(number, weight), 1)
        found.append((score, patient))
    (members_M, of_M), (others_N, of_N) = found
    return members_M, others_N, of_M, of_N


def _told_apart(windows: Windows, score_W: Floats, chosen_W: Mask, unit: str) -> dict[str, Any] | None:
    """AUC and rates, None with too few patients."""
    sides = _sides(windows, score_W, chosen_W, unit)
    if min(len(np.unique(patients)) for patients in sides[2:]) < MIN_PATIENTS:
        return None
    rates = {str(alpha): _document(membership.true_positive_rate(*sides, alpha=alpha)) for alpha in ALPHAS}
    return {"auc": _document(membership.auc(*sides)), "true_positive_rate": rates}


def _auc_by_patient(windows: Windows, score_W: Floats) -> float:
    return membership.auc(*_sides(windows, score_W, np.ones(len(score_W), bool), "patient")).value


def _document(estimate: Estimate | None) -> Mapping[str, float] | None:
    return None if estimate is None else estimate._asdict()


def _roc(windows: Windows, score_W: Floats) -> list[list[float]]:
    """Points of the curve by patient, thinned so that low rates keep theirs."""
    false, true = membership.roc(*_sides(windows, score_W, np.ones(len(score_W), bool), "patient")[:2])
    kept = np.unique(np.concatenate([np.arange(min(50, len(false))), np.linspace(0, len(false) - 1, _ROC_POINTS)]))
    return [[float(false[at]), float(true[at])] for at in kept.astype(int)]


def _by_length(windows: Windows, score_W: Floats) -> list[dict[str, Any]]:
    """In thirds by the number of tokens."""
    edges = np.quantile(windows.length_W, (0, 1 / 3, 2 / 3, 1)).astype(int)
    rows = []
    for low, high in pairwise(edges.tolist()):
        is_last = high == edges[-1]
        chosen_W = (windows.length_W >= low) & ((windows.length_W < high) | is_last)
        if low < high and (found := _told_apart(windows, score_W, chosen_W, "pair")):
            rows.append({"from_tokens": int(low), "to_tokens": int(high) if is_last else int(high) - 1} | found)
    return rows


def _by_times(windows: Windows, score_W: Floats) -> list[dict[str, Any]]:
    """Members by the places of the training notes in which their text stands, against all non-members."""
    rows = []
    for low, high in ((1, 1), (2, 3), (4, None)):
        has_W = (windows.times_W >= low) & ((windows.times_W <= high) if high else True)
        if found := _told_apart(windows, score_W, has_W | ~windows.is_member_W, "pair"):
            rows.append({"from_times": low, "to_times": high} | found)
    return rows


def _most_exposed(members_M: Floats, others_N: Floats) -> list[float]:
    """For the members of the highest scores, by rank, the fraction of non-members that look as much like members."""
    return [float((others_N >= score).mean()) for score in np.sort(members_M)[::-1][:MOST_EXPOSED]]
