"""The loop of every training: batches in, steps, evaluations and checkpoints, until the last step or a signal."""

import contextlib
import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from clinicalbert_jax.config import TrainConfig
from clinicalbert_jax.data.dataset import Batch
from clinicalbert_jax.data.prefetch import Prefetcher
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.modeling.bert import Params
from clinicalbert_jax.runs import metrics_log, process_0
from clinicalbert_jax.runs.checkpoint import Checkpoints, recover
from clinicalbert_jax.runs.object_store import Mirror
from clinicalbert_jax.runs.state import State
from clinicalbert_jax.training import distributed, mfu, train_step, xla
from clinicalbert_jax.training.metrics import Meter, Progress, Writer
from clinicalbert_jax.training.sharding import local_rows, put_batch
from clinicalbert_jax.training.stop_request import EXIT_RESUME, StoppedError, StopRequest

EXIT_DONE = 0

_STEPS_AHEAD = 2  # dispatched before the oldest must have ended: the device never waits, a signal not for long
_PROFILED = (10, 15)  # steps after the start


class Batches(Protocol):
    """Training data by random access: a batch is a pure function of (data, seed, step)."""

    num_examples: int
    corrupt: set[tuple[str, int]]  # damaged records met so far, by file and number

    @property
    def rows_per_read(self) -> int:
        """Rows that are best read at a time."""

    def train_batches(self, seed: int, steps: Sequence[int], batch_size: int, rows_R: np.ndarray) -> Sequence[Batch]:
        """Rows `rows_R` of the global batch of each of `steps`."""

    def records(self, seed: int, step: int, batch_size: int) -> list[str]:
        """Names of the records in the global batch of `step`."""


def _never(_: Sequence[float]) -> bool:
    return False


@dataclass(frozen=True)
class Job:
    """One training: what a step computes, on which batches, where it starts, and how its parameters are scored.

    `first_state`: the state to start with, and where it comes from. `evaluate`: figures on held-out data; after each
    batch it calls its second argument, which may raise `StoppedError`. `score`: one of the figures, higher is better;
    `describe`: the figures in words. `is_over`: whether to stop early, by the scores so far. `flops_per_step`: the
    total over all devices. `attention`: its implementation and why, in words.
    """

    program: train_step.Program
    training: Batches
    first_state: Callable[[], tuple[State, str]]
    evaluate: Callable[[Params, Callable[[], None]], dict[str, float]]
    score: Callable[[Mapping[str, float]], float]
    describe: Callable[[Mapping[str, float]], str]
    flops_per_step: float
    is_over: Callable[[Sequence[float]], bool] = _never
    attention: str = "xla"


def run(job: Job, workdir: Path, mirror: Mirror | None = None, stop: StopRequest | None = None) -> int:
    """Train until `train.steps`, from the last good checkpoint in `workdir` if there is one. Returns the exit code.

    `mirror`, of process 0 where the run has a URL, sends every checkpoint there, and at the end the rest. Once this
    returns, in any process, the run's files are complete, and a `stop` ends the process at once, as it does until the
    first step has ended.
    """
    stop = stop or StopRequest()
    with _one_line_for_the_disk(workdir):
        code = _run(job, workdir, mirror, stop)
        if mirror:
            mirror.finish()
    distributed.wait_for_all()  # process 0 alone publishes checkpoints
    if code == EXIT_DONE:
        stop.nothing_to_save()
    return code


@contextlib.contextmanager
def _one_line_for_the_disk(workdir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--workdir: cannot write {error.filename or workdir} ({error.strerror or type(error).__name__}); "
            "checkpoints written so far are complete: free space or permit writing, then run the same command again"
        ) from None


def _run(job: Job, workdir: Path, mirror: Mirror | None, stop: StopRequest) -> int:
    config, leader = job.program.config, jax.process_index() == 0
    distributed.connect(job.program.mesh)
    xla.keep_freed_memory(job.program.mesh.devices.flat[0].platform)
    saved, warnings = recover(workdir)
    with (
        Checkpoints(workdir, config.train, mirror) as checkpoints,
        Writer(workdir, leader) as writer,
        distributed.ends_all(checkpoints.settle),
        _one_line_for_the_disk(workdir),
    ):
        state, origin = _first_state(job, checkpoints, saved)
        start = int(state.step)
        with Progress(start, config.train.steps, leader) as progress:
            for warning in warnings:
                progress.say(f"warning: {warning}")
            history = metrics_log.read(workdir) if leader else []
            scores = process_0.decides(lambda: _scores(history, start))
            unscored = process_0.decides(lambda: _is_unscored(config.train, start, history))
            if not unscored and (start >= config.train.steps or job.is_over(scores)):
                progress.say(f"nothing to do: {workdir} is at step {start} of {config.train.steps}")
                return EXIT_DONE
            progress.say(_opening(job, origin))
            writer.write(start, "start", {}, devices=job.program.mesh.size, config=dataclasses.asdict(config))
            peak = mfu.peak_flops(job.program.mesh.devices.flat[0].device_kind)
            meter = Meter(writer, progress, history, job.flops_per_step, peak and peak * job.program.mesh.size)
            loop = _Loop(job, checkpoints, mirror, writer, progress, meter, stop, scores)
            return loop.run(state, start, unscored, workdir)


