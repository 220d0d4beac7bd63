"""Several processes as one run: given by flags, or auto-detected from the scheduler. One command at a time in a run."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import directory_lock

# What schedulers set where several processes make one run; JAX reads the rest itself.
_SCHEDULERS = (
    ("SLURM_STEP_NUM_TASKS", lambda value: int(value) > 1),  # set by srun, not by the allocation around it
    ("OMPI_COMM_WORLD_SIZE", lambda value: int(value) > 1),
    ("TPU_WORKER_HOSTNAMES", lambda value: "," in value),  # GKE and TPU VM slices of several hosts
    ("MEGASCALE_NUM_SLICES", lambda value: int(value) > 1),
)


def initialize(coordinator_address: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Join the other processes of the run, if there are any. Call before anything else of JAX.

    All three arguments are given, or none where SLURM, Open MPI, GKE or a TPU slice sets them. Raises `UserError` for
    some of the arguments without the others, or where the other processes cannot be reached.
    """
    given = (coordinator_address, num_processes, process_id)
    if any(value is not None for value in given):
        if any(value is None for value in given):
            raise UserError(
                "--coordinator_address, --num_processes and --process_id: expected all three or none, found "
                f"{coordinator_address}, {num_processes} and {process_id}"
            )
    elif not any(name in os.environ and several(os.environ[name]) for name, several in _SCHEDULERS):
        return
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator_address, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes of the run cannot be joined: {str(error).splitlines()[0]}") from None


@contextlib.contextmanager
def only_command(directory: Path) -> Iterator[None]:
    """Keep other commands out of a run's directory. Raises `UserError`, in each process, where there is one already.

    Process 0 holds the lock for all. A single process locks before it takes a device, which the other command may hold.
    """
    if not jax.distributed.is_initialized():
        with directory_lock.held(directory, "--workdir"):
            yield
        return
    refusal = UserError(f"--workdir: process 0 cannot use {directory}: see its message")
    with contextlib.ExitStack() as stack:
        refused = False
        if jax.process_index() == 0:
            try:
                stack.enter_context(directory_lock.held(directory, "--workdir"))
            except UserError as error:
                refused, refusal = True, error
        if multihost_utils.broadcast_one_to_all(np.array(refused)):
            raise refusal
        yield
