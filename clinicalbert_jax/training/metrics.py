"""Metrics of a training: averages, throughput and spikes, as JSON lines, for TensorBoard and on the console."""

import json
import math
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from tqdm import tqdm

from clinicalbert_jax.runs import metrics_log

_SPIKE_DEVIATIONS = 6.0  # a step's loss so far above the running mean is called a spike
_SPIKE_MEMORY = 100  # steps over which mean and deviation are taken, and before which nothing is called a spike


class Averages:
    """Adds up (sum, weight) pairs that the device may not have computed yet; waits for them only in `read`."""

    def __init__(self) -> None:
        self._pending: list[Any] = []

    def add(self, sums: Any) -> None:
        """Add one step's pairs, by name."""
        self._pending.append(sums)

    def read(self) -> tuple[dict[str, float], list[dict[str, float]]]:
        """Sum of sums over sum of weights, by name, over all steps and for each. Waits for the device. Then empty.

        NaN where nothing had weight.
        """
        steps = jax.device_get(self._pending)
        self._pending = []
        names = steps[0] if steps else ()
        return {name: _ratio([step[name] for step in steps]) for name in names}, [
            {name: _ratio([pair]) for name, pair in step.items()} for step in steps
        ]


class Writer:
    """Appends scalars to WORKDIR/metrics.jsonl and to TensorBoard event files; silent unless `active`."""

    def __init__(self, workdir: Path, active: bool) -> None:
        self._active = active
        if active:
            path = workdir / metrics_log.FILE_NAME
            torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
            self._lines = path.open("a", encoding="utf-8")
            if torn:  # a killed process left an incomplete line
                self._lines.write("\n")
            self._tensorboard = _summary_writer(workdir)

    def write(self, step: int, kind: str, scalars: dict[str, float], **details: Any) -> None:
        """Record `scalars` at `step` under `kind` ('train', 'validation', ...); `details` go to the JSON line only."""
        if not self._active:
            return
        # JSON has no NaN: a value that is not finite is written as null.
        finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
        self._lines.write(json.dumps({"step": step, "time": time.time(), "kind": kind} | finite | details) + "\n")
        self._lines.flush()
        for name, value in scalars.items():
            self._tensorboard.add_scalar(f"{kind}/{name}", value, step)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._active:
            self._lines.close()
            self._tensorboard.close()


def _summary_writer(workdir: Path) -> Any:
    """TensorBoard's writer, made without PyTorch, which tensorboardX imports for values of its kinds.

    Ours are numbers, and importing it took 3 of the 7.5 s of a training's imports.
    """
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return SummaryWriter(str(workdir))


