"""The check of an accelerator runs in its small form, and says what fails without stopping there."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import accelerator, train_step
from benchmarks.accelerator import FULL, SMALL, Accelerator, Options, ask


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
    report = Accelerator(SMALL, Options(output=str(tmp_path / "found")), tmp_path).report()
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
    """What it has found before it fails is kept."""

    def python(text: str) -> list[str]:
        return [sys.executable, "-c", text]

    assert ask(python("print('loading'); print('{\"a\": 1}')"), 60) == ({"a": 1}, "")
    found = ask(python("print('{\"a\": 2}', flush=True); raise ValueError('no such card')"), 60)
    assert found == ({"a": 2}, "ended with exit code 1: ValueError: no such card")
    found = ask(python("import time; print('loading', flush=True); time.sleep(60)"), 0.5)
    assert found == ({}, "ended with exit code -9: its time was over")


def test_a_kernel_that_ends_the_process_leaves_the_comparisons_before_it(tmp_path: Path) -> None:
    """And what the device is; one that raises leaves those after it too."""
    from benchmarks import accelerator_checks

    found: dict[str, Any] = {"results": []}
    said: list[int] = []
    for errors in ({"output": 0.5}, ZeroDivisionError("no such kernel"), {"output": 0.0}):

        def errors_of(errors: Any = errors) -> dict[str, float]:
            if isinstance(errors, Exception):
                raise errors
            return errors

        accelerator_checks._compare({"length": 8}, {"output": 0.1}, errors_of, found, lambda f: said.append(len(f)))
    assert [result["passed"] for result in found["results"]] == [False, False, True]
    assert found["results"][1]["failure"] == "ZeroDivisionError: no such kernel"
    assert len(said) == 3
    report = Accelerator(FULL, Options(output=str(tmp_path / "found")), tmp_path)
    lines = json.dumps({"device": "a card", "results": found["results"]})
    program = f"print({lines!r}, flush=True); import os; os.abort()"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accelerator, "_command", lambda check, spec: [sys.executable, "-c", program])
        assert report.check_attention(60)["device"] == "a card"
    assert report.document["failures"] == [
        "attention: ended with exit code -6: nothing printed",
        "attention: 8: off by 0.5",
        "attention: 8: ZeroDivisionError: no such kernel",
    ]


def test_what_was_measured_is_written_as_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that raises, and a machine that is taken away, leave the figures before them."""
    output, settings = tmp_path / "found", (*SMALL.settings, dataclasses.replace(SMALL.settings[0], dropout=0.0))
    row = {"seconds": 1.0, "sequences_per_second": 4, "tokens_per_second": 200, "mfu": None, "peak_bytes": 1}

    def measured(specs: dict, *_: object) -> dict:
        if output.with_suffix(".json").exists():
            raise RuntimeError("NVML: the card has fallen off the bus")
        return {name: dict(row) for name in specs}

    monkeypatch.setattr(accelerator, "measure", measured)
    report = Accelerator(dataclasses.replace(SMALL, settings=settings), Options(output=str(output)), tmp_path)
    report.make_shards(60)
    with pytest.raises(RuntimeError):
        report.measure_speed(60)
    (written,) = json.loads(output.with_suffix(".json").read_text())["speed"]
    assert written["tokens_per_second"] == 200
    assert "| 64 × 64 | 0.1 | ours, auto, packed | 1000.0 ms |" in output.with_suffix(".md").read_text()


def test_packages_that_are_missing_are_named_before_anything_runs() -> None:
    """Any but those named may be missing."""
    text = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.match(r"[\w.-]+", line)[0] for line in text}  # type: ignore[index]
    assert set(accelerator.NEEDED.values()) <= names
    modules = [name.replace("-", "_") for name in names - set(accelerator.NEEDED.values())]
    program = (
        "import sys\nfor name in sys.argv[1].split(','): sys.modules[name] = None\n"
        "import benchmarks.accelerator, benchmarks.accelerator_checks, benchmarks.step_worker\n"
        "from clinicalbert_jax.plan import compile_ahead\n"
        "from clinicalbert_jax.training import pretrain, train_loop, train_step\n"
    )

    def without(modules: Iterable[str]) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", program, ",".join(modules)]
        return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])

    done = without(modules)
    assert done.returncode == 0, done.stderr
    done = without(["google_crc32c", "tensorboardX"])
    said = "error: expected packages of pyproject.toml, found no google-crc32c, tensorboardX: see docs/cloud.md\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_what_the_time_does_not_allow_is_said(tmp_path: Path) -> None:
    report = Accelerator(SMALL, Options(output=str(tmp_path / "found"), minutes=0.0), tmp_path).report()
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
