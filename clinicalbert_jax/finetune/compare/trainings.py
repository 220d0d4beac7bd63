"""The trainings of a comparison: which there are, running one, and what is kept of it.

    WORKDIR/trainings/TASK/MODEL/NAME.npz    scores on validation data, logits of the test rows; whole or absent
    WORKDIR/running/                         the run in progress, removed when it is done

Shape legend: N rows, l length of a row, C labels.
"""

import io
import math
import shutil
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clinicalbert_jax.config import Config, ModelConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output
from clinicalbert_jax.finetune import heads, run, task_json
from clinicalbert_jax.finetune.compare.data import TaskData
from clinicalbert_jax.finetune.compare.models import ComparedModel
from clinicalbert_jax.finetune.predictor import NotFiniteError, Predictor
from clinicalbert_jax.finetune.rows import Rows
from clinicalbert_jax.finetune.task import Task
from clinicalbert_jax.modeling.bert import Params
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.runs import workdir as workdir_of_run
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from clinicalbert_jax.training import train_loop, train_step
from clinicalbert_jax.training.stop_request import StopRequest

_SECONDS = "seconds"  # beside the run in progress


@dataclass(frozen=True)
class Training:
    """One training. `setting` is the number of an entry of the task's grid."""

    task: str
    model: str
    fraction: float
    setting: int
    seed: int

    def file(self, workdir: Path) -> Path:
        """Where its result is kept."""
        name = f"fraction-{self.fraction:g}-setting-{self.setting}-seed-{self.seed}.npz"
        return workdir / "trainings" / self.task / self.model / name


@dataclass(frozen=True)
class Result:
    """What is kept of a training. `seconds`: of all processes that did not end by a kill; reading the data aside."""

    validation: float  # the main score of the model chosen
    logits: list[np.ndarray]  # of each row of the test set: l x C or C; none where its parameters became infinite
    num_steps: int
    seconds: float


# What was compiled for a task, by `train_step.compiled_part`: seeds, fractions and models of one shape share it.
Compiled = dict[str, tuple[train_step.Program, Predictor]]


@dataclass(frozen=True)
class Loaded:
    """A model in memory, and what was compiled for one task."""

    model: ComparedModel
    config: ModelConfig
    params: Params | None  # None: random weights
    tokenizer_dir: Path
    compiled: Compiled


def load(model: ComparedModel, compiled: Compiled) -> Loaded:
    """Read a model; see `check_step`."""
    check_step(model)
    found = loading.load(model.source, None if model.step is None else str(model.step))
    return Loaded(model, found.config, None if model.is_random else found.params, found.tokenizer_dir, compiled)


def check_step(model: ComparedModel) -> None:
    """Raise `UserError` where the checkpoint of a run is gone with which the comparison began."""
    if model.step is not None and model.step not in workdir_of_run.complete_steps(model.source.directory):
        raise UserError(
            f"--models: expected checkpoint {model.step} of {model.name}, with which the comparison began, found it "
            "removed by a training that goes on: export the checkpoint to compare, and begin in another --workdir"
        )


def rows_of(data: TaskData, loaded: Loaded) -> dict[str, Rows]:
    """The rows of each split."""
    tokenizer = bert_tokenizer.build(bert_tokenizer.read(loaded.tokenizer_dir))
    return {name: data.task.rows(of_split, tokenizer, name == "train") for name, of_split in data.examples.items()}


