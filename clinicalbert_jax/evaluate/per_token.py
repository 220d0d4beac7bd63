"""A model's loss and accuracy on each masked token and each sentence pair of a split: flat arrays, one entry each.

Shape legend: N masked tokens of the split, M sentence pairs; B batch, L length, P predictions and K pairs a row.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from clinicalbert_jax import cli
from clinicalbert_jax.data.dataset import Batch, Dataset
from clinicalbert_jax.data.prefetch import Prefetcher
from clinicalbert_jax.evaluate.token_classes import TokenClasses
from clinicalbert_jax.modeling import bert
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.training.losses import token_cross_entropy


class Targets(NamedTuple):
    """What is to be predicted. Patients are numbered from 0 within the split; a pair is its first segment's note."""

    ids_N: np.ndarray
    patients_N: np.ndarray
    categories_N: np.ndarray
    classes_N: np.ndarray  # in `token_classes.CLASSES`
    patients_M: np.ndarray
    categories_M: np.ndarray
    num_patients: int


class Scores(NamedTuple):
    """One model's loss in nats, and whether its first prediction is right, in the order of `Targets`."""

    mlm_loss_N: np.ndarray
    mlm_hits_N: np.ndarray
    nsp_loss_M: np.ndarray
    nsp_hits_M: np.ndarray


def targets(dataset: Dataset, entries: list[str], batch_size: int) -> Targets:
    """Read the split once, without a model. `entries` is the vocabulary."""
    classes = TokenClasses(entries)
    parts: list[tuple[np.ndarray, ...]] = []
    for batch in _batches(dataset, batch_size, "reading"):
        rows, slots = np.nonzero(batch["masked_lm_weights"])
        positions, ids = batch["masked_lm_positions"][rows, slots], batch["masked_lm_ids"][rows, slots]
        original_BxL = batch["input_ids"].copy()
        original_BxL[rows, positions] = ids
        classes_BxL = np.stack([classes.of_row(ids_L) for ids_L in original_BxL])
        pairs = np.maximum(batch["sequence_ids"][rows, positions] - 1, 0)
        used = np.nonzero(batch["next_sentence_weights"])
        parts.append(
            (
                ids,
                batch["patient_group"][rows, pairs],
                batch["note_category"][rows, pairs],
                classes_BxL[rows, positions],
                batch["patient_group"][used],
                batch["note_category"][used],
            )
        )
    ids_N, groups_N, categories_N, classes_N, groups_M, categories_M = map(np.concatenate, zip(*parts, strict=True))
    groups, numbers = np.unique(np.concatenate([groups_N, groups_M]), return_inverse=True)
    patients_N, patients_M = numbers[: len(groups_N)], numbers[len(groups_N) :]
    return Targets(ids_N, patients_N, categories_N, classes_N, patients_M, categories_M, len(groups))


def scores(dataset: Dataset, loaded: loading.Loaded, batch_size: int, dtype: str) -> Scores:
    """Run the model over the split, each batch sharded over all local devices."""
    mesh = jax.make_mesh((jax.local_device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split, whole = (jax.NamedSharding(mesh, jax.P(axis)) for axis in ("data", None))
    params = jax.device_put(loaded.params, whole)
    program = jax.jit(lambda params, batch: _score(loaded, params, batch, jnp.dtype(dtype)))
    parts: list[tuple[np.ndarray, ...]] = []
    for batch in _batches(dataset, batch_size, "scoring"):
        on_device = {name: jax.device_put(a, split) for name, a in batch.items() if name != "patient_group"}
        mlm_loss, mlm_hits, nsp_loss, nsp_hits = jax.device_get(program(params, on_device))
        masked, paired = batch["masked_lm_weights"] > 0, batch["next_sentence_weights"] > 0
        parts.append((mlm_loss[masked], mlm_hits[masked], nsp_loss[paired], nsp_hits[paired]))
    return Scores(*(np.concatenate(part).astype(np.float64) for part in zip(*parts, strict=True)))


def _score(loaded: loading.Loaded, params: bert.Params, batch: Any, dtype: jnp.dtype) -> tuple[jax.Array, ...]:
    outputs = bert.apply(
        loaded.config,
        params,
        batch["input_ids"],
        batch["segment_ids"],
        batch["sequence_ids"],
        batch["masked_lm_positions"],
        batch["next_sentence_positions"],
        dtype=dtype,
    )
    return (
        *token_cross_entropy(outputs.mlm_logits_BxPxV, batch["masked_lm_ids"]),
        *token_cross_entropy(outputs.nsp_logits_BxKx2, batch["next_sentence_labels"]),
    )


def _batches(dataset: Dataset, batch_size: int, doing: str) -> Iterator[Batch]:
    count = -(-dataset.num_examples // batch_size)
    rows_R = np.arange(batch_size)

    def load(numbers: Sequence[int]) -> list[Batch]:
        return [dataset.eval_batch(number, batch_size, rows_R) for number in numbers]

    with Prefetcher(load, range(count), num_threads=1, group_size=1) as batches:
        yield from cli.progress_bar(batches, doing, count, unit="batch", leave=False)
