"""The loader against tf.data on the same shards, and the fraction of training time that waits for data.

    python -m venv /tmp/tfenv && /tmp/tfenv/bin/pip install tensorflow-cpu
    python -m benchmarks.loader --data_dir=DATA/clinical_notes/1.0.0 --tensorflow_python=/tmp/tfenv/bin/python

Both read random rows of a padded split in batches, verify every checksum and decode, with the same number of threads.
Every run is a separate process, and the runs alternate. Then the training loop trains a two-layer model; its own
metrics give the waiting time.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clinicalbert_jax import cli
from clinicalbert_jax.data.dataset import Dataset
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.data.prefetch import Prefetcher
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.options import option
from clinicalbert_jax.runs import metrics_log

WARM_UP = 50
PROJECT = Path(__file__).parents[1]


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    data_dir: str = option("The NAME/VERSION directory that `python -m data_prep` wrote.")
    tensorflow_python: str | None = option("A Python that has TensorFlow; default: measure ours only.", None)
    runs: int = option("Runs of each loader.", 5, lowest=1)
    batch_size: int = option("Rows per batch.", 256, lowest=1)
    batches: int = option("Batches per run, after the warm-up.", 400, lowest=1)
    threads: int = option("Threads of each loader; training uses one.", 1, lowest=1)
    steps: int = option("Training steps to measure the waiting time of; 0: skip this part.", 200, lowest=0)
    output: str | None = option("JSON file for the results.", None)
    one_run: bool = option("Print one run of ours as JSON; the benchmark starts itself with this option.", False)


def main(options: Options) -> None:
    """Alternate runs of the two loaders, then run the training loop, and print the tables."""
    data_dir = Path(options.data_dir).absolute()
    if Manifest.load(data_dir).layout.kind != "padded":
        raise UserError(f"--data_dir: expected padded data, which tf.data's spec can read, found packed in {data_dir}")
    if options.one_run:
        print(json.dumps(_ours(options, data_dir)))
        return
    document = {"load_average": os.getloadavg(), "loading": _alternating(options, data_dir)}
    if options.steps:
        document["waiting"] = _waiting(options.steps, data_dir)
    if options.output:
        Path(options.output).write_text(json.dumps(document, indent=2) + "\n")


def _ours(options: Options, data_dir: Path) -> dict[str, float]:
    dataset = Dataset(data_dir, "train")
    import numpy as np

    rows_B = np.arange(options.batch_size)

    def load(numbers: Sequence[int]) -> list[dict[str, np.ndarray]]:
        return dataset.train_batches(0, numbers, options.batch_size, rows_B)

    group_size = max(1, dataset.rows_per_read // options.batch_size)
    more = 2 * options.threads * group_size  # the prefetcher loads ahead to the end, as it did when the clock started
    with Prefetcher(load, range(WARM_UP + options.batches + more), options.threads, group_size) as batches:
        for _ in range(WARM_UP):
            next(batches)
        started, cpu = time.perf_counter(), time.process_time()
        for _ in range(options.batches):
            next(batches)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    return {"examples": options.batches * options.batch_size, "seconds": seconds, "cpu_seconds": cpu_seconds}


def _alternating(options: Options, data_dir: Path) -> dict[str, list[dict[str, float]]]:
    numbers = {name: str(getattr(options, name)) for name in ("batch_size", "batches", "threads")}
    commands = {
        "ours": [sys.executable, "-m", "benchmarks.loader", f"--data_dir={data_dir}", "--one_run"]
        + [f"--{name}={value}" for name, value in numbers.items()]
    }
    if options.tensorflow_python:
        script = PROJECT / "benchmarks" / "load_with_tensorflow.py"
        commands["tf.data"] = [options.tensorflow_python, str(script), str(data_dir), *numbers.values()]
    found: dict[str, list[dict[str, float]]] = {side: [] for side in commands}
    for number in range(options.runs):
        for side, command in commands.items():
            done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
            if done.returncode:
                raise UserError(f"{side}: exit code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
            found[side].append(json.loads(done.stdout.splitlines()[-1]))
            one = found[side][-1]
            print(f"run {number + 1}: {side} {one['examples'] / one['seconds']:,.0f} examples/s", file=sys.stderr)
    print("| | examples/s (median, minimum to maximum) | examples per CPU second |\n|---|---|---|")
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


def _waiting(steps: int, data_dir: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        command = [
            *(sys.executable, "run_pretrain.py", "--config=configs/tiny_128.py"),
            *(f"--data_dir={data_dir}", f"--workdir={directory}/run"),
            *(f"--config.train.steps={steps}", "--config.train.log_every=20", "--config.train.eval_batches=1"),
            "--config.optimizer.warmup_steps=0",
        ]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"run_pretrain.py: exit code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
        records = [record for record in metrics_log.read(Path(directory) / "run") if record["kind"] == "train"]
    fraction = statistics.fmean(record["data_wait"] for record in records)
    rate = statistics.median(record["steps_per_s"] for record in records if record["steps_per_s"])
    print(f"{steps} steps of configs/tiny_128.py: {rate:.2f} steps/s, {fraction:.2%} of the time waiting for data")
    return {"fraction": fraction, "steps_per_s": rate}


if __name__ == "__main__":
    cli.run(main, Options)