def train(
    training: Training, data: TaskData, loaded: Loaded, rows: Mapping[str, Rows], workdir: Path, stop: StopRequest
) -> int:
    """Train, choose the best checkpoint by validation, predict the test set and keep the result; the exit code.

    Continues what an earlier process has left of the same training.
    """
    started = time.perf_counter()
    config = replace(
        data.compared.configs[training.setting], seeds=(training.seed,), random_weights=loaded.model.is_random
    )
    part = data.training_part(training.fraction, training.seed)
    task = data.task.fitted(part)
    if training.fraction < 1:
        tokenizer = bert_tokenizer.build(bert_tokenizer.read(loaded.tokenizer_dir))
        rows = {**rows, "train": task.rows(part, tokenizer, True)}
    used = run.Data(dict(data.compared.files), {**data.examples, "train": part}, Counter())
    running = workdir / "running" / training.file(workdir).relative_to(workdir / "trainings").with_suffix("")
    # By name, so that the model may lie elsewhere when the command is repeated.
    run_config = config.run_config(loaded.config, loaded.model.name, len(rows["train"]), training.seed)
    started_from = None if loaded.model.is_random else loaded.model.source.directory
    document = task_json.document(task, data.compared.files, started_from)
    task_json.keep(running, run_config, document, loaded.tokenizer_dir)
    program, predictor = _compiled(loaded, task, run_config)
    job = run.training_job(config, program, task, used, rows, predictor, loaded.params)
    try:
        code = train_loop.run(job, running, stop=stop)
    except NotFiniteError:
        seconds = _seconds_before(running) + time.perf_counter() - started
        write(training.file(workdir), Result(math.nan, [], run_config.train.steps, seconds))
        shutil.rmtree(running)
        return train_loop.EXIT_DONE
    if code != train_loop.EXIT_DONE:
        _add_seconds(running, time.perf_counter() - started)
        return code
    params = run.best_params(running, program)
    # The validation set first, as in training: the length that the test set is predicted at depends on it.
    logits = {name: predictor(params, rows[name]) for name in ("validation", "test")}
    validation = task.decode(data.examples["validation"], rows["validation"], logits["validation"])
    scores = task.score(data.examples["validation"], validation)
    seconds = _seconds_before(running) + time.perf_counter() - started
    num_steps = max(workdir_of_run.complete_steps(running))  # where it ended without progress, not all
    result = Result(scores.values[scores.main], logits["test"], num_steps, seconds)
    write(training.file(workdir), result)
    shutil.rmtree(running)
    return train_loop.EXIT_DONE


def _seconds_before(running: Path) -> float:
    """What earlier processes that were asked to stop have spent on a training."""
    try:
        return float((running / _SECONDS).read_text())
    except (FileNotFoundError, ValueError):
        return 0.0


def _add_seconds(running: Path, seconds: float) -> None:
    total = _seconds_before(running) + seconds
    with atomic_output.file(running / _SECONDS, overwrite=True) as partial:
        partial.write_text(f"{total:.3f}\n")


def _compiled(loaded: Loaded, task: Task, config: Config) -> tuple[train_step.Program, Predictor]:
    part = train_step.compiled_part(config)
    if part not in loaded.compiled:
        objective = heads.objective(task.head, len(task.labels), task.problem_type)
        program = train_step.build(config, make_objective=objective)
        loaded.compiled[part] = program, Predictor(task.head, loaded.config, program.mesh, config.train.dtype)
    program, predictor = loaded.compiled[part]
    return replace(program, config=config), predictor


def write(path: Path, result: Result) -> None:
    """Write a result; whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = [one.shape for one in result.logits]
    with atomic_output.file(path, overwrite=True) as partial, partial.open("wb") as file:
        np.savez(
            file,
            validation=np.float64(result.validation),
            logits=np.concatenate([np.empty(0, np.float32), *(np.ravel(one) for one in result.logits)]),
            lengths=np.array([shape[0] if len(shape) == 2 else 0 for shape in shapes]),
            num_steps=np.int64(result.num_steps),
            seconds=np.float64(result.seconds),
        )


def read(path: Path) -> Result | None:
    """The result of a training that is done; None of one that is not, or whose file a failing disk has changed."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        with np.load(io.BytesIO(content)) as found:
            arrays = {name: found[name] for name in found.files}
        return Result(
            float(arrays["validation"]), list(_split(arrays)), int(arrays["num_steps"]), float(arrays["seconds"])
        )
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError):
        damaged = path.rename(path.with_name(f"{path.name}.damaged"))
        print(f"warning: {damaged} is not as it was written: its training is done again", file=sys.stderr)
        return None


def _split(arrays: Mapping[str, Any]) -> Iterator[np.ndarray]:
    flat, lengths_N = arrays["logits"], arrays["lengths"]
    if not len(lengths_N):
        return
    if not lengths_N.any():
        yield from flat.reshape(len(lengths_N), -1)
        return
    num_labels = len(flat) // int(lengths_N.sum())
    yield from np.split(flat.reshape(-1, num_labels), np.cumsum(lengths_N)[:-1])
