"""Everything about this machine's GPU or TPU in one command: is it right, how fast is it, and against PyTorch.

    make accelerator
    python -m benchmarks.accelerator --output=accelerator

From shards that it makes itself, without a network, in nine minutes: every implementation of attention against plain
arithmetic; loss and gradient against the CPU; 300 steps, killed and resumed; the step of BERT-base in every setting,
and Hugging Face PyTorch in turn with it. Writes OUTPUT.json and OUTPUT.md. A part that fails is reported and the next
one runs; the exit code is then 1. On a CPU, or with --small, everything is small and PyTorch is left out.

Each part runs in processes of its own, so that none finds a device that another left broken or without memory.
"""
# ruff: noqa: E402

import dataclasses
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

# What the parts import, before any of them starts: the packages' names by their modules.
NEEDED = {
    "absl": "absl-py",
    "flax": "flax",
    "google_crc32c": "google-crc32c",
    "jax": "jax",
    "numpy": "numpy",
    "optax": "optax",
    "orbax": "orbax-checkpoint",
    "safetensors": "safetensors",
    "tensorboardX": "tensorboardX",
    "tokenizers": "tokenizers",
    "tqdm": "tqdm",
}
if missing := [package for module, package in NEEDED.items() if not importlib.util.find_spec(module)]:
    print(
        f"error: expected packages of pyproject.toml, found no {', '.join(missing)}: see docs/cloud.md", file=sys.stderr
    )
    sys.exit(2)

from benchmarks import made_shards
from benchmarks.train_step import batches_of, measure, non_padding
from clinicalbert_jax import cli
from clinicalbert_jax.config import ModelConfig, model_preset
from clinicalbert_jax.data.dataset import Dataset
from clinicalbert_jax.data.schema import Kind
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.options import option
from clinicalbert_jax.runs import checksums, metrics_log, workdir

EXIT_FAILED = 1
GROUP_SECONDS = 180  # for the candidates of one setting, compilation included
OURS, SHIPPED, MASKED = "ours", "Hugging Face", "Hugging Face, masked positions"


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    output: str = option("Results are written to this path with .json and .md.", "accelerator")
    minutes: float = option("Stop after so long; what is not measured by then is left out.", 9.0, lowest=0.5)
    tokens: int = option("Tokens of a batch, padding included; default: by the memory.", 0, lowest=0)
    small: bool = option("A tiny model and no PyTorch, as on a CPU.", False)


@dataclass(frozen=True)
class Setting:
    """What steps are timed in turn with: rows of these kinds, `batches` times the usual batch, PyTorch beside them."""

    length: int
    dropout: float
    kinds: tuple[Kind, ...] = ("padded", "packed")
    peers: bool = False
    batches: int = 1


# The published configuration first: time may run out.
SETTINGS = (
    Setting(128, 0.1, peers=True),
    Setting(512, 0.1, peers=True),
    Setting(128, 0.0),
    Setting(512, 0.0),
    Setting(128, 0.1, ("padded",), batches=4),
    Setting(512, 0.1, ("padded",), batches=4),
)


@dataclass(frozen=True)
class Sizes:
    """How large everything is. `num_pairs`: in each dataset."""

    model: ModelConfig
    lengths: tuple[int, ...]
    kinds: tuple[Kind, ...]
    rates: tuple[float, ...]
    settings: tuple[Setting, ...]
    num_pairs: int
    layers_checked: int
    run_steps: int
    run_rows: int
    rounds: int
    steps: int


FULL = Sizes(
    model=model_preset("base", vocab_size=30_522),
    lengths=(128, 512),
    kinds=("padded", "packed"),
    rates=(0.0, 0.1),
    settings=SETTINGS,
    num_pairs=8_000,
    layers_checked=2,
    run_steps=300,
    run_rows=64,
    rounds=3,
    steps=20,
)
SMALL = Sizes(
    model=model_preset("tiny", vocab_size=250, num_hidden_layers=1),
    lengths=(64,),
    kinds=("packed",),
    rates=(0.1,),
    settings=(Setting(64, 0.1, ("packed",)),),
    num_pairs=100,
    layers_checked=1,
    run_steps=150,
    run_rows=4,
    rounds=1,
    steps=2,
)


