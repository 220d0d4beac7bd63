"""Checkpoints of a run: asynchronous, atomic, checksummed; the last few and the best are kept. Alone uses orbax.

    WORKDIR/checkpoints/STEP/{params,optimizer,progress}/   what orbax wrote
    WORKDIR/checkpoints/STEP/run/                           config, manifest and tokenizer: complete by itself
    WORKDIR/checkpoints/STEP/checksums.json                 written last, over all of the above

Parameters and optimizer are two items, so that whoever only wants the model reads only the model.
"""

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
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from clinicalbert_jax.config import Config, TrainConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.modeling import bert
from clinicalbert_jax.runs import checksums, workdir
from clinicalbert_jax.runs.object_store import Mirror
from clinicalbert_jax.runs.state import State
from clinicalbert_jax.runs.workdir import CHECKPOINTS

_ITEMS = ("params", "optimizer", "progress")
_SCORE = "score"  # by validation; more is better


def recover(run: Path) -> tuple[int | None, list[str]]:
    """The newest undamaged checkpoint, and a warning for each newer one, which is moved aside.

    One without checksums was interrupted by a kill: only the minutes since the one before are lost. Raises `UserError`
    where every checkpoint that was once complete is damaged, rather than start again from the first step.
    """
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
    # Every process must have looked before the first one moves anything.
    multihost_utils.sync_global_devices("checkpoints were checked")
    if jax.process_index() == 0:
        for step in _steps(run):
            if chosen is None or step > chosen:
                (run / CHECKPOINTS / str(step)).rename(_aside(run, step))
    multihost_utils.sync_global_devices("checkpoints were recovered")
    return chosen, warnings


class Checkpoints:
    """Saves and restores the state of one run. Use as a context: leaving it waits for the save in progress.

    Raises `UserError` from `save`, `wait` or the end of the context where a save failed, a full disk for one.
    """

    def __init__(self, run: Path, config: TrainConfig, mirror: Mirror | None = None) -> None:
        policies = ocp.training.preservation_policies
        # orbax deletes when it commits, before the checksums are written: until then the checkpoint before must stay.
        kept: list[Any] = [policies.LatestN(max(config.keep_checkpoints, 2))]
        if config.keep_best:
            kept.append(
                policies.BestN(
                    get_metric_fn=lambda metrics: metrics[_SCORE],
                    n=config.keep_best,
                    keep_checkpoints_without_metrics=False,
                )
            )
        if config.keep_every_hours:
            kept.append(policies.EveryNSeconds(round(config.keep_every_hours * 3600)))
        self._run, self._mirror = run, mirror
        self._checkpointer = ocp.training.Checkpointer(
            (run / CHECKPOINTS).resolve(),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=policies.AnyPreservationPolicy(kept),
            cleanup_tmp_directories=True,
        )
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._publishing: tuple[int, Future[None]] | None = None
        self._saved: int | None = None
        self._has_failed = False
        self.mirror_fault: str | None = None  # why the latest checkpoint is not at the run's URL yet
        self.blocked_s = 0.0  # how long the latest `save` blocked the caller

    def save(self, state: State, step: int, score: float | None = None, again: bool = False) -> None:
        """Start saving; returns once the state may be overwritten. Waits for the save before to end.

        `again` replaces the checkpoint of this step.
        """
        started = time.perf_counter()
        self.wait()
        if step == self._saved:  # by a rollback, at a step where a save was due as well
            return
        metrics = None if score is None else {_SCORE: score}
        try:
            response = self._checkpointer.save_checkpointables_async(
                step, _items(state), metrics=metrics, overwrite=again
            )
        except Exception as error:
            raise self._failed(step, error) from None
        if response is not None:
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
        """The step of the newest complete checkpoint, or None. Process 0 decides for all processes."""
        whole = [step for step in _steps(self._run) if checksums.is_published(self._run / CHECKPOINTS / str(step))]
        # The `wait` of the others ends before process 0 has published: they would see an older one.
        step = int(multihost_utils.broadcast_one_to_all(np.array(whole[-1] if whole else -1)))
        return None if step < 0 else step

    def restore(self, abstract_state: State, step: int) -> State:
        """The state saved at `step`, sharded as `abstract_state`."""
        items = _load(self._run / CHECKPOINTS / str(step), _items(abstract_state))
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
            try:
                self._checkpointer.close()
            except Exception:
                if not self._has_failed:  # else orbax raises again what has been reported
                    raise
            finally:
                threading.excepthook = self._excepthook

    def _thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        # A thread of orbax passes its exception to the caller of `wait`, and then raises it again: `wait` reports it.
        if not type(failure.thread).__module__.startswith("orbax"):
            self._excepthook(failure)

    def _publish(self, response: Any, step: int) -> None:
        response.result()
        if jax.process_index() == 0:
            directory = self._run / CHECKPOINTS / str(step)
            written = ocp.checkpointables_metadata(directory.resolve()).metadata
            if unread := [name for name in _ITEMS if written.get(name) is None]:  # orbax only warns of it
                raise ValueError(f"{', '.join(unread)} cannot be read again")
            workdir.copy(self._run, directory / "run")
            checksums.publish(directory)
            if self._mirror:
                try:
                    self._mirror.push()
                    self.mirror_fault = None
                except UserError as error:  # the local copy is complete: try again with the next one
                    self.mirror_fault = str(error)

    def _failed(self, step: int, error: Exception) -> UserError:
        self._has_failed = True
        good = [s for s in _steps(self._run) if checksums.is_published(self._run / CHECKPOINTS / str(s))]
        last = f"checkpoint {good[-1]} is whole" if good else "there is none before it"
        return UserError(
            f"--workdir: the checkpoint of step {step} could not be written to {self._run / CHECKPOINTS} "
            f"({_reason(error)}); {last}: free space or permit writing, then run the same command again"
        )


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
    on_host = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=on_host), abstract)
    params = _load(directory, {"params": abstract})["params"]
    return config, jax.tree.map(np.asarray, params), directory / "run" / "tokenizer", chosen


def restore_optimizer(run: Path, abstract: Any) -> Any:
    """The optimizer's state in the latest complete checkpoint of a run, sharded as `abstract`; raises `UserError`."""
    directory = run / CHECKPOINTS / str(_whole(run, None))
    return _load(directory, {"optimizer": abstract})["optimizer"]


def _whole(run: Path, step: int | None) -> int:
    """The step of an undamaged checkpoint: `step`, or the latest complete one."""
    workdir.check_path(run)
    whole = [step for step in _steps(run) if checksums.is_published(run / CHECKPOINTS / str(step))]
    if not whole:
        raise UserError(f"--workdir: expected a run with a checkpoint, found none in {run / CHECKPOINTS}: train first")
    chosen = whole[-1] if step is None else step
    if chosen not in whole:
        raise UserError(f"--step: expected one of {whole}, found {step}")
    directory = run / CHECKPOINTS / str(chosen)
    if reason := checksums.damage(directory):
        others = [step for step in whole if step != chosen]
        raise UserError(f"{directory} is damaged ({reason}): choose another --step of {others}, or restore a copy")
    return chosen


def _items(state: State) -> dict[str, Any]:
    return dict(zip(_ITEMS, (state.params, state.opt_state, state.progress()), strict=True))


def _load(directory: Path, abstract: dict[str, Any]) -> dict[str, Any]:
    try:
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
