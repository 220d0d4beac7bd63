"""The loader against tf.data on the same shards, and the share of a step that waits for data.

    python -m venv /tmp/tfenv && /tmp/tfenv/bin/pip install tensorflow-cpu
    python -m benchmarks.loader --data_dir=DATA/clinical_notes/1.0.0 --tensorflow_python=/tmp/tfenv/bin/python

Both sides read random rows of a padded split in batches, verify every checksum, and decode; as many threads each, each
run a process of its own, the two in turn. Then the real loop trains a two-layer model, and its own meter says how long
it waited.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from clinicalbert_jax import commands, metrics
from clinicalbert_jax.dataset import Dataset, Prefetcher
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.manifest import Manifest

DATA_DIR = flags.DEFINE_string("data_dir", None, "The NAME/VERSION directory that `python -m data_prep` wrote.")
TENSORFLOW_PYTHON = flags.DEFINE_string("tensorflow_python", None, "A Python that has TensorFlow; without: ours alone.")
RUNS = flags.DEFINE_integer("runs", 5, "Runs of each side.", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Rows of a batch.", lower_bound=1)
BATCHES = flags.DEFINE_integer("batches", 400, "Batches of a run, after those that warm it up.", lower_bound=1)
THREADS = flags.DEFINE_integer("threads", 2, "Threads of either side.", lower_bound=1)
STEPS = flags.DEFINE_integer(
    "steps", 200, "Steps of the run whose waiting is measured; 0: leave it out.", lower_bound=0
)
OUTPUT = flags.DEFINE_string("output", None, "JSON file for the figures.")
ONE_RUN = flags.DEFINE_bool("one_run", False, "Print one run of ours as JSON: what the benchmark starts in processes.")

WARM_UP = 50
PROJECT = Path(__file__).parents[1]


def main(argv: Sequence[str]) -> None:
    """Run both sides in turn, then the loop; print the tables."""
    commands.refuse_arguments(argv)
    data_dir = Path(commands.required(DATA_DIR)).absolute()
    if Manifest.load(data_dir).layout.kind != "padded":
        raise UserError(f"--data_dir: expected padded data, which tf.data's spec can read, found packed in {data_dir}")
    if ONE_RUN.value:
        print(json.dumps(_ours(data_dir)))
        return
    document = {"load_average": os.getloadavg(), "loading": _alternating(data_dir)}
    if STEPS.value:
        document["waiting"] = _waiting(data_dir)
    if OUTPUT.value:
        Path(OUTPUT.value).write_text(json.dumps(document, indent=2) + "\n")


def _ours(data_dir: Path) -> dict[str, float]:
    dataset = Dataset(data_dir, "train")
    import numpy as np

    rows_B = np.arange(BATCH_SIZE.value)

    def load(numbers: Sequence[int]) -> list[dict[str, np.ndarray]]:
        return dataset.train_batches(0, numbers, BATCH_SIZE.value, rows_B)

    together = max(1, dataset.rows_together // BATCH_SIZE.value)
    more = 2 * THREADS.value * together  # what is loaded ahead at the end is paid for, as it was at the start
    with Prefetcher(load, range(WARM_UP + BATCHES.value + more), THREADS.value, together) as batches:
        for _ in range(WARM_UP):
            next(batches)
        started, cpu = time.perf_counter(), time.process_time()
        for _ in range(BATCHES.value):
            next(batches)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    return {"examples": BATCHES.value * BATCH_SIZE.value, "seconds": seconds, "cpu_seconds": cpu_seconds}


def _alternating(data_dir: Path) -> dict[str, list[dict[str, float]]]:
    numbers = [str(BATCH_SIZE.value), str(BATCHES.value), str(THREADS.value)]
    commands_ = {
        "ours": [sys.executable, "-m", "benchmarks.loader", f"--data_dir={data_dir}", "--one_run"]
        + [f"--{n}={v}" for n, v in zip(("batch_size", "batches", "threads"), numbers, strict=True)]
    }
    if TENSORFLOW_PYTHON.value:
        script = PROJECT / "benchmarks" / "load_with_tensorflow.py"
        commands_["tf.data"] = [TENSORFLOW_PYTHON.value, str(script), str(data_dir), *numbers]
    found: dict[str, list[dict[str, float]]] = {side: [] for side in commands_}
    for number in range(RUNS.value):
        for side, command in commands_.items():
            done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
            if done.returncode:
                raise UserError(f"{side}: exit code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
            found[side].append(json.loads(done.stdout.splitlines()[-1]))
            one = found[side][-1]
            print(f"run {number + 1}: {side} {one['examples'] / one['seconds']:,.0f} examples/s", file=sys.stderr)
    print("| | examples/s (median, least to most) | examples in a second of CPU time |\n|---|---|---|")
    medians = {}
    for side, runs in found.items():
        rates = sorted(run["examples"] / run["seconds"] for run in runs)
        cpu = statistics.median(run["examples"] / run["cpu_seconds"] for run in runs)
        medians[side] = statistics.median(rates), cpu
        print(f"| {side} | {medians[side][0]:,.0f} ({rates[0]:,.0f} to {rates[-1]:,.0f}) | {cpu:,.0f} |")
    if "tf.data" in medians:
        ratios = [ours / theirs for ours, theirs in zip(medians["ours"], medians["tf.data"], strict=True)]
        print(f"| ours over tf.data | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    return found


def _waiting(data_dir: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        command = [
            *(sys.executable, "run_pretrain.py", "--config=configs/tiny_128.py"),
            *(f"--data_dir={data_dir}", f"--workdir={directory}/run"),
            *(f"--config.train.steps={STEPS.value}", "--config.train.log_every=20", "--config.train.eval_batches=1"),
            "--config.optimizer.warmup_steps=0",
        ]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"run_pretrain.py: exit code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
        records = [record for record in metrics.read(Path(directory) / "run") if record["kind"] == "train"]
    share = statistics.fmean(record["data_wait"] for record in records)
    rate = statistics.median(record["steps_per_s"] for record in records if record["steps_per_s"])
    print(f"{STEPS.value} steps of configs/tiny_128.py: {rate:.2f} steps/s, {share:.2%} of the time waiting for data")
    return {"share": share, "steps_per_s": rate}


if __name__ == "__main__":
    commands.run(main)
