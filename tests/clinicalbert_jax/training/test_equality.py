"""Without dropout a step is the same on any mesh, in any microbatches and processes: losses and every gradient.

Mask counts are deliberately uneven, so that an average of averages would differ.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests import few_steps, toy_dataset

PROJECT = Path(__file__).parents[3]
Figures = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_dataset.write(tmp_path_factory.mktemp("data") / "toy")


@pytest.fixture(scope="module")
def on_one_device(data_dir: Path) -> Figures:
    return few_steps.run(data_dir, few_steps.config_with(1, 1), jax.devices()[:1])


def check_equal(found: Figures, expected: Figures) -> None:
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-5)
    largest = max(float(np.linalg.norm(gradient)) for name, gradient in expected.items() if name != "losses")
    for name, gradient in expected.items():
        if name != "losses":
            error = float(np.linalg.norm(found[name] - gradient))
            # The gradient of a key's bias is 0 but for rounding: a softmax does not see it.
            assert error <= 1e-5 * max(float(np.linalg.norm(gradient)), 0.01 * largest), name


@pytest.mark.parametrize("microbatches", [1, 4])
@pytest.mark.parametrize("fsdp", [1, 8, 2], ids=["data", "fsdp", "mixed"])
def test_eight_devices_compute_what_one_does(
    data_dir: Path, on_one_device: Figures, fsdp: int, microbatches: int
) -> None:
    found = few_steps.run(data_dir, few_steps.config_with(fsdp, microbatches), jax.devices())
    check_equal(found, on_one_device)


def test_two_processes_of_four_devices_compute_what_one_of_eight_does(
    data_dir: Path, on_one_device: Figures, tmp_path: Path
) -> None:
    """Each parameter is cut over both of them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(PROJECT),
    }
    arguments = [str(data_dir), str(tmp_path / "figures.npz"), "8", "2", f"127.0.0.1:{port}", "2"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.few_steps", *arguments, str(number)],
            cwd=PROJECT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process in processes:
        _, error = process.communicate(timeout=600)
        assert process.returncode == 0, error
    with np.load(tmp_path / "figures.npz") as found:
        check_equal(dict(found), on_one_device)
