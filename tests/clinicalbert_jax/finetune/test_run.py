"""Which checkpoint of a fine-tuned run is used."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clinicalbert_jax.finetune import run
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
