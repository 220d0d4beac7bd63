"""Models and tasks that the tests of a comparison share."""

from pathlib import Path

import pytest

from tests.clinicalbert_jax.finetune.compare import toy_comparison


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with models `small` and `large`, and the tasks."""
    directory = tmp_path_factory.mktemp("comparison")
    toy_comparison.write_model(directory / "small", 16)
    toy_comparison.write_model(directory / "large", 32)
    toy_comparison.write_tasks(directory)
    return directory


@pytest.fixture(scope="module")
def both(place: Path) -> list[str]:
    """The two models, as `--models` takes them."""
    return [f"{name}={place / name / 'bert'}" for name in ("small", "large")]
