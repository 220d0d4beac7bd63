"""How the processes of a run end: an error in one of them ends all, and a request to stop is answered at once."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from clinicalbert_jax.config import Config
from clinicalbert_jax.data.dataset import Dataset
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.runs import metrics_log, workdir
from clinicalbert_jax.runs.checkpoint import restore_params
from clinicalbert_jax.training import losses, metrics, train_loop, train_step
from clinicalbert_jax.training.losses import Batch, Objective
from clinicalbert_jax.training.pretrain import evaluate, make_job
from clinicalbert_jax.training.sharding import make_mesh
from clinicalbert_jax.training.stop_request import EXIT_RESUME, StopRequest
from tests import faulty_process, toy_dataset
from tests.clinicalbert_jax.conftest import small_config

ROOT = Path(__file__).parents[3]
BATCHES = 3  # of an evaluation

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

# Pairs of processes, forked from one that has loaded JAX: what they print goes to files.
JOINED = """
import os, sys, time
import jax
from clinicalbert_jax import cli
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.runs import process_0
from clinicalbert_jax.training import distributed
from clinicalbert_jax.training.stop_request import StopRequest
from tests.faulty_process import LINE, blocked

def process(index, address, path):
    what = os.path.basename(path)
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{path}.{index}.{name}", os.O_CREAT | os.O_WRONLY, 0o600), descriptor)
    with StopRequest() as stop, distributed.joined(address, 2, index, stop):
        if what == "nothing":
            print(sorted(process_0.union({index, "both"}), key=str))
        if what == f"error-{index}":
            time.sleep(0.2)
            raise UserError(LINE)
        if what == f"signal-{index}":
            time.sleep(0.2)
            os.kill(os.getpid(), 15)
        if what != "nothing":
            blocked()

def forked(index, address, path):
    if pid := os.fork():
        return pid
    try:
        process(index, address, path)
    except BaseException as error:
        code, line = cli.outcome(error)
        print(line, file=sys.stderr, flush=True)
        os._exit(code)
    os._exit(0)

pids = []
for address, path in (argument.split("=", 1) for argument in sys.argv[1:]):
    what = os.path.basename(path)
    distributed._ARRIVAL_S = 1 if what.startswith("alone") else 45
    pids.append([forked(index, address, path) for index in range(2) if what != f"alone-{1 - index}"])
for of_pair in pids:
    print(*(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in of_pair))
