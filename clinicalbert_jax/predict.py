"""Predictions of a fine-tuned model: `python -m clinicalbert_jax.predict --model=DIR --input=FILE --output=PATH`.

DIR is a seed's run of `clinicalbert_jax.finetune` or its export; FILE has the form of the training data, without need
of annotation.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from clinicalbert_jax import commands, loading
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune import records, run_directory

MODEL = flags.DEFINE_string("model", None, "A fine-tuned model: a seed's run, or an exported directory.")
INPUT = flags.DEFINE_string("input", None, "The records to predict for.")
OUTPUT = flags.DEFINE_string("output", None, "Beginning of the names of the files to write.")
STEP = flags.DEFINE_string("step", loading.BEST, "Checkpoint of a run: its number, or 'best' by validation.")
ON_BAD_RECORD = flags.DEFINE_enum(
    "on_bad_record", "stop", list(records.POLICIES), "At a record that cannot be used: stop, or leave out and count."
)
SHOW_TEXT = flags.DEFINE_bool("show_text", False, "Write the text of records into the files as well.")


def main(argv: Sequence[str]) -> None:
    """Predict, write, and say which files were written."""
    commands.refuse_arguments(argv)
    source = loading.find(commands.required(MODEL))
    loading.check_step(STEP.value)
    settings = run_directory.read(source.directory).settings
    path, output = Path(commands.required(INPUT)), Path(commands.required(OUTPUT)).expanduser()
    if not path.is_file():
        raise UserError(f"--input: expected a file, found none at {path}")
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output: expected a name in an existing directory, found {output}")
    bad = records.BadRecords(ON_BAD_RECORD.value)
    examples = settings.read(path, bad, annotated=False)

    from clinicalbert_jax import compilation
    from clinicalbert_jax.config import MeshConfig
    from clinicalbert_jax.finetune import prediction, trained
    from clinicalbert_jax.inference import load_tokenizer
    from clinicalbert_jax.sharding import make_mesh

    compilation.configure()
    model = trained.load(source, STEP.value)
    rows = model.task.rows(examples, load_tokenizer(model.tokenizer_dir), False)
    logits = prediction.Predictor(model.task.head, model.config, make_mesh(MeshConfig()))(model.params, rows)
    predictions = model.task.decode(examples, rows, logits)
    for written in model.task.write(output, examples, predictions, SHOW_TEXT.value):
        print(written)
    if bad.counts:
        print(f"left out {bad.counts.total()} records that could not be used")


if __name__ == "__main__":
    commands.run(main)
