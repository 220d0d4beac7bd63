"""Several processes as one run: they start together, agree on a stop, and end together. One command at a time in a run.

The processes are given by flags, or auto-detected from the scheduler. They tell each other how the run ends by one key
in the store of JAX's coordination service, which process 0 serves. Loads no JAX where the process is alone.
"""

import contextlib
import itertools
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from clinicalbert_jax import cli
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import directory_lock
from clinicalbert_jax.training.stop_request import StopRequest, end_process

if TYPE_CHECKING:
    from jax.sharding import Mesh

EXIT_LOST = 128 + signal.SIGABRT  # where another process was lost; JAX's own client ends a process by this signal

# What schedulers set where several processes make one run; JAX reads the rest itself.
_SCHEDULERS = (
    ("SLURM_STEP_NUM_TASKS", lambda value: int(value) > 1),  # set by srun, not by the allocation around it
    ("OMPI_COMM_WORLD_SIZE", lambda value: int(value) > 1),
    ("TPU_WORKER_HOSTNAMES", lambda value: "," in value),  # GKE and TPU VM slices of several hosts
    ("MEGASCALE_NUM_SLICES", lambda value: int(value) > 1),
)
_ARRIVAL_S = 45  # in which all processes must have arrived, so that a run that cannot start says so within a minute
_HEARTBEAT_S = 30  # without a sign of life from one process, JAX ends the others
_GRACE_S = 20  # for a checkpoint that is being written, and then for the others to end before process 0
_LOST_GRACE_S = 5  # the latter where one of them is lost
_LAST_MOMENT_S = 1  # between a process's word that it ends and its end: without process 0, JAX would end it by SIGABRT
_FOREVER_S = 10**6

# The exit code of the run and the process that announced it; the processes that are about to end.
_END, _ENDED = "clinicalbert_jax/end", "clinicalbert_jax/ended/"
_LOST = re.compile(r"gloo|nccl|connection (closed|reset|refused)|socket closed|unavailable:|heartbeat", re.IGNORECASE)


@dataclass
class _Run:
    """This process among those of its run."""

    client: Any  # of JAX's coordination service
    index: int
    count: int
    settle: Callable[[float], None]
    barriers: Iterator[int]


_run: _Run | None = None  # None: the process is alone. JAX keeps one such state for each process as well.


@contextlib.contextmanager
def joined(
    coordinator_address: str | None, num_processes: int | None, process_id: int | None, stop: StopRequest
) -> Iterator[None]:
    """Join the other processes of the run, if there are any. Enter it before anything else of JAX.

    All three arguments are given, or none where SLURM, Open MPI, GKE or a TPU slice sets them. Raises `UserError` for
    some of the arguments without the others, or where the other processes cannot be reached. Within the context, an
    error in one process, or a `stop` that ends one, ends all of them with the same exit code. Leaving it waits for all.
    """
    global _run
    given = (coordinator_address, num_processes, process_id)
    if any(value is not None for value in given):
        if any(value is None for value in given):
            raise UserError(
                "--coordinator_address, --num_processes and --process_id: expected all three or none, found "
                f"{coordinator_address}, {num_processes} and {process_id}"
            )
    elif not any(name in os.environ and several(os.environ[name]) for name, several in _SCHEDULERS):
        yield
        return
    _run = _initialized(coordinator_address, num_processes, process_id)
    watch = threading.Thread(target=_watch, args=(_run,), name="end of the run", daemon=True)
    watch.start()
    stop.end = lambda code, message: _end_all(_run, code, message)
    with ends_all():
        yield
        wait_for_all()
        if _run.index == 0:
            _run.client.key_value_set(_END, "0 0")
        watch.join()


@contextlib.contextmanager
def ends_all(settle: Callable[[float], None] | None = None) -> Iterator[None]:
    """Within this context an error in one process ends all processes of the run, and its message is printed once.

    Before a process ends, `settle` gives a checkpoint that is being written some seconds to be complete. Where the
    process is alone, the error passes through.
    """
    if _run is None:
        yield
        return
    outer, _run.settle = _run.settle, settle or _run.settle
    try:
        yield
    except BaseException as error:
        _end_all(_run, *_outcome(error))
    finally:
        _run.settle = outer


def wait_for_all() -> None:
    """Return once every process of the run has called this as often as this one has."""
    if _run:
        _run.client.wait_at_barrier(f"clinicalbert_jax/{next(_run.barriers)}", _FOREVER_S * 1000)


