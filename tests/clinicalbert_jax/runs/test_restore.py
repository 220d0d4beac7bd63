"""A run continues on other devices, other meshes and other numbers of processes: same records, same losses."""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from clinicalbert_jax.config import Config, MeshConfig
from clinicalbert_jax.data.dataset import Dataset
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.runs import checkpoint, checksums, metrics_log, workdir
from clinicalbert_jax.runs.state import State
from clinicalbert_jax.runs.workdir import check_data, keep
from clinicalbert_jax.training import sharding, train_step
from tests import toy_dataset
from tests.clinicalbert_jax.conftest import small_config

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_dataset.write(tmp_path_factory.mktemp("data") / "toy", num_train=40)


def without_dropout(data_dir: Path, fsdp: int = 1, microbatches: int = 1) -> Config:
    config = small_config(steps=12, microbatches=microbatches)
    config.model.hidden_dropout_prob = config.model.attention_probs_dropout_prob = 0.0
    config.mesh = MeshConfig(fsdp=fsdp)
    return check_data(config, Dataset(data_dir, "train").manifest, data_dir)


def some_steps(program: train_step.Program, state: State, dataset: Dataset, count: int) -> tuple[State, list]:
    size = program.config.train.global_batch_size
    rows_R, losses = sharding.local_rows(size, program.mesh), []
    for number in range(int(state.step), int(state.step) + count):
        batch = sharding.put_batch(dataset.train_batch(0, number, size, rows_R), program.mesh)
        state, happened = program.train_step(state, batch)
        sums = jax.device_get(happened["sums"])
        losses.append(float(sums["mlm_loss"][0] / sums["mlm_loss"][1] + sums["nsp_loss"][0] / sums["nsp_loss"][1]))
    return state, losses


