"""Logits of many rows, on all devices.

Shape legend: N rows, B batch, L length, C labels.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.finetune import heads
from clinicalbert_jax.finetune.rows import RowBatches, Rows, chosen_lengths
from clinicalbert_jax.modeling import bert
from clinicalbert_jax.training import mfu
from clinicalbert_jax.training.losses import Batch
from clinicalbert_jax.training.sharding import BATCH_SPEC, local_rows, parameter_specs, put_batch
from clinicalbert_jax.training.train_step import gather

# On the CPU, rows of 384 took 132 ms each by 32, and 87 ms by 8 (docs/benchmarks.md).
_ROWS_A_CPU, _ROWS_A_DEVICE = 8, 32
_INPUTS = ("input_ids", "segment_ids", "sequence_ids")


class Predictor:
    """Computes a head's logits. Compiled shapes are kept for further calls."""

    def __init__(self, head: str, config: ModelConfig, mesh: Mesh, dtype: str = "float32") -> None:
        rows = _ROWS_A_CPU if mesh.devices.flat[0].platform == "cpu" else _ROWS_A_DEVICE
        self._mesh, self._size = mesh, rows * mesh.size
        self._compiled: set[int] = set()  # lengths
        self._price = mfu.positions_a_compilation(
            config, mesh.devices.flat[0].device_kind, mesh.size, self._size, trained=False
        )

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
        self, params: bert.Params, rows: Rows, after_batch: Callable[[], None] = lambda: None
    ) -> list[np.ndarray]:
        """For each row float32 logits, C or (its own length) x C. With several processes, all get all of them.

        An exception of `after_batch` ends it.
        """
        # Rows of similar length in one batch need less padding.
        order_N = np.argsort([len(ids) for ids in rows.input_ids], kind="stable")
        longest_N = np.array([len(rows.input_ids[row]) for row in order_N[self._size - 1 :: self._size]])
        lengths = chosen_lengths(np.append(longest_N, len(rows.input_ids[order_N[-1]])), self._price, self._compiled)
        self._compiled |= set(lengths)
        batches = RowBatches(rows.take(order_N), lengths)
        held_R = local_rows(self._size, self._mesh)
        results: list[np.ndarray] = [np.empty(0)] * len(rows)
        for number in range(-(-len(rows) // self._size)):
            batch = batches.eval_batch(number, self._size, held_R)
            inputs = {name: batch[name] for name in _INPUTS}
            logits_B = self._logits(params, put_batch(inputs, held_R, self._size, self._mesh))
            if jax.process_count() > 1:
                logits_B = multihost_utils.process_allgather(logits_B, tiled=True)
            chosen = order_N[number * self._size : (number + 1) * self._size]
            for row, logits in zip(chosen, np.asarray(logits_B), strict=False):  # the last batch is not full
                results[row] = logits[: len(rows.input_ids[row])] if logits.ndim == 2 else logits
            after_batch()
        return results
