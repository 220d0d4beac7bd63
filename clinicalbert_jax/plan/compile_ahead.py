"""The train step compiled for devices that need not be present, and what the compiler reports of it.

Shape legend: B batch, L length, P predictions, K pairs (see `schema.BATCH_SHAPES`).
"""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from clinicalbert_jax.config import Config
from clinicalbert_jax.data.schema import BATCH_SHAPES, Layout
from clinicalbert_jax.plan import hlo
from clinicalbert_jax.training import train_step as step
from clinicalbert_jax.training.sharding import BATCH_SPEC

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# "the total memory required for HLO temporaries (24.60G) exceeds available HBM (15.75G)" is found in seconds, and
# leaves the state out.
_TEMPORARIES = re.compile(r"temporaries \(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)")
_EVERYTHING = re.compile(r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm")
_MOST_COMPILES = 10


class DoesNotFitError(Exception):
    """The step needs more memory than a device has, in bytes."""

    def __init__(self, needed: float, available: float):
        self.needed, self.available = needed, available
        super().__init__(f"{needed / 2**30:.1f} GiB of {available / 2**30:.1f} GiB")


@dataclass(frozen=True)
class Memory:
    """Bytes on one device during a step. `temporaries`: activations, gradients, gathered parameters."""

    parameters: float
    optimizer: float
    batch: float
    temporaries: float
    program: float

    @property
    def total(self) -> float:
        """The sum."""
        return sum(dataclasses.astuple(self))


@dataclass(frozen=True)
class Compiled:
    """A compiled train step. `flops`: of one device, as the compiler counts them, a loop's body once."""

    program: step.Program
    memory: Memory
    flops: float
    summary: hlo.Summary


def compile_step(
    config: Config, layout: Layout, devices: Sequence[jax.Device], available: float | None = None
) -> Compiled:
    """Compile the real train step of `config` for `devices`, and read its memory, FLOPs and operations.

    Raises `DoesNotFitError` where it needs more memory than the compiler or `available` allows, and `UserError` where
    mesh or batch do not divide.
    """
    program = step.build(config, devices=list(devices))
    lowered = program.lower_step(abstract_batch(program, layout))
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        raise _too_large(str(error), on_a_device(program.abstract_state)) or error from None
    memory = _memory(program, compiled.memory_analysis())
    if available is not None and memory.total > available:
        raise DoesNotFitError(memory.total, available)
    summary = hlo.summarize(compiled.as_text(), program.mesh.size)
    return Compiled(program, memory, (compiled.cost_analysis() or {}).get("flops", math.nan), summary)


def abstract_batch(program: step.Program, layout: Layout) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes, types and shardings of a global batch, as the loader puts it on the devices."""
    sizes = {
        "L": layout.max_seq_length,
        "P": layout.max_predictions_per_seq,
        "K": layout.max_sequences_per_row,
    }
    sharding = NamedSharding(program.mesh, BATCH_SPEC)
    return {
        name: jax.ShapeDtypeStruct(
            (program.config.train.global_batch_size, sizes[shape.removeprefix("Bx")]),
            jnp.float32 if name.endswith("weights") else jnp.int32,
            sharding=sharding,
        )
        for name, shape in BATCH_SHAPES.items()
    }


def largest_batch(
    config: Config,
    layout: Layout,
    devices: Sequence[jax.Device],
    too_large: DoesNotFitError,
    say: Callable[[str], None],
    available: float | None = None,
) -> tuple[int, int, Compiled] | None:
    """The largest global batch that fits, a larger one that does not, and the compiled step of the first.

    Found by compiling a few, to within a twentieth; None where not even the smallest fits. `too_large`: the memory of
    the batch of `config`. Memory is assumed to grow linearly with the rows, from the state's at none; the compiler
    refuses most batches that do not fit within seconds.
    """
    unit = len(devices) * config.train.microbatches
    low, used = 0, on_a_device(step.build(config, devices=list(devices)).abstract_state)
    high, needed = config.train.global_batch_size // unit, too_large.needed
    fits: tuple[int, Compiled] | None = None
    sides = ""  # of the guesses so far: two on one side are followed by the middle
    while high - low > max(1, low // 20) and len(sides) < _MOST_COMPILES:
        fraction = (too_large.available - used) / max(needed - used, 1.0)
        fraction = 0.5 if sides[-2:] in ("<<", ">>") else min(max(fraction, 0.0), 1.0)
        guess = min(max(low + int((high - low) * fraction), low + 1), high - 1)
        batch = guess * unit
        say(f"batch {batch}")
        smaller = dataclasses.replace(config, train=dataclasses.replace(config.train, global_batch_size=batch))
        try:
            fits = batch, compile_step(smaller, layout, devices, available)
            low, used, sides = guess, fits[1].memory.total, sides + "<"
        except DoesNotFitError as error:
            high, needed, sides = guess, error.needed, sides + ">"
    return (fits[0], high * unit, fits[1]) if fits else None


def on_a_device(state: Any) -> float:
    """Bytes on one device of a tree of shapes with shardings."""
    return float(
        sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    )


def _memory(program: step.Program, found: Any) -> Memory:
    state = program.abstract_state
    whole_state = on_a_device(state)
    parameters = on_a_device(state.params)
    # Outputs use the memory of the donated state, except for the figures of the step.
    fresh = found.output_size_in_bytes - found.alias_size_in_bytes
    return Memory(
        parameters=parameters,
        optimizer=whole_state - parameters,
        batch=found.argument_size_in_bytes - whole_state,
        temporaries=found.temp_size_in_bytes + fresh,
        program=found.generated_code_size_in_bytes,
    )


def _too_large(message: str, state_bytes: float) -> DoesNotFitError | None:
    """The memory that the compiler reports as missing, if the message is about memory."""
    if found := _TEMPORARIES.search(message):
        return DoesNotFitError(_size(found[1], found[2]) + state_bytes, _size(found[3], found[4]))
    if found := _EVERYTHING.search(message):
        return DoesNotFitError(_size(found[1], found[2]), _size(found[3], found[4]))
    return None


def _size(number: str, unit: str) -> float:
    return float(number) * _UNITS[unit]
