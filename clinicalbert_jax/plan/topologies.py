"""TPU slices by name, such as v5e:16x16, as devices to compile for. No TPU is needed, only the compiler (libtpu).

Loads JAX only in `devices`.
"""

import importlib.util
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clinicalbert_jax.errors import UserError

if TYPE_CHECKING:
    import jax

# https://cloud.google.com/tpu/docs/v4, /v5p, /v5e, /v6e: chips of the largest slice of the three-dimensional
# generations, and the shapes of the flat ones.
_LARGEST = {"v4": 4096, "v5p": 6144}
_FLAT_SHAPES = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
_SMALL_SHAPES = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))
_FLAT = ("v5e", "v6e")


@dataclass(frozen=True)
class Topology:
    """One slice: chips in a grid of two or three dimensions."""

    name: str
    generation: str
    shape: tuple[int, ...]

    @property
    def num_chips(self) -> int:
        """Chips in the slice; each is one device."""
        return math.prod(self.shape)

    @property
    def num_links(self) -> int:
        """Links to neighbours that a chip at an edge has: two in a dimension that closes to a ring, one in others."""
        ring = 16 if self.generation in _FLAT else 4
        closes = self.generation in _FLAT or all(size % ring == 0 for size in self.shape)
        return sum(0 if size == 1 else 2 if closes and size % ring == 0 else 1 for size in self.shape)


def parse(name: str) -> Topology:
    """The slice of that name; raises `UserError`, with names that exist, where there is none."""
    generation, _, grid = name.partition(":")
    if generation not in (*_FLAT, *_LARGEST):
        raise UserError(
            f"--topology: expected a TPU generation among {', '.join((*_LARGEST, *_FLAT))} and a shape, such as "
            f"v5e:16x16 or v4:2x2x4, found {name!r}"
        )
    sizes = grid.split("x")
    shape = tuple(map(int, sizes)) if all(size.isdecimal() for size in sizes) else ()
    if not _exists(generation, shape):
        raise UserError(f"--topology: expected {_known(generation)}, found {name!r}")
    return Topology(name, generation, shape)


def check_compiler() -> None:
    """Raise `UserError` where libtpu, the compiler for TPUs, is not installed."""
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "--topology: expected the TPU compiler (libtpu), found none in this environment: "
            'pip install -c constraints.txt -e ".[tpu]" (0.7 GB; it needs no TPU), or leave --topology out'
        )


def devices(topology: Topology) -> "list[jax.Device]":
    """The chips as devices to compile for.

    Sets environment variables that JAX and libtpu read when they start: call it before anything else of JAX.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    # libtpu would ask the cloud's metadata server what it runs on, and admit one process at a time.
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    os.environ |= {"TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}
    os.environ.setdefault("TPU_MIN_LOG_LEVEL", "3")
    from jax.experimental import topologies

    options: dict[str, Any] = {}
    if topology.generation == "v4":
        options["chip_config_name"] = "megacore"  # its two cores are one device
    if topology.num_chips == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    found = topologies.get_topology_desc(platform="tpu", topology_name=topology.name, **options).devices
    assert len(found) == topology.num_chips, f"{topology.name}: {len(found)} devices"
    return list(found)


def _exists(generation: str, shape: tuple[int, ...]) -> bool:
    if generation in _FLAT:
        return shape in _FLAT_SHAPES
    cubes = len(shape) == 3 and all(size >= 4 and size % 4 == 0 for size in shape) and sorted(shape) == list(shape)
    return shape in _SMALL_SHAPES or (cubes and math.prod(shape) <= _LARGEST[generation])


def _known(generation: str) -> str:
    shapes = _FLAT_SHAPES if generation in _FLAT else _SMALL_SHAPES
    known = ", ".join(f"{generation}:{'x'.join(map(str, shape))}" for shape in shapes)
    if generation in _FLAT:
        return f"one of {known}"
    return (
        f"one of {known}, or three ascending multiples of 4 of at most {_LARGEST[generation]:,} chips, such as "
        f"{generation}:4x4x8"
    )
