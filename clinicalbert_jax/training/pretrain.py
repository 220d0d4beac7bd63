"""Pre-training as a job for the loop: a prepared dataset, masked language modelling and next sentence prediction."""

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from clinicalbert_jax.config import Config
from clinicalbert_jax.data.dataset import Dataset
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.data.prefetch import Prefetcher
from clinicalbert_jax.modeling import attention
from clinicalbert_jax.modeling.bert import Params
from clinicalbert_jax.runs.object_store import Mirror
from clinicalbert_jax.runs.state import State
from clinicalbert_jax.runs.workdir import keep
from clinicalbert_jax.training import init_from, mfu, train_loop, train_step
from clinicalbert_jax.training.metrics import Averages
from clinicalbert_jax.training.sharding import local_rows, put_batch
from clinicalbert_jax.training.stop_request import StopRequest

_BATCHES_AHEAD = 2  # of an evaluation, dispatched before the oldest must have ended: a stop has to wait for them


def pretrain(
    config: Config, data_dir: Path, workdir: Path, mirror: Mirror | None = None, stop: StopRequest | None = None
) -> int:
    """Pre-train on `data_dir` until `train.steps`, or continue the run in `workdir`; returns the exit code."""
    job = make_job(config, data_dir)
    if jax.process_index() == 0:
        manifest = init_from.manifest_to_keep(config, Manifest.load(data_dir), workdir)
        keep(workdir, config, manifest, data_dir)
    return train_loop.run(job, workdir, mirror, stop)


def make_job(config: Config, data_dir: Path) -> train_loop.Job:
    """The job for the loop."""
    program = train_step.build(config)
    skip = config.data.on_corrupt == "skip"
    training = Dataset(data_dir, "train", skip)
    validation = Dataset(data_dir, "validation", skip) if config.train.eval_every else None
    device, length = program.mesh.devices.flat[0], config.data.max_seq_length
    chosen = attention.resolve(config.train.attention, device, config.model, config.train.dtype, length)
    if validation:
        validation.corrupt = training.corrupt  # one report for both

    def evaluate_validation(params: Params, after_batch: Callable[[], None]) -> dict[str, float]:
        assert validation, "train.eval_every is 0"
        return evaluate(program, params, validation, after_batch)

    return train_loop.Job(
        program=program,
        training=training,
        first_state=lambda: _first_state(program, data_dir),
        evaluate=evaluate_validation,
        score=lambda means: -(means["mlm_loss"] + means["nsp_loss"]),
        describe=describe,
        flops_per_step=mfu.train_flops_per_row(config.model, training.layout) * config.train.global_batch_size,
        attention=f"{chosen.name} ({chosen.why})",
    )


def evaluate(
    program: train_step.Program, params: Params, dataset: Dataset, after_batch: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Losses and accuracies over a split: every example once, in order (or the first `train.eval_batches` batches).

    An exception of `after_batch` ends it.
    """
    size = program.config.train.global_batch_size
    rows_R = local_rows(size, program.mesh)
    count = -(-dataset.num_examples // size)
    if program.config.train.eval_batches:
        count = min(count, program.config.train.eval_batches)

    def load(numbers: Sequence[int]) -> list[dict[str, jax.Array]]:
        return [put_batch(dataset.eval_batch(number, size, rows_R), program.mesh) for number in numbers]

    averages, in_flight = Averages(), deque[Any]()
    with Prefetcher(load, range(count), program.config.data.num_threads, group_size=1) as batches:
        for batch in batches:
            in_flight.append(program.eval_step(params, batch))
            averages.add(in_flight[-1])
            if len(in_flight) > _BATCHES_AHEAD:
                jax.block_until_ready(in_flight.popleft())
            after_batch()
    return averages.read()[0]


def describe(means: Mapping[str, float]) -> str:
    """Evaluation figures in words."""
    return (
        f"MLM loss {means['mlm_loss']:.3f}, accuracy {means['mlm_accuracy']:.1%}; "
        f"NSP loss {means['nsp_loss']:.3f}, accuracy {means['nsp_accuracy']:.1%}"
    )


def _first_state(program: train_step.Program, data_dir: Path) -> tuple[State, str]:
    config = program.config
    if not config.init_from:
        return program.init(), "from random weights"
    params, fresh = init_from.pretrained(config, Manifest.load(data_dir), data_dir)
    state = train_loop.with_params(program.init(), params)
    origin = f"from {config.init_from}" + (f" (from random weights: {', '.join(fresh)})" if fresh else "")
    if config.init_optimizer:
        opt_state = init_from.optimizer_state(config, program.abstract_state.opt_state)
        return dataclasses.replace(state, opt_state=opt_state), f"{origin}, with its optimizer's moments"
    return state, origin