def _scores(history: Sequence[Mapping[str, Any]], until: int) -> list[float]:
    """The scores of the validations up to a step."""
    validations = [r for r in history if r["kind"] == "validation" and r["step"] <= until]
    return [-math.inf if record["score"] is None else record["score"] for record in validations]


def _is_unscored(train: TrainConfig, start: int, history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the run was stopped inside the evaluation that was due at `start`."""
    due = bool(train.eval_every) and start > 0 and (start % train.eval_every == 0 or start == train.steps)
    return due and bool(history) and start not in {r["step"] for r in history if r["kind"] == "validation"}


def _first_state(job: Job, checkpoints: Checkpoints, saved: int | None) -> tuple[State, str]:
    """The state to start with, and where it comes from: the run's own checkpoint, or else the job's first state."""
    if saved is not None:
        return checkpoints.restore(job.program.abstract_state, saved), f"continuing from step {saved}"
    return job.first_state()


def with_params(state: State, params: Params) -> State:
    """The state with these parameters, sharded as its own."""
    return dataclasses.replace(state, params=jax.device_put(params, jax.tree.map(lambda x: x.sharding, state.params)))


class _Loop:
    """A run in progress."""

    def __init__(
        self,
        job: Job,
        checkpoints: Checkpoints,
        mirror: Mirror | None,
        writer: Writer,
        progress: Progress,
        meter: Meter,
        stop: StopRequest,
        scores: list[float],
    ) -> None:
        self._job, self._program, self._config = job, job.program, job.program.config.train
        self._checkpoints, self._writer, self._progress, self._meter = checkpoints, writer, progress, meter
        self._mirror, self._stop, self._scores = mirror, stop, scores
        self._any_process = distributed.AnyProcess(job.program.mesh)
        self._in_flight: deque[tuple[int, jax.Array]] = deque()  # step, and skips in a row after it
        self._reported: set[tuple[str, int]] = set()  # damaged records
        self._profiling = False

    def run(self, state: State, start: int, unscored: bool, workdir: Path) -> int:
        """Steps `start` to the last; returns the exit code. `unscored`: evaluate the state of `start` first."""
        if unscored:
            self._evaluate(state, start)
            if start >= self._config.steps or self._job.is_over(self._scores):
                return EXIT_DONE
        with training_batches(self._program, self._job.training, start) as batches:
            for number in range(start, self._config.steps):
                if self._program.config.profile:
                    self._profile(number - start, workdir)
                asked = time.perf_counter()
                batch = next(batches)
                self._meter.waited(time.perf_counter() - asked)
                state, happened = self._program.train_step(state, batch)
                done = number + 1
                self._meter.add(done, happened)
                self._stop.something_to_save()
                self._checkpoints.check()
                self._in_flight.append((done, happened["skipped_in_a_row"]))
                last = done == self._config.steps
                state = self._recovered(state, done, ahead=0 if last else _STEPS_AHEAD)
                if stop := self._is_stopped():  # asked after the wait, in which most requests come
                    state = self._recovered(state, done, ahead=0)
                score = None
                if done % self._config.log_every == 0:
                    self._log(done)
                if self._config.eval_every and (done % self._config.eval_every == 0 or last):
                    try:
                        score = self._evaluate(state, done)
                        last = last or self._job.is_over(self._scores)
                    except StoppedError:
                        last, stop = False, True
                if done % self._config.checkpoint_every == 0 or last or stop:
                    self._save(state, done, score)
                if last:
                    break
                if stop:
                    self._log(done)
                    self._checkpoints.wait()
                    self._progress.say(f"stopped at step {done}, saved; the same command continues from there")
                    return EXIT_RESUME
            self._log(done)
            self._profile(_PROFILED[1], workdir)
            self._checkpoints.wait()
        return EXIT_DONE

    def _is_stopped(self) -> bool:
        return self._any_process(self._stop.requested)

    def _end_if_stopped(self) -> None:
        if self._is_stopped():
            raise StoppedError

    def _recovered(self, state: State, done: int, ahead: int) -> State:
        """Look at all steps but the `ahead` latest; after too many skips in a row, the state to continue from instead.

        That is the last checkpoint's parameters at the present step: the batches that caused the skips have passed.
        """
        too_many = False
        while len(self._in_flight) > ahead:
            step, skipped = self._in_flight.popleft()
            in_a_row = int(skipped)
            if in_a_row:
                size, seed = self._config.global_batch_size, self._config.seed
                records = self._job.training.records(seed, step - 1, size)
                self._progress.say(f"step {step}: skipped, its loss or gradient was not finite ({in_a_row} in a row)")
                self._writer.write(step, "skipped", {"in_a_row": float(in_a_row)}, records=records)
            if in_a_row >= self._config.max_skips:
                too_many, ahead = True, 0  # report those after it as well, before the rollback
        return self._rolled_back(state, done) if too_many else state

    def _rolled_back(self, state: State, done: int) -> State:
        returns = int(state.returns) + 1
        if returns > self._config.max_returns:
            raise UserError(
                f"stopped at step {done}: {self._config.max_skips} steps in a row had no finite loss or gradient, "
                f"after {returns - 1} rollbacks to a checkpoint; metrics.jsonl names their records (kind 'skipped'): "
                "look at them, or start a new run with a lower learning rate"
            )
        self._checkpoints.wait()
        good = self._checkpoints.latest
        restored, _ = _first_state(self._job, self._checkpoints, good)
        self._progress.say(f"step {done}: rolled back to the parameters of step {good or 0} (rollback {returns})")
        self._writer.write(done, "return", {"to": float(good or 0), "returns": float(returns)})
        counters = jax.device_put(
            {"step": np.int32(done), "skipped_in_a_row": np.int32(0), "returns": np.int32(returns)},
            state.step.sharding,
        )
        state = dataclasses.replace(restored, **counters)
        self._save(state, done, None)
        return state

    def _log(self, done: int) -> None:
        self._meter.flush()
        if self._mirror and (news := self._mirror.news()):
            self._progress.say(news)
        # Each process meets those of its own rows.
        new = process_0.union(self._job.training.corrupt - self._reported) - self._reported
        self._reported |= new
        for file, record in sorted(new):
            self._progress.say(f"warning: record {record} of {file} is damaged; its row has no weight")
            self._writer.write(done, "corrupt", {"record": float(record)}, file=file)

    def _evaluate(self, state: State, done: int) -> float:
        self._log(done)
        figures = self._job.evaluate(state.params, self._end_if_stopped)
        score = self._job.score(figures)
        if not math.isfinite(score):
            score = -math.inf  # not defined, so not the best: NaN has no order
        self._writer.write(done, "validation", figures | {"score": score})
        self._progress.say(f"step {done}: validation: {self._job.describe(figures)}")
        self._meter.restart_clock()
        self._scores.append(score)
        return score

    def _save(self, state: State, done: int, score: float | None) -> None:
        self._checkpoints.save(state, done, score)
        self._meter.checkpoint_s = self._checkpoints.blocked_s

    def _profile(self, since: int, workdir: Path) -> None:
        """Start the trace, or end it: at its last step, or at the end of the run."""
        first, last = _PROFILED
        if since == first:
            jax.profiler.start_trace(str(workdir / "profile"))
            self._profiling = True
        elif since == last and self._profiling:
            jax.profiler.stop_trace()
            self._profiling = False
            self._progress.say(f"profile from step {first} after the start written to {workdir / 'profile'}")


def training_batches(program: train_step.Program, training: Batches, start: int) -> Prefetcher[dict[str, jax.Array]]:
    """Training batches from step `start` to the end, each a pure function of (dataset, seed, step), on the devices."""
    train, mesh = program.config.train, program.mesh
    size = train.global_batch_size
    rows_R = local_rows(size, mesh)

    def load(numbers: Sequence[int]) -> list[dict[str, jax.Array]]:
        return [put_batch(b, mesh) for b in training.train_batches(train.seed, numbers, size, rows_R)]

    group_size = max(1, training.rows_per_read // len(rows_R))
    return Prefetcher(load, range(start, train.steps), program.config.data.num_threads, group_size)


def _opening(job: Job, origin: str) -> str:
    program = job.program
    count = sum(leaf.size for leaf in jax.tree.leaves(program.abstract_state.params))
    device = program.mesh.devices.flat[0].device_kind
    return (
        f"{count / 1e6:.1f} M parameters, {job.training.num_examples:,} training examples, "
        f"batch {program.config.train.global_batch_size} on {program.mesh.size} × {device}, "
        f"attention by {job.attention}, {origin}"
    )
