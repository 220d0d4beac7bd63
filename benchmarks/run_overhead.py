"""What checkpoints and metrics cost a run: one process, one set of batches, steps with and without them, alternating.

    python -m benchmarks.run_overhead --data_dir=DATA/clinical_notes/1.0.0

4 layers of 256, batch 16 of length 128. Blocks of 50 steps alternate between bare steps, steps with metrics read and
written every 10, and steps behind which an asynchronous checkpoint is written. Prints medians, and the seconds a save
blocked.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from clinicalbert_jax import commands, workdir
from clinicalbert_jax.config import Config, DataConfig, OptimizerConfig, TrainConfig, model_preset
from clinicalbert_jax.manifest import Manifest

DATA_DIR = flags.DEFINE_string("data_dir", None, "The NAME/VERSION directory that `python -m data_prep` wrote.")
ROUNDS = flags.DEFINE_integer("rounds", 3, "How many blocks of each kind.", lower_bound=1)
BLOCK = 50


def main(argv: Sequence[str]) -> None:
    """Run the blocks and print the table."""
    commands.refuse_arguments(argv)
    data_dir = Path(commands.required(DATA_DIR))
    manifest = Manifest.load(data_dir)
    config = Config(
        model=model_preset("mini"),
        data=DataConfig(max_seq_length=manifest.layout.max_seq_length),
        optimizer=OptimizerConfig(schedule="constant", warmup_steps=10),
        train=TrainConfig(steps=10_000, global_batch_size=16, dtype="float32"),
    )
    config = workdir.check_data(config, manifest, data_dir)
    with tempfile.TemporaryDirectory() as directory:
        _measure(config, manifest, data_dir, Path(directory))


def _measure(config: Config, manifest: Manifest, data_dir: Path, run: Path) -> None:
    from clinicalbert_jax import step, train
    from clinicalbert_jax.checkpoint import Checkpoints
    from clinicalbert_jax.dataset import Dataset
    from clinicalbert_jax.metrics import Meter, Progress, Writer

    workdir.keep(run, config, manifest, data_dir)
    program = step.build(config)
    kinds = ("bare", "metrics", "checkpoint")
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    blocked = []
    batches = train.training_batches(program, Dataset(data_dir, "train"), 0)
    with batches, Checkpoints(run, config.train) as checkpoints, Writer(run, True) as writer:
        meter = Meter(writer, Progress(0, config.train.steps, False), [], 1.0, None)
        state, done = program.init(), 0
        for number in range(-1, len(kinds) * ROUNDS.value):  # the first block compiles and is not counted
            kind = kinds[number % len(kinds)]
            started = time.perf_counter()
            if kind == "checkpoint" and number >= 0:
                checkpoints.save(state, done)  # goes on behind the block's steps
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
    print(f"| {BLOCK} steps | seconds (median of {ROUNDS.value}) | against bare |\n|---|---|---|")
    for kind in kinds:
        median = statistics.median(seconds[kind])
        print(f"| {kind} | {median:.2f} | {median / bare - 1:+.1%} |")
    print(f"a save blocked {statistics.median(blocked):.3f} s (median of {len(blocked)})")


if __name__ == "__main__":
    commands.run(main)
