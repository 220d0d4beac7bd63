"""Exact match and F1 of answers by the official rules of SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, 2018).

Both compare words without case, punctuation and articles; of several annotated answers the best counts.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Judged(NamedTuple):
    """1 or 0 for an exact match, and the F1 of words."""

    exact: float
    f1: float


def normalized(answer: str) -> str:
    """Lower case, without punctuation and then without articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_NO_PUNCTUATION)).split())


def judge(given: str, annotated: Sequence[str], unanswerable: bool) -> Judged:
    """The answer given ('' for none) against those annotated (none where there is no answer).

    `unanswerable`: by the rules of SQuAD 2.0. Annotated answers of which nothing is left do not count, no answer is
    right where none is annotated, and it shares no word with any. By those of 1.1 an empty answer has F1 0.
    """
    golds = [normalized(answer) for answer in annotated]
    if unanswerable:
        golds = [gold for gold in golds if gold] or [""]
    words = normalized(given)
    exact = max((float(words == gold) for gold in golds), default=0.0)
    f1 = max((_f1(words.split(), gold.split(), float(unanswerable)) for gold in golds), default=0.0)
    return Judged(exact, f1)


def best_threshold(margins_E: np.ndarray, f1_E: np.ndarray, impossible_E: np.ndarray) -> tuple[float, float]:
    """The F1 that the best threshold gives, and that threshold, as SQuAD 2.0's script finds them.

    `margins_E`: score of no answer less that of the best one; no answer is given where it is above the threshold.
    `f1_E`: what the best answer is worth. Chosen on the data it is measured on: an upper bound.
    """
    order_E = np.argsort(margins_E, kind="stable")
    gains_E = np.where(impossible_E, -1.0, f1_E)[order_E]
    # A threshold lies at a margin: those up to it are answered. Equal margins go together.
    totals = np.concatenate([[0.0], np.cumsum(gains_E)]) + impossible_E.sum()
    sorted_E = margins_E[order_E]
    allowed = np.concatenate([[True], sorted_E[1:] > sorted_E[:-1], [True]])
    best = int(np.argmax(np.where(allowed, totals, -np.inf)))
    threshold = float(sorted_E[best - 1]) if best else float(sorted_E[0]) - 1.0
    return float(totals[best] / len(margins_E)), threshold


def _f1(given: list[str], annotated: list[str], both_empty: float) -> float:
    if not given and not annotated:
        return both_empty
    same = (Counter(given) & Counter(annotated)).total()
    return 2 * same / (len(given) + len(annotated))
