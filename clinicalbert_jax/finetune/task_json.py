"""What a model was fine-tuned for, `task.json`, in a run's directory and in an exported one. Loads no JAX.

The task's settings, its labels in the order of the logits, whether the model started from one of notes with planted
canaries, and, in a run, checksums of the data.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from clinicalbert_jax.config import Config
from clinicalbert_jax.data import checksummed_json
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.config import task_config
from clinicalbert_jax.finetune.task import Task, TaskConfig
from clinicalbert_jax.runs import provenance, workdir
from clinicalbert_jax.runs.workdir import TASK_FILE
from clinicalbert_jax.tokenizer_files import bert_tokenizer


class Trained(NamedTuple):
    """What a model was fine-tuned for."""

    settings: TaskConfig
    labels: tuple[str, ...]
    data: dict[str, str]  # sha256 of each file it was trained and evaluated with; empty in an export


def document(task: Task, data: Mapping[str, Path], started_from: Path | None) -> dict[str, Any]:
    """The content of `task.json`. `started_from` is the model that training starts from, None for random weights."""
    checksums = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in data.items()}
    return {"task": dataclasses.asdict(task.config), "labels": list(task.labels), "data": checksums} | {
        "canaries": started_from is not None and provenance.has_canaries(started_from)
    }


def read(directory: Path) -> Trained:
    """What the model in `directory` was fine-tuned for; raises `UserError` where it was not, or the file is damaged."""
    path = workdir.kept(directory, TASK_FILE)
    if not path.exists():
        raise UserError(f"expected a fine-tuned model in {directory}, found no {TASK_FILE} there: fine-tune one first")
    try:
        found = checksummed_json.read(path)
        return Trained(task_config(found["task"]), tuple(found["labels"]), found["data"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is not as it was written ({type(error).__name__}): restore it from a copy") from None


def keep(run: Path, config: Config, task_document: dict[str, Any], tokenizer_dir: Path) -> None:
    """Write task, config and tokenizer into a run's directory; raises `UserError` where `run` holds another run."""
    if any((run / workdir.CHECKPOINTS).glob("*")):
        _check_same(run, config, task_document)
    try:
        (run / "tokenizer").mkdir(parents=True, exist_ok=True)
        bert_tokenizer.write(run / "tokenizer", bert_tokenizer.read(tokenizer_dir))
        checksummed_json.write(run / TASK_FILE, task_document)
        # Last: with this file the directory is a run.
        checksummed_json.write(run / workdir.CONFIG_FILE, dataclasses.asdict(config))
    except OSError as error:
        raise UserError(
            f"--workdir: cannot write {error.filename} ({error.strerror}): free or choose another"
        ) from None


def _check_same(run: Path, config: Config, task_document: dict[str, Any]) -> None:
    workdir.check_same_settings(run, config)
    before = read(run)
    same = (dataclasses.asdict(before.settings), list(before.labels)) == (
        task_document["task"],
        task_document["labels"],
    )
    changed = [name for name in task_document["data"] if before.data.get(name) != task_document["data"][name]]
    if changed or not same:
        what = f"another file for --{changed[0]}" if changed else "other settings of the task"
        raise UserError(
            f"--workdir: expected the data and task that the run in {run} was started with, found {what}: "
            "give the same, or start in a new --workdir"
        )
