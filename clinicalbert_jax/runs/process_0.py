"""What process 0 alone knows, passed on to all processes of a run: only it reads and writes the run's directory.

So the processes share no disk. Small values go through the coordination service, which waits as long as it takes and
needs no device; arrays go between the devices.
"""

import itertools
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax._src import distributed  # the client of the coordination service has no public name
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from clinicalbert_jax.errors import UserError

_PATIENCE_MS = 7 * 24 * 3600 * 1000  # of the others; the service ends them where process 0 is lost
_numbers = itertools.count()

T = TypeVar("T")


def decides(work: Callable[[], T]) -> T:
    """What `work` returns in process 0, in every process. The others wait; an error of it ends all of them."""
    client = distributed.global_state.client
    if client is None:
        return work()
    key = f"clinicalbert_jax/decision/{next(_numbers)}"
    if jax.process_index() > 0:
        return pickle.loads(client.blocking_key_value_get_bytes(key, _PATIENCE_MS))
    value = work()
    client.key_value_set_bytes(key, pickle.dumps(value))
    return value


def union(mine: set[T]) -> set[T]:
    """In process 0 the elements that any process gives, in the others their own. All call it equally often."""
    client, number = distributed.global_state.client, next(_numbers)
    if client is None:
        return mine
    key = f"clinicalbert_jax/union/{number}"
    if jax.process_index() > 0:
        client.key_value_set_bytes(f"{key}/{jax.process_index()}", pickle.dumps(mine))
        return mine
    others = (client.blocking_key_value_get_bytes(f"{key}/{n}", _PATIENCE_MS) for n in range(1, jax.process_count()))
    found = mine.union(*map(pickle.loads, others))
    client.key_value_delete(key)
    return found


def check_same(value: str, otherwise: str) -> None:
    """Wait for all processes, as long as it takes; where one gives another `value`, a `UserError` ends them."""
    client = distributed.global_state.client
    if client is None:
        return
    key = f"clinicalbert_jax/value/{next(_numbers)}"
    client.key_value_set(f"{key}/{jax.process_index()}", value)

    def compare() -> None:
        for process in range(jax.process_count()):
            if client.blocking_key_value_get(f"{key}/{process}", _PATIENCE_MS) != value:
                raise UserError(f"process {process}: {otherwise}")

    decides(compare)


def gathered(tree: Any) -> Any:
    """The tree as NumPy arrays in process 0, None in the others, which have to call this as well.

    Leaf after leaf, so that no device has to hold more than one of them whole.
    """

    def whole(leaf: jax.Array) -> np.ndarray | None:
        if not leaf.is_fully_replicated:
            assert isinstance(leaf.sharding, NamedSharding)
            leaf = jax.jit(_same, out_shardings=NamedSharding(leaf.sharding.mesh, PartitionSpec()))(leaf)
        # A copy: the next step reuses the memory of the state.
        return np.array(leaf.addressable_data(0)) if jax.process_index() == 0 else None

    return jax.tree.map(whole, tree)


def scattered(tree: Any, abstract: Any) -> Any:
    """The arrays in `tree` of process 0, on all devices and sharded as `abstract`; other processes give None for it."""

    def shard(shape: jax.ShapeDtypeStruct, leaf: np.ndarray | None) -> jax.Array:
        # As integers: the sum by which arrays are broadcast would change -0.0 and NaN.
        bits = np.dtype(f"u{shape.dtype.itemsize}")
        mine = np.zeros(shape.shape, bits) if leaf is None else np.asarray(leaf).view(bits)
        array = np.asarray(multihost_utils.broadcast_one_to_all(mine)).view(shape.dtype)
        return jax.make_array_from_callback(shape.shape, shape.sharding, lambda index: array[index])

    if tree is None:
        tree = jax.tree.map(lambda _: None, abstract)
    return jax.tree.map(shard, abstract, tree, is_leaf=lambda x: x is None)


def _same(x: jax.Array) -> jax.Array:
    return x
