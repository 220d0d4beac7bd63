"""A compiled step in words: memory, FLOPs and communication per device, the least time of a run, and its cost."""

import os
from collections.abc import Sequence

import jax

from clinicalbert_jax.config import Config
from clinicalbert_jax.data.schema import Layout
from clinicalbert_jax.plan.compile_ahead import Compiled
from clinicalbert_jax.plan.roofline import roofline
from clinicalbert_jax.plan.topologies import Topology
from clinicalbert_jax.training import mfu, train_step
from clinicalbert_jax.training.mfu import chip

_GIB = 2**30


def memory_of(device: jax.Device) -> float | None:
    """Memory of one of this machine's devices in bytes; simulated ones on the CPU share its memory."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return float(stats["bytes_limit"])
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / jax.local_device_count()
    return None


def describe(config: Config, layout: Layout, devices: Sequence[jax.Device], topology: Topology | None) -> str:
    """One line about what is planned. Raises `UserError` where mesh, batch and devices do not divide."""
    program = train_step.build(config, devices=list(devices))
    count = sum(leaf.size for leaf in jax.tree.leaves(program.abstract_state.params))
    kind = f"{topology.name}, {len(devices)} × {devices[0].device_kind}" if topology else _local(devices)
    parts = f" in {config.train.microbatches} microbatches" if config.train.microbatches > 1 else ""
    return (
        f"{count / 1e6:.1f} M parameters; batch {config.train.global_batch_size:,} × {layout.max_seq_length} tokens"
        f"{parts} on {kind}; mesh data={program.mesh.shape['data']} fsdp={program.mesh.shape['fsdp']}"
    )


def report(
    compiled: Compiled,
    config: Config,
    layout: Layout,
    devices: Sequence[jax.Device],
    topology: Topology | None,
    price: float | None,
    available: float | None,
) -> str:
    """Memory, FLOPs, collectives; and time and cost where the device is known."""
    known = chip(devices[0].device_kind)
    capacity = known.memory_bytes if topology and known else available
    memory = compiled.memory
    lines = ["", "memory per device, GiB"]
    rows = {
        "parameters": memory.parameters,
        "optimizer": memory.optimizer,
        "batch": memory.batch,
        "activations, gradients, temporaries": memory.temporaries,
        "program": memory.program,
    }
    lines += [f"  {name:<36}{size / _GIB:9.2f}" for name, size in rows.items()]
    fraction = f"  of {capacity / _GIB:.1f} ({memory.total / capacity:.0%})" if capacity else ""
    lines.append(f"  {'total':<36}{memory.total / _GIB:9.2f}{fraction}")

    rows_a_device = config.train.global_batch_size / len(devices)
    model_flops = mfu.train_flops_per_row(config.model, layout) * rows_a_device
    lines += ["", f"FLOPs per device per step: {model_flops / 1e12:.2f} TFLOP of the model"]
    lines += ["", "communication per device per step"]
    sent = compiled.summary.sent_bytes()
    for kind, size in sent.items():
        count = sum(one.times for one in compiled.summary.collectives if one.kind == kind)
        lines.append(f"  {kind:<36}{size / 1e6:9.1f} MB  ({count} operation{'s' * (count > 1)})")
    if not sent:
        lines.append("  nothing")

    lines.append("")
    if known is None:
        lines.append(f"no data sheet of {devices[0].device_kind} in training/mfu.py: no estimate of time")
        return "\n".join(lines)
    bound = roofline(compiled.summary, compiled.flops, model_flops, known, topology.num_links if topology else 1)
    links = "unknown" if bound.links_s is None else f"{1e3 * bound.links_s:.1f} ms"
    hours = bound.step_s * config.train.steps / 3600
    lines += [
        "least time of a step (roofline)",
        f"  FLOPs {1e3 * bound.arithmetic_s:.1f} ms, memory {1e3 * bound.memory_s:.1f} ms, links {links}: "
        f"{1e3 * bound.step_s:.1f} ms, MFU {bound.mfu:.0%}",
        f"  {config.train.steps:,} steps: {hours:.1f} h, {hours * len(devices):,.0f} chip-hours"
        + (f", ${hours * len(devices) * price:,.0f} at ${price:.2f} a chip-hour" if price is not None else ""),
        "  A run takes longer: a roofline overlaps all three perfectly.",
    ]
    return "\n".join(lines)


def _local(devices: Sequence[jax.Device]) -> str:
    return f"{len(devices)} × {devices[0].device_kind} of this machine"
