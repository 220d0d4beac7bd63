"""Fixtures that several test modules share."""

import os
import tempfile
from pathlib import Path

import hypothesis
import pytest

from clinicalbert_jax import errors

# How long an example takes is the machine's affair: a loaded one failed a test by it.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

# Eight simulated devices for every test that shards; set before anything imports jax.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

# A configuration directory of the tests' own, with a fixed salt: shards are the same bytes in every run.
_config_home = tempfile.TemporaryDirectory()
os.environ["XDG_CONFIG_HOME"] = _config_home.name
_salt = Path(_config_home.name, "clinicalbert_jax", "salt")
_salt.parent.mkdir()
_salt.touch(mode=0o600)
_salt.write_text("a fixed salt, for tests only\n")


@pytest.fixture(autouse=True)
def _no_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that one test's options name are not those of the next."""
    monkeypatch.setattr(errors, "_labels", {})


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The public development data that lies beside the project, where it does."""
    directory = Path(__file__).parents[2] / "shared" / "data"
    if not directory.is_dir():
        pytest.skip("the public development data (../shared/data) is not on this machine")
    return directory


@pytest.fixture(scope="session")
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same small step is built again and again: compile it once."""
    import jax  # not all tests need it

    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
