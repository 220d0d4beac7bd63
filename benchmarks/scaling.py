"""Communication of a train step on each kind of mesh, compared with a lower bound. Compiles only; no TPU is needed.

    pip install -e ".[tpu]"
    python -m benchmarks.scaling --topology=v5e:2x4

The model has 4 layers of width 256. Rows per device are the same on every mesh, in two microbatches. The lower bound is
one ring reduction of the float32 gradients and one all-gather of the parameters that are sharded over fsdp, in the
dtype of the activations. Without --topology: this machine's devices, whose compiler may choose other collectives.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from clinicalbert_jax import cli
from clinicalbert_jax.config import Config, MeshConfig, OptimizerConfig, TrainConfig, model_preset
from clinicalbert_jax.data.schema import Layout
from clinicalbert_jax.options import option
from clinicalbert_jax.plan import topologies


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    topology: str | None = option("TPU slice, such as v5e:2x4; default: this machine's devices.", None)
    rows: int = option("Rows per device, an even number.", 16, lowest=2)
    output: str | None = option("JSON file for the results.", None)


def main(options: Options) -> None:
    """Compile the step for each mesh and print the table."""
    topology = topologies.parse(options.topology) if options.topology else None
    if topology:
        topologies.check_compiler()
        devices = topologies.devices(topology)
    else:
        import jax

        devices = jax.devices()
    from clinicalbert_jax.plan import compile_ahead

    count = len(devices)
    meshes = dict.fromkeys([(count, 1), (1, count), (2, count // 2)] if count > 2 else [(count, 1), (1, count)])
    print(f"{count} × {devices[0].device_kind}\n")
    print("| data × fsdp | collectives | communication per device, MB | lower bound, MB | ratio | inside loops |")
    print("|---|---|---|---|---|---|")
    rows = []
    for data, fsdp in meshes:
        config = Config(
            model=model_preset("mini", vocab_size=30_522),
            optimizer=OptimizerConfig(schedule="constant", warmup_steps=0),
            mesh=MeshConfig(data=data, fsdp=fsdp),
            train=TrainConfig(global_batch_size=options.rows * count, microbatches=2),
        )
        compiled = compile_ahead.compile_step(config, Layout("padded", 128, 20), devices)
        collectives, sent = compiled.summary.collectives, compiled.summary.sent_bytes()
        kinds = ", ".join(f"{sum(one.times for one in collectives if one.kind == kind)} {kind}" for kind in sent)
        bound = lower_bound_bytes(compiled.program.abstract_state.params, data, fsdp, config.train.dtype)
        inside = sum(one.times > 1 for one in collectives)
        total = sum(sent.values())
        rows.append({"data": data, "fsdp": fsdp, "sent": sent, "lower_bound": bound, "inside_loops": inside})
        print(f"| {data} × {fsdp} | {kinds} | {total / 1e6:.1f} | {bound / 1e6:.1f} | {total / bound:.3f} | {inside} |")
    if options.output:
        Path(options.output).write_text(json.dumps(rows, indent=2) + "\n")


def lower_bound_bytes(params: object, data: int, fsdp: int, dtype: str) -> float:
    """Lower bound on communication per device and step, for parameters given as a tree of shapes with shardings."""
    import jax
    import numpy as np

    sharded = replicated = 0
    for leaf in jax.tree.leaves(params):
        is_sharded = leaf.sharding.shard_shape(leaf.shape) != leaf.shape
        sharded, replicated = sharded + leaf.size * is_sharded, replicated + leaf.size * (not is_sharded)
    itemsize, count = np.dtype(jax.numpy.dtype(dtype)).itemsize, data * fsdp
    gathered = itemsize * sharded * (fsdp - 1) / fsdp
    scattered = 4 * sharded * (fsdp - 1) / fsdp
    reduced = 2 * 4 * (sharded / fsdp) * (data - 1) / data + 2 * 4 * replicated * (count - 1) / count
    return gathered + scattered + reduced


if __name__ == "__main__":
    cli.run(main, Options)
