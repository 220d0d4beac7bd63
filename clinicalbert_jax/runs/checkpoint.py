"""Checkpoints of a run: asynchronous, atomic, checksummed; the last few and the best are kept. Alone uses orbax.

    WORKDIR/checkpoints/STEP/{params,optimizer,progress}/   what orbax wrote
    WORKDIR/checkpoints/STEP/run/                           config, manifest and tokenizer: complete by itself
    WORKDIR/checkpoints/STEP/checksums.json                 written last, over all of the above

Parameters and optimizer are two items, so that whoever only wants the model reads only the model.
"""

import json
import math
import shutil
import threading
import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp
from orbax.checkpoint.experimental.v1._src.saving import execution

from clinicalbert_jax.config import Config, TrainConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.modeling import bert
from clinicalbert_jax.runs import checksums, metrics_log, process_0, workdir
from clinicalbert_jax.runs.object_store import Mirror
from clinicalbert_jax.runs.state import State
from clinicalbert_jax.runs.workdir import CHECKPOINTS

_ITEMS = ("params", "optimizer", "progress")
_SCORE = "score"  # by validation; more is better

# orbax 0.12 asks all processes for their path, also where its options say that one process saves alone.
execution._check_directory_consistency = lambda directory: None


def recover(run: Path) -> tuple[int | None, list[str]]:
    """The newest undamaged checkpoint, and a warning for each newer one, which is moved aside. Process 0 looks for all.

    One without checksums was interrupted by a kill: only the minutes since the one before are lost. Raises `UserError`
    where every checkpoint that was once complete is damaged, rather than start again from the first step.
    """
    return process_0.decides(lambda: _recover(run))


def _recover(run: Path) -> tuple[int | None, list[str]]:
    warnings, damaged = [], 0
    chosen = None
    for step in reversed(_steps(run)):
        directory = run / CHECKPOINTS / str(step)
        reason = checksums.damage(directory) if checksums.is_published(directory) else "it was not finished"
        if reason is None:
            chosen = step
            break
        damaged += checksums.is_published(directory)
        warnings.append(f"checkpoint {step} is left out: {reason}; it was moved to {_aside(run, step).name}")
    if chosen is None and damaged:
        raise UserError(
            f"{run / CHECKPOINTS}: expected a checkpoint that is as it was written, found {damaged} damaged and none "
            f"whole ({warnings[-1]}): restore one from a copy, or remove {run / CHECKPOINTS} to start again"
        )
    for step in _steps(run):
        if chosen is None or step > chosen:
            (run / CHECKPOINTS / str(step)).rename(_aside(run, step))
    return chosen, warnings


