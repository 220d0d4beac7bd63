"""What a step sends on each kind of mesh, against the least that it could: from the compiled program, no TPU needed.

    pip install -e ".[tpu]"
    python -m benchmarks.scaling --topology=v5e:2x4

A 4-layer, 256-wide BERT, as many rows a device on every mesh, two microbatches. The least: gradients in float32 reduced
once, by a ring; parameters that are cut over fsdp gathered once, in the dtype of the activations. Without --topology:
the devices of this machine, whose compiler may choose other collectives.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from clinicalbert_jax import commands, topologies
from clinicalbert_jax.config import Config, MeshConfig, OptimizerConfig, TrainConfig, model_preset
from clinicalbert_jax.schema import Layout

TOPOLOGY = flags.DEFINE_string("topology", None, "TPU slice, such as v5e:2x4; default: this machine's devices.")
ROWS = flags.DEFINE_integer("rows", 16, "Rows of a device, an even number.", lower_bound=2)
OUTPUT = flags.DEFINE_string("output", None, "JSON file for the figures.")


def main(argv: Sequence[str]) -> None:
    """Compile the step for each mesh and print the table."""
    commands.refuse_arguments(argv)
    topology = topologies.parse(TOPOLOGY.value) if TOPOLOGY.value else None
    if topology:
        topologies.check_compiler()
        devices = topologies.devices(topology)
    else:
        import jax

        devices = jax.devices()
    from clinicalbert_jax import compile_ahead

    count = len(devices)
    meshes = dict.fromkeys([(count, 1), (1, count), (2, count // 2)] if count > 2 else [(count, 1), (1, count)])
    print(f"{count} × {devices[0].device_kind}\n")
    print("| data × fsdp | collectives | sent by a device, MB | the least, MB | ratio | inside the loop |")
    print("|---|---|---|---|---|---|")
    rows = []
    for data, fsdp in meshes:
        config = Config(
            model=model_preset("mini", vocab_size=30_522),
            optimizer=OptimizerConfig(schedule="constant", warmup_steps=0),
            mesh=MeshConfig(data=data, fsdp=fsdp),
            train=TrainConfig(global_batch_size=ROWS.value * count, microbatches=2),
        )
        compiled = compile_ahead.compile_step(config, Layout("padded", 128, 20), devices)
        collectives, sent = compiled.summary.collectives, compiled.summary.sent_bytes()
        kinds = ", ".join(f"{sum(one.times for one in collectives if one.kind == kind)} {kind}" for kind in sent)
        least = least_bytes(compiled.program.abstract_state.params, data, fsdp, config.train.dtype)
        inside = sum(one.times > 1 for one in collectives)
        total = sum(sent.values())
        rows.append({"data": data, "fsdp": fsdp, "sent": sent, "least": least, "inside_loops": inside})
        print(f"| {data} × {fsdp} | {kinds} | {total / 1e6:.1f} | {least / 1e6:.1f} | {total / least:.3f} | {inside} |")
    if OUTPUT.value:
        Path(OUTPUT.value).write_text(json.dumps(rows, indent=2) + "\n")


def least_bytes(params: object, data: int, fsdp: int, dtype: str) -> float:
    """What a device sends at least in a step, of a tree of shapes with shardings."""
    import jax
    import numpy as np

    cut = whole = 0
    for leaf in jax.tree.leaves(params):
        parted = leaf.sharding.shard_shape(leaf.shape) != leaf.shape
        cut, whole = cut + leaf.size * parted, whole + leaf.size * (not parted)
    width = np.dtype(jax.numpy.dtype(dtype)).itemsize
    everywhere = data * fsdp
    gathered = width * cut * (fsdp - 1) / fsdp
    scattered = 4 * cut * (fsdp - 1) / fsdp
    added = 2 * 4 * (cut / fsdp) * (data - 1) / data + 2 * 4 * whole * (everywhere - 1) / everywhere
    return gathered + scattered + added


if __name__ == "__main__":
    commands.run(main)
