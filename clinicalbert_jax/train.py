"""The loop: batches in, steps, evaluations and checkpoints, until the last step or a signal."""

import os
import signal
import time
from collections import deque
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import jax

from clinicalbert_jax import step as steps
from clinicalbert_jax.checkpoint import Checkpoints
from clinicalbert_jax.config import Config
from clinicalbert_jax.dataset import Dataset, Prefetcher
from clinicalbert_jax.metrics import Averages, Progress, Writer, describe
from clinicalbert_jax.sharding import local_rows, put_batch

EXIT_DONE = 0
EXIT_RESUME = 75  # EX_TEMPFAIL of sysexits.h: stopped before the end, all saved; the same command goes on from there

_STEPS_AHEAD = (
    2  # steps dispatched before the oldest must have ended: the device never waits, a signal never waits long
)


def train(config: Config, data_dir: Path, workdir: Path) -> int:
    """Train until `train.steps`, from the last checkpoint in `workdir` if there is one. Returns the exit code."""
    leader = jax.process_index() == 0
    program = steps.build(config)
    training, validation = Dataset(data_dir, "train"), Dataset(data_dir, "validation")
    with (
        _Interruption() as interruption,
        Checkpoints(workdir, config.train.keep_checkpoints) as checkpoints,
        Writer(workdir, leader) as writer,
    ):
        saved = checkpoints.latest
        state = program.init() if saved is None else checkpoints.restore(program.abstract_state, saved)
        start = int(state.step)
        with Progress(start, config.train.steps, leader) as progress:
            progress.say(_opening(config, program, training, start))
            with training_batches(program, training, start) as batches:
                window = _Window(config, writer, progress)
                for number in range(start, config.train.steps):
                    state, happened = program.train_step(state, window.wait_for(batches))
                    done = number + 1
                    window.add(done, happened)
                    last = done == config.train.steps
                    if done % config.train.eval_every == 0 or last:
                        window.flush()
                        means = evaluate(program, state.params, validation)
                        writer.write(done, "validation", means)
                        progress.say(f"step {done}: validation: {describe(means)}")
                        window.restart_clock()
                    if done % config.train.checkpoint_every == 0 or last or interruption.requested:
                        checkpoints.save(state, done)
                    if interruption.requested and not last:
                        window.flush()
                        checkpoints.wait()
                        progress.say(f"stopped at step {done}, saved; the same command continues from there")
                        return EXIT_RESUME
                window.flush()
            if start >= config.train.steps:
                progress.say(f"nothing to do: {workdir} is at step {start} of {config.train.steps}")
    return EXIT_DONE


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
    return averages.means()


class _Window:
    """The steps since the last logged line. Their figures are read after later steps were dispatched."""

    def __init__(self, config: Config, writer: Writer, progress: Progress) -> None:
        self._config, self._writer, self._progress = config, writer, progress
        self._in_flight: deque[Any] = deque()
        self._averages = Averages()
        self._steps = 0
        self._last: tuple[int, Any] = (0, None)
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leave what happened until now (an evaluation, say) out of the throughput."""
        self._started, self._waited = time.perf_counter(), 0.0

    def wait_for(self, batches: Prefetcher[dict[str, jax.Array]]) -> dict[str, jax.Array]:
        """The next batch, its wait on the clock."""
        asked = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - asked
        return batch

    def add(self, done: int, happened: dict[str, Any]) -> None:
        """Take what step number `done` returned."""
        self._in_flight.append(happened["grad_norm"])
        if len(self._in_flight) > _STEPS_AHEAD:
            self._in_flight.popleft().block_until_ready()
        self._averages.add(happened["sums"] | {"skipped": (happened["skipped"], 1)})
        self._last = done, happened
        self._steps += 1
        self._progress.advance()
        if done % self._config.train.log_every == 0:
            self.flush()

    def flush(self) -> None:
        """Write the window's figures and begin the next."""
        if not self._steps:
            return
        done, happened = self._last
        means = self._averages.means()
        seconds = time.perf_counter() - self._started
        skipped = means.pop("skipped") * self._steps
        num_tokens = means.pop("num_tokens") * self._steps
        scalars = means | {
            "loss": means["mlm_loss"] + means["nsp_loss"],
            "grad_norm": float(happened["grad_norm"]),
            "update_norm": float(happened["update_norm"]),
            "learning_rate": float(happened["learning_rate"]),
            "skipped_steps": skipped,
            "steps_per_s": self._steps / seconds,
            "tokens_per_s": num_tokens / seconds,
            "data_wait": self._waited / seconds,
        }
        self._writer.write(done, "train", scalars)
        self._progress.show(done, scalars)
        if skipped:
            self._progress.say(f"step {done}: skipped {skipped:.0f} steps whose gradient was not finite")
        self._steps = 0
        self.restart_clock()


class _Interruption:
    """SIGTERM or the first Ctrl-C asks the loop to save and stop; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "_Interruption":
        self._before = {number: signal.signal(number, self._request) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            os._exit(128 + number)  # threads of a save under way must not hold the process back
        self.requested = True


def _opening(config: Config, program: steps.Program, dataset: Dataset, start: int) -> str:
    count = sum(leaf.size for leaf in jax.tree.leaves(program.abstract_state.params))
    device = program.mesh.devices.flat[0].device_kind
    begin = f"continuing from step {start}" if start else "from random weights"
    return (
        f"{count / 1e6:.1f} M parameters, {dataset.num_examples:,} training examples, "
        f"batch {config.train.global_batch_size} on {program.mesh.size} × {device}, {begin}"
    )
