"""Runs as a user starts them: stopped, killed and continued, they end in the same parameters, bit for bit."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import directory_lock
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.runs.checkpoint import restore_params
from clinicalbert_jax.training import distributed, train_loop
from tests import toy_dataset

ROOT = Path(__file__).parents[3]
MODEL = [
    "--config.model.hidden_size=32",
    "--config.model.num_hidden_layers=1",
    "--config.model.num_attention_heads=2",
    "--config.model.intermediate_size=64",
    "--config.model.hidden_dropout_prob=0.1",
    "--config.model.attention_probs_dropout_prob=0.1",
    "--config.data.max_seq_length=32",
    "--config.optimizer.warmup_steps=3",
    "--config.train.steps=12",
    "--config.train.global_batch_size=8",
    "--config.train.checkpoint_every=4",
    "--config.train.eval_every=6",
    "--config.train.log_every=2",
]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_dataset.write(tmp_path_factory.mktemp("data") / "toy", num_train=40)


@pytest.fixture(scope="module")
def undisturbed(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    workdir = tmp_path_factory.mktemp("run") / "undisturbed"
    finish(pretrain(data_dir, workdir))
    return parameters(workdir, 12)


def pretrain(data_dir: Path, workdir: Path, *overrides: str) -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "run_pretrain.py", "--config=configs/tiny_128.py", *MODEL]
    return subprocess.Popen(
        [*command, f"--data_dir={data_dir}", f"--workdir={workdir}", *overrides],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, code: int = train_loop.EXIT_DONE) -> str:
    """Wait for the end; standard error."""
    error = process.communicate(timeout=300)[1]
    assert process.returncode == code, error
    return error


def parameters(workdir: Path, step: int) -> dict[str, np.ndarray]:
    _, params, _, found = restore_params(workdir)
    assert found == step
    flat: dict[str, np.ndarray] = {}

    def walk(prefix: str, node: object) -> None:
        if isinstance(node, dict):
            for name, child in node.items():
                walk(f"{prefix}/{name}", child)
        else:
            flat[prefix] = np.asarray(node)

    walk("", params)
    return flat


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def wait_for_line(process: subprocess.Popen, start: str) -> None:
    for line in process.stderr:
        if line.startswith(start):
            return
    raise AssertionError(f"the run ended before a line that starts with {start!r}")


def test_stopped_by_a_signal_and_continued_it_ends_in_the_same_parameters(
    data_dir: Path, tmp_path: Path, undisturbed: dict[str, np.ndarray]
) -> None:
    first = pretrain(data_dir, tmp_path / "run")
    wait_for_line(first, "step 6/12")
    first.send_signal(signal.SIGTERM)
    assert "the same command continues from there" in finish(first, train_loop.EXIT_RESUME)
    assert "continuing from step" in finish(pretrain(data_dir, tmp_path / "run"))
    assert_same(parameters(tmp_path / "run", 12), undisturbed)


@pytest.mark.parametrize("delay", [0.0, 0.15, 0.4])
def test_killed_and_continued_it_ends_in_the_same_parameters(
    data_dir: Path, tmp_path: Path, undisturbed: dict[str, np.ndarray], delay: float
) -> None:
    first = pretrain(data_dir, tmp_path / "run")
    wait_for_line(first, "step 4/12")
    time.sleep(delay)  # into the save of step 4, the steps after it, or the evaluation at 6
    first.kill()
    first.communicate()
    finish(pretrain(data_dir, tmp_path / "run"))
    assert_same(parameters(tmp_path / "run", 12), undisturbed)


def test_a_second_command_on_a_run_is_refused_until_the_first_ends(data_dir: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    endless = ("--config.optimizer.schedule=constant", "--config.train.steps=1000000")
    first = pretrain(data_dir, run, *endless)
    wait_for_line(first, "step 6/")
    refused = finish(pretrain(data_dir, run, *endless), 2)
    assert refused.startswith(f"error: --workdir: {run} is in use by another process (process {first.pid} ")
    assert refused.count("\n") == 1
    assert loading.load(loading.find_run(run)).step, "a model is read while its run continues"
    assert first.poll() is None
    first.kill()
    first.communicate()
    with directory_lock.held(run, "--workdir"):
        assert restore_params(run)[3]


def test_process_0_holds_the_lock_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it refuses ends the others, which wait for it."""
    waited: list[str] = []
    client = SimpleNamespace(wait_at_barrier=lambda name, timeout_ms: waited.append(name))
    with directory_lock.held(tmp_path, "--workdir"):
        for index in (0, 1):
            run = SimpleNamespace(index=index, client=client, barriers=itertools.count())
            monkeypatch.setattr(distributed, "_run", run)
            if index == 0:
                with pytest.raises(UserError, match="in use by another process"), distributed.only_command(tmp_path):
                    pass
                assert not waited
            else:
                with distributed.only_command(tmp_path):
                    assert len(waited) == 1


@pytest.mark.soak
def test_twenty_kills(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One run killed at twenty random moments of steps, saves and evaluations ends as the undisturbed one does."""
    long = (
        "--config.optimizer.schedule=constant",
        "--config.train.steps=200",
        "--config.train.checkpoint_every=3",
        "--config.train.eval_every=5",
        "--config.train.log_every=1",
    )
    finish(pretrain(data_dir, tmp_path / "undisturbed", *long))
    rng, kills, reached = np.random.default_rng(0), 0, []
    while kills < 20:
        process = pretrain(data_dir, tmp_path / "run", *long)
        wait_for_line(process, "step ")
        time.sleep(rng.uniform(0, 1.2))
        assert process.poll() is None, "the run is long enough for twenty kills"
        process.kill()
        process.communicate()
        kills += 1
        reached.append(len(list((tmp_path / "run" / "checkpoints").glob("*.orbax-checkpoint-tmp"))))
    finish(pretrain(data_dir, tmp_path / "run", *long))
    assert_same(parameters(tmp_path / "run", 200), parameters(tmp_path / "undisturbed", 200))
    with capsys.disabled():
        print(f"\n{kills} kills, {sum(map(bool, reached))} of them in the middle of a save")


def test_a_finished_run_can_be_extended_but_not_changed(data_dir: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(pretrain(data_dir, run, "--config.optimizer.schedule=constant"))
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    more = ("--config.optimizer.schedule=constant", "--config.train.steps=14")
    finish(pretrain(data_dir, run, *more))
    assert restore_params(run)[3] == 14

    for override, name in (
        ("--config.train.seed=5", "config.train.seed: expected 0"),
        ("--config.model.intermediate_size=96", "config.model.intermediate_size: expected 64"),
        ("--config.train.global_batch_size=16", "config.train.global_batch_size: expected 8"),
    ):
        message = finish(pretrain(data_dir, run, *more, override), 2)
        assert message.startswith(f"error: {name}"), message
        assert message.count("\n") == 1
    other_data = toy_dataset.write(tmp_path / "other", num_train=40, seed=1)
    message = finish(pretrain(other_data, run, *more), 2)
    assert message.startswith("error: --data_dir: expected the data that the run")
