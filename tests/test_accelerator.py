"""The check of an accelerator runs in its small form, and says what fails without stopping there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import accelerator, train_step
from benchmarks.accelerator import SMALL, Accelerator, Options, ask
from clinicalbert_jax.errors import UserError


def test_the_small_form_runs_and_passes(tmp_path: Path) -> None:
    output = tmp_path / "found"
    # One device, and what one process has compiled another one need not.
    environment = {
        "XLA_FLAGS": "",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    command = [sys.executable, "-m", "benchmarks.accelerator", "--small", f"--output={output}"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.with_suffix(".json").read_text())
    assert found["failures"] == []
    assert found["run"]["steps"] == SMALL.run_steps
    assert SMALL.run_steps > found["run"]["resumed_from"] >= SMALL.run_steps // 3
    assert found["run"]["compilations"] == 1
    (row,) = found["speed"]
    assert row["tokens_per_second"] > 0
    assert "| 4 × 64 | 0.1 | ours, xla, packed | " in output.with_suffix(".md").read_text()


def test_a_part_that_fails_is_reported_and_the_next_one_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies, figures out of bounds, and a candidate of several that cannot start."""

    def dies(self: Accelerator, check: str, spec: dict, limit: float) -> dict:
        if check == "run":
            raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")
        wrong = {"length": 64, "implementation": "xla", "errors": {"output": 0.5}, "passed": False}
        return {"device": "a card", "jax": "0", "results": [wrong]}

    def measured(specs: dict, *_: object) -> dict:
        return {name: {"error": "ended with exit code 1"} for name in specs}

    monkeypatch.setattr(Accelerator, "_checks", dies)
    monkeypatch.setattr(Accelerator, "check_run", lambda self, limit: self._checks("run", {}, limit))
    monkeypatch.setattr(accelerator, "measure", measured)
    report = Accelerator(SMALL, Options(), tmp_path).report()
    assert report["failures"] == [
        "attention: 64, xla: off by 0.5",
        "gradients: 64, xla: off by 0.5",
        "run: RuntimeError: CUDA_ERROR_ILLEGAL_ADDRESS",
        "speed: 4 x 64, dropout 0.1, ours, auto, packed: ended with exit code 1",
    ]
    text = accelerator.markdown(report)
    assert "- failed: run: RuntimeError: CUDA_ERROR_ILLEGAL_ADDRESS" in text
    assert "| 4 × 64 | 0.1 | ours, auto, packed | ended with exit code 1 |" in text


def test_a_process_answers_fails_or_is_ended() -> None:
    def python(text: str) -> list[str]:
        return [sys.executable, "-c", text]

    assert ask(python("print('loading'); print('{\"a\": 1}')"), 60) == {"a": 1}
    with pytest.raises(UserError, match=r"^ended with exit code 1: ValueError: no such card$"):
        ask(python("print('{}'); raise ValueError('no such card')"), 60)
    with pytest.raises(UserError, match=r"^ended with exit code -9: its time was over$"):
        ask(python("import time; print('loading', flush=True); time.sleep(60)"), 0.5)


def test_what_the_time_does_not_allow_is_said(tmp_path: Path) -> None:
    report = Accelerator(SMALL, Options(minutes=0.0), tmp_path).report()
    assert report["failures"] == [
        f"{part}: not run: its time was over" for part in ("shards", "attention", "gradients", "run", "speed")
    ]
    assert accelerator.markdown(report).startswith("no device")


def test_a_candidate_that_hangs_or_dies_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process of three never answers, one ends at once, one is timed, although it is asked last."""
    script = tmp_path / "worker.py"
    script.write_text(
        "import json, sys, time\n"
        "kind = json.loads(sys.stdin.readline())['framework']\n"
        "if kind == 'hangs': time.sleep(60)\n"
        "if kind == 'dies': sys.exit(3)\n"
        "print(json.dumps({'device': 'cpu', 'notes': ''}), flush=True)\n"
        "for line in sys.stdin:\n"
        "    answer = {'seconds': [0.5] * int(line), 'cpu_seconds': 0.1, 'peak_bytes': 1, 'compilations': 1}\n"
        "    print(json.dumps(answer), flush=True)\n"
    )
    start = subprocess.Popen
    monkeypatch.setattr(
        train_step.subprocess, "Popen", lambda command, **more: start([command[0], str(script)], **more)
    )
    report = Accelerator(SMALL, Options(), tmp_path)
    report.make_shards(60)
    specs = {name: report._spec(SMALL.settings[0], "packed", framework=name) for name in ("hangs", "dies", "works")}
    found = train_step.measure(specs, 1, 2, tmp_path, seconds=2.0)
    assert found["hangs"]["error"].endswith("exit code -9: its time was over")
    assert found["dies"]["error"].endswith("exit code 3: see above")
    assert found["works"]["seconds"] == 0.5
    assert found["works"]["sequences_per_second"] == 8