def connect(mesh: "Mesh") -> None:
    """Have every group of devices that a step communicates in do so once, while no process has anything else to do.

    Gloo, which connects CPUs, gives the others 30 seconds for the first operation of a group, and half an hour for
    later ones. Compiling takes longer than 30 seconds, and processes do not end it at the same time: JAX lets process 0
    alone write the cache of compiled programs.
    """
    if _run is None:
        return
    import jax
    import numpy as np
    from jax.sharding import NamedSharding, PartitionSpec

    axes = tuple(axis for axis in mesh.axis_names if mesh.shape[axis] > 1)
    groups = dict.fromkeys([axes, *((axis,) for axis in axes)])
    by_device = PartitionSpec(mesh.axis_names)

    def sums(x: jax.Array) -> list[jax.Array]:
        return [jax.lax.psum(x, group) for group in groups]

    ones = jax.make_array_from_callback((mesh.size,), NamedSharding(mesh, by_device), lambda _: np.ones(1, np.int32))
    summed = jax.jit(jax.shard_map(sums, mesh=mesh, in_specs=by_device, out_specs=by_device))
    wait_for_all()
    jax.block_until_ready(summed(ones))


@contextlib.contextmanager
def only_command(directory: Path) -> Iterator[None]:
    """Keep other commands out of a run's directory. Raises `UserError` where there is one already.

    Process 0 holds the lock for all. A single process locks before it takes a device, which the other command may hold.
    """
    with contextlib.nullcontext() if _run and _run.index else directory_lock.held(directory, "--workdir"):
        wait_for_all()
        yield


class AnyProcess:
    """Whether any process of the run says so: the same answer in all, one call late, so that no device waits for it.

    All processes call it equally often. Where the process is alone, the answer is its own, at once.
    """

    _LATE = 1

    def __init__(self, mesh: "Mesh") -> None:
        self._answers: deque[Any] = deque()
        self._alone = _run is None
        if self._alone:
            return
        import jax
        import numpy as np
        from jax.sharding import NamedSharding, PartitionSpec

        self._any = jax.jit(jax.numpy.any, out_shardings=NamedSharding(mesh, PartitionSpec()))
        by_device = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._said = [
            jax.make_array_from_process_local_data(by_device, np.full(len(mesh.local_devices), said), (mesh.size,))
            for said in (False, True)
        ]

    def __call__(self, said: bool) -> bool:
        """Whether any process said so in the call before."""
        if self._alone:
            return said
        self._answers.append(self._any(self._said[said]))
        return len(self._answers) > self._LATE and bool(self._answers.popleft())


def _initialized(coordinator_address: str | None, num_processes: int | None, process_id: int | None) -> _Run:
    import jax
    from jax._src.distributed import global_state  # JAX has no public name for its client

    if os.environ.get("JAX_PLATFORMS") == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    # JAX's own time limit would end the process by SIGABRT, with a stack trace.
    expected = f"{num_processes} processes at {coordinator_address}" if num_processes else "all processes of the run"
    message = (
        f"error: expected {expected} within {_ARRIVAL_S} seconds, found fewer: start all of them at the same time, and "
        "check that each one reaches the address of process 0"
    )
    late = threading.Timer(_ARRIVAL_S, end_process, (cli.EXIT_USER_ERROR, message))
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            initialization_timeout=_FOREVER_S,
            heartbeat_timeout_seconds=_HEARTBEAT_S,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes of the run cannot be joined: {str(error).splitlines()[0]}") from None
    finally:
        late.cancel()
    state = global_state
    return _Run(state.client, state.process_id, state.num_processes, lambda seconds: None, itertools.count())


def _outcome(error: BaseException) -> tuple[int, str]:
    if isinstance(error, RuntimeError | ValueError) and _LOST.search(str(error)):  # of a collective operation
        return EXIT_LOST, (
            "error: another process of the run was lost: see its output; the same command continues from the last "
            "checkpoint"
        )
    return cli.outcome(error)


def _watch(run: _Run) -> None:
    """End this process once another one has announced the end of the run."""
    try:
        code, index = map(int, run.client.blocking_key_value_get(_END, _FOREVER_S * 1000).split())
    except RuntimeError:
        return  # process 0 is gone: JAX ends this process
    if code and index != run.index:
        _leave(run, code)


def _end_all(run: _Run, code: int, message: str) -> NoReturn:
    """End all processes of the run; where another one has announced an end before, with its code and silently."""
    try:
        run.client.key_value_set(_END, f"{code} {run.index}")
    except RuntimeError:
        with contextlib.suppress(RuntimeError):  # process 0 is gone, and the store with it
            code, message = int(run.client.key_value_try_get(_END).split()[0]), ""
    if message:
        print(message, file=sys.stderr, flush=True)
    _leave(run, code)


def _leave(run: _Run, code: int) -> NoReturn:
    run.settle(_GRACE_S)
    with contextlib.suppress(RuntimeError):
        if run.index:
            run.client.key_value_set(f"{_ENDED}{run.index}", "")
        else:  # the others learn of the end from this process
            deadline = time.monotonic() + (_LOST_GRACE_S if code == EXIT_LOST else _GRACE_S)
            while len(run.client.key_value_dir_get(_ENDED)) < run.count - 1 and time.monotonic() < deadline:
                time.sleep(0.1)
            time.sleep(_LAST_MOMENT_S)
    end_process(code)
