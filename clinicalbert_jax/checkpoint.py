"""Checkpoints of a run: asynchronous, atomic, the last few kept. The only module that knows orbax.

`WORKDIR/checkpoints/STEP` holds the parameters and the optimizer's state as two items, so that whoever only wants
the model reads only the model.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from clinicalbert_jax import model, workdir
from clinicalbert_jax.config import Config
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.step import State

DIRECTORY = "checkpoints"


class Checkpoints:
    """Saves and restores the state of one run. Use as a context: leaving it waits for the save under way."""

    def __init__(self, run: Path, keep: int) -> None:
        self._checkpointer = ocp.training.Checkpointer(
            (run / DIRECTORY).resolve(),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._checkpointer.close()

    @property
    def latest(self) -> int | None:
        """The step of the newest committed checkpoint, if there is one."""
        newest = self._checkpointer.latest
        return None if newest is None else newest.step

    def save(self, state: State, step: int) -> None:
        """Start saving in the background; returns once the state may be overwritten. Nothing if `step` is saved."""
        if self.latest != step:
            self._checkpointer.save_checkpointables_async(step, _items(state))

    def wait(self) -> None:
        """Return when the save under way, if any, is committed."""
        self._checkpointer.wait()

    def restore(self, abstract_state: State, step: int) -> State:
        """The state saved at `step`, laid out over the devices as `abstract_state` says."""
        items = self._checkpointer.load_checkpointables(step, _items(abstract_state))
        counters = items["progress"]
        return State(
            step=counters["step"],
            updates=counters["updates"],
            params=items["params"],
            opt_state=items["optimizer"],
        )


def restore_params(run: Path, step: int | None = None) -> tuple[Config, Any, Path, int]:
    """The model of a run on its own, for inference and export, whatever devices trained it.

    Returns its config, its parameters (nested dict of NumPy float32 arrays), the directory of its tokenizer and the
    step: the latest unless `step` names another. Raises `UserError` where the run or the step does not exist.
    """
    config = workdir.read_config(run)
    directory = run / DIRECTORY
    steps = sorted(int(path.name) for path in directory.glob("*") if path.name.isdigit()) if directory.is_dir() else []
    if not steps:
        raise UserError(f"--workdir: expected a run with a checkpoint, found none in {directory}: train first")
    chosen = steps[-1] if step is None else step
    if chosen not in steps:
        raise UserError(f"--step: expected one of {steps}, found {step}")
    abstract = jax.eval_shape(lambda: model.init(config.model, jax.random.key(0)))
    on_host = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=on_host), abstract)
    params = ocp.load_checkpointables((directory / str(chosen)).resolve(), {"params": abstract})["params"]
    return config, jax.tree.map(np.asarray, params), run / "tokenizer", chosen


def _items(state: State) -> dict[str, Any]:
    return {
        "params": state.params,
        "optimizer": state.opt_state,
        "progress": {"step": state.step, "updates": state.updates},
    }
