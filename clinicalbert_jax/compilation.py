"""How XLA compiles a run: the flags that pay, and compiled programs kept from run to run.

Call `configure` before JAX makes its devices: flags are read then, once. What the environment says goes first.
"""

import os
from pathlib import Path

import jax

# What `XLA_FLAGS` gets. A flag that XLA does not know ends the process: each must be known to the oldest JAX that we
# support, and to the newest. None for CPU: those that were tried changed nothing (docs/benchmarks.md).
_FLAGS = (
    # NVIDIA, several devices: move the gradient's reduction behind what can be computed meanwhile. NVIDIA's own JAX
    # images set it; without effect on one device and on other backends.
    "--xla_gpu_enable_latency_hiding_scheduler=true",
)


def configure() -> None:
    """Set the flags, and keep compiled programs in ~/.cache/clinicalbert_jax/compiled.

    A run that goes on, or a second one of the same shapes, then starts without compiling for a minute. The key holds
    program, flags, devices and versions. `JAX_COMPILATION_CACHE_DIR` names another place, and
    `JAX_ENABLE_COMPILATION_CACHE=false` none.
    """
    os.environ["XLA_FLAGS"] = " ".join([*_FLAGS, os.environ.get("XLA_FLAGS", "")]).strip()  # the last one counts
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):  # which JAX reads itself
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "clinicalbert_jax" / "compiled"))
