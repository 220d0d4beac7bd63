"""The loop: batches in, steps, evaluations and checkpoints, until the last step or a signal."""

import dataclasses
import time
from collections import deque
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from clinicalbert_jax import flops, initialization, metrics
from clinicalbert_jax import step as steps
from clinicalbert_jax.checkpoint import Checkpoints, recover
from clinicalbert_jax.config import Config
from clinicalbert_jax.dataset import Dataset, Prefetcher
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.interruption import Interruption
from clinicalbert_jax.manifest import Manifest
from clinicalbert_jax.metrics import Averages, Meter, Progress, Writer
from clinicalbert_jax.remote import Mirror
from clinicalbert_jax.sharding import local_rows, put_batch
from clinicalbert_jax.workdir import keep

EXIT_DONE = 0
EXIT_RESUME = 75  # EX_TEMPFAIL of sysexits.h: stopped before the end, all saved; the same command goes on from there

_STEPS_AHEAD = 2  # dispatched before the oldest must have ended: the device never waits, and a signal never waits long
_AGREE_EVERY = 8  # steps between which several processes ask each other whether one was told to stop
_PROFILED = (10, 15)  # steps after the start


def train(config: Config, data_dir: Path, workdir: Path, mirror: Mirror | None = None) -> int:
    """Train until `train.steps`, from the last good checkpoint in `workdir` if there is one. Returns the exit code.

    `mirror`: sends every checkpoint, and at the end the rest, to where the run lives.
    """
    try:
        code = _train(config, data_dir, workdir, mirror)
        if mirror:
            mirror.push()
        return code
    except OSError as error:
        raise UserError(
            f"--workdir: cannot write {error.filename or workdir} ({error.strerror or error}); checkpoints written so "
            "far are whole: free space or permit writing, then run the same command again"
        ) from None


def _train(config: Config, data_dir: Path, workdir: Path, mirror: Mirror | None) -> int:
    program = steps.build(config)
    leader = jax.process_index() == 0
    if mirror and jax.process_count() > 1:
        raise UserError(f"--workdir: expected a path that all processes share, found {mirror.url}")
    if leader:
        keep(workdir, config, Manifest.load(data_dir), data_dir)
    skip = config.data.on_corrupt == "skip"
    training, validation = Dataset(data_dir, "train", skip), Dataset(data_dir, "validation", skip)
    saved, warnings = recover(workdir)
    with (
        Interruption() as interruption,
        Checkpoints(workdir, config.train, mirror) as checkpoints,
        Writer(workdir, leader) as writer,
    ):
        state, origin = _first_state(program, checkpoints, saved, data_dir)
        start = int(state.step)
        with Progress(start, config.train.steps, leader) as progress:
            for warning in warnings:
                progress.say(f"warning: {warning}")
            if start >= config.train.steps:
                progress.say(f"nothing to do: {workdir} is at step {start} of {config.train.steps}")
                return EXIT_DONE
            progress.say(_opening(program, training, origin))
            history = metrics.read(workdir)
            writer.write(start, "start", {}, devices=program.mesh.size, config=dataclasses.asdict(config))
            meter = Meter(writer, progress, history, *_flops(program, training))
            loop = _Loop(program, data_dir, training, validation, checkpoints, writer, progress, meter, interruption)
            return loop.run(state, start, workdir)


def _first_state(
    program: steps.Program, checkpoints: Checkpoints, saved: int | None, data_dir: Path
) -> tuple[steps.State, str]:
    """The state to start with, and where it comes from: own checkpoint, then `init_from`, then random weights."""
    if saved is not None:
        return checkpoints.restore(program.abstract_state, saved), f"continuing from step {saved}"
    state, config = program.init(), program.config
    if not config.init_from:
        return state, "from random weights"
    params, fresh = initialization.pretrained(config, Manifest.load(data_dir), data_dir)
    shardings = jax.tree.map(lambda shape: shape.sharding, program.abstract_state.params)
    lacking = f" (from random weights: {', '.join(fresh)})" if fresh else ""
    return dataclasses.replace(state, params=jax.device_put(params, shardings)), f"from {config.init_from}{lacking}"


