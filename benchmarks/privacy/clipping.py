"""What clipping the gradient of each patient costs, without noise: seconds a step, and held-out MLM loss.

    taskset -c 0 python -m benchmarks.privacy.clipping --data_dir=DATA --steps=300

Two models of one seed see the same batches in turn: one takes the project's own step, the other sums the gradients of a
batch's rows by patient and clips each sum to a norm, the median of those met in training without clipping. A row counts
to the patient of its first segment. This alone is not differentially private: no noise is added.

Shape legend: B rows of a batch, and as many patients at most.
"""

import dataclasses
import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clinicalbert_jax import cli
from clinicalbert_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.options import option
from clinicalbert_jax.runs import workdir


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    data_dir: str = option("The NAME/VERSION directory that `python -m data_prep` wrote.")
    steps: int = option("Training steps of each model.", 300, lowest=40)
    batch_size: int = option("Rows in a batch.", 32, lowest=1)


def main(options: Options) -> None:
    """Measure the norms, train both models in turn, and print the table."""
    import jax

    from clinicalbert_jax.data.dataset import Dataset
    from clinicalbert_jax.training import losses, pretrain, train_step
    from clinicalbert_jax.training.optimizer import make_optimizer, make_schedule

    data_dir = Path(options.data_dir)
    config = _config(options, data_dir)
    program = train_step.build(config)
    objective = losses.pretraining(config, program.mesh)
    optimizer = make_optimizer(config.optimizer, make_schedule(config.optimizer, options.steps))
    training, validation = Dataset(data_dir, "train"), Dataset(data_dir, "validation")
    gradient = functools.partial(by_patient, objective=objective)

    @jax.jit
    def norms(params: Any, batch: Any, patient_B: Any) -> Any:
        return gradient(params, batch, patient_B, np.inf)[1]

    @functools.partial(jax.jit, donate_argnums=0)
    def clipped_step(state: Any, batch: Any, patient_B: Any, most: Any) -> Any:
        grads, _ = gradient(state.params, batch, patient_B, most)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = jax.tree.map(lambda old, update: old + update, state.params, updates)
        return dataclasses.replace(state, step=state.step + 1, params=params, opt_state=opt_state)

    def batch_of(step: int) -> tuple[Any, npt.NDArray[np.int32]]:
        (batch,) = training.train_batches(0, [step], options.batch_size, np.arange(options.batch_size))
        group_B = batch.pop("patient_group")[:, 0]
        return batch, np.unique(group_B, return_inverse=True)[1].astype(np.int32)

    state, met, patients = program.init(), [], []
    for step in range(options.steps):
        batch, patient_B = batch_of(step)
        if step % 20 == 0:
            patients.append(patient_B.max() + 1)
            met.append(np.asarray(norms(state.params, batch, patient_B))[: patients[-1]])
        state, _ = program.train_step(state, batch)
    most = float(np.median(np.concatenate(met)))
    print(f"{np.mean(patients):.1f} patients in a batch of {options.batch_size} rows; clipped to {most:.4f}")

    states = {"plain": program.init(), "clipped": program.init()}
    seconds: dict[str, list[float]] = {name: [] for name in states}
    for step in range(options.steps):
        batch, patient_B = batch_of(step)
        for name in states:
            began = time.process_time()
            if name == "plain":
                states[name], _ = program.train_step(states[name], batch)
            else:
                states[name] = clipped_step(states[name], batch, patient_B, most)
            jax.block_until_ready(states[name])
            seconds[name].append(time.process_time() - began)
    print("| step | CPU seconds | held-out MLM loss |\n|---|---|---|")
    for name, trained in states.items():
        loss = pretrain.evaluate(program, trained.params, validation)["mlm_loss"]
        print(f"| {name} | {np.median(seconds[name][5:]):.3f} | {loss:.3f} |")


def by_patient(params: Any, batch: Any, patient_B: Any, most: Any, *, objective: Any) -> tuple[Any, Any]:
    """The sum of the patients' gradients, each clipped to a norm of `most`, and their norms before, B.

    With no bound it is the gradient of the batch's loss.
    """
    import jax
    import jax.numpy as jnp

    from clinicalbert_jax.training.losses import total_loss

    weights = objective.weights(batch)

    def loss(params: Any, row: Any) -> Any:
        return total_loss(objective.sums(params, row, None), weights)

    rows = jax.tree.map(lambda x: x[:, None], dict(batch))
    of_rows = jax.vmap(jax.grad(loss), (None, 0))(params, rows)
    sums = jax.tree.map(lambda x: jax.ops.segment_sum(x, patient_B, len(patient_B)), of_rows)
    norm_B = jnp.sqrt(sum((x.reshape(len(x), -1) ** 2).sum(1) for x in jax.tree.leaves(sums)))
    scale_B = jnp.minimum(1.0, most / jnp.maximum(norm_B, 1e-12))
    return jax.tree.map(lambda x: jnp.tensordot(scale_B, x, 1), sums), norm_B


def _config(options: Options, data_dir: Path) -> Config:
    model = ModelConfig(
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=512,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    manifest = Manifest.load(data_dir)
    config = Config(
        model=model,
        data=DataConfig(max_seq_length=manifest.layout.max_seq_length),
        optimizer=OptimizerConfig(learning_rate=1e-3, schedule="constant", warmup_steps=20),
        train=TrainConfig(steps=options.steps, global_batch_size=options.batch_size, dtype="float32"),
    )
    return workdir.check_data(config, manifest, data_dir)


if __name__ == "__main__":
    cli.run(main, Options)
