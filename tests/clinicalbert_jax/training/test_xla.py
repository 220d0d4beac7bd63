"""XLA is told once, and the environment has the last word."""

import os
import subprocess
import sys
from collections.abc import Iterator

import jax
import pytest

from clinicalbert_jax.training import xla


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
    xla.configure()
    assert os.environ["XLA_FLAGS"].endswith("--xla_gpu_enable_latency_hiding_scheduler=false")
    assert jax.config.values["jax_compilation_cache_dir"] == "/somewhere/clinicalbert_jax/compiled"

    jax.config.update("jax_compilation_cache_dir", "/elsewhere")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    xla.configure()
    assert jax.config.values["jax_compilation_cache_dir"] == "/elsewhere"


_STEPS = """
import resource, statistics
from clinicalbert_jax.training import xla
{configure}
import jax, jax.numpy as jnp
step = jax.jit(lambda x: (jnp.sort(x[:, None] + x) ** 2).sum())  # 64 MB and more between input and output
x = jnp.ones(4096)
faults = []
for number in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(int(statistics.median(faults[1:])))
"""


@pytest.mark.fast
@pytest.mark.parametrize("configure", ["xla.configure(); xla.keep_freed_memory('cpu')", "xla.configure_inference()"])
def test_a_step_on_the_cpu_finds_the_memory_of_the_one_before(configure: str) -> None:
    """Page faults of most steps: 64 MB fetched anew would make 16,000, as a step does now and then all the same."""
    done = subprocess.run(
        [sys.executable, "-c", _STEPS.format(configure=configure)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"XLA_FLAGS": ""},
    )
    assert int(done.stdout) < 1000


@pytest.mark.fast
def test_a_cpu_computes_fewer_rows_at_once_the_longer_they_are() -> None:
    lengths = (16, 128, 384, 512, 2048)
    assert [xla.rows_at_once("cpu", length) for length in lengths] == [64, 8, 2, 2, 1]
    assert {xla.rows_at_once("tpu", length) for length in lengths} == {32}
