"""Logits of many rows, on all devices.

Shape legend: N rows, B packed rows, K rows in one, L length, C labels.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune import heads
from clinicalbert_jax.finetune.rows import Rows, batch_of, most_in_one, pack, packed_length
from clinicalbert_jax.modeling import bert
from clinicalbert_jax.training import xla
from clinicalbert_jax.training.losses import Batch
from clinicalbert_jax.training.sharding import BATCH_SPEC, local_rows, parameter_specs, put_batch
from clinicalbert_jax.training.train_step import gather

_INPUTS = ("input_ids", "segment_ids", "sequence_ids", "first_positions")


class NotFiniteError(UserError):
    """Logits that are infinite or no numbers."""


class Predictor:
    """Computes a head's logits. Compiled shapes are kept for further calls."""

    def __init__(self, head: str, config: ModelConfig, mesh: Mesh, dtype: str = "float32") -> None:
        self._head, self._mesh = head, mesh
        self._max_positions = config.max_position_embeddings
        self._compiled: set[int] = set()  # lengths

        def local(params_shard: bert.Params, batch: Batch, specs: bert.Params) -> jax.Array:
            return heads.logits(head, config, gather(params_shard, specs), batch, dtype=jnp.dtype(dtype))

        @jax.jit
        def logits(params: bert.Params, batch: Batch) -> jax.Array:
            specs = parameter_specs(params)
            return jax.shard_map(
                functools.partial(local, specs=specs),
                mesh=mesh,
                in_specs=(specs, BATCH_SPEC),
                out_specs=BATCH_SPEC,
                check_vma=False,
            )(params, batch)

        self._logits = logits

    def __call__(
        self, params: bert.Params, rows: Rows, after_batch: Callable[[int], object] = lambda num_rows: None
    ) -> list[np.ndarray]:
        """For each row float32 logits, C or (its own length) x C. With several processes, all get all of them.

        `after_batch` gets the number of rows of each batch that is done; an exception of it ends the work. Raises
        `NotFiniteError` for logits that are not finite, from which anything might be decided.
        """
        if not len(rows):
            return []
        shardings = jax.tree.map(lambda spec: NamedSharding(self._mesh, spec), parameter_specs(params))
        params = jax.device_put(params, shardings)  # once, where they are NumPy's
        lengths_N = rows.lengths_N
        length = packed_length(int(lengths_N.max()), self._max_positions)
        length = min((known for known in self._compiled if known >= length), default=length)
        self._compiled.add(length)
        packed = pack(lengths_N, length)
        size = self._mesh.size * xla.rows_at_once(self._mesh.devices.flat[0].platform, length)
        held_R = local_rows(size, self._mesh)
        results: list[np.ndarray] = [np.empty(0)] * len(rows)
        for first in range(0, len(packed), size):
            chosen = packed[first : first + size]
            chosen += [[]] * (size - len(chosen))
            batch = batch_of(rows, [chosen[row] for row in held_R], length, most_in_one(length))
            inputs = {name: batch[name] for name in _INPUTS}
            logits_B = self._logits(params, put_batch(inputs, self._mesh))
            if jax.process_count() > 1:
                logits_B = multihost_utils.process_allgather(logits_B, tiled=True)
            logits_B = np.asarray(logits_B)
            if not np.isfinite(logits_B).all():
                raise NotFiniteError(
                    "expected finite logits of the model, found others: its weights are damaged or its training failed"
                )
            for numbers, logits in zip(chosen, logits_B, strict=True):
                start = 0
                for place, number in enumerate(numbers):
                    end = start + lengths_N[number]
                    results[number] = logits[place] if self._head == "sequence" else logits[start:end]
                    start = end
            after_batch(sum(map(len, chosen)))
        return results
