"""Overhead of checkpoints and metrics in a run.

    python -m benchmarks.run_overhead --data_dir=DATA/clinical_notes/1.0.0

The model has 4 layers of width 256; the batch size is 16. In one process, blocks of 50 steps alternate between bare
steps, steps whose metrics are read and written every 10 steps, and steps during which an asynchronous checkpoint is
written. Prints the median time of each kind of block, and for how long a save blocked the loop.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from clinicalbert_jax import cli
from clinicalbert_jax.config import Config, DataConfig, OptimizerConfig, TrainConfig, model_preset
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.options import option
from clinicalbert_jax.runs import workdir

BLOCK = 50


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    data_dir: str = option("The NAME/VERSION directory that `python -m data_prep` wrote.")
    rounds: int = option("Blocks of each kind.", 3, lowest=1)


def main(options: Options) -> None:
    """Run the blocks and print the table."""
    data_dir = Path(options.data_dir)
    manifest = Manifest.load(data_dir)
    config = Config(
        model=model_preset("mini"),
        data=DataConfig(max_seq_length=manifest.layout.max_seq_length),
        optimizer=OptimizerConfig(schedule="constant", warmup_steps=10),
        train=TrainConfig(steps=10_000, global_batch_size=16, dtype="float32"),
    )
    config = workdir.check_data(config, manifest, data_dir)
    with tempfile.TemporaryDirectory() as directory:
        _measure(config, manifest, data_dir, Path(directory), options.rounds)


def _measure(config: Config, manifest: Manifest, data_dir: Path, run: Path, rounds: int) -> None:
    from clinicalbert_jax.data.dataset import Dataset
    from clinicalbert_jax.runs.checkpoint import Checkpoints
    from clinicalbert_jax.training import train_loop, train_step
    from clinicalbert_jax.training.metrics import Meter, Progress, Writer

    workdir.keep(run, config, manifest, data_dir)
    program = train_step.build(config)
    kinds = ("bare", "metrics", "checkpoint")
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    blocked = []
    batches = train_loop.training_batches(program, Dataset(data_dir, "train"), 0)
    with batches, Checkpoints(run, config.train) as checkpoints, Writer(run, True) as writer:
        meter = Meter(writer, Progress(0, config.train.steps, False), [], 1.0, None)
        state, done = program.init(), 0
        for number in range(-1, len(kinds) * rounds):  # the first block compiles and is not counted
            kind = kinds[number % len(kinds)]
            started = time.perf_counter()
            if kind == "checkpoint" and number >= 0:
                checkpoints.save(state, done)  # continues during the block's steps
                blocked.append(checkpoints.blocked_s)
            for place in range(BLOCK):
                state, happened = program.train_step(state, next(batches))
                done += 1
                if kind == "metrics":
                    meter.add(done, happened)
                    if (place + 1) % 10 == 0:
                        meter.flush()
            happened["grad_norm"].block_until_ready()
            checkpoints.wait()
            if number >= 0:
                seconds[kind].append(time.perf_counter() - started)
    bare = statistics.median(seconds["bare"])
    print(f"| {BLOCK} steps | seconds (median of {rounds}) | against bare |\n|---|---|---|")
    for kind in kinds:
        median = statistics.median(seconds[kind])
        print(f"| {kind} | {median:.2f} | {median / bare - 1:+.1%} |")
    print(f"a save blocked {statistics.median(blocked):.3f} s (median of {len(blocked)})")


if __name__ == "__main__":
    cli.run(main, Options)
