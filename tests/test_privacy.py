"""No text of a note is in anything that is written, but for the shards, the vocabulary and the model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MARKER = "Zyxquarrel"
# What may hold note text: the shards themselves, and weights. A vocabulary has words of many patients only.
MAY_HOLD = ("tfrecord", "/checkpoints/", "model.safetensors")


def command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "XLA_FLAGS"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return f"{done.returncode}\n{done.stdout}\n{done.stderr}"


def holding(directory: Path) -> list[str]:
    """Files below `directory` that hold the marker, in any case, where they should not."""
    found = []
    for path in directory.rglob("*"):
        if path.is_file() and not any(part in str(path) for part in MAY_HOLD):
            content = path.read_bytes().lower()
            if MARKER.lower().encode() in content:
                found.append(str(path.relative_to(directory)))
    return found


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Invented notes, the marker a few times in the notes of a few patients, and rows that cannot be read."""
    path = tmp_path / "NOTEEVENTS.csv"
    made = command("-m", "data_prep.synthetic", f"--output={path}", "--num_notes=150", "--verbosity=1")
    assert made.startswith("0\n"), made
    text = path.read_text()
    for place in range(1, 6):
        text = text.replace("The patient", f"{MARKER} The patient", place)
    path.write_text(f'{text}"{MARKER},not a row\n{MARKER},too,few\n')
    return path


def test_a_marker_word_is_nowhere(notes: Path, tmp_path: Path) -> None:
    said = command(
        *("-m", "data_prep", f"--input={notes}", f"--output_dir={tmp_path / 'data'}", "--train_vocab"),
        *("--vocab_size=600", "--max_seq_length=32", "--validation_fraction=0.2", "--test_fraction=0.2"),
        *("--dupe_factor=1", "--verbosity=1", "--max_malformed_fraction=0.05"),
    )
    assert said.startswith("0\n"), said
    data_dir = tmp_path / "data" / "clinical_notes" / "1.0.0"
    said += command(
        *("run_pretrain.py", "--config=configs/demo.py", f"--data_dir={data_dir}", f"--workdir={tmp_path / 'run'}"),
        *("--config.train.steps=4", "--config.optimizer.warmup_steps=1", "--config.train.log_every=2", "--verbosity=1"),
    )
    said += command("-m", "clinicalbert_jax.evaluate", f"--workdir={tmp_path / 'run'}", f"--data_dir={data_dir}")
    said += command("-m", "clinicalbert_jax.report", f"--workdir={tmp_path / 'run'}")
    said += command(
        "-m", "clinicalbert_jax.export", f"--workdir={tmp_path / 'run'}", f"--output_dir={tmp_path / 'model'}"
    )
    assert MARKER.lower() not in said.lower()
    notes.unlink()
    assert holding(tmp_path) == []
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_a_file_that_cannot_be_read_is_not_quoted(tmp_path: Path) -> None:
    for name, content in (
        ("columns.csv", f"A,B\n{MARKER},{MARKER}\n"),
        ("lines.jsonl", f'{{"text": "{MARKER}"\n'),
        ("table.parquet", MARKER),
        ("packed.csv.gz", MARKER),
    ):
        (tmp_path / name).write_text(content)
        said = command(
            *("-m", "data_prep", f"--input={tmp_path / name}", f"--output_dir={tmp_path / 'out'}", "--train_vocab"),
            *("--text_column=text", "--each_note_is_a_patient", "--verbosity=1"),
        )
        assert not said.startswith("0\n"), name
        assert MARKER not in said, name
        assert "Traceback" not in said, said
