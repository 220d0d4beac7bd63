"""The training step against Hugging Face PyTorch, without each optimisation, and with packed against padded rows.

    python -m benchmarks.train_step --size=base --threads=2
    python -m benchmarks.train_step --size=base --batch_size=256 --data_dir=PADDED --packed_data_dir=PACKED

Every candidate is a separate process on the same device, with the same shape, dropout, dtype and batches. The
candidates alternate, a few steps each, so other load on the machine affects all of them. Results are medians over all
steps. The peers are `BertForPreTraining` with SDPA attention (compiled on a GPU), fused AdamW and clipping, with the
MLM head on all positions, as shipped, or on masked positions only. FLOPs: see `clinicalbert_jax.training.mfu`.

Without --data_dir, rows are random token ids of which 70 to 100 % are not padding. Loads neither JAX nor PyTorch.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from clinicalbert_jax import cli
from clinicalbert_jax.config import ModelConfig, model_preset
from clinicalbert_jax.data.dataset import Batch, Dataset
from clinicalbert_jax.data.schema import BATCH_SHAPES, Layout
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.options import option
from clinicalbert_jax.training import mfu

NUM_BATCHES = 8
PARTS = ("peers", "options", "packed")
OPTIMISATIONS = (
    "one product for Q, K and V",
    "masked positions alone in the head",
    "dropout's generator",
    "donated buffers",
    "padded vocabulary",
    "fast attention",
    "kept activations",  # without them: train.remat
)


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    size: str = option("Which BERT.", "base", choices=("tiny", "mini", "small", "medium", "base", "large"))
    batch_size: int = option("Rows per step.", 8, lowest=1)
    length: int = option("Tokens per row, for random rows.", 128, lowest=32)
    data_dir: str | None = option("A padded dataset that `python -m data_prep` wrote; default: random rows.", None)
    packed_data_dir: str | None = option("The same notes packed, to compare real tokens per second.", None)
    dtype: str | None = option("Default: bfloat16 on a GPU, else float32.", None, choices=("float32", "bfloat16"))
    dropout: float = option("Both dropout rates; fast attention needs 0.", 0.1, lowest=0.0)
    threads: int = option("CPU cores of each candidate; 0: all.", 0, lowest=0)
    parts: tuple[str, ...] = option("Which comparisons to run.", PARTS)
    rounds: int = option("Turns of each candidate.", 5, lowest=1)
    steps: int | None = option("Steps per turn; default: 40 on a GPU, else 2.", None, lowest=1)
    output: str | None = option("JSON file for all results.", None)


def main(options: Options) -> None:
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        raise UserError(f"--parts: expected some of {', '.join(PARTS)}, found {sorted(unknown)[0]!r}")
    document: dict[str, Any] = {
        "date": date.today().isoformat(),
        "command": " ".join(sys.argv[1:]),
        "load": [os.getloadavg()[0]],
    }
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(options, Path(directory))
        if "peers" in options.parts:
            document["peers"] = bench.peers()
        if "options" in options.parts:
            document["options"] = bench.without_optimisations()
        if "packed" in options.parts and options.packed_data_dir:
            document["packed"] = bench.packed(Path(options.packed_data_dir))
    document["load"].append(os.getloadavg()[0])
    before, after = document["load"]
    print(f"\nLoad average {before:.1f} before and {after:.1f} after, on {os.cpu_count()} cores.")
    if options.output:
        Path(options.output).write_text(json.dumps(document, indent=2) + "\n")


class Bench:
    """The candidates and their batches, as the options say."""

    def __init__(self, options: Options, directory: Path) -> None:
        self.options, self.directory = options, directory
        self.on_gpu = bool(shutil.which("nvidia-smi")) and os.environ.get("JAX_PLATFORMS") != "cpu"
        self.dtype = options.dtype or ("bfloat16" if self.on_gpu else "float32")
        self.steps = options.steps or (40 if self.on_gpu else 2)
        self.dataset = Dataset(Path(options.data_dir), "train") if options.data_dir else None
        length, size = options.length, options.batch_size
        self.layout = self.dataset.layout if self.dataset else Layout("padded", length, round(0.15 * length))
        self.model = model_preset(
            options.size,
            vocab_size=self.dataset.manifest.vocabulary.size if self.dataset else 30_522,
            hidden_dropout_prob=options.dropout,
            attention_probs_dropout_prob=options.dropout,
        )
        self.batches = batches_of(self.dataset, size) if self.dataset else _random(self.model, self.layout, size)

    def spec(self, framework: str = "jax", **more: Any) -> dict[str, Any]:
        """What a worker reads first."""
        common = {
            "framework": framework,
            "model": asdict(self.model),
            "layout": asdict(self.layout),
            "batch_size": self.options.batch_size,
            "dtype": self.dtype,
            "threads": self.options.threads,
            "batches": self.batches,
            "masked_only": False,
            "attention": "auto",
        }
        return common | more

    def peers(self) -> dict[str, Any]:
        """Ours against the peers."""
        specs = {
            "ours": self.spec(),
            "Hugging Face as shipped": self.spec("torch"),
            "Hugging Face, head on masked positions": self.spec("torch", masked_only=True),
        }
        if self.options.data_dir:
            specs["ours, through the loader"] = self.spec(data_dir=self.options.data_dir)
        results = self._measure(specs)
        self._print_table("against peers", results, "ours")
        return results

    def without_optimisations(self) -> dict[str, Any]:
        """Ours without each optimisation; each pair of processes alternates."""
        results = {}
        for optimisation in OPTIMISATIONS:
            changed = self.spec(without=optimisation)
            if optimisation == "masked positions alone in the head":
                changed["batches"] = [_all_positions(batch) for batch in self.batches]
            pair = self._measure({"ours": self.spec(), f"without {optimisation}": changed})
            (_, whole), (name, less) = pair.items()
            results[name] = less | {
                "times_slower": less["seconds"] / whole["seconds"],
                "times_cpu": less["cpu_seconds"] / whole["cpu_seconds"],
                "times_memory": less["peak_bytes"] / whole["peak_bytes"],
            }
        print(f"\n### ours without ({self._setting()})\n")
        print("| without | step, times | CPU time, times | peak memory, times |\n|---|---|---|---|")
        for name, result in results.items():
            ratios = (result[key] for key in ("times_slower", "times_cpu", "times_memory"))
            print(f"| {name.removeprefix('without ')} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")
        return results

    def packed(self, data_dir: Path) -> dict[str, Any]:
        """Real tokens per second of packed over padded rows, against the ratio of their non-padding fractions."""
        packed = Dataset(data_dir, "train")
        batches = batches_of(packed, self.options.batch_size)
        specs = {"padded": self.spec(), "packed": self.spec(batches=batches, layout=asdict(packed.layout))}
        results = self._measure(specs)
        self._print_table("packed against padded", results, "padded")
        fills = {name: non_padding(spec["batches"]) for name, spec in specs.items()}
        speed = results["packed"]["tokens_per_second"] / results["padded"]["tokens_per_second"]
        fill = fills["packed"] / fills["padded"]
        print(
            f"\nReal tokens per second, packed over padded: {speed:.2f}. Non-padding fractions: {fills['packed']:.1%} "
            f"over {fills['padded']:.1%}: {fill:.2f}. Quotient of the two ratios: {speed / fill:.2f}."
        )
        return results | {"token_ratio": speed, "fill_ratio": fill}

    def _measure(self, specs: dict[str, Any]) -> dict[str, Any]:
        return measure(specs, self.options.rounds, self.steps, self.directory)

    def _setting(self) -> str:
        options = self.options
        threads = f", {options.threads} threads" if options.threads else ""
        shape = f"BERT-{options.size}, {options.batch_size} rows of {self.layout.max_seq_length}, {self.dtype}"
        return f"{shape}, dropout {options.dropout}{threads}"

    def _print_table(self, title: str, results: dict[str, Any], base: str) -> None:
        print(f"\n### {title} ({self._setting()}, {results[base]['device']}, {results[base]['steps_timed']} steps)\n")
        columns = ("", "step", "CPU time", "sequences/s", "real tokens/s", "model TFLOP/s", "MFU", "peak memory")
        print(f"| {' | '.join(columns)} | step, times | CPU time, times |\n{'|---' * 10}|")
        for name, r in results.items():
            cells = (
                name,
                f"{r['seconds'] * 1e3:.1f} ms",
                f"{r['cpu_seconds'] * 1e3:.1f} ms",
                f"{r['sequences_per_second']:.1f}",
                f"{r['tokens_per_second']:,.0f}",
                f"{r['model_flops_per_second'] / 1e12:.3g}",
                f"{r['mfu']:.1%}" if r["mfu"] else "-",
                f"{r['peak_bytes'] / 1e9:.2f} GB",
                f"{r['seconds'] / results[base]['seconds']:.2f}",
                f"{r['cpu_seconds'] / results[base]['cpu_seconds']:.2f}",
            )
            print(f"| {' | '.join(cells)} |")
        print("\n" + "; ".join(f"{name}: {r['notes']}" for name, r in results.items()))


def measure(
    specs: dict[str, Any], rounds: int, steps: int, directory: Path, seconds: float | None = None
) -> dict[str, Any]:
    """Time each candidate for `steps` steps, in turn, `rounds` times; medians over all steps by candidate.

    All start at the same time, so that they compile side by side. After `seconds` they are ended, and after three
    quarters of it what is not compiled. One that fails has an `error` in place of results. Raises `UserError` where
    none succeeds.
    """
    started_at = time.monotonic()

    def left(fraction: float) -> float | None:
        # An answer that is there already takes no time to read.
        return None if seconds is None else max(1.0, started_at + fraction * seconds - time.monotonic())

    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in specs}
    errors: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=directory) as held, contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(spec, Path(held) / f"{number}.npz"))
            for number, (name, spec) in enumerate(specs.items())
        }
        order = [(0, name) for name in workers] + [(steps, name) for _ in range(rounds) for name in workers]
        for count, name in tqdm(order, desc=" vs ".join(specs), leave=False, disable=None):
            if name in errors:
                continue
            try:
                if count:
                    turns[name].append(workers[name].time(count, left(1.0)))
                else:
                    workers[name].wait(left(0.75))
            except UserError as error:
                errors[name] = str(error)
        if len(errors) == len(specs):
            raise UserError("; ".join(f"{name}: {error}" for name, error in errors.items()))
        return {
            name: {"error": errors[name]} if name in errors else _medians(specs[name], turns[name], workers[name])
            for name in specs
        }


def _medians(spec: dict[str, Any], turns: list[dict[str, Any]], worker: "Worker") -> dict[str, Any]:
    model, layout, batches = ModelConfig(**spec["model"]), Layout(**spec["layout"]), spec["batches"]
    all_seconds = [turn["seconds"] for turn in turns]
    seconds = statistics.median(itertools.chain.from_iterable(all_seconds))
    rate = mfu.train_flops_per_row(model, layout) * spec["batch_size"] / seconds
    peak = mfu.peak_flops(worker.device)
    return {
        "seconds": seconds,
        "cpu_seconds": statistics.median(turn["cpu_seconds"] for turn in turns),
        "steps_timed": sum(map(len, all_seconds)),
        "sequences_per_second": spec["batch_size"] / seconds,
        "tokens_per_second": _real_tokens(batches) / len(batches) / seconds,
        "model_flops_per_second": rate,
        "mfu": rate / peak if peak and spec["dtype"] == "bfloat16" else None,
        "peak_bytes": turns[-1]["peak_bytes"],
        "compilations": turns[-1]["compilations"],
        "device": worker.device,
        "notes": worker.notes,
        "all_seconds": all_seconds,
    }


class Worker:
    """A process that takes training steps on request. Raises `UserError` where it fails, or takes too long."""

    def __init__(self, spec: dict[str, Any], batches: Path) -> None:
        numbered = enumerate(spec["batches"])
        np.savez(batches, **{f"{i}/{name}": array for i, batch in numbered for name, array in batch.items()})
        # The processes share the GPU, so none may preallocate its memory.
        environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "HF_HUB_OFFLINE": "1"}
        if spec["threads"]:
            environment["OMP_NUM_THREADS"] = str(spec["threads"])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.step_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self._tell(spec | {"batches": str(batches)})

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def wait(self, seconds: float | None = None) -> None:
        """Until the step is compiled."""
        ready = self._answer(seconds)
        self.device, self.notes = ready["device"], ready["notes"]

    def time(self, steps: int, seconds: float | None = None) -> dict[str, Any]:
        """Seconds of each step, CPU seconds per step on average, and peak memory so far."""
        self._tell(steps)
        return self._answer(seconds)

    def _tell(self, what: Any) -> None:
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # the answer will say why
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()

    def _answer(self, seconds: float | None) -> dict[str, Any]:
        """The next JSON line. The process is ended where there is none after `seconds`."""
        assert self._process.stdout
        timer = threading.Timer(seconds or 0.0, self._process.kill)
        if seconds is not None:
            timer.start()
        try:
            for line in self._process.stdout:
                if line.startswith("{"):
                    return json.loads(line)
        finally:
            timer.cancel()
        code = self._process.wait()
        why = "its time was over" if seconds is not None and code == -signal.SIGKILL else "see above"
        raise UserError(f"a benchmark process ended with exit code {code}: {why}")


def batches_of(dataset: Dataset, size: int) -> list[Batch]:
    """The first batches of training, without what a step does not use."""
    batches = [dataset.train_batch(0, step, size, np.arange(size)) for step in range(NUM_BATCHES)]
    used = set(BATCH_SHAPES) - {"note_category", "patient_group"}
    return [{name: array for name, array in batch.items() if name in used} for batch in batches]


def _random(model: ModelConfig, layout: Layout, size: int) -> list[Batch]:
    rng = np.random.default_rng(0)
    length, predictions = layout.max_seq_length, layout.max_predictions_per_seq

    def batch() -> Batch:
        lengths_Bx1 = rng.integers(round(0.7 * length), length + 1, (size, 1))
        sequence_ids_BxL = (np.arange(length) < lengths_Bx1).astype(np.int32)
        places_BxL = np.argsort(rng.random((size, round(0.7 * length) - 1)))[:, :predictions] + 1
        return {
            "input_ids": rng.integers(5, model.vocab_size, (size, length), np.int32) * sequence_ids_BxL,
            "segment_ids": (np.arange(length) >= lengths_Bx1 // 2).astype(np.int32) * sequence_ids_BxL,
            "sequence_ids": sequence_ids_BxL,
            "masked_lm_positions": np.sort(places_BxL).astype(np.int32),
            "masked_lm_ids": rng.integers(5, model.vocab_size, (size, predictions), np.int32),
            "masked_lm_weights": np.ones((size, predictions), np.float32),
            "next_sentence_positions": np.zeros((size, 1), np.int32),
            "next_sentence_labels": rng.integers(0, 2, (size, 1), np.int32),
            "next_sentence_weights": np.ones((size, 1), np.float32),
        }

    return [batch() for _ in range(NUM_BATCHES)]


def _all_positions(batch: Batch) -> Batch:
    """The batch with a prediction at every position; positions that are not masked have weight 0."""
    size, length = batch["input_ids"].shape
    rows_Bx1, places_BxP = np.arange(size)[:, None], batch["masked_lm_positions"]
    words_BxL, weights_BxL = np.zeros((size, length), np.int32), np.zeros((size, length), np.float32)
    words_BxL[rows_Bx1, places_BxP] = batch["masked_lm_ids"]
    np.maximum.at(weights_BxL, (rows_Bx1, places_BxP), batch["masked_lm_weights"])
    positions_BxL = np.broadcast_to(np.arange(length, dtype=np.int32), (size, length)).copy()
    return batch | {"masked_lm_positions": positions_BxL, "masked_lm_ids": words_BxL, "masked_lm_weights": weights_BxL}


def non_padding(batches: list[Batch]) -> float:
    """The fraction of positions that are not padding."""
    return _real_tokens(batches) / sum(batch["sequence_ids"].size for batch in batches)


def _real_tokens(batches: list[Batch]) -> int:
    return sum(int((batch["sequence_ids"] > 0).sum()) for batch in batches)


if __name__ == "__main__":
    cli.run(main, Options)
