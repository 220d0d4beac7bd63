"""What a model kept of the canaries: their exposure, and a lower bound on epsilon.

Shape legend: C candidates, A alternatives.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.audit import epsilon, exposure, membership, people
from clinicalbert_jax.audit.people import ScoresSentences, sentence
from data_prep.canaries import secrets
from data_prep.canaries.private_file import Content
from data_prep.canaries.secrets import Candidate
from data_prep.wordpiece.tokenizer import Tokenizer

NUM_ALTERNATIVES = 1023
DELTA = 1e-5
MIN_FOR_BOUND = 20  # canaries planted or left out for one place

Floats = npt.NDArray[np.float64]


def findings(content: Content, tokenizer: Tokenizer, model: ScoresSentences) -> dict[str, Any]:
    """Exposures by repeats, the bound, and what could have been seen, as plain values."""
    audited = [one for one in content.candidates if one.num_places == one.repeats]
    scores_C, alternatives_CxA = scores(audited, content, tokenizer, model)
    found = exposure.exposures(scores_C, alternatives_CxA)
    planted_C = np.array([one.is_planted for one in audited])
    repeats_C = np.array([one.repeats for one in audited])
    rows: list[dict[str, Any]] = []
    for repeats in secrets.REPEATS:
        chosen_C = repeats_C == repeats
        of = {"planted": chosen_C & planted_C, "left_out": chosen_C & ~planted_C}
        rows.append(
            {"repeats": repeats, "auc": _told_apart(scores_C[of["planted"]], scores_C[~planted_C])}
            | {name: _summary(found.bits_C[where_C]) for name, where_C in of.items()}
        )
    document: dict[str, Any] = {
        "form": content.form,
        "audited": len(audited),
        "not_audited": len(content.candidates) - len(audited),
        "alternatives": int(alternatives_CxA.shape[1]),
        "ceiling_bits": found.ceiling,
        "by_repeats": rows,
        "epsilon": _bound(scores_C[repeats_C == 1], planted_C[repeats_C == 1]),
        "smallest_visible_bits": exposure.smallest_visible(
            max(1, int((planted_C & (repeats_C == 1)).sum())), max(1, int((~planted_C).sum()))
        ),
    }
    if content.form == secrets.NAME:
        document["condition_of_name"] = {
            name: people.findings(
                [(one.secret, one.condition) for one in audited if one.is_planted == is_planted], tokenizer, model
            )
            for name, is_planted in (("planted", True), ("left_out", False))
        }
    return document


def scores(
    audited: Sequence[Candidate], content: Content, tokenizer: Tokenizer, model: ScoresSentences
) -> tuple[Floats, Floats]:
    """The score of each candidate, and of its alternatives: other numbers, or other names with the same condition."""
    besides = [one.secret for one in content.candidates]
    # Any key will do, since the alternatives need not be secret.
    others = secrets.alternatives(NUM_ALTERNATIVES, content.form, int(content.shards_sha256[:15], 16), besides)
    scores_C = model.of_sentences([sentence(one.parts, tokenizer) for one in audited], "scoring canaries")
    of_condition: dict[str, Floats] = {}
    for condition in sorted({one.condition for one in audited}):
        alternatives = [sentence(Candidate(other, condition, 1, False).parts, tokenizer) for other in others]
        of_condition[condition] = model.of_sentences(alternatives, "scoring alternatives")
    return scores_C, np.stack([of_condition[one.condition] for one in audited])


def _summary(bits: Floats) -> dict[str, float | int] | None:
    if not len(bits):
        return None
    return {"count": len(bits), "mean": float(bits.mean()), "median": float(np.median(bits))}


def _told_apart(planted: Floats, left_out: Floats) -> Mapping[str, float] | None:
    """How well the score tells planted canaries from those left out; None with too few for an interval."""
    if min(len(planted), len(left_out)) < membership.MIN_PATIENTS:
        return None
    estimate = membership.auc(planted, left_out, np.arange(len(planted)), np.arange(len(left_out)))
    return estimate._asdict()


def _bound(scores_C: Floats, planted_C: npt.NDArray[np.bool_]) -> dict[str, Any] | None:
    if len(scores_C) < MIN_FOR_BOUND:
        return None
    return epsilon.lower_bound(scores_C, planted_C, DELTA)._asdict() | {"canaries": len(scores_C)}
