"""A comparison from first to last: what is not trained yet is trained, then everything is scored and written.

    WORKDIR/comparison.json                              what is compared, so that no other comparison continues here
    WORKDIR/trainings/, running/                         see `trainings`
    WORKDIR/results.json, results.html, results.md, scores.csv

A training is done, or is continued from its last checkpoint: a killed comparison ends in the same page.
"""

import dataclasses
import hashlib
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from clinicalbert_jax.data import checksummed_json
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output
from clinicalbert_jax.finetune.compare import leakage, page, results, trainings
from clinicalbert_jax.finetune.compare.data import TaskData
from clinicalbert_jax.finetune.compare.leakage import Found
from clinicalbert_jax.finetune.compare.models import ComparedModel
from clinicalbert_jax.finetune.compare.results import Scored
from clinicalbert_jax.finetune.compare.trainings import Result, Training
from clinicalbert_jax.report.number_formats import duration
from clinicalbert_jax.runs import checksums, workdir
from clinicalbert_jax.training import train_loop
from clinicalbert_jax.training.stop_request import StopRequest

IDENTITY, RESULTS = "comparison.json", "results.json"


def run(
    directory: Path,
    models: Sequence[ComparedModel],
    tasks: Sequence[TaskData],
    fractions: Sequence[float],
    num_seeds: int,
    salt: bytes | None,
    stop: StopRequest,
) -> int:
    """Train what is missing and write the page; returns the exit code."""
    if jax.process_count() > 1:
        raise UserError("expected one process, which may have several devices, found several: start one only")
    models = _with_first_steps(directory, models)
    _check(models, tasks)
    _claim(directory, models, tasks)
    progress = _Progress(len(models) * sum(_num_trainings(task, fractions, num_seeds) for task in tasks))
    found: dict[tuple[str, str, float], Scored] = {}
    grid_seconds: dict[tuple[str, str], float] = {}
    for task in tasks:
        compiled: trainings.Compiled = {}
        for model in models:
            name = task.compared.name
            chosen = _compare(directory, task, model, compiled, fractions, num_seeds, progress, stop)
            if chosen is None:
                return train_loop.EXIT_RESUME
            of_fraction, grid_seconds[name, model.name] = chosen
            found |= {(name, model.name, fraction): scored for fraction, scored in of_fraction.items()}
        jax.clear_caches()  # or the programs of every task stay in memory
    shutil.rmtree(directory / "running", ignore_errors=True)  # what is left are empty directories
    leaked = _leaked(tasks, models, salt)
    in_training = {
        task.compared.name: leakage.in_texts(task.test_texts(), task.seen_texts(), task.seen_test_patients())
        for task in tasks
    }
    left_out = {task.compared.name: task.left_out for task in tasks}
    document = results.document(models, found, leaked, in_training, left_out, grid_seconds)
    checksummed_json.write(directory / RESULTS, document)
    written = {
        "results.html": page.page(document),
        "results.md": page.markdown(document),
        "scores.csv": page.table_of_scores(document),
    }
    for name, content in written.items():
        with atomic_output.file(directory / name, overwrite=True) as partial:
            partial.write_text(content, encoding="utf-8")
    print(f"compared {len(models)} models on {len(tasks)} tasks: {directory / 'results.html'}")
    return train_loop.EXIT_DONE


def _check(models: Sequence[ComparedModel], tasks: Sequence[TaskData]) -> None:
    """Read every model and make every task's rows: what no training could use is said before the first one."""
    for model in models:
        if model.is_random:  # of the shape and tokenizer of another
            continue
        loaded = trainings.load(model, {})
        for task in tasks:
            try:
                trainings.rows_of(task, loaded)
            except UserError as error:
                raise UserError(f"--tasks, [{task.compared.name}], model {model.name}: {error}") from None


def _with_first_steps(directory: Path, models: Sequence[ComparedModel]) -> list[ComparedModel]:
    """The models, runs with the checkpoint that was their latest when the comparison began."""
    before = _identity_in(directory)
    steps = {} if before is None else before["steps"]
    return [replace(model, step=steps.get(model.name, model.step)) for model in models]


def _claim(directory: Path, models: Sequence[ComparedModel], tasks: Sequence[TaskData]) -> None:
    """Write what is compared, or raise `UserError` where the directory holds another comparison."""
    before = _identity_in(directory)
    identity: dict[str, dict[str, Any]] = {
        "models": {model.name: ["random" if model.is_random else "given", _sha256(model)] for model in models},
        "steps": {model.name: model.step for model in models if model.step is not None},
        "tasks": {
            task.compared.name: {
                "configs": [repr(config) for config in task.compared.configs],
                "validation_fraction": task.compared.validation_fraction,
                "examples": task.sha256(),
                "files": {
                    name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in task.compared.files.items()
                },
            }
            for task in tasks
        },
    }
    if before is None:
        others = directory.iterdir() if directory.exists() else ()
        if any(not one.name.startswith((".", f"{IDENTITY}.")) for one in others):  # the latter: killed while it wrote
            raise UserError(
                f"--workdir: expected a new directory or an earlier comparison, found others' files in {directory}"
            )
        directory.mkdir(parents=True, exist_ok=True)
        checksummed_json.write(directory / IDENTITY, identity)
        return
    for part in ("models", "tasks"):
        for name in sorted({*before[part], *identity[part]}):
            if before[part].get(name) != identity[part].get(name):
                what = "absent" if name not in identity[part] else "new" if name not in before[part] else "another"
                raise UserError(
                    f"--workdir: expected the comparison that {directory} was made of, found {name} of --{part} to "
                    f"be {what}: give the same, or another --workdir"
                )


