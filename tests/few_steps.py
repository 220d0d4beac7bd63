"""A few steps on deliberately uneven batches, on the devices of this process or as one of several processes.

python -m tests.few_steps DATA_DIR OUTPUT FSDP MICROBATCHES HOST:PORT NUM_PROCESSES PROCESS_ID
"""

import sys
from pathlib import Path

import jax
import numpy as np
from jax._src.distributed import global_state
from jax.experimental import multihost_utils

from clinicalbert_jax.config import Config, DataConfig, MeshConfig, ModelConfig, OptimizerConfig, TrainConfig
from clinicalbert_jax.data.dataset import Dataset
from clinicalbert_jax.training import distributed, train_step
from clinicalbert_jax.training.sharding import local_rows, make_mesh, put_batch
from clinicalbert_jax.training.stop_request import StopRequest
from tests import toy_dataset

BATCH, STEPS = 32, 2
B1 = 0.9


def config_with(fsdp: int, microbatches: int) -> Config:
    """Without dropout, and without a clip that would hide a gradient's size."""
    return Config(
        model=ModelConfig(
            vocab_size=len(toy_dataset.VOCABULARY),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        data=DataConfig(max_seq_length=toy_dataset.LENGTH),
        optimizer=OptimizerConfig(schedule="constant", warmup_steps=0, clip_global_norm=1e9, b1=B1),
        mesh=MeshConfig(fsdp=fsdp),
        train=TrainConfig(steps=STEPS, global_batch_size=BATCH, microbatches=microbatches, dtype="float32"),
    )


def uneven(batch: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Every fourth row without a prediction, those of the first half with one only; pairs missing here and there."""
    batch["masked_lm_weights"][rows % 4 == 0] = 0
    batch["masked_lm_weights"][np.ix_(rows < BATCH // 2, range(1, toy_dataset.PREDICTIONS))] = 0
    batch["next_sentence_weights"][rows % 8 < 3] = 0
    return batch


def run(data_dir: Path, config: Config, devices: list[jax.Device]) -> dict[str, np.ndarray]:
    """Losses of each step, and by its path the gradient of each parameter in the first one: Adam's mean is a part."""
    program = train_step.build(config, devices)
    dataset, state = Dataset(data_dir, "train"), program.init()
    rows_R = local_rows(BATCH, program.mesh)
    found: dict[str, np.ndarray] = {}
    losses = []
    for number in range(STEPS):
        batch = uneven(dataset.train_batch(0, number, BATCH, rows_R), rows_R)
        state, happened = program.train_step(state, put_batch(batch, program.mesh))
        sums = jax.device_get(happened["sums"])
        losses.append([sums[name][0] / sums[name][1] for name in ("mlm_loss", "nsp_loss")])
        if number == 0:
            means = state.opt_state[1].mu
            for path, leaf in jax.tree_util.tree_leaves_with_path(means):
                whole = multihost_utils.process_allgather(leaf, tiled=True)
                found[jax.tree_util.keystr(path, simple=True, separator="/")] = np.asarray(whole) / (1 - B1)
    return found | {"losses": np.array(losses)}


def connected() -> set[str]:
    """The groups of devices, by their numbers, that gloo has connected."""
    entries = global_state.client.key_value_dir_get_bytes("cpu:gloo/")
    return {name.removeprefix("cpu:gloo/").split("/")[0] for name, _ in entries}


if __name__ == "__main__":
    data_dir, output, fsdp, microbatches, coordinator, num_processes, process_id = sys.argv[1:]
    with distributed.joined(coordinator, int(num_processes), int(process_id), StopRequest()):
        config = config_with(int(fsdp), int(microbatches))
        distributed.connect(make_mesh(config.mesh))
        groups = connected()
        figures = run(Path(data_dir), config, jax.devices())
        assert connected() == groups, "a step communicates in no other groups of devices"
        distributed.connect(make_mesh(MeshConfig(fsdp=2), list(np.reshape(jax.devices(), (2, -1)).T.flat)))
        pairs = {",".join(str(device.id) for device in pair) for pair in np.reshape(jax.devices(), (2, -1)).T}
        assert pairs <= connected(), f"{pairs} {connected()}"
        if jax.process_index() == 0:
            np.savez(output, **figures)
