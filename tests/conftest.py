"""Fixtures that several test modules share."""

import os
import tempfile
from pathlib import Path

import pytest

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


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The public development data that lies beside the project, where it does."""
    directory = Path(__file__).parents[2] / "shared" / "data"
    if not directory.is_dir():
        pytest.skip("the public development data (../shared/data) is not on this machine")
    return directory
