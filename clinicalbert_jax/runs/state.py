"""The state of a run: parameters, optimizer and counters."""

from dataclasses import dataclass
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Everything that training changes.

    `step` counts batches consumed and only ever advances; `updates` counts those whose gradient was applied.
    `skipped_in_a_row` and `returns` (rollbacks) control the recovery from non-finite gradients in `train_loop`.
    """

    step: jax.Array
    updates: jax.Array
    skipped_in_a_row: jax.Array
    returns: jax.Array
    params: Any
    opt_state: Any

    def progress(self) -> dict[str, jax.Array]:
        """The counters, by name."""
        return {name: getattr(self, name) for name in ("step", "updates", "skipped_in_a_row", "returns")}
