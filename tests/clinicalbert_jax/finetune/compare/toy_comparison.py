"""Two tiny BERTs of different shapes, two tasks learned in a few steps, and the command that compares them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.finetune.compare import command
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.pretrained import huggingface
from tests.clinicalbert_jax.finetune import toy_tokenizer
from tests.clinicalbert_jax.modeling import random_weights

ROOT = Path(__file__).parents[4]
_TAGS = {"aspirin": "B-DRUG", "fever": "B-PROBLEM", "liver": "B-PROBLEM", "failure": "I-PROBLEM"}
_TASKS = """
[entities]
config = "{configs}/entities.py"
train = "train.tsv"
validation_fraction = 0.25
test = "test.tsv"
settings = {{ {settings} }}

[labels]
config = "{configs}/classification.py"
train = "train.jsonl"
validation_fraction = 0.25
test = "test.jsonl"
settings = {{ {settings} }}
"""
_SETTINGS = (
    'max_steps = {steps}, "optimizer.learning_rate" = 4e-3, "task.max_seq_length" = 32, '
    "hidden_dropout_prob = 0.0, attention_probs_dropout_prob = 0.0"  # without dropout a step compiles sooner
)


def write_model(directory: Path, hidden_size: int) -> Path:
    """A BERT of one layer with random weights; returns its directory."""
    words = toy_tokenizer.make().get_vocab()
    directory.mkdir(parents=True)
    (directory / "vocab.txt").write_text("".join(f"{word}\n" for word in sorted(words, key=words.__getitem__)))
    (directory / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    config = ModelConfig(
        vocab_size=len(words),
        hidden_size=hidden_size,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=64,
    )
    out = directory / "bert"
    out.mkdir()
    huggingface.write_directory(out, config, random_weights.draw(config, 7), directory)
    return out


def write_tasks(directory: Path, steps: int = 3) -> Path:
    """The file of tasks, of `steps` steps each, with its data beside it."""
    random = np.random.default_rng(0)
    for split, count in (("train", 64), ("test", 40)):
        sentences = [_sentence(random) for _ in range(count)]
        tagged = ("".join(f"{word}\t{_TAGS.get(word, 'O')}\n" for word in sentence) for sentence in sentences)
        (directory / f"{split}.tsv").write_text("\n".join(tagged))
        records = (
            {"id": f"{split}-{n}", "text": " ".join(sentence), "label": "drug" if "aspirin" in sentence else "problem"}
            for n, sentence in enumerate(sentences)
        )
        (directory / f"{split}.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    settings = _SETTINGS.format(steps=steps)
    (directory / "tasks.toml").write_text(_TASKS.format(configs=ROOT / "configs" / "finetune", settings=settings))
    return directory / "tasks.toml"


def options(place: Path, tmp_path: Path, **changes: Any) -> command.Options:
    """The options of a comparison of `small` in `tmp_path`, some of them changed."""
    given: dict[str, Any] = {
        "models": (f"small={place / 'small' / 'bert'}",),
        "tasks": str(place / "tasks.toml"),
        "workdir": str(tmp_path / "out"),
        "reading": Reading(),
    }
    return command.Options(**given | changes)


def edited(place: Path, tmp_path: Path, old: str, new: str) -> str:
    """A copy of the tasks and their data with a change."""
    copied = shutil.copytree(place, tmp_path / "edited", ignore=shutil.ignore_patterns("whole", "small", "large"))
    text = (copied / "tasks.toml").read_text()
    assert old in text
    (copied / "tasks.toml").write_text(text.replace(old, new, 1))
    return str(copied / "tasks.toml")


def start(models: Sequence[str], tasks: Path, workdir: Path, *more: str) -> subprocess.Popen:
    """The command in a process of its own, on one device; its programs not optimized by LLVM, so compiled sooner."""
    command = [sys.executable, "-m", "clinicalbert_jax.finetune.compare"]
    return subprocess.Popen(
        [*command, f"--models={','.join(models)}", f"--tasks={tasks}", f"--workdir={workdir}", *more],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, code: int = 0) -> str:
    """What it printed."""
    out, error = process.communicate(timeout=900)
    assert process.returncode == code, error
    return out + error


def _sentence(random: np.random.Generator) -> list[str]:
    words = ["the", "patient", str(random.choice(["had", "was", "given"]))]
    return words + (["liver", "failure"] if random.random() < 0.5 else [str(random.choice(["aspirin", "fever"]))])