def main(options: Options) -> int:
    """Run all parts and write the results; 1 if one failed."""
    on_cpu = os.environ.get("JAX_PLATFORMS") == "cpu" or not (shutil.which("nvidia-smi") or _has_tpu())
    small = options.small or on_cpu
    os.environ.update({"HF_HUB_OFFLINE": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"})
    with tempfile.TemporaryDirectory() as directory:
        report = Accelerator(SMALL if small else FULL, options, Path(directory)).report()
    print(markdown(report))
    print(f"written to {options.output}.json and {options.output}.md")
    return EXIT_FAILED if report["failures"] else 0


class Accelerator:
    """The parts, each of which adds to one document."""

    def __init__(self, sizes: Sizes, options: Options, directory: Path) -> None:
        self.sizes, self.options, self.directory = sizes, options, directory
        self.deadline = time.monotonic() + 60 * options.minutes
        self.document: dict[str, Any] = {"date": date.today().isoformat(), "small": sizes is SMALL, "failures": []}
        self.data: dict[tuple[str, int], Path] = {}

    def report(self) -> dict[str, Any]:
        """Run every part, each with a limit in seconds, and return the document."""
        parts: tuple[tuple[str, Callable[[float], Any], float], ...] = (
            ("shards", self.make_shards, 60),
            ("attention", self.check_attention, 100),
            ("gradients", self.check_gradients, 90),
            ("run", self.check_run, 150),
            ("speed", self.measure_speed, 60 * self.options.minutes),
        )
        for name, part, limit in parts:
            started, left = time.monotonic(), self.deadline - time.monotonic()
            print(f"== {name} ({left:.0f} s left)", flush=True)
            try:
                if left <= 0:
                    raise UserError("not run: its time was over")
                self.document[name] = part(min(limit, left))
            except Exception as error:
                # A device fails in as many ways as it has libraries; what else was measured is worth keeping.
                message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                self._failed(f"{name}: {message}")
            self.document[f"{name}_seconds"] = round(time.monotonic() - started, 1)
            self._write()
        return self.document

    def _write(self) -> None:
        """What is known so far: the machine may be taken away at any time."""
        for suffix, text in ((".json", json.dumps(self.document, indent=2) + "\n"), (".md", markdown(self.document))):
            Path(self.options.output + suffix).write_text(text)

    def make_shards(self, _: float) -> dict[str, float]:
        """One dataset of each length and kind; returns their non-padding fractions."""
        fractions = {}
        for length in self.sizes.lengths:
            for kind in self.sizes.kinds:
                name = f"{kind}_{length}"
                layout = made_shards.layout(kind, length)
                vocab_size = self.sizes.model.vocab_size
                path = made_shards.write(self.directory / name, layout, self.sizes.num_pairs, vocab_size)
                self.data[kind, length] = path
                train = Dataset(path, "train").manifest.splits["train"]
                fractions[name] = train.num_tokens / (train.num_examples * length)
        return fractions

    def check_attention(self, limit: float) -> dict[str, Any]:
        """Every implementation that runs here against plain arithmetic."""
        sizes = self.sizes
        spec = {"lengths": sizes.lengths, "kinds": sizes.kinds, "rates": sizes.rates} | self._heads()
        return self._checked("attention", spec, limit)

    def check_gradients(self, limit: float) -> dict[str, Any]:
        """Loss and gradient against the CPU, at the shorter length."""
        dirs = {kind: str(path) for (kind, length), path in self.data.items() if length == self.sizes.lengths[0]}
        spec = {"layers": self.sizes.layers_checked, "rows": 4, "data_dirs": dirs} | self._heads()
        return self._checked("gradients", spec, limit)

    def check_run(self, limit: float) -> dict[str, Any]:
        """Train from shards, kill it after its first checkpoint, and let it continue to the end."""
        sizes, end = self.sizes, time.monotonic() + limit
        run = self.directory / "run"
        spec = {
            "data_dir": str(self.data[sizes.kinds[-1], sizes.lengths[0]]),
            "workdir": str(run),
            "model": asdict(sizes.model) | {"vocab_size": 0},
            "batch_size": sizes.run_rows,
            "steps": sizes.run_steps,
        }
        saved, log = sizes.run_steps // 3, self.directory / "run.log"
        checkpoint = run / workdir.CHECKPOINTS / str(saved)
        with log.open("w") as output:
            first = subprocess.Popen(_command("run", spec), stdout=output, stderr=subprocess.STDOUT)
            try:
                while first.poll() is None and time.monotonic() < end and not checksums.is_published(checkpoint):
                    time.sleep(0.05)
            finally:
                first.kill()
                first.wait()
        killed_at = max((record["step"] for record in metrics_log.read(run)), default=0)
        if first.returncode != -signal.SIGKILL or not checksums.is_published(checkpoint):
            raise UserError(f"expected to kill the run after step {saved}, found it at {killed_at}: {_end(log)}")
        found = self._checks("run", spec, end - time.monotonic())
        log_records = metrics_log.read(run)
        records = [record for record in log_records if record["kind"] == "train"]
        resumed_from = [record["step"] for record in log_records if record["kind"] == "start"][-1]
        # The first record after a start counts its compilation.
        steady = [record for record in records[1:] if record["steps_per_s"]]
        found |= {
            "steps": records[-1]["step"],
            "killed_at": killed_at,
            "resumed_from": resumed_from,
            "first_loss": records[0]["mlm_loss"],
            "last_loss": records[-1]["mlm_loss"],
            "waiting": sum(record["data_wait"] for record in steady) / len(steady),
        }
        self._require(found["exit_code"] == 0 and found["steps"] == sizes.run_steps, "run: it did not end")
        self._require(found["resumed_from"] in (saved, 2 * saved), "run: it did not continue from a checkpoint")
        self._require(found["compilations"] == 1, f"run: the step was compiled {found['compilations']} times")
        self._require(found["last_loss"] < found["first_loss"], "run: the loss did not fall")
        return found

    def measure_speed(self, limit: float) -> list[dict[str, Any]]:
        """The step in every setting by the implementations of attention, and PyTorch, in turn."""
        end, rows = time.monotonic() + limit, self.document.setdefault("speed", [])
        if not _has_torch() or self.document.get("attention", {}).get("platform", "gpu") != "gpu":
            self.document["peers_left_out"] = (
                "Hugging Face PyTorch was left out: it is not installed, or this is no GPU"
            )
        for setting in self.sizes.settings:
            # All of a setting run side by side in the device's memory, and compile at the same time.
            specs = {
                f"{OURS}, {name}, {kind}": self._spec(setting, kind, attention=name)
                for kind in setting.kinds
                for name in self._implementations(setting)
            }
            if setting.peers and "peers_left_out" not in self.document:
                specs[SHIPPED] = self._spec(setting, "padded", framework="torch")
                specs[MASKED] = self._spec(setting, "padded", framework="torch", masked_only=True)
            print(f"   {setting.length}, dropout {setting.dropout}: {'; '.join(specs)}", flush=True)
            # A TPU belongs to one process at a time.
            on_tpu = self.document.get("attention", {}).get("platform") == "tpu"
            results: dict[str, Any] = {}
            for group in [{name: spec} for name, spec in specs.items()] if on_tpu else [specs]:
                left = end - time.monotonic()
                try:
                    if left < 10:
                        raise UserError("not measured: its time was over")
                    seconds = min(left, GROUP_SECONDS)
                    results |= measure(group, self.sizes.rounds, self.sizes.steps, self.directory, seconds)
                except UserError as error:
                    results |= {name: {"error": str(error)} for name in group}
            for name, result in results.items():
                result.pop("all_seconds", None)
                spec = specs[name]
                about = {"length": setting.length, "dropout": setting.dropout, "rows": spec["layout"]["kind"]}
                about |= {"batch_size": spec["batch_size"], "non_padding": non_padding(spec["batches"]), "what": name}
                rows.append(about | result)
                where = f"speed: {spec['batch_size']} x {setting.length}, dropout {setting.dropout}, {name}"
                self._require("error" not in result, f"{where}: {result.get('error')}")
                compiled = result.get("compilations") or 1
                self._require(compiled == 1, f"{where}: the step was compiled {compiled} times")
            self._write()
        return rows

    def _spec(self, setting: Setting, kind: Kind, **more: Any) -> dict[str, Any]:
        """What a worker of `measure` gets."""
        tokens = self.options.tokens or self._tokens_that_fit()
        rows = setting.batches * max(1, tokens // setting.length)
        data = Dataset(self.data[kind, setting.length], "train")
        model = dataclasses.replace(self.sizes.model, attention_probs_dropout_prob=setting.dropout)
        common = {
            "framework": "jax",
            "model": asdict(model),
            "layout": asdict(data.layout),
            "batch_size": rows,
            "dtype": "bfloat16",
            "threads": 0,
            "batches": batches_of(data, rows),
            "masked_only": False,
            "attention": "auto",
        }
        return common | more

    def _tokens_that_fit(self) -> int:
        if self.sizes is SMALL:
            return 256
        memory = self.document.get("attention", {}).get("memory_bytes") or 0
        return 16_384 if memory > 50e9 else 4_096  # of 80 GB, JAX takes three quarters

    def _implementations(self, setting: Setting) -> list[str]:
        """'auto's choice, and another one to compare it with."""
        for found in self.document.get("attention", {}).get("implementations", ()):
            if (found["length"], found["dropout"]) == (setting.length, setting.dropout):
                return found["names"][:2]
        return ["auto"]

    def _heads(self) -> dict[str, int]:
        model = self.sizes.model
        return {"heads": model.num_attention_heads, "head_size": model.hidden_size // model.num_attention_heads}

    def _checked(self, name: str, spec: dict[str, Any], limit: float) -> dict[str, Any]:
        found = self._checks(name, spec, limit)
        for result in found["results"]:
            setting = ", ".join(str(result[key]) for key in result if key not in ("errors", "passed", "failure"))
            why = result.get("failure") or f"off by {max(result['errors'].values()):.2g}"
            self._require(result["passed"], f"{name}: {setting}: {why}")
        return found

    def _checks(self, check: str, spec: dict[str, Any], limit: float) -> dict[str, Any]:
        if self.sizes is not SMALL:
            found, failure = ask(_command(check, spec), limit)
            if not found:
                raise UserError(failure or "nothing found")
            self._require(not failure, f"{check}: {failure}")
            return found
        from benchmarks import accelerator_checks  # on a CPU there is no device to leave broken, and JAX loads once

        return accelerator_checks.CHECKS[check](spec)

    def _require(self, holds: bool, failure: str) -> None:
        if not holds:
            self._failed(failure)

    def _failed(self, failure: str) -> None:
        print(f"   FAILED {failure}", flush=True)
        self.document["failures"].append(failure)


def ask(command: list[str], limit: float) -> tuple[dict[str, Any], str]:
    """The last JSON line that a command prints, and why it failed, if it did; its other lines are passed on.

    It is ended after `limit` seconds.
    """
    found, last = "{}", "nothing printed"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as child:
        timer = threading.Timer(max(0.0, limit), child.kill)
        timer.start()
        assert child.stdout
        for line in child.stdout:
            if line.startswith("{"):
                found = line if line.endswith("\n") else found  # the end of a process may truncate its last line
            elif line.strip():
                last = line.strip()
                print("   " + last[:200], flush=True)
        timer.cancel()
    why = "its time was over" if child.returncode == -signal.SIGKILL else last[:300]
    return json.loads(found), f"ended with exit code {child.returncode}: {why}" if child.returncode else ""


def markdown(report: dict[str, Any]) -> str:
    """The results as text and one table, for docs/benchmarks.md."""
    attention, gradients = report.get("attention", {}), report.get("gradients", {})
    run, speed = report.get("run"), report.get("speed", ())
    lines = [f"{attention.get('device', 'no device')}, jax {attention.get('jax', '?')}, {report['date']}.", ""]
    for name, found in (("attention", attention), ("loss and gradient", gradients)):
        if results := found.get("results"):
            passed = sum(result["passed"] for result in results)
            worst = max((error for result in results for error in result["errors"].values()), default=float("nan"))
            lines.append(f"- {name}: {passed} of {len(results)} comparisons within bounds, largest error {worst:.2g}")
    if run:
        peak, planned = run["peak_bytes"], run["planned_bytes"]
        memory = f"peak memory {peak / 1e9:.2f} GB, planned {planned / 1e9:.2f}" if peak else "peak memory not known"
        lines.append(
            f"- run: {run['steps']} steps, killed after step {run['killed_at']}, continued from {run['resumed_from']}; "
            f"MLM loss {run['first_loss']:.2f} to {run['last_loss']:.2f}; waiting for data {run['waiting']:.2%}; "
            f"{memory}; attention by {run['attention']}"
        )
    lines += [f"- {report['peers_left_out']}"] if "peers_left_out" in report else []
    lines += [f"- failed: {failure}" for failure in report["failures"]]
    columns = ("batch", "attention dropout", "", "step", "sequences/s", "real tokens/s", "MFU", "memory", "times first")
    lines += ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    first: dict[Any, float] = {}  # of those that ran in turn
    for row in speed:
        cells = [f"{row['batch_size']} × {row['length']}", str(row["dropout"]), row["what"]]
        if "error" in row:
            lines.append(f"| {' | '.join(cells)} | {row['error']} |{' |' * (len(columns) - 4)}")
            continue
        base = first.setdefault(tuple(cells[:2]), row["seconds"])
        cells += [
            f"{row['seconds'] * 1e3:.1f} ms",
            f"{row['sequences_per_second']:,.0f}",
            f"{row['tokens_per_second']:,.0f}",
            f"{row['mfu']:.1%}" if row["mfu"] else "–",
            f"{row['peak_bytes'] / 1e9:.2f} GB",
            f"{row['seconds'] / base:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *_packed(speed)]) + "\n"


def _packed(speed: Any) -> list[str]:
    """Real tokens per second of packed over padded rows, against the ratio of their non-padding fractions."""
    timed = {
        (row["length"], row["dropout"], row["batch_size"], row["what"]): row for row in speed if "error" not in row
    }
    lines = [""]
    for (*setting, what), packed in timed.items():
        padded = timed.get((*setting, what.replace("packed", "padded")))
        if packed["rows"] == "packed" and padded:
            ratio = packed["tokens_per_second"] / padded["tokens_per_second"]
            fill = packed["non_padding"] / padded["non_padding"]
            lines.append(
                f"- {what} over padded, L = {setting[0]}, dropout {setting[1]}: {ratio:.2f} times the real tokens/s, "
                f"{ratio / fill:.2f} of the ratio of the non-padding fractions"
            )
    return lines


def _command(check: str, spec: dict[str, Any]) -> list[str]:
    return [sys.executable, "-m", "benchmarks.accelerator_checks", check, json.dumps(spec)]


def _end(log: Path) -> str:
    return (log.read_text(errors="replace").strip().splitlines() or ["nothing printed"])[-1][:300]


def _has_torch() -> bool:
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


def _has_tpu() -> bool:
    return any(Path("/dev").glob("accel*")) or any(Path("/dev/vfio").glob("[0-9]*"))


if __name__ == "__main__":
    cli.run(main, Options)
