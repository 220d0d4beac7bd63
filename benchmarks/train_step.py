"""The training step against Hugging Face's PyTorch, with each optimisation off, and packed rows against padded ones.

    python -m benchmarks.train_step --size=base --threads=2
    python -m benchmarks.train_step --size=base --batch_size=256 --data_dir=PADDED --packed_data_dir=PACKED

Every candidate is a process of its own on the same device, with the same shape, dropout, dtype and batches. They take
turns, a few steps each, so that what else the machine does meets all of them; figures are medians over all steps. Peers
are `BertForPreTraining` with SDPA attention (compiled on a GPU), AdamW in one kernel and clipping: with its head on all
positions, as shipped, and on the masked ones alone. FLOPs are the model's (`clinicalbert_jax.flops`), the same for all.

Without --data_dir rows are made up: random ids, 70 to 100 % full. Loads neither JAX nor PyTorch itself.
"""

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from clinicalbert_jax import commands, flops
from clinicalbert_jax.config import ModelConfig, model_preset
from clinicalbert_jax.dataset import Batch, Dataset
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.schema import BATCH_SHAPES, Layout

SIZE = flags.DEFINE_enum("size", "base", ["tiny", "mini", "small", "medium", "base", "large"], "Which BERT.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Rows a step.", lower_bound=1)
LENGTH = flags.DEFINE_integer("length", 128, "Tokens a row, where rows are made up.", lower_bound=32)
DATA_DIR = flags.DEFINE_string("data_dir", None, "A padded dataset that `python -m data_prep` wrote.")
PACKED_DATA_DIR = flags.DEFINE_string(
    "packed_data_dir", None, "The same notes packed, to compare real tokens a second."
)
DTYPE = flags.DEFINE_enum("dtype", None, ["float32", "bfloat16"], "Of activations; by default bfloat16 on a GPU alone.")
DROPOUT = flags.DEFINE_float("dropout", 0.1, "Both dropout rates; 0 lets fast attention run.", 0, 0.9)
THREADS = flags.DEFINE_integer("threads", 0, "CPU cores that each may use; 0: all.", lower_bound=0)
PARTS = flags.DEFINE_list("parts", ["peers", "options", "packed"], "Which comparisons.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of each candidate.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", None, "Steps in a turn; by default 40 on a GPU, else 2.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "Also write everything measured there, as JSON.")

NUM_BATCHES = 8
OPTIONS = (
    "one product for Q, K and V",
    "masked positions alone in the head",
    "dropout's generator",
    "donated buffers",
    "padded vocabulary",
    "fast attention",
    "kept activations",  # without them: train.remat
)


def main(argv: Sequence[str]) -> None:
    commands.refuse_arguments(argv)
    unknown = set(PARTS.value) - {"peers", "options", "packed"}
    if unknown:
        raise UserError(f"--parts: expected some of peers, options, packed, found {sorted(unknown)[0]!r}")
    document: dict[str, Any] = {"date": date.today().isoformat(), "command": " ".join(sys.argv[1:]), "load": [_load()]}
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        if "peers" in PARTS.value:
            document["peers"] = bench.peers()
        if "options" in PARTS.value:
            document["options"] = bench.options()
        if "packed" in PARTS.value and PACKED_DATA_DIR.value:
            document["packed"] = bench.packed()
    document["load"].append(_load())
    before, after = document["load"]
    print(f"\nLoad average {before:.1f} before and {after:.1f} after, on {os.cpu_count()} cores.")
    if OUTPUT.value:
        Path(OUTPUT.value).write_text(json.dumps(document, indent=2) + "\n")


class Bench:
    """The candidates and their batches, as flags say."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.on_gpu = bool(shutil.which("nvidia-smi")) and os.environ.get("JAX_PLATFORMS") != "cpu"
        self.dtype = DTYPE.value or ("bfloat16" if self.on_gpu else "float32")
        self.steps = STEPS.value or (40 if self.on_gpu else 2)
        self.dataset = Dataset(Path(DATA_DIR.value), "train") if DATA_DIR.value else None
        length = LENGTH.value
        self.layout = self.dataset.layout if self.dataset else Layout("padded", length, round(0.15 * length))
        self.model = model_preset(
            SIZE.value,
            vocab_size=self.dataset.manifest.vocabulary.size if self.dataset else 30_522,
            hidden_dropout_prob=DROPOUT.value,
            attention_probs_dropout_prob=DROPOUT.value,
        )
        self.batches = _batches(self.dataset) if self.dataset else _made_up(self.model, self.layout)

    def spec(self, framework: str = "jax", **more: Any) -> dict[str, Any]:
        """What a worker is told."""
        common = {
            "framework": framework,
            "model": asdict(self.model),
            "length": self.layout.max_seq_length,
            "batch_size": BATCH_SIZE.value,
            "dtype": self.dtype,
            "threads": THREADS.value,
            "batches": self.batches,
            "masked_only": False,
        }
        return common | more

    def peers(self) -> dict[str, Any]:
        """Ours and theirs, all in turn."""
        specs = {
            "ours": self.spec(),
            "Hugging Face as shipped": self.spec("torch"),
            "Hugging Face, head on masked positions": self.spec("torch", masked_only=True),
        }
        if DATA_DIR.value:
            specs["ours, through the loader"] = self.spec(data_dir=DATA_DIR.value)
        results = self._measure(specs, ROUNDS.value)
        self._print_table("against peers", results, "ours")
        return results

    def options(self) -> dict[str, Any]:
        """Ours without one optimisation after the other, each in turn with ours as it is."""
        results = {}
        for option in OPTIONS:
            changed = self.spec(without=option)
            if option == "masked positions alone in the head":
                changed["batches"] = [_all_positions(batch) for batch in self.batches]
            pair = self._measure({"ours": self.spec(), f"without {option}": changed}, ROUNDS.value)
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

    def packed(self) -> dict[str, Any]:
        """Real tokens a second of packed rows over padded ones, against the ratio of their fills."""
        packed = Dataset(Path(commands.required(PACKED_DATA_DIR)), "train")
        batches = _batches(packed)
        specs = {"padded": self.spec(), "packed": self.spec(batches=batches, length=packed.layout.max_seq_length)}
        layouts = {"padded": self.layout, "packed": packed.layout}
        results = self._measure(specs, ROUNDS.value, layouts)
        self._print_table("packed against padded", results, "padded")
        fills = {name: _real_tokens(spec["batches"]) / _places(spec["batches"]) for name, spec in specs.items()}
        speed = results["packed"]["tokens_per_second"] / results["padded"]["tokens_per_second"]
        fill = fills["packed"] / fills["padded"]
        print(
            f"\nReal tokens a second, packed over padded: {speed:.2f}; fill {fills['packed']:.1%} over "
            f"{fills['padded']:.1%}: {fill:.2f}; the one is {speed / fill:.2f} times the other."
        )
        return results | {"token_ratio": speed, "fill_ratio": fill}

    def _measure(
        self, specs: dict[str, dict[str, Any]], rounds: int, layouts: dict[str, Layout] | None = None
    ) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            workers = {name: Worker(spec, Path(directory) / f"{n}.npz") for n, (name, spec) in enumerate(specs.items())}
            try:
                turns: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
                order = list(itertools.product(range(rounds), workers))
                for _, name in tqdm(order, desc=" vs ".join(workers), leave=False):
                    turns[name].append(workers[name].time(self.steps))
            finally:
                for worker in workers.values():
                    worker.close()
        results = {}
        for name, spec in specs.items():
            layout = (layouts or {}).get(name, self.layout)
            seconds = statistics.median(itertools.chain.from_iterable(turn["seconds"] for turn in turns[name]))
            rate = flops.train_flops_per_row(self.model, layout) * BATCH_SIZE.value / seconds
            peak = flops.peak_flops(workers[name].device)
            results[name] = {
                "seconds": seconds,
                "cpu_seconds": statistics.median(turn["cpu_seconds"] for turn in turns[name]),
                "steps_timed": rounds * self.steps,
                "sequences_per_second": BATCH_SIZE.value / seconds,
                "tokens_per_second": _real_tokens(spec["batches"]) / len(spec["batches"]) / seconds,
                "model_flops_per_second": rate,
                "mfu": rate / peak if peak and self.dtype == "bfloat16" else None,
                "peak_bytes": turns[name][-1]["peak_bytes"],
                "device": workers[name].device,
                "notes": workers[name].notes,
                "all_seconds": [turn["seconds"] for turn in turns[name]],
            }
        return results

    def _setting(self) -> str:
        threads = f", {THREADS.value} threads" if THREADS.value else ""
        shape = f"BERT-{SIZE.value}, {BATCH_SIZE.value} rows of {self.layout.max_seq_length}, {self.dtype}"
        return f"{shape}, dropout {DROPOUT.value}{threads}"

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


class Worker:
    """A process that trains as told when told; raises `UserError` where it cannot start."""

    def __init__(self, spec: dict[str, Any], batches: Path) -> None:
        numbered = enumerate(spec["batches"])
        np.savez(batches, **{f"{i}/{name}": array for i, batch in numbered for name, array in batch.items()})
        # Both frameworks share the card: neither may take it whole.
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
        ready = self._ask(spec | {"batches": str(batches)})
        self.device, self.notes = ready["device"], ready["notes"]

    def time(self, steps: int) -> dict[str, Any]:
        """Seconds of each of so many steps, CPU seconds a step, and the memory's peak by now."""
        return self._ask(steps)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, question: Any) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise UserError(f"a benchmark process ended with exit code {self._process.wait()}: see its message above")