class Progress:
    """A bar on a terminal, a plain line every logging interval elsewhere; nothing unless `active`."""

    def __init__(self, start: int, steps: int, active: bool) -> None:
        self._steps = steps
        self._active = active
        self._start, self._started = start, time.monotonic()
        terminal = active and sys.stderr.isatty()
        self._bar = tqdm(total=steps, initial=start, unit="step", disable=not terminal, dynamic_ncols=True)
        self._lines = active and not terminal

    def advance(self) -> None:
        """Count one more dispatched step."""
        self._bar.update()

    def show(self, step: int, scalars: dict[str, float]) -> None:
        """Show the latest training figures."""
        self._bar.set_postfix_str(_brief(scalars))
        if self._lines:
            left = (self._steps - step) * (time.monotonic() - self._started) / max(step - self._start, 1)
            print(f"step {step}/{self._steps}  {_brief(scalars)}  {_duration(left)} left", file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        if self._active:
            tqdm.write(line, file=sys.stderr)
            sys.stderr.flush()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._bar.close()


class Meter:
    """The figures of the steps since the last line: means, throughput, MFU, waiting, goodput.

    `flops_per_step` and `peak_flops` are totals over all devices; without a known peak there is no MFU. `history` holds
    the records of the run's earlier starts, from which goodput continues.
    """

    def __init__(
        self,
        writer: Writer,
        progress: Progress,
        history: list[dict[str, Any]],
        flops_per_step: float,
        peak_flops: float | None,
    ) -> None:
        self._writer, self._progress = writer, progress
        self._flops_per_step, self._peak_flops = flops_per_step, peak_flops
        self._first_start = history[0]["time"] if history else time.time()
        self._useful_s = max((r["useful_s"] for r in history if r["kind"] == "train"), default=0.0)
        self._averages = Averages()
        self._last: tuple[int, dict[str, Any]] | None = None
        self._timed_steps = 0
        self._compiled = False
        self._spikes = _Spikes()
        self.checkpoint_s = 0.0
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leave the time until now (an evaluation, for instance) out of the throughput."""
        self._started, self._waited, self._timed_steps = time.perf_counter(), 0.0, 0

    def waited(self, seconds: float) -> None:
        """Add the time that a step waited for its batch."""
        self._waited += seconds

    def add(self, step: int, happened: dict[str, Any]) -> None:
        """Add what step number `step` returned, without waiting for the device."""
        self._averages.add(happened["sums"])
        self._last = step, happened
        self._timed_steps += 1
        self._progress.advance()
        if not self._compiled:  # the first step of a process compiles
            happened["grad_norm"].block_until_ready()
            self._compiled = True
            self.restart_clock()

    def flush(self) -> None:
        """Write the figures of the steps since the last time, if there were any."""
        if self._last is None:
            return
        (step, happened), self._last = self._last, None
        means, each = self._averages.read()
        seconds = time.perf_counter() - self._started
        self._useful_s += seconds if self._timed_steps else 0.0
        steps_per_s = self._timed_steps / seconds if self._timed_steps else math.nan  # the step that compiled
        num_tokens = means.pop("num_tokens")
        scalars = means | {
            "loss": _total_loss(means),
            "grad_norm": float(happened["grad_norm"]),
            "learning_rate": float(happened["learning_rate"]),
            "updates": float(happened["updates"]),
            "steps_per_s": steps_per_s,
            "tokens_per_s": num_tokens * steps_per_s,
            "padding": 1 - num_tokens / float(happened["batch_tokens"]),
            "data_wait": self._waited / seconds,
            "checkpoint_s": self.checkpoint_s,
            "useful_s": self._useful_s,
            "goodput": self._useful_s / max(time.time() - self._first_start, 1e-9),
        }
        if self._peak_flops:
            scalars["mfu"] = self._flops_per_step * steps_per_s / self._peak_flops
        memory = jax.local_devices()[0].memory_stats()
        if memory:
            scalars["memory_gb"] = memory["peak_bytes_in_use"] / 1e9
        self._writer.write(step, "train", scalars)
        self._progress.show(step, scalars)
        for number, loss in self._spikes.among([_total_loss(one) for one in each]):
            spiked = step - len(each) + 1 + number
            self._progress.say(f"step {spiked}: loss spike: {loss:.2f}")
            self._writer.write(spiked, "spike", {"loss": loss})
        self.restart_clock()


class _Spikes:
    """Finds losses far above their exponentially weighted mean."""

    def __init__(self) -> None:
        self._count, self._mean, self._variance = 0, 0.0, 0.0

    def among(self, losses: list[float]) -> list[tuple[int, float]]:
        """Index and value of each spike among the next `losses`; skipped steps (NaN) do not count."""
        found = []
        for number, loss in enumerate(losses):
            if not math.isfinite(loss):
                continue
            excess = loss - self._mean
            deviation = math.sqrt(self._variance)
            if self._count >= _SPIKE_MEMORY and excess > _SPIKE_DEVIATIONS * deviation:
                found.append((number, loss))
                continue  # a spike does not change the mean
            weight = max(1 / (self._count + 1), 1 / _SPIKE_MEMORY)
            self._mean += weight * excess
            self._variance = (1 - weight) * (self._variance + weight * excess * excess)
            self._count += 1
        return found


def _ratio(pairs: list[tuple[Any, Any]]) -> float:
    total, weight = sum(float(pair[0]) for pair in pairs), sum(float(pair[1]) for pair in pairs)
    return total / weight if weight else math.nan


def _total_loss(means: dict[str, float]) -> float:
    return sum(value for name, value in means.items() if name.endswith("_loss"))


def _brief(scalars: dict[str, float]) -> str:
    hits = {name.removesuffix("_accuracy"): value for name, value in scalars.items() if name.endswith("_accuracy")}
    accuracies = "".join(f"{name} {value:.1%}  " for name, value in hits.items())
    mfu = f"mfu {scalars['mfu']:.0%}  " if "mfu" in scalars else ""
    return (
        f"loss {scalars['loss']:.3f}  {accuracies}"
        f"{scalars['tokens_per_s']:,.0f} tok/s  {mfu}wait {scalars['data_wait']:.0%}"
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
