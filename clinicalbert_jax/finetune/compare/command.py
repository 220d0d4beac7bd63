"""What `python -m clinicalbert_jax.finetune.compare` does: check everything without JAX, then compare."""

from collections.abc import Sequence
from dataclasses import dataclass

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output, patterns
from clinicalbert_jax.finetune.compare import data, models, tasks_file
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.options import option
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.runs import workdir
from clinicalbert_jax.training import distributed, stop_request
from data_prep.reading import salt_file


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    models: tuple[str, ...] = option(
        "Runs, exports or Hugging Face BERTs, as PATH or NAME=PATH; random: each shape with random weights."
    )
    tasks: str = option("A TOML file of tasks; see docs/comparing.md.")
    workdir: str = option("Directory of the comparison: results, and the page.")
    seeds: int = option("Trainings of each model on each task.", 5, lowest=1)
    fractions: tuple[str, ...] = option("Fractions of the training documents, for learning curves.", ("1",))
    pretraining_data: tuple[str, ...] = option("MODEL=DIR: a dataset that a model was pre-trained on; repeatable.", ())
    salt_file: str = option("The salt of these datasets, to find patients of the test sets in them.", "")
    reading: Reading


def run(options: Options) -> int:
    """Check, train what is not done, and write the page. Returns the exit code."""
    with stop_request.StopRequest() as stop:
        return _run(options, stop)


def _run(options: Options, stop: stop_request.StopRequest) -> int:
    directory = atomic_output.local_path(options.workdir, "--workdir")
    workdir.check_path(directory)
    fractions = _fractions(options.fractions)
    found = models.find(options.models, options.pretraining_data)
    tasks = [data.read(task, options.reading) for task in tasks_file.read(patterns.expanded(options.tasks))]
    for task in tasks:
        _check_fractions(task, fractions)
        for model in found:
            _check_rows(model, task.compared)
    salt = salt_file.load(options.salt_file, directory, make=False)[0] if options.salt_file else None

    from clinicalbert_jax.finetune.compare import comparison
    from clinicalbert_jax.training import xla

    xla.configure()
    with distributed.only_command(directory):
        return comparison.run(directory, found, tasks, fractions, options.seeds, salt, stop)


def _check_rows(model: models.ComparedModel, compared: tasks_file.ComparedTask) -> None:
    task = compared.configs[0].task  # as in all others of the grid
    try:
        loading.check_rows(model.source, task.max_seq_length, task.pairs)
    except UserError as error:
        raise UserError(f"--tasks, [{compared.name}], model {model.name}: {error}") from None


def _check_fractions(task: data.TaskData, fractions: Sequence[float]) -> None:
    parts: dict[int, float] = {}
    for fraction in fractions:
        number = len({example.document for example in task.training_part(fraction, 0)})
        if (same := parts.setdefault(number, fraction)) != fraction:
            raise UserError(
                f"--fractions: expected different parts of the training documents, found {same:g} and {fraction:g} to "
                f"be the same {number:,} of [{task.compared.name}]: leave one out"
            )


def _fractions(given: Sequence[str]) -> list[float]:
    try:
        found = [float(one) for one in given]
    except ValueError:
        found = []
    if not found or not all(0 < one <= 1 for one in found) or len(set(found)) < len(found):
        raise UserError("--fractions: expected different numbers in (0, 1], such as 0.05,0.2,1, found otherwise")
    return found
