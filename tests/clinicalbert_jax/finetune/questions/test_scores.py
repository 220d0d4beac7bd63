"""Answers are judged as the official scripts of SQuAD 1.1 and 2.0 judge them."""

import re
import string
from collections.abc import Sequence

import numpy as np
import pytest

from clinicalbert_jax.finetune.questions import scores as squad_scores

pytestmark = pytest.mark.fast

CASES = 3000
# Articles alone, inside words and beside punctuation; words that normalization makes equal, or makes nothing of.
PARTS = [
    *("the", "The", "a", "an", "A", "theme", "anoxia", "x-ray", "xray", "x ray", "31 kb", "31", "kb,", "(a)", "-"),
    *("!", "“the”", "a’s", "patient's", "patients", "naïve", "naive", "É", "é", "the_b", "\n", "\u00a0", "  "),
]


def reference_words(answer: str) -> list[str]:
    """The rules in the words of the paper: case, punctuation and articles are ignored."""
    letters = [character for character in answer.lower() if character not in string.punctuation]
    pieces = re.split(r"(\w+)", "".join(letters))
    return "".join(" " if piece in ("a", "an", "the") else piece for piece in pieces).split()


def reference(given: str, annotated: Sequence[str], version: int) -> tuple[float, float]:
    """Exact match and F1 by the scripts' rules, on lists of words."""
    golds = [reference_words(answer) for answer in annotated]
    if version == 2:
        golds = [words for words in golds if words] or [[]]
    words, exact, best = reference_words(given), 0.0, 0.0
    for gold in golds:
        exact = max(exact, float(words == gold))
        left, same = list(gold), 0
        for word in words:
            if word in left:
                left.remove(word)
                same += 1
        if same:
            precision, recall = same / len(words), same / len(gold)
            best = max(best, 2 * precision * recall / (precision + recall))
        elif version == 2 and not words and not gold:
            best = 1.0
    return exact, best


@pytest.mark.parametrize("version", [1, 2])
def test_judgements_equal_a_reference_on_random_answers(version: int) -> None:
    generator = np.random.default_rng(version)

    def answer(least: int) -> str:
        chosen = generator.choice(PARTS, size=generator.integers(least, 5))
        return str(generator.choice([" ", ""])).join(chosen)

    partial = 0
    for _ in range(CASES):
        annotated = [answer(1) for _ in range(generator.integers(2 - version, 4))] or ["the"]
        # Half of them share words with an annotated answer.
        given = answer(0) if generator.random() < 0.5 else f"{annotated[0]} {answer(0)}"
        judged = squad_scores.judge(given, annotated, unanswerable=version == 2)
        assert judged == pytest.approx(reference(given, annotated, version))
        partial += 0 < judged.f1 < 1
    assert partial > CASES / 10


@pytest.mark.parametrize(
    ("given", "annotated", "unanswerable", "expected"),
    [
        ("The Lungs.", ["lungs"], False, (1, 1)),
        ("left lung", ["the left upper lung", "heart"], False, (0, 0.8)),
        ("left lung", ["heart", "left lung"], False, (1, 1)),
        ("lung lung", ["lung"], False, (0, 2 / 3)),
        ("", ["heart"], True, (0, 0)),
        ("", [], True, (1, 1)),
        ("heart", [], True, (0, 0)),
        ("the", ["a"], False, (1, 0)),
        ("the", ["a"], True, (1, 1)),
    ],
)
def test_known_judgements(given: str, annotated: list[str], unanswerable: bool, expected: tuple[float, float]) -> None:
    assert squad_scores.judge(given, annotated, unanswerable) == pytest.approx(expected)


def test_the_best_threshold_is_the_best_of_all() -> None:
    generator = np.random.default_rng(0)
    for case in range(1000):
        size = int(generator.integers(1, 12))
        margins_E = generator.normal(size=size).round(1 if case % 2 else 6)
        impossible_E = generator.random(size) < 0.4
        f1_E = np.where(impossible_E, 0.0, generator.random(size))
        tried = [
            np.where(margins_E > threshold, impossible_E, f1_E).mean()
            for threshold in [*margins_E, margins_E.min() - 1, margins_E.max() + 1]
        ]
        best, threshold = squad_scores.best_threshold(margins_E, f1_E, impossible_E)
        assert best == pytest.approx(max(tried))
        assert np.where(margins_E > threshold, impossible_E, f1_E).mean() == pytest.approx(best)
