"""How XLA compiles and runs a program: flags, the cache of compiled programs, memory on the CPU.

Call `configure` before JAX makes its devices, when it reads the flags. The environment takes precedence.
"""

import contextlib
import ctypes
import os
from pathlib import Path

import jax

# What `XLA_FLAGS` gets. A flag that XLA does not know ends the process: each must be known to the oldest JAX that we
# support, and to the newest. docs/lab_notebook.md has what else was tried.
_FLAGS = (
    # NVIDIA, several devices: overlap the gradient's reduction with computation. NVIDIA's own JAX images set it;
    # without effect on one device and on other backends.
    "--xla_gpu_enable_latency_hiding_scheduler=true",
    # CPU: find more buffers that may be written in place. A donated state is then copied less.
    "--xla_cpu_copy_insertion_use_region_analysis=true",
)

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h

# On the CPU rows of 384 took 71 ms each by 16, 43 by 8, and 39 by 2; of 128, 9.9 ms by 32 and 8.6 by 8 and by 4.
_POSITIONS_A_CPU, _ROWS_A_DEVICE = 1024, 32


def configure() -> None:
    """Set the flags, and keep compiled programs in ~/.cache/clinicalbert_jax/compiled.

    A run that continues, or a second one of the same shapes, then starts without compiling for a minute. The key holds
    program, flags, devices and versions. `JAX_COMPILATION_CACHE_DIR` names another directory, and
    `JAX_ENABLE_COMPILATION_CACHE=false` turns it off.
    """
    os.environ["XLA_FLAGS"] = " ".join([*_FLAGS, os.environ.get("XLA_FLAGS", "")]).strip()  # the last one counts
    if "JAX_CPU_ENABLE_ASYNC_DISPATCH" not in os.environ:
        jax.config.update("jax_cpu_enable_async_dispatch", False)  # see keep_freed_memory; without effect elsewhere
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:  # by default a second: many are shorter
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):  # which JAX reads itself
        with contextlib.suppress(RuntimeError):  # a user without a home has no cache
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            jax.config.update("jax_compilation_cache_dir", str(base / "clinicalbert_jax" / "compiled"))


def configure_inference() -> None:
    """`configure`, for a command of one process that runs finished models alone; makes JAX's devices."""
    configure()
    keep_freed_memory(jax.default_backend())


def rows_at_once(platform: str, length: int) -> int:
    """How many rows of `length` a device computes at once, without a gradient: on a CPU what suits its caches."""
    return max(1, _POSITIONS_A_CPU // length) if platform == "cpu" else _ROWS_A_DEVICE


def keep_freed_memory(platform: str) -> None:
    """Where steps run on the CPU, have glibc keep the memory that one step frees for the next.

    A step's temporary memory is one block of hundreds of MB, which is otherwise returned to the system and faulted in
    again page by page: a quarter of the time of a small model's step (docs/lab_notebook.md). glibc keeps such blocks
    for its main thread alone, so `configure` turns off asynchronous dispatch, which would run steps in another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if platform == "cpu" and mallopt:
        mallopt(_M_MMAP_MAX, 0)  # no blocks straight from the system
        mallopt(_M_TRIM_THRESHOLD, -1)  # and none returned to it
