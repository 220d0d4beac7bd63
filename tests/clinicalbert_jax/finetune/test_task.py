"""What tasks share: documents as the unit of resampling, and names of labels."""

import numpy as np
import pytest

from benchmarks import finetune
from clinicalbert_jax.finetune.questions.squad_files import Question
from clinicalbert_jax.finetune.similarity.task import Pair

pytestmark = pytest.mark.fast


def test_examples_of_a_patient_or_a_context_are_one_document() -> None:
    pairs = [Pair(str(n), n, patient, ("a", "b"), 0) for n, patient in enumerate(("p", "p", "q", "", ""))]
    assert [pair.document for pair in pairs] == ["p", "p", "q", "3", "4"]
    questions = [Question(str(n), n, "", "who", context, ()) for n, context in enumerate("xxy")]
    assert [question.document for question in questions] == ["x", "x", "y"]


def test_intervals_are_those_of_independent_documents_not_of_their_copies() -> None:
    """Twenty-five equal examples of a document tell no more than one: a fifth of the width would claim they do."""
    generator = np.random.default_rng(0)
    right_D = generator.random((2, 40)) < [[0.8], [0.6]]
    widths = []
    for copies in (1, 25):
        examples = [Pair(f"{d}.{n}", 1, f"d{d}", ("a", "b"), 0) for d in range(40) for n in range(copies)]
        first, second = (np.stack([np.repeat(of, copies), np.ones(40 * copies)], axis=1) for of in right_D)
        found = finetune._difference(examples, lambda sums_2: float(sums_2[0] / sums_2[1]), first, second)
        assert found["value"] == pytest.approx(right_D[0].mean() - right_D[1].mean())
        widths.append(found["high"] - found["low"])
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
