"""How the processes of a run end: an error in one of them ends all, and a request to stop is answered at once."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from clinicalbert_jax.runs import metrics_log
from clinicalbert_jax.runs.checkpoint import restore_params
from clinicalbert_jax.training import metrics
from clinicalbert_jax.training.stop_request import EXIT_RESUME, StopRequest
from tests import faulty_process, toy_dataset
from tests.clinicalbert_jax.conftest import pretrain, small_config

ROOT = Path(__file__).parents[3]
BATCHES = 7  # of 8 in an evaluation of 50 examples

STOPS = """
import sys, time
from clinicalbert_jax.training.stop_request import StopRequest
from tests.faulty_process import blocked
with StopRequest() as stop:
    if sys.argv[1] == "something":
        stop.something_to_save()
    print("ready", flush=True)
    if sys.argv[1] == "native":
        blocked()
    while not stop.requested:
        time.sleep(0.01)
    print("saving", flush=True)
    time.sleep(float(sys.argv[2]))
    stop.nothing_to_save()
sys.exit("nothing_to_save has ended the process")
"""

JOINED = """
import sys, time
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.training import distributed
from clinicalbert_jax.training.stop_request import StopRequest
from tests.faulty_process import LINE, blocked
_, address, index, faulty, distributed._ARRIVAL_S = [*sys.argv[:4], float(sys.argv[4])]
with StopRequest() as stop, distributed.joined(address, 2, int(index), stop):
    print("joined", flush=True)
    if index == faulty:
        time.sleep(0.2)
        raise UserError(LINE)
    if faulty != "none":
        blocked()
"""


def start(program: list[str], **variables: str) -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"} | variables
    return subprocess.Popen(
        [sys.executable, *program],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def ends(processes: list[subprocess.Popen], timeout: float) -> tuple[list[int], list[str], list[float]]:
    """Exit codes, standard errors, and the times at which they ended."""
    errors, times = [""] * len(processes), [0.0] * len(processes)

    def wait(number: int) -> None:
        try:
            errors[number] = processes[number].communicate(timeout=timeout)[1]
        finally:
            processes[number].kill()
        times[number] = time.time()

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(len(processes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [process.wait() for process in processes], errors, times


def lines(errors: list[str]) -> list[str]:
    return [line for error in errors for line in error.splitlines() if line.startswith("error: ")]


@pytest.mark.fast
@pytest.mark.parametrize("where", ["native", "python"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_with_nothing_to_save_a_signal_ends_the_process_even_in_a_native_call(where: str, number: int) -> None:
    process = start(["-c", STOPS, where, "0"])
    assert process.stdout and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, error = process.communicate(timeout=10)
    assert (process.returncode, out) == (EXIT_RESUME, "")
    assert error == "stopped, with nothing left to save; the same command continues from there\n"


@pytest.mark.fast
def test_with_something_to_save_the_process_ends_once_it_is_saved(tmp_path: Path) -> None:
    process = start(["-c", STOPS, "something", "0.2"])
    assert process.stdout and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10)[0] == "saving\n"
    assert process.returncode == EXIT_RESUME


@pytest.mark.fast
def test_a_second_ctrl_c_ends_the_process_at_once() -> None:
    process = start(["-c", STOPS, "something", "60"])
    assert process.stdout and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 128 + signal.SIGINT
    process.communicate()


@pytest.mark.parametrize("faulty", [0, 1])
def test_an_error_in_one_process_ends_the_other_even_in_a_native_call(faulty: int) -> None:
    where = address()
    processes = [start(["-c", JOINED, where, str(index), str(faulty), "45"]) for index in range(2)]
    codes, errors, _ = ends(processes, 60)
    assert codes == [2, 2], errors
    assert lines(errors) == [f"error: {faulty_process.LINE}"]
    assert errors[1 - faulty] == ""


def test_a_signal_for_one_process_ends_the_other_and_with_none_both_wait_for_each_other() -> None:
    where = address()
    processes = [start(["-c", JOINED, where, str(index), "2", "45"]) for index in range(2)]
    assert processes[1].stdout and processes[1].stdout.readline() == "joined\n"
    processes[1].send_signal(signal.SIGTERM)
    codes, errors, _ = ends(processes, 60)
    assert codes == [EXIT_RESUME, EXIT_RESUME], errors
    assert "".join(errors).count("\n") == 1, errors


@pytest.mark.parametrize("present", [0, 1])
def test_a_process_that_never_arrives_is_one_line(present: int) -> None:
    codes, errors, _ = ends([start(["-c", JOINED, address(), str(present), "none", "1"])], 60)
    assert codes == [2]
    assert len(errors[0].splitlines()) == 1, errors
    assert errors[0].startswith("error: expected 2 processes at 127.0.0.1:"), errors
    assert "found fewer" in errors[0]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_dataset.write(tmp_path_factory.mktemp("data") / "toy", num_train=40)


@pytest.mark.usefixtures("compilation_cache")
def test_a_stop_inside_an_evaluation_saves_and_the_next_start_evaluates(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped inside the evaluation at half of the steps, and then inside the one at the last step."""
    config = small_config(steps=8, eval_every=4, checkpoint_every=8)
    assert pretrain(config, data_dir, tmp_path / "undisturbed") == 0

    run, add = tmp_path / "run", metrics.Averages.add
    for stopped_at in (4, 8):
        stop, evaluated = StopRequest(), 0

        def second_batch(
            self: metrics.Averages, sums: Any, stop: StopRequest = stop, stopped_at: int = stopped_at
        ) -> None:
            nonlocal evaluated
            add(self, sums)
            evaluated += "num_tokens" not in sums  # which a training step has
            due = evaluated == (2 if stopped_at == 4 else 2 + BATCHES)  # the one at step 4 comes first
            stop.requested = stop.requested or due

        monkeypatch.setattr(metrics.Averages, "add", second_batch)
        assert pretrain(config, data_dir, run, stop) == EXIT_RESUME
        assert evaluated == (2 if stopped_at == 4 else 2 + BATCHES), "the evaluation ends with the batch"
        assert restore_params(run)[3] == stopped_at
    monkeypatch.undo()
    assert pretrain(config, data_dir, run) == 0
    assert scores(run) == scores(tmp_path / "undisturbed"), "each evaluation has taken place, with the same score"
    for one, other in zip(leaves(run), leaves(tmp_path / "undisturbed"), strict=True):
        np.testing.assert_array_equal(one, other)


def scores(run: Path) -> list[tuple[int, float]]:
    return [(record["step"], record["score"]) for record in metrics_log.read(run) if record["kind"] == "validation"]


def leaves(run: Path) -> list[np.ndarray]:
    return jax.tree.leaves(restore_params(run)[1])
