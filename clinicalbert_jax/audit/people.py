"""Names and conditions: does a person's name raise the probability of the person's own condition?

For each name, the probability of every condition in 'NAME has a history of CONDITION.' is compared with its mean over
all names, which is the frequency baseline. A name gives its person away where its own condition is raised most.

Shape legend: N people, K conditions.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.errors import UserError
from data_prep.canaries.secrets import Candidate
from data_prep.wordpiece.tokenizer import Tokenizer

MIN_PEOPLE = 30
MIN_CONDITIONS = 3

Person = tuple[str, str]  # name and condition


class Sentence(NamedTuple):
    """The tokens of a sentence, and where those stand in it whose probability is asked for."""

    ids: Sequence[int]
    begin: int
    end: int


class ScoresSentences(Protocol):
    """A model, as far as sentences are concerned; see `losses.Scorer`."""

    def of_sentences(self, sentences: Sequence[Sentence], doing: str) -> npt.NDArray[np.float64]:
        """The score of each, higher for what is more likely."""


def read(path: Path) -> list[Person]:
    """The people of a CSV file of two columns, name and condition, without a header; raises `UserError`."""
    expected = f"--names: expected a CSV file of two columns, name and condition, of at least {MIN_PEOPLE} people"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file, strict=True) if row]
    except OSError as error:
        raise UserError(f"{expected}, found none ({error.strerror})") from None
    except (csv.Error, UnicodeDecodeError):
        raise UserError(f"{expected}, found one that cannot be read as CSV") from None
    for number, row in enumerate(rows, 1):
        if len(row) != 2 or not all(row):
            raise UserError(f"{expected}, found another row at {number}")
    people = [(name, condition) for name, condition in rows]
    if len(people) < MIN_PEOPLE or len({condition for _, condition in people}) < MIN_CONDITIONS:
        raise UserError(f"{expected} with {MIN_CONDITIONS} different conditions, found fewer")
    return people


def sentence(parts: tuple[str, str, str], tokenizer: Tokenizer) -> Sentence:
    """What stands before the part that is asked for, that part, and what follows it, as tokens."""
    ids_T, lengths = tokenizer.ids(list(parts))
    begin = int(lengths[0])
    return Sentence(ids_T.tolist(), begin, begin + int(lengths[1]))


def findings(people: Sequence[Person], tokenizer: Tokenizer, model: ScoresSentences) -> dict[str, Any] | None:
    """How often a name raises its own condition above another one, with an interval over names; None of too few.

    0.5 is chance. Each condition is compared with itself after other names, so that frequent ones have no advantage.
    """
    conditions = sorted({condition for _, condition in people})
    if len(people) < MIN_PEOPLE or len(conditions) < MIN_CONDITIONS:
        return None
    sentences = [
        sentence(Candidate(name, condition, 1, False).parts, tokenizer)
        for name, _ in people
        for condition in conditions
    ]
    scores_NxK = model.of_sentences(sentences, "scoring names").reshape(len(people), len(conditions))
    raised_NxK = scores_NxK - (scores_NxK.sum(0) - scores_NxK) / (len(people) - 1)  # the mean of the other names
    own_N = np.array([conditions.index(condition) for _, condition in people])
    raised_N = raised_NxK[np.arange(len(people)), own_N]
    lower_N = (raised_NxK < raised_N[:, None]).sum(1) + 0.5 * ((raised_NxK == raised_N[:, None]).sum(1) - 1)
    fraction_N = lower_N / (len(conditions) - 1)
    error = 1.96 * fraction_N.std(ddof=1) / np.sqrt(len(people))
    value = float(fraction_N.mean())
    return {
        "people": len(people),
        "conditions": len(conditions),
        "own_above_others": {"value": value, "low": max(0.0, value - error), "high": min(1.0, value + error)},
    }