class _Loop:
    """The parts of a run while it runs."""

    def __init__(
        self,
        program: steps.Program,
        data_dir: Path,
        training: Dataset,
        validation: Dataset,
        checkpoints: Checkpoints,
        writer: Writer,
        progress: Progress,
        meter: Meter,
        interruption: Interruption,
    ) -> None:
        self._program, self._config, self._data_dir = program, program.config.train, data_dir
        self._training, self._validation = training, validation
        self._checkpoints, self._writer, self._progress, self._meter = checkpoints, writer, progress, meter
        self._interruption = interruption
        self._in_flight: deque[tuple[int, jax.Array]] = deque()  # step, and skips in a row after it
        self._corrupt_reported = 0

    def run(self, state: steps.State, start: int, workdir: Path) -> int:
        """Steps `start` to the last; returns the exit code."""
        with training_batches(self._program, self._training, start) as batches:
            for number in range(start, self._config.steps):
                if self._program.config.profile and number in (start + _PROFILED[0], start + _PROFILED[1]):
                    self._profile(number - start, workdir)
                asked = time.perf_counter()
                batch = next(batches)
                self._meter.waited(time.perf_counter() - asked)
                state, happened = self._program.train_step(state, batch)
                done = number + 1
                self._meter.add(done, happened)
                self._in_flight.append((done, happened["skipped_in_a_row"]))
                last = done == self._config.steps
                stop = self._should_stop(done)
                state = self._recovered(state, done, ahead=0 if last or stop else _STEPS_AHEAD)
                validation_loss = None
                if done % self._config.log_every == 0:
                    self._log(done)
                if done % self._config.eval_every == 0 or last:
                    validation_loss = self._evaluate(state, done)
                if done % self._config.checkpoint_every == 0 or last or stop:
                    self._save(state, done, validation_loss)
                if stop and not last:
                    self._log(done)
                    self._checkpoints.wait()
                    self._progress.say(f"stopped at step {done}, saved; the same command continues from there")
                    return EXIT_RESUME
            self._log(self._config.steps)
        return EXIT_DONE

    def _should_stop(self, done: int) -> bool:
        if jax.process_count() == 1:
            return self._interruption.requested
        if done % _AGREE_EVERY:
            return False
        return bool(np.any(multihost_utils.process_allgather(np.array(self._interruption.requested))))

    def _recovered(self, state: steps.State, done: int, ahead: int) -> steps.State:
        """Look at all steps but the `ahead` latest; after too many skips in a row, the state to go on from instead.

        That is the last good checkpoint's parameters at the present step: the batches that broke it are behind.
        """
        too_many = False
        while len(self._in_flight) > ahead:
            step, skipped = self._in_flight.popleft()
            in_a_row = int(skipped)
            if in_a_row:
                size, seed = self._config.global_batch_size, self._config.seed
                records = self._training.records(seed, step - 1, size)
                self._progress.say(f"step {step}: skipped, its loss or gradient was not finite ({in_a_row} in a row)")
                self._writer.write(step, "skipped", {"in_a_row": float(in_a_row)}, records=records)
            if in_a_row >= self._config.max_skips:
                too_many, ahead = True, 0  # name those after it as well: the return makes them the past
        return self._returned(state, done) if too_many else state

    def _returned(self, state: steps.State, done: int) -> steps.State:
        returns = int(state.returns) + 1
        if returns > self._config.max_returns:
            raise UserError(
                f"stopped at step {done}: {self._config.max_skips} steps in a row had no finite loss or gradient, "
                f"after {returns - 1} returns to a checkpoint; metrics.jsonl names their records (kind 'skipped'): "
                "look at them, or start anew with a lower learning rate"
            )
        self._checkpoints.wait()
        good = self._checkpoints.latest
        restored, _ = _first_state(self._program, self._checkpoints, good, self._data_dir)
        self._progress.say(f"step {done}: returned to the parameters of step {good or 0} ({returns} times by now)")
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
        if self._checkpoints.mirror_fault:
            self._progress.say(f"warning: {self._checkpoints.mirror_fault}; tried again with the next checkpoint")
            self._checkpoints.mirror_fault = None
        found = sorted(self._training.corrupt | self._validation.corrupt)
        for file, record in found[self._corrupt_reported :]:
            self._progress.say(f"warning: record {record} of {file} is damaged; its row has no weight")
            self._writer.write(done, "corrupt", {"record": float(record)}, file=file)
        self._corrupt_reported = len(found)

    def _evaluate(self, state: steps.State, done: int) -> float:
        self._log(done)
        means = evaluate(self._program, state.params, self._validation)
        self._writer.write(done, "validation", means)
        self._progress.say(f"step {done}: validation: {describe(means)}")
        self._meter.restart_clock()
        return means["mlm_loss"] + means["nsp_loss"]

    def _save(self, state: steps.State, done: int, validation_loss: float | None) -> None:
        self._checkpoints.save(state, done, validation_loss)
        self._meter.checkpoint_s = self._checkpoints.blocked_s

    def _profile(self, since: int, workdir: Path) -> None:
        if since == _PROFILED[0]:
            jax.profiler.start_trace(str(workdir / "profile"))
        else:
            jax.profiler.stop_trace()
            self._progress.say(f"profile of steps {_PROFILED[0]} to {_PROFILED[1]} written to {workdir / 'profile'}")


