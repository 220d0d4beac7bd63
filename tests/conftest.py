"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest

# Eight simulated devices for every test that shards; set before anything imports jax.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The public development data that lies beside the project, where it does."""
    directory = Path(__file__).parents[2] / "shared" / "data"
    if not directory.is_dir():
        pytest.skip("the public development data (../shared/data) is not on this machine")
    return directory