def _batches(dataset: Dataset) -> list[Batch]:
    rows_B = np.arange(BATCH_SIZE.value)
    batches = [dataset.train_batch(0, step, BATCH_SIZE.value, rows_B) for step in range(NUM_BATCHES)]
    used = set(BATCH_SHAPES) - {"note_category", "patient_group"}
    return [{name: array for name, array in batch.items() if name in used} for batch in batches]


def _made_up(model: ModelConfig, layout: Layout) -> list[Batch]:
    rng = np.random.default_rng(0)
    size, length, predictions = BATCH_SIZE.value, layout.max_seq_length, layout.max_predictions_per_seq

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
    """The same batch with every position a prediction, of which those that are none weigh nothing."""
    size, length = batch["input_ids"].shape
    rows_Bx1, places_BxP = np.arange(size)[:, None], batch["masked_lm_positions"]
    words_BxL, weights_BxL = np.zeros((size, length), np.int32), np.zeros((size, length), np.float32)
    words_BxL[rows_Bx1, places_BxP] = batch["masked_lm_ids"]
    np.maximum.at(weights_BxL, (rows_Bx1, places_BxP), batch["masked_lm_weights"])
    positions_BxL = np.broadcast_to(np.arange(length, dtype=np.int32), (size, length)).copy()
    return batch | {
        "masked_lm_positions": positions_BxL,
        "masked_lm_ids": words_BxL,
        "masked_lm_weights": weights_BxL,
    }


def _real_tokens(batches: list[Batch]) -> int:
    return sum(int((batch["sequence_ids"] > 0).sum()) for batch in batches)


def _places(batches: list[Batch]) -> int:
    return sum(batch["sequence_ids"].size for batch in batches)


def _load() -> float:
    return os.getloadavg()[0]


if __name__ == "__main__":
    commands.run(main)
