"""A command of ours in which a fault happens at a chosen moment: for tests of how the processes of a run end.

python -m tests.faulty_process FAULT MOMENT COUNT TIME_FILE run_pretrain|finetune|compare ARGUMENTS

The fault happens at the COUNT-th time that this process reaches the moment; 'slow' and 'unreachable' from then on every
time. Each time is written to TIME_FILE.
"""

import ctypes
import importlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clinicalbert_jax import cli
from clinicalbert_jax.errors import UserError

LINE = "expected all to be well, found a fault: this is a test"

# What is called at a moment: module, class (or none) and function.
MOMENTS = {
    "checking": ("clinicalbert_jax.data.manifest", "Manifest", "load"),
    "damage": ("clinicalbert_jax.data.tfrecord", "CorruptRecordError", "__init__"),
    "restoring": ("clinicalbert_jax.runs.checkpoint", "Checkpoints", "restore"),
    "initial": ("clinicalbert_jax.training.train_step", "Program", "init"),
    "compiling": ("clinicalbert_jax.training.train_loop", "_Loop", "run"),
    "step": ("clinicalbert_jax.training.metrics", "Meter", "add"),
    "evaluation": ("clinicalbert_jax.training.metrics", "Averages", "add"),
    "save": ("clinicalbert_jax.runs.checkpoint", "Checkpoints", "save"),
    "publication": ("clinicalbert_jax.runs.checksums", None, "publish"),
    "upload": ("clinicalbert_jax.runs.bucket", "Bucket", "put"),
    "prediction": ("clinicalbert_jax.finetune.predictor", "Predictor", "__call__"),
    "between": ("clinicalbert_jax.finetune.compare.comparison", "_Progress", "trained"),
    "results": ("clinicalbert_jax.finetune.result_page", None, "page"),
}


def nothing() -> None:
    """For the time of a fault that happens anyway."""


def user_error() -> None:
    raise UserError(LINE)


def bug() -> None:
    raise ZeroDivisionError("the text of a note")


def full_disk() -> None:
    """No file may grow beyond 2,000 bytes from here on."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def blocked() -> None:
    """A native call that never returns, as a long compilation: Python's signal handlers do not run."""
    mutex = ctypes.create_string_buffer(128)
    libc = ctypes.CDLL(None)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


def slow() -> None:
    time.sleep(3)


def paused() -> None:
    """Slow once."""
    time.sleep(3)


def late() -> None:
    """Longer than gloo waits for the first operation between processes."""
    time.sleep(40)


def unreachable() -> None:
    """A bucket that no longer answers."""
    raise UserError(LINE)


FAULTS: dict[str, Callable[[], None]] = {
    fault.__name__: fault
    for fault in (nothing, user_error, bug, full_disk, killed, blocked, slow, paused, late, unreachable)
}


def plant(fault: str, moment: str, count: int, time_file: Path) -> None:
    """Have a fault happen in this process."""
    module, owner, name = MOMENTS[moment]
    holder = importlib.import_module(module)
    holder = getattr(holder, owner) if owner else holder
    call, calls = getattr(holder, name), 0

    def reached(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count or (calls > count and fault in ("slow", "unreachable")):
            with time_file.open("a") as file:
                file.write(f"{time.time()}\n")
            FAULTS[fault]()
        return call(*args, **kwargs)

    setattr(holder, name, reached)


if __name__ == "__main__":
    _, fault, moment, count, time_file, command, *arguments = sys.argv
    sys.argv = [command, *arguments]
    if fault != "none":
        plant(fault, moment, int(count), Path(time_file))
    if command == "run_pretrain":
        import run_pretrain

        cli.run(run_pretrain.main, run_pretrain.Options)
    else:
        package = {"finetune": "clinicalbert_jax.finetune", "compare": "clinicalbert_jax.finetune.compare"}[command]
        module = importlib.import_module(f"{package}.command")
        cli.run(module.run, module.Options)
