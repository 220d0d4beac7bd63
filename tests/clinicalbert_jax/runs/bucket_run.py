"""A run of several real processes that share nothing but a bucket: each has a home, cache and TMPDIR of its own."""

import atexit
import multiprocessing
import os
import re
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[3]
MODEL = [
    "--config.model.hidden_size=32",
    "--config.model.num_hidden_layers=1",
    "--config.model.num_attention_heads=2",
    "--config.model.intermediate_size=64",
    "--config.model.hidden_dropout_prob=0",
    "--config.model.attention_probs_dropout_prob=0",
    "--config.data.max_seq_length=32",
    "--config.optimizer.warmup_steps=3",
    "--config.optimizer.schedule=constant",
    "--config.train.global_batch_size=8",
    "--config.train.log_every=1",
    "--config.train.checkpoint_every=3",
    "--config.train.eval_every=5",
    "--config.train.dtype=float32",
]

# Each process is forked from a server of processes that has imported what a run imports, half of a short run's CPU
# time. The server itself calls nothing of JAX.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["run_pretrain", "clinicalbert_jax.training.pretrain", "s3fs", "aiobotocore.client"])


class BucketRun:
    """`count` processes on as many machines of their own below `machines`, which keep their disks between starts.

    Only those in `present` are started, if it is given.
    """

    def __init__(
        self, machines: Path, data: str, run: str, count: int, *overrides: str, present: Sequence[int] | None = None
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.processes, self.logs = [], []
        for number in range(count) if present is None else present:
            machine = machines / str(number)
            for name in ("work", "cache", "tmp"):
                (machine / name).mkdir(parents=True, exist_ok=True)
            environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {
                "JAX_PLATFORMS": "cpu",
                "JAX_COMPILATION_CACHE_DIR": str(machines.parent / f"compiled{number}"),  # saves time alone
                "HOME": str(machine),
                "XDG_CACHE_HOME": str(machine / "cache"),
                "TMPDIR": str(machine / "tmp"),
            }
            several = [f"--coordinator_address={address}", f"--num_processes={count}", f"--process_id={number}"]
            command = [str(ROOT / "run_pretrain.py"), f"--config={ROOT}/configs/tiny_128.py", *MODEL]
            command += [f"--data_dir={data}", f"--workdir={run}", *overrides, *several * (count > 1)]
            start = len(list(machines.glob(f"{number}.*.log")))  # the logs of earlier starts tell what went wrong
            self.logs.append(machines / f"{number}.{start}.log")
            self.logs[-1].touch()
            process = SERVER.Process(
                target=_run, args=(environment, machine / "work", self.logs[-1], command), daemon=True
            )
            process.start()
            self.processes.append(process)
        self.started = time.monotonic()  # the first of all waits for the server

    def said(self) -> list[str]:
        """What each process has printed."""
        return [log.read_text() for log in self.logs]

    def origin(self) -> int | None:
        """The step from which it has continued, 0 for a new run; None before it has said so."""
        said = re.search(r"(from random weights)|continuing from step (\d+)", self.said()[0])
        return said and int(said[2] or 0)

    def steps(self) -> int:
        """The last step that it has logged."""
        return max(map(int, re.findall(r"^step (\d+)/", self.said()[0], re.MULTILINE)), default=0)

    def wait_for_step(self, step: int = 1, timeout: float = 300) -> float:
        """Return when the step was logged, or all have ended; seconds since the start."""
        while self.steps() < step and not self.has_ended():
            assert time.monotonic() < self.started + timeout, self.said()
            time.sleep(0.05)
        return time.monotonic() - self.started

    def wait(self) -> float:
        """Return when all have ended; seconds since the start."""
        self.codes()
        return time.monotonic() - self.started

    def has_ended(self) -> bool:
        """Whether all processes have ended."""
        return all(process.exitcode is not None for process in self.processes)

    def codes(self, timeout: float = 300) -> list[int | None]:
        """Wait for the end; the exit codes."""
        for process in self.processes:
            process.join(timeout)
        return [process.exitcode for process in self.processes]

    def kill(self) -> None:
        """SIGKILL to all."""
        for process in self.processes:
            process.kill()
        self.codes()


def _run(environment: dict[str, str], work: Path, log: Path, command: list[str]) -> None:
    """What Python does with the command, in a process that has imported most of it."""
    import jax
    from jax._src import compiler

    import run_pretrain
    from clinicalbert_jax import cli

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(work)
    with log.open("w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    jax.config.update("jax_compilation_cache_dir", environment["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # JAX lets process 0 alone write the cache. The others would compile at every start, half of a start's CPU time.
    compiler.distributed = SimpleNamespace(global_state=SimpleNamespace(process_id=0, client=None))
    sys.argv = command
    try:
        cli.run(run_pretrain.main, run_pretrain.Options)
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out
