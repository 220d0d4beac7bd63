"""What the pages of a comparison show: nothing from which a small count follows, and no order that hides the best."""

import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from clinicalbert_jax.finetune.classification.task import ClassificationConfig, Document
from clinicalbert_jax.finetune.compare import page, results, trainings
from clinicalbert_jax.finetune.compare.leakage import Found
from clinicalbert_jax.finetune.rows import Rows
from clinicalbert_jax.finetune.similarity.task import Pair, SimilarityConfig

pytestmark = pytest.mark.fast

NUM = 200
ROWS = Rows([np.zeros(2, np.int32)] * NUM, [np.zeros(2, np.int32)] * NUM, np.arange(NUM))


def labelled(num_rare: int = 100) -> list[Document]:
    return [Document(f"d{n:03}", n, f"p{n:03}", "pain", "", ("b" if n < num_rare else "a",)) for n in range(NUM)]


def scored(wrong: Sequence[set[int]], documents: list[Document], main: str = "accuracy") -> results.Scored:
    """Of a model that has these documents wrong, one set for each seed."""
    task = ClassificationConfig(main=main).task(documents)
    of_seeds = []
    for of_seed in wrong:
        is_a = [(one.labels == ("a",)) == (n not in of_seed) for n, one in enumerate(documents)]
        logits = [np.array([1.0, 0.0] if a else [0.0, 1.0], np.float32) for a in is_a]
        of_seeds.append(trainings.Result(0.5, logits, 3, 1.0))
    return results.scored(task, documents, ROWS, of_seeds, {})


def found(read: set[int], num_documents: int = NUM) -> Found:
    is_read_D = np.isin(np.arange(num_documents), list(read))
    words = [np.full(20, is_read) for is_read in is_read_D]
    return Found(words, np.ones(num_documents), is_read_D, np.zeros(num_documents, bool), 1.0, False, set())


def document(
    of_models: Mapping[str, results.Scored | Mapping[float, results.Scored]],
    read: Mapping[str, set[int]] | None = None,
) -> dict[str, Any]:
    """The results of one task 't', the models' pre-training data known; `read`: by model, the documents in them."""
    models: Any = [
        SimpleNamespace(name=name, is_random=False, pretraining_data=("data",), earlier="") for name in of_models
    ]
    by_fraction = {
        ("t", name, fraction): one
        for name, of in of_models.items()
        for fraction, one in (of if isinstance(of, Mapping) else {1.0: of}).items()
    }
    num_documents = next(iter(by_fraction.values())).counts_SxDxM.shape[1]
    leaked = {("t", name): found((read or {}).get(name, set()), num_documents) for name in of_models}
    return results.document(
        models,
        by_fraction,
        leaked,
        {"t": found(set(), num_documents)},
        {"t": {}},
        {("t", name): 0.0 for name in of_models},
    )


def test_a_hidden_model_is_said_to_be_perhaps_the_best() -> None:
    """It is hidden since few of its documents are wrong: it is better than all that are shown."""
    shown = document(
        {
            "good": scored([set(range(4)), set(range(5))], labelled()),
            "poor": scored([set(range(60)), set(range(62))], labelled()),
            "mid": scored([set(range(40)), set(range(42))], labelled()),
        }
    )
    said = page.markdown(shown)
    assert "the best score that is shown first" in said
    assert "t: the score of good is not shown, and may be the best" in said
    assert said.index("| mid |") < said.index("| poor |") < said.index("| good |")
    assert "0.978" not in said
    whole = page.markdown(document({"mid": scored([set(range(40))], labelled())}))
    assert "may be the best" not in whole


def test_a_fraction_that_is_hidden_hides_no_other() -> None:
    few_right, many = scored([set(range(195))], labelled()), scored([set(range(30))], labelled())
    said = page.markdown(document({"one": {1.0: many, 0.05: few_right}, "other": {1.0: many, 0.05: many}}))
    assert "| one | 0.850" in said
    assert "| t | one | 0.850" in said
    assert "0.025" not in said


