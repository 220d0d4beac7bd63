"""The mesh, and the table of rules by which every parameter and optimizer slot is sharded over it.

Two axes: `data` copies of the model, each sharded over `fsdp` devices. A batch is split over both. A BERT-large with
its Adam state is 5.4 GB, so there is no tensor parallelism.
"""

import re
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from clinicalbert_jax.config import MeshConfig
from clinicalbert_jax.errors import UserError

BATCH_AXES = ("data", "fsdp")
BATCH_SPEC = PartitionSpec(BATCH_AXES)
REPLICATED = PartitionSpec()

# Parameter path -> how it is sharded. Exactly one rule must match each path. Large ones are sharded along a dimension
# that is a multiple of every sensible mesh; vectors are not worth a collective.
PARAMETER_RULES = (
    (r"embeddings/(word|position)/embedding", PartitionSpec("fsdp", None)),
    (r"embeddings/token_type/embedding", PartitionSpec(None, "fsdp")),
    (r".*/kernel", PartitionSpec("fsdp", None)),
    (r".*/bias", REPLICATED),
    (r".*/scale", REPLICATED),
    (r"mlm_head/output_bias", REPLICATED),
)


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """A data × fsdp mesh over all devices; raises `UserError` where they do not divide into it."""
    devices = jax.devices() if devices is None else devices
    data = len(devices) // config.fsdp if config.data == -1 else config.data
    if data * config.fsdp != len(devices):
        raise UserError(
            f"config.mesh: expected data × fsdp to equal the {len(devices)} devices, "
            f"found data={config.data}, fsdp={config.fsdp}"
        )
    return jax.make_mesh((data, config.fsdp), BATCH_AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def check_batch(global_batch_size: int, microbatches: int, mesh: Mesh) -> None:
    """Raise `UserError` where the batch does not divide into equal microbatches on every device."""
    if global_batch_size % (mesh.size * microbatches):
        raise UserError(
            f"config.train.global_batch_size: expected a multiple of {mesh.size} devices × "
            f"{microbatches} microbatches, found {global_batch_size}"
        )


def parameter_specs(params: Any) -> Any:
    """The tree of partition specs of a tree of parameters, by `PARAMETER_RULES`."""
    return jax.tree_util.tree_map_with_path(lambda path, _: _spec(_name(path)), params)


def state_shardings(state: Any, params: Any, mesh: Mesh) -> Any:
    """Shardings of a training state: what ends in a parameter's path is sharded like it, scalars are replicated.

    Raises `UserError` for a slot of the optimizer that is neither.
    """
    specs = {_name(path): _spec(_name(path)) for path, _ in jax.tree_util.tree_leaves_with_path(params)}

    def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        if not leaf.shape:
            return NamedSharding(mesh, REPLICATED)
        name = _name(path)
        matches = {parameter for parameter in specs if name == parameter or name.endswith("/" + parameter)}
        # `a/kernel` ends many paths: the longest one is the parameter's own.
        if not matches:
            raise UserError(f"sharding: state {name} of shape {leaf.shape} belongs to no parameter: add a rule for it")
        return NamedSharding(mesh, _fitting(specs[max(matches, key=len)], name, leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(sharding, state)


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """The global arrays of a batch of which this process holds its devices' rows (`local_rows`, ascending)."""
    sharding = NamedSharding(mesh, BATCH_SPEC)

    def put(local_BxN: np.ndarray) -> jax.Array:
        size = len(local_BxN) * mesh.size // mesh.local_mesh.size  # every device holds as many
        rows = local_rows(size, mesh)

        def of(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None, "every device holds a part of the batch"
            start, stop, _ = index[0].indices(size)
            first = int(np.searchsorted(rows, start))
            return local_BxN[first : first + stop - start]

        return jax.make_array_from_callback((size, *local_BxN.shape[1:]), sharding, of)

    return {name: put(array) for name, array in batch.items()}


def local_rows(global_batch_size: int, mesh: Mesh) -> np.ndarray:
    """The rows of a global batch that this process's devices hold, ascending."""
    index_map = NamedSharding(mesh, BATCH_SPEC).addressable_devices_indices_map((global_batch_size,))
    spans = [np.arange(*index[0].indices(global_batch_size)) for index in index_map.values() if index is not None]
    return np.unique(np.concatenate(spans))


def _spec(name: str) -> PartitionSpec:
    matches = [spec for pattern, spec in PARAMETER_RULES if re.fullmatch(pattern, name)]
    if len(matches) != 1:
        raise UserError(f"sharding: expected exactly one rule for parameter {name}, found {len(matches)}")
    return matches[0]


def _fitting(spec: PartitionSpec, name: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    for size, axis in zip(shape, spec, strict=False):
        if axis is not None and size % mesh.shape[axis]:
            raise UserError(
                f"config.mesh.{axis}: expected a divisor of {size}, a dimension of {name}, found {mesh.shape[axis]}"
            )
    return spec


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
