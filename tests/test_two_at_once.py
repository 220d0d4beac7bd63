"""Two processes of a command that writes, on one output: one ends as if alone, the other is refused in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import toy_dataset, toy_run

ROOT = Path(__file__).parents[1]


def both(*arguments: str) -> tuple[list[int], list[str]]:
    """Exit codes and standard errors of two processes that start together."""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    running = [
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in running]
    return [process.returncode for process in running], errors


def check(arguments: list[str], output: Path) -> None:
    codes, errors = both(*arguments)
    assert sorted(codes) == [0, 2], errors
    refused = errors[codes.index(2)]
    assert len([line for line in refused.splitlines() if line.startswith("error: ")]) == 1, refused
    assert "Traceback" not in refused
    assert output.exists()
    beside = [path.name for path in output.parent.iterdir() if "partial" in path.name or path.name.endswith(".old")]
    assert beside == [], "nothing unfinished is left"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("two")
    return toy_run.write(directory / "run", toy_dataset.write(directory / "data"))


def test_invented_notes(tmp_path: Path) -> None:
    output = tmp_path / "notes.csv"
    check(["-m", "data_prep.synthetic", f"--output={output}", "--num_notes=3000"], output)
    assert output.read_text().count("\n") > 3000


def test_a_preparation(tmp_path: Path) -> None:
    notes, output = tmp_path / "notes.csv", tmp_path / "out"
    subprocess.run([sys.executable, "-m", "data_prep.synthetic", f"--output={notes}", "--num_notes=400"], cwd=ROOT)
    flags = ["--train_vocab", "--vocab_size=600", "--max_seq_length=64", "--dupe_factor=3"]
    check(["-m", "data_prep", f"--input={notes}", f"--output_dir={output}", *flags], output)
    dataset = output / "clinical_notes" / "1.0.0"
    verified = subprocess.run([sys.executable, "-m", "data_prep.verify", str(dataset)], cwd=ROOT, capture_output=True)
    assert verified.returncode == 0


def test_an_export(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    check(["-m", "clinicalbert_jax.export", f"--workdir={model}", f"--output_dir={output}"], output)


def test_vectors(model: Path, tmp_path: Path) -> None:
    texts, output = tmp_path / "texts.txt", tmp_path / "vectors.npz"
    texts.write_text("a b\n")
    check(["-m", "clinicalbert_jax.embed", f"--model={model}", f"--input={texts}", f"--output={output}"], output)