class Checkpoints:
    """Saves and restores the state of one run. Use as a context: leaving it waits for the save in progress.

    All processes call its methods; process 0 alone reads and writes, the whole state. Raises `UserError` from `save`,
    `wait` or the end of the context where a save failed, a full disk for one.
    """

    def __init__(self, run: Path, config: TrainConfig, mirror: Mirror | None = None) -> None:
        self._run, self._config, self._mirror = run, config, mirror
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._publishing: tuple[int, Future[None]] | None = None
        self._saved: int | None = None
        self.blocked_s = 0.0  # how long the latest `save` blocked the caller
        if jax.process_index() == 0:
            (run / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
            for unfinished in (run / CHECKPOINTS).glob("*.orbax-checkpoint-tmp*"):  # of a process that was killed
                shutil.rmtree(unfinished)

    def save(self, state: State, step: int, score: float | None = None) -> None:
        """Start saving; returns once the state may be overwritten. Waits for the save before to end."""
        started = time.perf_counter()
        self.wait()
        if self._mirror:
            self._mirror.check()
        if step == self._saved:  # by a rollback, at a step where a save was due as well
            return
        items = _items(state) if jax.process_count() == 1 else process_0.gathered(_items(state))
        if jax.process_index() == 0:
            directory = self._run / CHECKPOINTS / str(step)
            try:
                with _alone():
                    response = ocp.save_checkpointables_async(
                        directory.resolve(), items, custom_metadata={} if score is None else {_SCORE: score}
                    )
            except Exception as error:
                raise self._failed(step, error) from None
            self._publishing = step, self._executor.submit(self._publish, response, step)
        self._saved = step
        self.blocked_s = time.perf_counter() - started

    def wait(self) -> None:
        """Return when the save in progress, if any, is complete on disk, with its checksums."""
        if self._publishing is None:
            return
        (step, future), self._publishing = self._publishing, None
        try:
            future.result()
        except Exception as error:  # of orbax, tensorstore or the file system
            raise self._failed(step, error) from None

    def check(self) -> None:
        """Raise the error of the save in progress, if it has failed; returns at once."""
        if self._publishing is not None and self._publishing[1].done():
            self.wait()

    def settle(self, seconds: float) -> None:
        """Return when the save in progress, if any, has ended, or after `seconds`. For any thread."""
        if publishing := self._publishing:
            futures.wait([publishing[1]], seconds)

    @property
    def latest(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        return process_0.decides(lambda: next(reversed(workdir.complete_steps(self._run)), None))

    def restore(self, abstract_state: State, step: int) -> State:
        """The state saved at `step`, sharded as `abstract_state`."""
        directory, abstract = self._run / CHECKPOINTS / str(step), _items(abstract_state)
        if jax.process_count() == 1:
            items = _load(directory, abstract)
        else:
            loaded: Any = None

            def load() -> None:
                nonlocal loaded
                loaded = _load(directory, _on_host(abstract))

            process_0.decides(load)
            items = process_0.scattered(loaded, abstract)
        return State(**items["progress"], params=items["params"], opt_state=items["optimizer"])

    def __enter__(self) -> "Checkpoints":
        self._excepthook, threading.excepthook = threading.excepthook, self._thread_failed
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        try:
            self.wait()
        except UserError:
            if kind is None:  # else the first error is the one to report
                raise
        finally:
            self._executor.shutdown()
            threading.excepthook = self._excepthook

    def _thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        # A thread of orbax passes its exception to the caller of `wait`, and then raises it again: `wait` reports it.
        if not type(failure.thread).__module__.startswith("orbax"):
            self._excepthook(failure)

    def _publish(self, response: Any, step: int) -> None:
        response.result()
        directory = self._run / CHECKPOINTS / str(step)
        with _alone():
            written = ocp.checkpointables_metadata(directory.resolve()).metadata
        if unread := [name for name in _ITEMS if written.get(name) is None]:  # orbax only warns of it
            raise ValueError(f"{', '.join(unread)} cannot be read again")
        workdir.copy(self._run, directory / "run")
        checksums.publish(directory)
        kept = _kept(self._run, self._config)
        for old in _steps(self._run):
            if old < step and old not in kept:
                _remove(self._run / CHECKPOINTS / str(old))
        if self._mirror:
            self._mirror.wake()

    def _failed(self, step: int, error: Exception) -> UserError:
        good = workdir.complete_steps(self._run)
        last = f"checkpoint {good[-1]} is whole" if good else "there is none before it"
        return UserError(
            f"--workdir: the checkpoint of step {step} could not be written to {self._run / CHECKPOINTS} "
            f"({_reason(error)}); {last}: free space or permit writing, then run the same command again"
        )


def _kept(run: Path, config: TrainConfig) -> set[int]:
    """The complete checkpoints that stay: the latest, the best by validation, and one every so many hours."""
    steps = workdir.complete_steps(run)
    kept = set(steps[-config.keep_checkpoints :])
    known = {step: _score_and_time(run / CHECKPOINTS / str(step)) for step in steps}
    scores = {record["step"]: record["score"] for record in metrics_log.read(run) if record["kind"] == "validation"}
    scores |= {step: score for step, (score, _) in known.items() if score is not None}
    # A checkpoint that was saved because a stop ended its evaluation was evaluated by the next start.
    scored = [(scores[step], step) for step in steps if scores.get(step) is not None and not math.isnan(scores[step])]
    kept |= {step for _, step in sorted(scored)[len(scored) - config.keep_best :]} if config.keep_best else set()
    if config.keep_every_hours:
        last = -math.inf
        for step in steps:
            if known[step][1] - last >= config.keep_every_hours * 3600:
                kept.add(step)
                last = known[step][1]
    return kept


def _score_and_time(directory: Path) -> tuple[float | None, float]:
    """The score with which a checkpoint was saved, None where it has none, and when, in seconds."""
    before = directory / "metrics" / "metrics"  # where an earlier version kept the score
    try:
        document = json.loads((directory / "_CHECKPOINT_METADATA").read_text(encoding="utf-8"))
        scores = json.loads(before.read_text(encoding="utf-8")) if before.exists() else document["custom_metadata"]
        return scores.get(_SCORE), document["commit_timestamp_nsecs"] / 1e9
    except (OSError, ValueError, KeyError, AttributeError):  # damaged: it cannot be the best
        return None, 0.0


def _remove(directory: Path) -> None:
    """Remove a checkpoint, its checksums first, so that what a kill leaves of it is not taken for whole."""
    (directory / checksums.FILE_NAME).unlink(missing_ok=True)
    shutil.rmtree(directory)


def _pretrained(config: Config, key: jax.Array) -> bert.Params:
    return bert.init(config.model, key)


def restore_params(
    run: Path, step: int | None = None, init: Callable[[Config, jax.Array], bert.Params] = _pretrained
) -> tuple[Config, Any, Path, int]:
    """The model of a run alone, for inference and export, whatever devices trained it.

    `init` gives parameters of the same shapes.

    Returns its config, its parameters (nested dict of NumPy float32 arrays), the directory of its tokenizer and the
    step: the latest complete one unless `step` names another. Raises `UserError` where the run or the step does not
    exist or is damaged.
    """
    config = workdir.read_config(run)
    chosen = _whole(run, step)
    directory = run / CHECKPOINTS / str(chosen)
    abstract = jax.eval_shape(lambda: init(config, jax.random.key(0)))
    params = _load(directory, _on_host({"params": abstract}))["params"]
    return config, jax.tree.map(np.asarray, params), directory / "run" / "tokenizer", chosen


def restore_optimizer(run: Path, abstract: Any) -> Any:
    """The optimizer's state in the latest complete checkpoint of a run, sharded as `abstract`; raises `UserError`."""
    directory = run / CHECKPOINTS / str(_whole(run, None))
    return _load(directory, {"optimizer": abstract})["optimizer"]


def _whole(run: Path, step: int | None) -> int:
    """The step of an undamaged checkpoint: `step`, or the latest complete one."""
    chosen = workdir.complete_step(run, step)
    directory = run / CHECKPOINTS / str(chosen)
    if reason := checksums.damage(directory):
        others = [step for step in workdir.complete_steps(run) if step != chosen]
        raise UserError(f"{directory} is damaged ({reason}): choose another --step of {others}, or restore a copy")
    return chosen


def _items(state: State) -> dict[str, Any]:
    return dict(zip(_ITEMS, (state.params, state.opt_state, state.progress()), strict=True))


def _on_host(abstract: dict[str, Any]) -> dict[str, Any]:
    """The same shapes, whole in this process's memory."""
    on_host = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=on_host), abstract)