def _identity_in(directory: Path) -> dict[str, Any] | None:
    """What an earlier call has written; None where none has."""
    if not (directory / IDENTITY).exists():
        return None
    try:
        before = checksummed_json.read(directory / IDENTITY)
        if before.keys() >= {"models", "steps", "tasks"}:
            return before
    except ValueError:
        pass
    raise UserError(
        f"{directory / IDENTITY} is not as this version writes it: restore it from a copy, or give another --workdir"
    ) from None


def _sha256(model: ComparedModel) -> str:
    """Of the weights and everything else that a model's files say."""
    directory = model.source.directory
    if model.source.is_run:
        trainings.check_step(model)
        checkpoint = directory / workdir.CHECKPOINTS / str(model.step)
        return hashlib.sha256((checkpoint / checksums.FILE_NAME).read_bytes()).hexdigest()
    whole = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.is_file() and not path.name.startswith("."):  # weights have names of several kinds
            with path.open("rb") as file:
                whole.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def _compare(
    directory: Path,
    data: TaskData,
    model: ComparedModel,
    compiled: trainings.Compiled,
    fractions: Sequence[float],
    num_seeds: int,
    progress: "_Progress",
    stop: StopRequest,
) -> tuple[dict[float, Scored], float] | None:
    """The scores of a model on a task by fraction, and the seconds of the grid; None where a signal asked to stop."""
    loaded = trainings.load(model, compiled)
    rows = trainings.rows_of(data, loaded)

    def result(fraction: float, setting: int, seed: int) -> Result | None:
        training = Training(data.compared.name, model.name, fraction, setting, seed)
        if (done := trainings.read(training.file(directory))) is None:
            if trainings.train(training, data, loaded, rows, directory, stop) != train_loop.EXIT_DONE:
                return None
            done = trainings.read(training.file(directory))
            assert done is not None
            progress.trained(training, done)
        else:
            progress.found(training)
        return done

    configs = data.compared.configs
    tried: list[Result] = []
    for setting in range(len(configs) if len(configs) > 1 else 0):
        if (one := result(1.0, setting, 0)) is None:
            return None
        tried.append(one)
    # A score that is not defined is not the best.
    setting = max(range(len(tried)), key=lambda n: np.nan_to_num(tried[n].validation, nan=-np.inf)) if tried else 0
    of_fraction = {}
    for fraction in sorted(fractions, reverse=True):
        of_seeds = []
        for seed in range(num_seeds):
            if (one := result(fraction, setting, seed)) is None:
                return None
            if not one.logits:
                raise UserError(
                    f"--tasks, [{data.compared.name}], model {model.name}, fraction {fraction:g}, seed {seed}: "
                    "expected a training with finite weights, found that they became infinite: give a lower learning "
                    "rate or more warm-up, in another --workdir"
                )
            of_seeds.append(one)
        of_fraction[fraction] = results.scored(
            data.task, data.examples["test"], rows["test"], of_seeds, _differing(configs, setting)
        )
    counted = setting if 1.0 in of_fraction else None  # the chosen one is also the first seed's
    return of_fraction, sum(one.seconds for number, one in enumerate(tried) if number != counted)


def _num_trainings(task: TaskData, fractions: Sequence[float], num_seeds: int) -> int:
    tried = len(task.compared.configs) - 1  # the chosen one is also the first seed's
    return len(fractions) * num_seeds + tried + (1.0 not in fractions and tried > 0)


def _differing(configs: Sequence[Any], setting: int) -> dict[str, Any]:
    """The fields, by dotted name, in which the entries of a grid differ, with the values of one of them."""
    flat = [_flat(dataclasses.asdict(config)) for config in configs]
    return {name: value for name, value in flat[setting].items() if any(other[name] != value for other in flat)}


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        inner = (
            {f"{name}.{key}": one for key, one in _flat(value).items()} if isinstance(value, dict) else {name: value}
        )
        found |= inner
    return found


def _leaked(
    tasks: Sequence[TaskData], models: Sequence[ComparedModel], salt: bytes | None
) -> dict[tuple[str, str], Found]:
    """What of each test set the datasets of each model hold, by task and model, where any are named."""
    texts = {task.compared.name: task.test_texts() for task in tasks}
    patients = {task.compared.name: task.test_patients() for task in tasks}
    datasets = dict.fromkeys(data for model in models for data in model.pretraining_data)  # each is read once
    found = {data: leakage.in_shards(texts, data, patients, salt) for data in datasets}
    return {
        (task, model.name): leakage.joined([found[data][task] for data in model.pretraining_data])
        for task in texts
        for model in models
        if model.pretraining_data
    }


class _Progress:
    """Says what is done and how long the rest may take."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._num_trained = total, set[Training](), 0
        self._started = time.monotonic()

    def found(self, training: Training) -> None:
        """One training was done before."""
        self._done.add(training)

    def trained(self, training: Training, result: Result) -> None:
        """One training has ended."""
        self._done.add(training)
        self._num_trained += 1
        seconds = (time.monotonic() - self._started) / self._num_trained * (self._total - len(self._done))
        left = f", about {duration(seconds)} left" if seconds else ""
        print(
            f"{training.task}, {training.model}, fraction {training.fraction:g}, seed {training.seed}: "
            f"{result.validation:.3f} on validation data; {len(self._done)} of {self._total}{left}",
            file=sys.stderr,
        )
