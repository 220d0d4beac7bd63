"""The run's page: what it says of a run with restarts, and that a real browser draws it without a network."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.report import pretraining_page
from clinicalbert_jax.runs import metrics_log
from clinicalbert_jax.runs.workdir import check_data, keep
from tests import toy_dataset
from tests.clinicalbert_jax.conftest import small_config


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's directory as training leaves it, with a restart from step 40 after a kill at step 60."""
    data_dir = toy_dataset.write(tmp_path / "toy", num_train=40)
    manifest = Manifest.load(data_dir)
    keep(tmp_path / "run", check_data(small_config(steps=100), manifest, data_dir), manifest, data_dir)
    lines = []

    def write(kind: str, step: int, **scalars: float | None) -> None:
        lines.append(json.dumps({"step": step, "time": time.time(), "kind": kind} | scalars))

    def train(step: int, loss: float) -> None:
        write(
            "train", step, mlm_loss=loss, nsp_accuracy=0.5, learning_rate=1e-3, grad_norm=1.0, tokens_per_s=1000.0,
            data_wait=0.01, padding=0.2, goodput=0.9,
        )  # fmt: skip

    write("start", 0)
    for step in (20, 40, 60):
        train(step, 777.0 if step == 60 else 5.0)
    write("start", 40)
    for step in (60, 80, 100):
        train(step, 4.0)
    write("spike", 70, loss=9.5)
    for step, loss in ((50, 4.5), (100, 4.25)):
        write("validation", step, mlm_loss=loss, mlm_accuracy=0.2, nsp_loss=0.6, nsp_accuracy=0.61)
    (tmp_path / "run" / metrics_log.FILE_NAME).write_text("\n".join(lines) + '\n{"step": 101, "ti')
    return tmp_path / "run"


def test_steps_that_a_restart_took_again_count_once(run: Path) -> None:
    steps = [record["step"] for record in metrics_log.read(run) if record["kind"] == "train"]
    assert steps == [20, 40, 60, 80, 100]
    page = pretraining_page.page(run)
    assert "777" not in page
    assert "100 (best)" in page
    assert "4.250" in page
    assert "loss spike: 9.500" in page
    assert page.count("started; devices: ") == 2
    assert "The run is finished; it was evaluated 2 times" in page


def test_the_page_asks_for_nothing_from_the_network(run: Path) -> None:
    page = pretraining_page.page(run)
    assert not re.search(r'(?:src|href|action)\s*=\s*["\']?(?:https?:)?//', page)
    assert "@import" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_a_directory_without_a_run_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a run in .*, found no config.json there"):
        pretraining_page.page(tmp_path)


def test_a_browser_draws_the_curves(run: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    path = run / "report.html"
    path.write_text(pretraining_page.page(run))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-quic",
        "--window-size=900,1200",
        "--virtual-time-budget=2000",
    ]
    picture = tmp_path / "page.png"
    command = [browser, *options, f"--user-data-dir={tmp_path / 'profile'}"]
    subprocess.run([*command, f"--screenshot={picture}", path.as_uri()], check=True, capture_output=True, timeout=120)
    assert picture.stat().st_size > 20_000, "a page with curves, not a blank one"
    drawn = subprocess.run(
        [*command, "--dump-dom", path.as_uri()], check=True, capture_output=True, text=True, timeout=120
    ).stdout
    assert drawn.count("<svg") >= 6
    assert "Pre-training: run" in drawn
