"""What `python -m clinicalbert_jax.finetune` does: check options and data without JAX, then run the experiment."""

from dataclasses import dataclass

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output, patterns
from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.options import CONFIG_FILE, option
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.runs import workdir
from clinicalbert_jax.training import distributed, stop_request


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    config: FinetuneConfig = option("The experiment: a file in configs/finetune/.", kind=CONFIG_FILE)
    model: str = option("The BERT to start from: a run, a directory, or hf://NAME on the hub.")
    train: str = option("Annotated records to train on.", labelled=True)
    validation: str = option("Annotated records to choose the best model by.", labelled=True)
    test: str | None = option("Annotated records to evaluate the chosen model on.", None, labelled=True)
    workdir: str = option("Directory of the experiment: runs, scores, predictions.")
    reading: Reading
    show_text: bool = option("Write the text of records into the files of predictions as well.", False)


def run(options: Options) -> int:
    """Check options, config and data, then import JAX, which takes seconds, and run. Returns the exit code."""
    with stop_request.StopRequest() as stop, distributed.joined(None, None, None, stop):
        return _run(options, stop)


def _run(options: Options, stop: stop_request.StopRequest) -> int:
    config = options.config
    directory = atomic_output.local_path(options.workdir, "--workdir")
    workdir.check_path(directory)
    results = [directory / name for name in ("results.json", "results.html")]
    if any(path.exists() for path in results) and not any(directory.glob("seed-*")):
        raise UserError("--workdir: expected a new directory or an earlier experiment, found others' results in it")
    workdir.check_free(directory, [options.model])
    source = loading.find(options.model)
    loading.check_rows(source, config.task.max_seq_length, config.task.pairs)
    given = {"train": options.train, "validation": options.validation, "test": options.test}
    files = {split: patterns.expanded(path) for split, path in given.items() if path}
    examples = {}
    for split, path in files.items():
        if not path.is_file():
            raise UserError(f"--{split}: expected a file, found none")
        examples[split] = config.task.read(path, options.reading)
    task = config.task.task(examples["train"])
    for split, path in files.items():
        examples[split] = task.check_labels(examples[split], path, options.reading)
        if not examples[split]:
            raise UserError(f"{path}: expected records with labels of the training data, found none: correct the file")

    from clinicalbert_jax.finetune import run as experiment
    from clinicalbert_jax.training import xla

    data = experiment.Data(files, examples, options.reading.counts)
    experiment.check_patients(data)
    experiment.warn_of_copies(data)
    xla.configure()
    with distributed.only_command(directory):
        return experiment.run(config, task, data, source, directory, options.show_text, stop)
