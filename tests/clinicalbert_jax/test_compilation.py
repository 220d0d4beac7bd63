"""XLA is told once, and the environment has the last word."""

import os
from collections.abc import Iterator

import jax
import pytest

from clinicalbert_jax import compilation


@pytest.fixture
def cache_dir() -> Iterator[None]:
    before = jax.config.values["jax_compilation_cache_dir"]
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.fast
def test_the_environment_has_the_last_word(monkeypatch: pytest.MonkeyPatch, cache_dir: None) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_enable_latency_hiding_scheduler=false")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    compilation.configure()
    assert os.environ["XLA_FLAGS"].endswith("--xla_gpu_enable_latency_hiding_scheduler=false")
    assert jax.config.values["jax_compilation_cache_dir"] == "/somewhere/clinicalbert_jax/compiled"

    jax.config.update("jax_compilation_cache_dir", "/elsewhere")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    compilation.configure()
    assert jax.config.values["jax_compilation_cache_dir"] == "/elsewhere"