def test_eight_devices_then_two_then_one_then_eight(data_dir: Path, tmp_path: Path) -> None:
    dataset = Dataset(data_dir, "train")
    program = train_step.build(without_dropout(data_dir), jax.devices()[:1])
    _, expected = some_steps(program, program.init(), dataset, 12)

    keep(tmp_path, program.config, dataset.manifest, data_dir)
    found: list[float] = []
    for num_devices, fsdp, microbatches in ((8, 2, 1), (2, 1, 4), (1, 1, 1), (8, 1, 1)):
        program = train_step.build(without_dropout(data_dir, fsdp, microbatches), jax.devices()[:num_devices])
        saved, warnings = checkpoint.recover(tmp_path)
        assert (saved, warnings) == (len(found) or None, [])
        with checkpoint.Checkpoints(tmp_path, program.config.train) as checkpoints:
            state = program.init() if saved is None else checkpoints.restore(program.abstract_state, saved)
            state, losses = some_steps(program, state, dataset, 3)
            found += losses
            checkpoints.save(state, int(state.step))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def pretrain(data_dir: Path, run: Path, *arguments: str) -> subprocess.Popen:
    overrides = (
        "--config.model.hidden_size=32 --config.model.num_hidden_layers=1 --config.model.num_attention_heads=2 "
        "--config.model.intermediate_size=64 --config.data.max_seq_length=32 --config.optimizer.warmup_steps=3 "
        "--config.optimizer.schedule=constant --config.train.global_batch_size=8 --config.train.log_every=1"
    )
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "run_pretrain.py", "--config=configs/tiny_128.py", *overrides.split()]
    return subprocess.Popen(
        [*command, f"--data_dir={data_dir}", f"--workdir={run}", *arguments],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 0, error
    return error


def test_the_first_process_says_which_checkpoint_is_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It alone knows whether the checksums are written; returning to different ones would part the processes."""
    with checkpoint.Checkpoints(tmp_path, small_config().train) as checkpoints:
        assert checkpoints.latest is None
        monkeypatch.setattr(checkpoint.process_0, "decides", lambda mine: 7)
        assert checkpoints.latest == 7


def test_the_best_checkpoint_is_kept_also_where_the_next_start_evaluated_it(tmp_path: Path) -> None:
    """A stop inside the evaluation at step 2 saved it without a score; metrics.jsonl has the score."""
    for step in range(1, 7):
        directory = tmp_path / "checkpoints" / str(step)
        directory.mkdir(parents=True)
        score = {} if step == 2 else {"score": -step}
        metadata = {"custom_metadata": score, "commit_timestamp_nsecs": 0}
        (directory / "_CHECKPOINT_METADATA").write_text(json.dumps(metadata))
        checksums.publish(directory)
    config = small_config(keep_checkpoints=2, keep_best=1).train
    assert checkpoint._kept(tmp_path, config) == {1, 5, 6}
    record = {"kind": "validation", "step": 2, "time": 0.0, "score": 3.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    assert checkpoint._kept(tmp_path, config) == {2, 5, 6}


@pytest.mark.fast
@pytest.mark.parametrize("undefined", [-math.inf, math.nan])
def test_a_score_that_is_not_defined_removes_no_best_checkpoint(undefined: float, tmp_path: Path) -> None:
    lines = []
    for step, score in enumerate((0.8, undefined, 0.5, undefined), start=1):
        directory = tmp_path / "checkpoints" / str(step)
        directory.mkdir(parents=True)
        metadata = {"custom_metadata": {"score": score}, "commit_timestamp_nsecs": 0}
        (directory / "_CHECKPOINT_METADATA").write_text(json.dumps(metadata))
        checksums.publish(directory)
        shown = score if math.isfinite(score) else None
        lines.append(json.dumps({"kind": "validation", "step": step, "time": 0.0, "score": shown}) + "\n")
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    assert checkpoint._kept(tmp_path, small_config(keep_checkpoints=1, keep_best=1).train) == {1, 4}
    assert loading.checkpoint_number(tmp_path, "best") == 1


@pytest.mark.fast
@pytest.mark.parametrize("scores", [(0.0, 0.0), (0.5, 0.5, 0.2), (0.1, 0.5, 0.2), (0.5, 0.2, 0.5)])
def test_the_best_checkpoint_is_the_same_whenever_a_kill_came(scores: tuple[float, ...], tmp_path: Path) -> None:
    """Before those that the latest replaces are removed, with half of each removed, and after."""
    lines = []
    for step, score in enumerate(scores, start=1):
        directory = tmp_path / "checkpoints" / str(step)
        directory.mkdir(parents=True)
        (directory / "_CHECKPOINT_METADATA").write_text(
            json.dumps({"custom_metadata": {"score": score}, "commit_timestamp_nsecs": 0})
        )
        checksums.publish(directory)
        lines.append(json.dumps({"kind": "validation", "step": step, "time": 0.0, "score": score}) + "\n")
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    kept = checkpoint._kept(tmp_path, small_config(keep_checkpoints=1, keep_best=1).train)
    removed = [tmp_path / "checkpoints" / str(step + 1) for step in range(len(scores)) if step + 1 not in kept]
    assert removed
    best = [loading.checkpoint_number(tmp_path, "best")]
    for directory in removed:
        (directory / checksums.FILE_NAME).unlink()
    best.append(loading.checkpoint_number(tmp_path, "best"))
    assert workdir.complete_step(tmp_path, None) == len(scores)
    for directory in removed:
        shutil.rmtree(directory)
    best.append(loading.checkpoint_number(tmp_path, "best"))
    assert len(set(best)) == 1
    assert scores[(best[0] or 0) - 1] == max(scores)


def test_two_processes_then_one(data_dir: Path, tmp_path: Path) -> None:
    """Two real processes with a part of every batch each, on loopback, are one run that one process continues.

    Its lock lets both pass, and no third one meanwhile.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    together = [
        pretrain(
            data_dir,
            tmp_path / "run",
            "--config.train.steps=6",
            f"--coordinator_address=127.0.0.1:{port}",
            "--num_processes=2",
            f"--process_id={number}",
        )
        for number in range(2)
    ]
    said = ["", ""]
    while "step 2/6" not in said[0]:
        line = together[0].stderr.readline()
        assert line, finish(together[0])
        said[0] += line
    together[0].send_signal(signal.SIGSTOP)  # so that the run is not over before the next command has started
    refused = pretrain(data_dir, tmp_path / "run", "--config.train.steps=6").communicate(timeout=300)[1]
    together[0].send_signal(signal.SIGCONT)
    said = [before + finish(process) for before, process in zip(said, together, strict=True)]
    assert refused.startswith(f"error: --workdir: {tmp_path / 'run'} is in use by another process (process ")
    assert f"(process {together[0].pid} on host" in refused
    assert refused.count("\n") == 1
    assert "on 2 × cpu" in said[0]
    assert said[1] == "", "one process speaks for all"
    assert "continuing from step 6" in finish(pretrain(data_dir, tmp_path / "run", "--config.train.steps=10"))
    finish(pretrain(data_dir, tmp_path / "alone", "--config.train.steps=10"))
    losses = {
        name: [record["loss"] for record in metrics_log.read(tmp_path / name) if record["kind"] == "train"]
        for name in ("run", "alone")
    }
    assert len(losses["run"]) == 10
    np.testing.assert_allclose(losses["run"], losses["alone"], rtol=1e-5)