def test_the_score_without_them_is_shown_where_neither_part_tells_a_small_count() -> None:
    one = scored([set(range(3, 30)) | {100, 101, 102}], labelled())  # 30 wrong, of which 3 were not read
    other = scored([set(range(40)) | set(range(100, 130))], labelled())
    shown = document({"one": one, "other": other}, {"one": set(range(60))})
    entries = shown["tasks"]["t"]["models"]
    assert entries["one"]["score_without_contaminated"]["value"] == pytest.approx(137 / 140)
    assert "0.979" not in page.markdown(shown)
    assert f"{110 / 140:.3f}" in page.markdown(shown)
    # Five documents that another model has read: of both scores, that two of them were right.
    few = document(
        {"one": scored([set(range(3)) | set(range(100, 130))], labelled()), "other": other}, {"other": {*range(5)}}
    )
    assert "0.835" in page.markdown(few)
    assert f"{165 / 195:.3f}" not in page.markdown(few)


def test_a_calibration_error_from_which_few_cases_follow_is_not_shown() -> None:
    documents = labelled(num_rare=30)
    wrong = [set(range(15)) | set(range(100, 130))]
    assert "Whether probabilities can be believed" in page.markdown(document({"one": scored(wrong, documents)}))
    rare = labelled(num_rare=6)
    assert "Whether probabilities can be believed" not in page.markdown(document({"one": scored(wrong, rare)}))


def test_of_labels_of_too_few_patients_no_score_is_shown() -> None:
    fourteen = [Document(one.id, one.line, f"p{n % 14}", one.text, "", one.labels) for n, one in enumerate(labelled())]
    one = scored([set(range(60))], fourteen)
    assert not one.is_shown
    assert "0.700" not in page.markdown(document({"one": one}))
    assert "0.700" in page.markdown(document({"one": scored([set(range(60))], labelled())}))


def test_a_score_that_is_not_defined_is_not_said_to_be_hidden() -> None:
    pairs = [Pair(f"d{n}", n, f"p{n}", ("a", "b"), n % 6 + 0.1 * (n % 7)) for n in range(NUM)]
    task = SimilarityConfig().task(pairs)
    random = np.random.default_rng(0)

    def of(values: Sequence[np.ndarray]) -> results.Scored:
        logits = [[np.array([value], np.float32) for value in of_seed] for of_seed in values]
        return results.scored(task, pairs, ROWS, [trainings.Result(0.5, one, 3, 1.0) for one in logits], {})

    constant = of([np.full(NUM, 2.1), np.full(NUM, 1.3)])
    good = of([np.arange(NUM) % 6 + random.normal(size=NUM) for _ in range(2)])
    said = page.markdown(document({"constant": constant, "good": good}))
    assert "would follow" not in said
    assert "not known: a score is not defined" in said


@pytest.mark.parametrize("value", [2.1, 1.3, 0.1, 1 / 3, 1e-8, 1e8])
def test_a_correlation_with_a_constant_is_not_defined(value: float) -> None:
    pairs = [Pair(f"d{n}", n, "", ("a", "b"), n % 6 + 0.1 * (n % 7)) for n in range(NUM)]
    task = SimilarityConfig().task(pairs)
    assert np.isnan(task.score(pairs, [value] * NUM).values["pearson"])
    exact = [value * (1 + 1e-3 * pair.score) for pair in pairs]
    assert task.score(pairs, exact).values["pearson"] == pytest.approx(1.0, abs=1e-6)


def test_the_exact_results_stay_as_they_are() -> None:
    exact = document({"good": scored([set(range(4)), set(range(5))], labelled())}, {"good": set(range(60))})
    before = json.dumps(exact)
    for shown in (page.page(exact), page.markdown(exact), page.table_of_scores(exact)):
        assert "0.97" not in shown
        assert "0.98" not in shown
    assert json.dumps(exact) == before
