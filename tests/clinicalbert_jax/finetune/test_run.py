"""Which checkpoint of a fine-tuned run is used, and what is said of several seeds."""

import math
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from clinicalbert_jax.finetune import result_page, run
from clinicalbert_jax.finetune.similarity.task import Pair
from clinicalbert_jax.finetune.task import Scores
from clinicalbert_jax.pretrained import loading

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(("best", "expected"), [(3, "3"), (None, None)])
def test_where_no_score_is_defined_it_is_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best: int | None, expected: str | None
) -> None:
    """As of a model that predicts a constant, with which nothing correlates: None asks for the latest checkpoint."""
    read: list[str | None] = []

    def load(source: loading.Source, step: str | None) -> Any:
        read.append(step)
        return SimpleNamespace(params={"of": step})

    monkeypatch.setattr(run.finetuned_model, "load", load)
    monkeypatch.setattr(run.process_0, "scattered", lambda loaded, like: loaded)
    if best is not None:
        monkeypatch.setattr(run.loading, "best_step", lambda directory: best)
    assert run.best_params(tmp_path, SimpleNamespace(abstract_state=SimpleNamespace(params=None))) == {"of": expected}  # type: ignore[arg-type]
    assert read == [expected]


def test_a_mean_is_of_every_seed_or_is_none() -> None:
    """Two of three trainings that failed do not vanish in a mean of 0.986."""
    some = run._spread([0.986, math.nan, math.nan])
    assert (some["values"], some["mean"], some["deviation"]) == ([0.986, None, None], None, None)
    assert result_page._with_deviation(some) == "– (known of 1 of 3 seeds)"
    every = run._spread([0.5, 0.7])
    assert (every["mean"], every["deviation"]) == (pytest.approx(0.6), pytest.approx(statistics.stdev([0.5, 0.7])))


def test_an_interval_tells_nothing_of_a_seed_that_is_hidden() -> None:
    """Of a page, whose seed with few errors has no score: the middle of an interval over both would tell it."""
    examples = [Pair(f"{n}", n, f"p{n}", ("a", "b"), 0.0) for n in range(40)]

    def scores(num_right: int, is_shown: bool = True) -> Scores:
        counts_ExM = np.stack([np.arange(40) < num_right, np.ones(40)], 1).astype(float)
        value = num_right / 40 if is_shown else math.nan
        return Scores({"accuracy": value}, "accuracy", counts_ExM, lambda sums_M: float(sums_M[0] / sums_M[1]))

    both = run._interval(examples, [scores(20), scores(36)])
    assert both["value"] == pytest.approx(0.7)
    hidden = run._interval(examples, [scores(20), scores(36, is_shown=False)])
    assert (hidden["value"], hidden["low"], hidden["high"], hidden["documents"]) == (None, None, None, 40)
