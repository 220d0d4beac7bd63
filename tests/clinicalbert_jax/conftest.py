"""A small run in this process, for the tests of faults, and a bucket of a real S3 server."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clinicalbert_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.runs import workdir
from clinicalbert_jax.training.pretrain import pretrain as start
from clinicalbert_jax.training.stop_request import StopRequest
from tests import toy_dataset


def small_config(steps: int = 12, **overrides: object) -> Config:
    return Config(
        model=ModelConfig(
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            hidden_dropout_prob=0.1,
            attention_probs_dropout_prob=0.1,
        ),
        data=DataConfig(max_seq_length=toy_dataset.LENGTH, on_corrupt=str(overrides.pop("on_corrupt", "stop"))),
        optimizer=OptimizerConfig(learning_rate=2e-3, schedule="constant", warmup_steps=3),
        train=TrainConfig(
            **{
                "steps": steps,
                "global_batch_size": 8,
                "dtype": "float32",
                "log_every": 2,
                "eval_every": 6,
                "checkpoint_every": 3,
            }
            | overrides
        ),
    )


def pretrain(config: Config, data_dir: Path, run: Path, stop: StopRequest | None = None) -> int:
    """What run_pretrain.py does once its flags are read."""
    manifest = Manifest.load(data_dir)
    config = workdir.check_data(config, manifest, data_dir)
    workdir.check_same_run(run, config, manifest)
    return start(config, data_dir, run, stop=stop)


@pytest.fixture
def server() -> Iterator[Any]:
    """A real S3 server on this machine."""
    moto_server = pytest.importorskip("moto.server", reason="moto is of the test extra")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of it, with a dataset."""
    s3fs = pytest.importorskip("s3fs", reason="s3fs is of the test extra")
    host, port = server.get_host_and_port()
    for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem()
    name = f"hospital-{secrets.token_hex(4)}"
    files.mkdir(name)
    files.put(str(toy_dataset.write(tmp_path / "toy", num_train=40)), f"{name}/data", recursive=True)
    yield f"s3://{name}"
    s3fs.S3FileSystem.clear_instance_cache()
