"""Several processes as one run: told by flags, or found out from the scheduler."""

import os

import jax

from clinicalbert_jax.errors import UserError

# What schedulers set where several processes belong together; JAX reads the rest itself.
_SCHEDULERS = (
    ("SLURM_STEP_NUM_TASKS", lambda value: int(value) > 1),  # set by srun, not by the allocation around it
    ("OMPI_COMM_WORLD_SIZE", lambda value: int(value) > 1),
    ("TPU_WORKER_HOSTNAMES", lambda value: "," in value),  # GKE and TPU VM slices of several hosts
    ("MEGASCALE_NUM_SLICES", lambda value: int(value) > 1),
)


def initialize(coordinator_address: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Join the other processes of the run, if there are any. Call before anything else of JAX.

    With all three arguments, as told; with none, as SLURM, Open MPI, GKE or a TPU slice tells. Raises `UserError` for
    some of the arguments without the others, or where the others cannot be reached.
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
