"""Every file in configs/ is a valid experiment whose header says how it is run, what it costs and what it scored."""

import importlib.util
from pathlib import Path

import pytest

from clinicalbert_jax.config import Config, validated
from clinicalbert_jax.finetune.config import FinetuneConfig

pytestmark = pytest.mark.fast
CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(CONFIGS.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_config_is_valid_and_says_what_it_is(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    assert isinstance(config, FinetuneConfig if path.parent.name == "finetune" else Config)
    assert validated(config) == config
    for line in ("\nCommand: ", "\nCost:    ", "\nScore:   "):
        assert line in module.__doc__
    if "make demo" not in module.__doc__:
        assert f"--config=configs/{path.relative_to(CONFIGS)}" in module.__doc__
