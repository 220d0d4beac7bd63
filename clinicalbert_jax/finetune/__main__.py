"""Fine-tune a pre-trained BERT for a downstream task.

    python -m clinicalbert_jax.finetune --config=configs/finetune/entities.py --model=DIR \
        --train=train.tsv --validation=devel.tsv [--test=test.tsv] --workdir=RUN

Run the same command again to continue. Exit codes: 0 done, 2 a mistake to mend, 75 stopped by a signal, all saved.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from clinicalbert_jax import commands, loading
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune import records

CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment: a file in configs/finetune/.")
MODEL = flags.DEFINE_string("model", None, "The BERT to start from: a run, an exported directory, or a hub name.")
TRAIN = flags.DEFINE_string("train", None, "Annotated records to train on.")
VALIDATION = flags.DEFINE_string("validation", None, "Annotated records to choose the best model by.")
TEST = flags.DEFINE_string("test", None, "Annotated records to measure the chosen model on.")
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the experiment: runs, scores, predictions.")
ON_BAD_RECORD = flags.DEFINE_enum(
    "on_bad_record", "stop", list(records.POLICIES), "At a record that cannot be used: stop, or leave out and count."
)
SHOW_TEXT = flags.DEFINE_bool("show_text", False, "Write the text of records into the files of predictions as well.")


def main(argv: Sequence[str]) -> int:
    """Check flags, config and data, and only then import JAX, which takes seconds."""
    commands.refuse_arguments(argv)
    config = commands.read_config(CONFIG)
    source = loading.find(commands.required(MODEL))
    files = {"train": Path(commands.required(TRAIN)), "validation": Path(commands.required(VALIDATION))}
    if TEST.value:
        files["test"] = Path(TEST.value)
    workdir = Path(commands.required(WORKDIR)).expanduser()
    bad = records.BadRecords(ON_BAD_RECORD.value)
    examples = {}
    for split, path in files.items():
        if not path.is_file():
            raise UserError(f"--{split}: expected a file, found none at {path}")
        examples[split] = config.task.read(path, bad)
    task = config.task.task(examples["train"])
    for split, path in files.items():
        examples[split] = config.task.check_labels(task, examples[split], path, bad)
        if not examples[split]:
            raise UserError(f"{path}: expected records with labels of the training data, found none: mend the file")

    from clinicalbert_jax import compilation, distributed
    from clinicalbert_jax.finetune import experiment

    data = experiment.Data(files, examples, bad.counts)
    experiment.check_patients(data)
    compilation.configure()
    distributed.initialize(None, None, None)
    return experiment.run(config, task, data, source, workdir, SHOW_TEXT.value)


if __name__ == "__main__":
    commands.run(main)
