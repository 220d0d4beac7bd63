"""What is measured and where it goes: JSON lines, TensorBoard, and one line for the person watching."""

import json
import math
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from tensorboardX import SummaryWriter
from tqdm import tqdm

FILE_NAME = "metrics.jsonl"


class Averages:
    """Adds up (sum, weight) pairs that may still be on their way from the device; reads them only when asked."""

    def __init__(self) -> None:
        self._pending: list[Any] = []

    def add(self, sums: Any) -> None:
        """Take one step's pairs, by name."""
        self._pending.append(sums)

    def means(self) -> dict[str, float]:
        """Sum of sums over sum of weights, by name; NaN where nothing had weight. Waits for the device. Then empty."""
        totals: dict[str, tuple[float, float]] = {}
        for sums in jax.device_get(self._pending):
            for name, (total, weight) in sums.items():
                before = totals.get(name, (0.0, 0.0))
                totals[name] = (before[0] + float(total), before[1] + float(weight))
        self._pending = []
        return {name: total / weight if weight else math.nan for name, (total, weight) in totals.items()}


class Writer:
    """Appends scalars to WORKDIR/metrics.jsonl and to TensorBoard event files; silent unless `active`."""

    def __init__(self, workdir: Path, active: bool) -> None:
        self._active = active
        if active:
            self._lines = (workdir / FILE_NAME).open("a", encoding="utf-8")
            self._tensorboard = SummaryWriter(str(workdir))

    def write(self, step: int, prefix: str, scalars: dict[str, float]) -> None:
        """Record `scalars` at `step` under `prefix` ('train', 'validation', ...)."""
        if not self._active:
            return
        # JSON has no NaN: a value that is not finite is written as null.
        finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
        self._lines.write(json.dumps({"step": step, "time": time.time(), "kind": prefix} | finite) + "\n")
        self._lines.flush()
        for name, value in scalars.items():
            self._tensorboard.add_scalar(f"{prefix}/{name}", value, step)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._active:
            self._lines.close()
            self._tensorboard.close()


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
        """One step more was dispatched."""
        self._bar.update()

    def show(self, step: int, scalars: dict[str, float]) -> None:
        """The latest training figures."""
        self._bar.set_postfix_str(_brief(scalars))
        if self._lines:
            left = (self._steps - step) * (time.monotonic() - self._started) / max(step - self._start, 1)
            print(
                f"step {step}/{self._steps}  {_brief(scalars)}  {_duration(left)} left",
                file=sys.stderr,
                flush=True,
            )

    def say(self, line: str) -> None:
        """A line of its own, above the bar where there is one."""
        if self._active:
            tqdm.write(line, file=sys.stderr)
            sys.stderr.flush()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._bar.close()


def describe(means: dict[str, float]) -> str:
    """Evaluation figures in words."""
    return (
        f"MLM loss {means['mlm_loss']:.3f}, accuracy {means['mlm_accuracy']:.1%}; "
        f"NSP loss {means['nsp_loss']:.3f}, accuracy {means['nsp_accuracy']:.1%}"
    )


def _brief(scalars: dict[str, float]) -> str:
    return (
        f"loss {scalars['loss']:.3f}  mlm {scalars['mlm_accuracy']:.1%}  nsp {scalars['nsp_accuracy']:.1%}  "
        f"{scalars['tokens_per_s']:,.0f} tok/s  wait {scalars['data_wait']:.0%}"
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