def training_batches(program: steps.Program, dataset: Dataset, start: int) -> Prefetcher[dict[str, jax.Array]]:
    """Training batches from step `start` to the end, each a pure function of (dataset, seed, step), on the devices."""
    train, mesh = program.config.train, program.mesh
    rows_R = local_rows(train.global_batch_size, mesh)

    def load(number: int) -> dict[str, jax.Array]:
        batch = dataset.train_batch(train.seed, number, train.global_batch_size, rows_R)
        return put_batch(batch, rows_R, train.global_batch_size, mesh)

    return Prefetcher(load, range(start, train.steps), program.config.data.num_threads)


def evaluate(program: steps.Program, params: Any, dataset: Dataset) -> dict[str, float]:
    """Losses and accuracies over a split: every example once, in order (or the first `train.eval_batches` batches)."""
    size = program.config.train.global_batch_size
    rows_R = local_rows(size, program.mesh)
    count = -(-dataset.num_examples // size)
    if program.config.train.eval_batches:
        count = min(count, program.config.train.eval_batches)

    def load(number: int) -> dict[str, jax.Array]:
        return put_batch(dataset.eval_batch(number, size, rows_R), rows_R, size, program.mesh)

    averages = Averages()
    with Prefetcher(load, range(count), program.config.data.num_threads) as batches:
        for batch in batches:
            averages.add(program.eval_step(params, batch))
    return averages.read()[0]


def describe(means: dict[str, float]) -> str:
    """Evaluation figures in words."""
    return (
        f"MLM loss {means['mlm_loss']:.3f}, accuracy {means['mlm_accuracy']:.1%}; "
        f"NSP loss {means['nsp_loss']:.3f}, accuracy {means['nsp_accuracy']:.1%}"
    )


def _flops(program: steps.Program, dataset: Dataset) -> tuple[float, float | None]:
    """FLOPs of a step, and the peak FLOP/s of all devices where it is known."""
    config, mesh = program.config, program.mesh
    per_step = flops.train_flops_per_row(config.model, dataset.layout) * config.train.global_batch_size
    peak = flops.peak_flops(mesh.devices.flat[0].device_kind)
    return per_step, peak and peak * mesh.size


def _opening(program: steps.Program, dataset: Dataset, origin: str) -> str:
    count = sum(leaf.size for leaf in jax.tree.leaves(program.abstract_state.params))
    device = program.mesh.devices.flat[0].device_kind
    return (
        f"{count / 1e6:.1f} M parameters, {dataset.num_examples:,} training examples, "
        f"batch {program.config.train.global_batch_size} on {program.mesh.size} × {device}, {origin}"
    )