"""
PAIRS = ("error-0", "error-1", "signal-0", "signal-1", "nothing", "alone-0", "alone-1")


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


Ends = tuple[list[int], list[str], list[str]]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ends]:
    """How pairs of processes end, by what happens in one of them: exit codes, standard errors and outputs."""
    directory = tmp_path_factory.mktemp("pairs")
    arguments = [f"{address()}={directory / what}" for what in PAIRS]
    process = start(["-W", "ignore:os.fork", "-c", JOINED, *arguments])
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    codes = [list(map(int, line.split())) for line in out.splitlines()]
    errors, outs = (
        [[path.read_text() for path in sorted(directory.glob(f"{what}.?.{name}"))] for what in PAIRS]
        for name in ("err", "out")
    )
    return dict(zip(PAIRS, zip(codes, errors, outs, strict=True), strict=True))


@pytest.mark.parametrize("faulty", [0, 1])
def test_an_error_in_one_process_ends_the_other_even_in_a_native_call(faulty: int, pairs: dict[str, Ends]) -> None:
    codes, errors, _ = pairs[f"error-{faulty}"]
    assert codes == [2, 2], errors
    assert lines(errors) == [f"error: {faulty_process.LINE}"]
    assert errors[1 - faulty] == ""


@pytest.mark.parametrize("signalled", [0, 1])
def test_a_signal_for_one_process_ends_the_other(signalled: int, pairs: dict[str, Ends]) -> None:
    codes, errors, _ = pairs[f"signal-{signalled}"]
    assert codes == [EXIT_RESUME, EXIT_RESUME], errors
    assert errors[signalled] == "stopped, with nothing left to save; the same command continues from there\n"
    assert errors[1 - signalled] == ""


def test_processes_that_are_done_wait_for_each_other(pairs: dict[str, Ends]) -> None:
    codes, errors, outs = pairs["nothing"]
    assert (codes, errors) == ([0, 0], ["", ""])
    assert outs == ["[0, 1, 'both']\n", "[1, 'both']\n"], "what the others say is for process 0"


@pytest.mark.parametrize("present", [0, 1])
def test_a_process_that_never_arrives_is_one_line(present: int, pairs: dict[str, Ends]) -> None:
    codes, errors, _ = pairs[f"alone-{present}"]
    assert codes == [2]
    assert len(errors[0].splitlines()) == 1, errors
    assert errors[0].startswith("error: expected 2 processes at 127.0.0.1:"), errors
    assert "found fewer" in errors[0]


def biases(config: Config, mesh: Mesh) -> Objective:
    """A model that is compiled in a moment: the same logits for every position, and for every pair."""

    def init(key: jax.Array) -> dict[str, Any]:
        return {"mlm": {"bias": jax.random.normal(key, (config.model.vocab_size,))}, "nsp": {"bias": jnp.zeros(2)}}

    def sums(params: dict[str, Any], batch: Batch, dropout_key: jax.Array | None) -> dict[str, Any]:
        found = {}
        for name, items in (("mlm", "masked_lm"), ("nsp", "next_sentence")):
            labels = batch[f"{items}_ids" if name == "mlm" else f"{items}_labels"]
            logits = jnp.broadcast_to(params[name]["bias"], (*labels.shape, params[name]["bias"].size))
            loss, hits, weight = losses.cross_entropy(logits, labels, batch[f"{items}_weights"])
            found |= {f"{name}_loss": (loss, weight), f"{name}_accuracy": (hits, weight)}
        return found

    return Objective(init, losses.pretraining(config, mesh).weights, sums)


def test_a_stop_inside_an_evaluation_saves_and_the_next_start_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped inside the evaluation at half of the steps, and then inside the one at the last step."""
    data_dir = toy_dataset.write(tmp_path / "data", num_train=40, num_other=8 * BATCHES)
    config = small_config(steps=4, eval_every=2, checkpoint_every=4)
    config = workdir.check_data(config, Manifest.load(data_dir), data_dir)
    build = train_step.build
    monkeypatch.setattr(train_step, "build", lambda config: build(config, jax.devices()[:1], biases))
    job = make_job(config, data_dir)  # one for all starts: its programs are compiled once
    for name in ("undisturbed", "run"):
        workdir.keep(tmp_path / name, config, Manifest.load(data_dir), data_dir)
    assert train_loop.run(job, tmp_path / "undisturbed") == 0

    def ended(code: int, message: str) -> NoReturn:
        raise AssertionError(message)

    run, add = tmp_path / "run", metrics.Averages.add
    for stopped_at in (2, 4):
        stop, evaluated = StopRequest(), 0
        stop.end = ended  # else it ends the tests
        due = 2 if stopped_at == 2 else 2 + BATCHES  # the one at step 2 comes first

        def second_batch(self: metrics.Averages, sums: Any, stop: StopRequest = stop, due: int = due) -> None:
            nonlocal evaluated
            add(self, sums)
            evaluated += "num_tokens" not in sums  # which a training step has
            stop.requested = stop.requested or evaluated == due

        monkeypatch.setattr(metrics.Averages, "add", second_batch)
        assert train_loop.run(job, run, stop=stop) == EXIT_RESUME
        assert evaluated == due, "the evaluation ends with the batch"
        assert newest(run)[1] == stopped_at
        monkeypatch.setattr(metrics.Averages, "add", add)
    assert train_loop.run(job, run) == 0
    assert scores(run) == scores(tmp_path / "undisturbed"), "each evaluation has taken place, with the same score"
    for one, other in zip(newest(run)[0], newest(tmp_path / "undisturbed")[0], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.fast
def test_an_evaluation_runs_at_most_two_batches_ahead_of_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a stop would wait for all that were dispatched."""
    data_dir = toy_dataset.write(tmp_path / "data", num_train=8, num_other=80)
    config = small_config()
    dispatched, waited, ahead = list[int](), list[int](), list[int]()

    def eval_step(params: Any, batch: Any) -> int:
        dispatched.append(len(dispatched))
        return dispatched[-1]

    program = dataclasses.replace(train_step.build(config), eval_step=eval_step)
    monkeypatch.setattr(jax, "block_until_ready", waited.append)
    monkeypatch.setattr(metrics.Averages, "read", lambda self: ({}, []))
    evaluate(program, {}, Dataset(data_dir, "validation"), lambda: ahead.append(len(dispatched) - len(waited)))
    assert waited == list(range(8))
    assert max(ahead) == 2


def scores(run: Path) -> list[tuple[int, float]]:
    return [(record["step"], record["score"]) for record in metrics_log.read(run) if record["kind"] == "validation"]


def newest(run: Path) -> tuple[list[np.ndarray], int]:
    """The parameters of the newest checkpoint of `biases`, and its step."""
    _, params, _, step = restore_params(run, init=lambda config, key: biases(config, make_mesh(config.mesh)).init(key))
    return jax.tree.leaves(params), step


def leaves(run: Path) -> list[np.ndarray]:
    return jax.tree.leaves(restore_params(run)[1])