def _alone() -> ocp.Context:
    """In which orbax does not wait for other processes."""
    context = ocp.Context()
    context.multiprocessing.primary_host = jax.process_index()
    context.multiprocessing.active_processes = {jax.process_index()}
    return context


def _load(directory: Path, abstract: dict[str, Any]) -> dict[str, Any]:
    try:
        with _alone():
            return ocp.load_checkpointables(directory.resolve(), abstract)
    except Exception as error:  # of orbax, tensorstore or the file system
        raise UserError(
            f"{directory} is as it was written, and cannot be read ({_reason(error)}): choose another --step"
        ) from None


def _steps(run: Path) -> list[int]:
    """Steps of the committed checkpoints, ascending; a commit is a rename to the bare number."""
    directory = run / CHECKPOINTS
    return sorted(int(path.name) for path in directory.glob("*") if path.name.isdigit()) if directory.is_dir() else []


def _aside(run: Path, step: int) -> Path:
    number = 0
    while (path := run / CHECKPOINTS / f"damaged-{step}-{number}").exists():
        number += 1
    return path


def _reason(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    for known in ("No space left on device", "Read-only file system", "Permission denied", "Disk quota exceeded"):
        if known in text:
            return known
    return f"{type(error).__name__}: {text.splitlines()[0][:200]}"
