"""Precision, recall and F1 from counts."""

from typing import NamedTuple


class Rates(NamedTuple):
    """Three rates, each 0 where it would divide by 0."""

    precision: float
    recall: float
    f1: float


def of_counts(right: float, found: float, annotated: float) -> Rates:
    """From how many were right, found and annotated, as seqeval and scikit-learn compute them (`zero_division=0`)."""
    precision = right / found if found else 0.0
    recall = right / annotated if annotated else 0.0
    return Rates(precision, recall, 2 * precision * recall / (precision + recall) if right else 0.0)


def in_percent(rates: Rates) -> tuple[str, str, str]:
    """As a table shows them."""
    return f"{rates.precision:.1%}", f"{rates.recall:.1%}", f"{rates.f1:.1%}"
