"""Predictions of a fine-tuned model: `python -m clinicalbert_jax.predict --model=DIR --input=FILE --output=PATH`.

DIR is a seed's run of `clinicalbert_jax.finetune` or its export; FILE has the form of the training data, annotated or
not.
"""

from dataclasses import dataclass

from clinicalbert_jax import cli
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output, patterns
from clinicalbert_jax.finetune import task_json
from clinicalbert_jax.finetune.convert import way_back
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.options import option
from clinicalbert_jax.pretrained import loading


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    model: str = option("A fine-tuned model: a seed's run, or an exported directory.")
    input: str = option("The records to predict for.", labelled=True)
    output: str = option("Beginning of the names of the files to write.")
    step: str = option("Checkpoint of a run: its number, or 'best' by validation.", loading.BEST)
    reading: Reading
    show_text: bool = option("Write the text of records into the files as well.", False)
    overwrite: bool = option("Replace earlier predictions of the same names.", False)


def main(options: Options) -> None:
    """Predict, write, and print which files were written."""
    source = loading.find(options.model)
    loading.check_step(options.step)
    trained = task_json.read(source.directory)
    path, output = patterns.expanded(options.input), atomic_output.local_path(options.output, "--output")
    if not path.is_file():
        raise UserError("--input: expected a file, found none")
    if not output.parent.is_dir():
        raise UserError(f"--output: expected a name in an existing directory, found {output}")
    for end in trained.settings.task_with_labels(trained.labels).files([], [], options.show_text):
        atomic_output.check_file(output.with_name(output.name + end), options.overwrite, [path])
    conversion = way_back.find(path)
    if conversion and options.show_text:
        conversion.check(output, path, options.overwrite)
    examples = trained.settings.read(path, options.reading, annotated=False)

    from clinicalbert_jax.config import MeshConfig
    from clinicalbert_jax.finetune import finetuned_model, predictor
    from clinicalbert_jax.tokenizer_files import bert_tokenizer
    from clinicalbert_jax.training import xla
    from clinicalbert_jax.training.sharding import make_mesh

    xla.configure_inference()
    model = finetuned_model.load(source, options.step)
    rows = model.task.rows(examples, bert_tokenizer.build(bert_tokenizer.read(model.tokenizer_dir)), False)
    predict = predictor.Predictor(model.task.head, model.config, make_mesh(MeshConfig()))
    with cli.progress_bar(doing="predicting", total=len(rows), unit=" rows", leave=False) as bar:
        logits = predict(model.params, rows, after_batch=bar.update)
    predictions = model.task.decode(examples, rows, logits)
    for written in model.task.write(output, examples, predictions, options.show_text, options.overwrite, [path]):
        print(written)
    if conversion and options.show_text:
        records = [model.task.record(one, found, False) for one, found in zip(examples, predictions, strict=True)]
        for written in conversion.write(output, path, records, options.overwrite):
            print(written)
    elif conversion:
        print(f"not written in the form of the corpus ({conversion.corpus}), which quotes the text: give --show_text")
    if options.reading.counts:
        print(f"skipped {options.reading.counts.total()} records that could not be used")


if __name__ == "__main__":
    cli.run(main, Options)
