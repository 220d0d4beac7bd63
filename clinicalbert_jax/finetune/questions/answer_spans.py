"""From the start and end logits of a question's windows to the likeliest answers.

Shape legend: l tokens of a window, S starts, T ends.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from clinicalbert_jax.finetune.task import softmax


@dataclass(frozen=True)
class Answer:
    """Characters `start` to `end` of the context; start == end: no answer.

    `score` is the sum of two logits less those of [CLS] in the same window; no answer has 0.
    """

    start: int
    end: int
    score: float
    probability: float


@dataclass(frozen=True)
class Answers:
    """The answer given, and all that were considered, the likeliest first.

    `null_margin` is the score of the best answer, negated, where questions may have none.
    """

    given: Answer
    n_best: tuple[Answer, ...]
    null_margin: float | None


def best(
    windows: Iterable[tuple[np.ndarray, np.ndarray]],
    n_best: int,
    max_answer_length: int,
    null_threshold: float | None,
) -> Answers:
    """The answers of a question from the logits (l x 2) and offsets (l x 2) of all its windows.

    The `n_best` likeliest starts and ends of each window, at most `max_answer_length` tokens apart, are ranked over all
    windows by the sum of their logits less those of [CLS] in their own window, the null score of Devlin et al. (2019,
    section 4.3), as google-research/language does in bert_joint/run_nq.py (Alberti et al. 2019). Training leaves a
    constant added to all logits of a window open; the difference is free of it. It is the log odds of the span against
    no answer in its window: where windows are independent and at most one holds the answer, the likeliest span has the
    highest. Within one window the raw sums of google-research/bert's run_squad.py rank alike.

    Probabilities are over the answers kept. No answer has score 0, and is given where that is above the best answer's
    by more than `null_threshold` (None: never).
    """
    scores: dict[tuple[int, int], float] = {}
    for logits_lx2, offsets_lx2 in windows:
        for span, score in _candidates(logits_lx2.astype(np.float64), offsets_lx2, n_best, max_answer_length):
            scores[span] = max(score, scores.get(span, -np.inf))
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:n_best]
    margin = -ranked[0][1] if ranked else np.inf
    if null_threshold is not None or not ranked:
        ranked = sorted([*ranked, ((0, 0), 0.0)], key=lambda item: (-item[1], item[0]))
    n_best_answers = _with_probabilities(ranked)
    if null_threshold is None:
        return Answers(n_best_answers[0], n_best_answers, None)
    without = margin > null_threshold
    given = next(answer for answer in n_best_answers if (answer.start == answer.end) == without)
    return Answers(given, n_best_answers, margin)


def _candidates(
    logits_lx2: np.ndarray, offsets_lx2: np.ndarray, n_best: int, max_answer_length: int
) -> list[tuple[tuple[int, int], float]]:
    """Spans of characters with their scores, at most `n_best`."""
    inside = np.flatnonzero(offsets_lx2[:, 1] > offsets_lx2[:, 0])  # neither special tokens nor the question
    starts_S, ends_T = (inside[np.argsort(-logits_lx2[inside, side], kind="stable")[:n_best]] for side in (0, 1))
    scores_SxT = logits_lx2[starts_S, 0][:, None] + logits_lx2[ends_T, 1] - logits_lx2[0].sum()
    lengths_SxT = ends_T - starts_S[:, None] + 1
    s, t = np.nonzero((lengths_SxT >= 1) & (lengths_SxT <= max_answer_length))
    kept = np.argsort(-scores_SxT[s, t], kind="stable")[:n_best]
    return [
        ((int(offsets_lx2[starts_S[i], 0]), int(offsets_lx2[ends_T[j], 1])), float(scores_SxT[i, j]))
        for i, j in zip(s[kept], t[kept], strict=True)
    ]


def _with_probabilities(ranked: Sequence[tuple[tuple[int, int], float]]) -> tuple[Answer, ...]:
    probabilities = softmax(np.array([score for _, score in ranked])).tolist()
    return tuple(Answer(*span, score, p) for (span, score), p in zip(ranked, probabilities, strict=True))
