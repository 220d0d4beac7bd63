"""How XLA compiles and runs a program: the flags that pay, compiled programs kept from run to run, memory on the CPU.

Call `configure` before JAX makes its devices: flags are read then, once. What the environment says goes first.
"""

import contextlib
import ctypes
import os
from pathlib import Path

import jax

# What `XLA_FLAGS` gets. A flag that XLA does not know ends the process: each must be known to the oldest JAX that we
# support, and to the newest. What else was tried is in docs/benchmarks.md.
_FLAGS = (
    # NVIDIA, several devices: move the gradient's reduction behind what can be computed meanwhile. NVIDIA's own JAX
    # images set it; without effect on one device and on other backends.
    "--xla_gpu_enable_latency_hiding_scheduler=true",
    # CPU: see more closely which buffers may be written in place. A donated state is then copied less.
    "--xla_cpu_copy_insertion_use_region_analysis=true",
)

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


def configure() -> None:
    """Set the flags, and keep compiled programs in ~/.cache/clinicalbert_jax/compiled.

    A run that goes on, or a second one of the same shapes, then starts without compiling for a minute. The key holds
    program, flags, devices and versions. `JAX_COMPILATION_CACHE_DIR` names another place, and
    `JAX_ENABLE_COMPILATION_CACHE=false` none.
    """
    os.environ["XLA_FLAGS"] = " ".join([*_FLAGS, os.environ.get("XLA_FLAGS", "")]).strip()  # the last one counts
    if "JAX_CPU_ENABLE_ASYNC_DISPATCH" not in os.environ:
        jax.config.update("jax_cpu_enable_async_dispatch", False)  # see keep_freed_memory; without effect elsewhere
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):  # which JAX reads itself
        with contextlib.suppress(RuntimeError):  # a user without a home: nothing is kept
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            jax.config.update("jax_compilation_cache_dir", str(base / "clinicalbert_jax" / "compiled"))


def keep_freed_memory(platform: str) -> None:
    """Where steps run on the CPU, have the C library keep what one frees for the next. Without effect but on glibc.

    A step's temporary memory is one piece of hundreds of MB, which else goes back to the system and comes again page by
    page: a quarter of the time of a small model's step (docs/benchmarks.md). glibc keeps such pieces for its main
    thread alone, which is why steps must run in it: `configure` turns off what would hand them to another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if platform == "cpu" and mallopt:
        mallopt(_M_MMAP_MAX, 0)  # no pieces straight from the system
        mallopt(_M_TRIM_THRESHOLD, -1)  # and none back to it
