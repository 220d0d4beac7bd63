"""Held-out figures of a model, or of two: `python -m clinicalbert_jax.evaluate --workdir=RUN --data_dir=DATA`.

    python -m clinicalbert_jax.evaluate --data_dir=DATA A B

compares two models (runs, exported directories, Hugging Face BERTs) on the same held-out patients.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from clinicalbert_jax import commands, huggingface, loading, model_card, remote, vocabulary, workdir
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.manifest import Manifest

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run to evaluate.")
MODEL = flags.DEFINE_string("model", None, "Exported directory or Hugging Face BERT to evaluate.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "The NAME/VERSION directory that `python -m data_prep` wrote.")
SPLIT = flags.DEFINE_enum("split", "test", ["test", "validation"], "The held-out part.")
STEP = flags.DEFINE_string(
    "step", None, "Checkpoint of the run: its number, or 'best' on the validation split; default: latest."
)
OUTPUT = flags.DEFINE_string("output", None, "JSON file; by default RUN/evaluation_SPLIT.json for a single run.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Rows at a time, rounded up to a multiple of the devices.", 1)
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Type of the activations.")


def main(argv: Sequence[str]) -> None:
    """Check everything that can be checked without JAX; then evaluate, print the table, write the JSON."""
    names = [name for name in (WORKDIR.value, MODEL.value) if name is not None] + list(argv[1:])
    if not 1 <= len(names) <= 2:
        raise UserError(f"expected one model, or two to compare (--workdir, --model or arguments), found {len(names)}")
    data_dir = remote.dataset(commands.required(DATA_DIR))
    manifest = Manifest.load(data_dir)
    sources = [loading.find_run(WORKDIR.value)] if WORKDIR.value is not None else []
    sources += [loading.find(name) for name in names[len(sources) :]]
    loading.check_step(STEP.value)
    if OUTPUT.value and not Path(OUTPUT.value).absolute().parent.is_dir():
        raise UserError(f"--output: expected a file in an existing directory, found {OUTPUT.value}")
    for source in sources:
        check_fits(source, data_dir, manifest)
    if STEP.value is not None and not sources[0].is_run:
        raise UserError(f"--step: expected a run to choose a checkpoint from, found {sources[0].directory}")

    document = evaluate(sources, data_dir, manifest, SPLIT.value, STEP.value, BATCH_SIZE.value, DTYPE.value)
    from clinicalbert_jax import evaluation

    print(evaluation.table(document))
    output = _output(sources)
    if output is not None:
        try:
            output.write_text(json.dumps(document, indent=2) + "\n")
        except OSError as error:
            raise UserError(f"--output: cannot write {output} ({error.strerror})") from None
        print(f"\nwritten to {output}")


def check_fits(source: loading.Source, data_dir: Path, manifest: Manifest) -> None:
    """Raise `UserError` where a model cannot read the data: another vocabulary or casing, or rows too long."""
    if source.is_run:
        config, tokenizer_dir = workdir.read_config(source.directory).model, workdir.kept(source.directory, "tokenizer")
    else:
        config, tokenizer_dir = huggingface.read_config(source.directory), source.directory
    ours, theirs = vocabulary.read(data_dir), vocabulary.read(tokenizer_dir)
    if theirs is None:
        same = config.vocab_size == manifest.vocabulary.size
    else:
        same = ours is not None and theirs.entries == ours.entries
    if not same:
        raise UserError(
            f"expected a model with the vocabulary of {data_dir} ({manifest.vocabulary.size} entries), found another "
            f"in {source.directory} ({config.vocab_size} entries): losses over two vocabularies cannot be compared"
        )
    lower = None if theirs is None else theirs.do_lower_case
    if lower is not None and lower != manifest.vocabulary.do_lower_case:
        raise UserError(
            f"expected a model with do_lower_case={manifest.vocabulary.do_lower_case}, as in {data_dir}, "
            f"found {lower} in {source.directory}: prepare the data with the model's casing"
        )
    if manifest.layout.max_seq_length > config.max_position_embeddings:
        raise UserError(
            f"expected a model with at least {manifest.layout.max_seq_length} positions, as long as the rows in "
            f"{data_dir}, found {config.max_position_embeddings} in {source.directory}: prepare shorter rows"
        )


def evaluate(
    sources: Sequence[loading.Source],
    data_dir: Path,
    manifest: Manifest,
    split: str = "test",
    step: str | None = None,
    batch_size: int = 64,
    dtype: str = "float32",
) -> dict[str, Any]:
    """The figures of one model, or of two with their difference, as one JSON document. `step` is the first's."""
    import jax

    from clinicalbert_jax import evaluation, scores
    from clinicalbert_jax.dataset import Dataset

    dataset = Dataset(data_dir, split)
    pieces = vocabulary.read(data_dir)
    if pieces is None:
        raise UserError(f"expected vocab.txt in {data_dir}, found none: prepare the data again")
    devices = jax.local_device_count()
    rows = -(-batch_size // devices) * devices
    targets = scores.targets(dataset, pieces.entries, rows)
    models: list[dict[str, Any]] = []
    scored: list[scores.Scores] = []
    with_nsp = True
    for source in sources:
        loaded = loading.load(source, step if not models else None)
        if "mlm_head" in loaded.fresh_heads:
            raise UserError(f"expected a model with an MLM head, found {source.directory} without: nothing to evaluate")
        has_nsp = not {"nsp_head", "pooler"} & set(loaded.fresh_heads)
        with_nsp &= has_nsp
        scored.append(scores.scores(dataset, loaded, rows, dtype))
        figures = evaluation.figures(targets, scored[-1], manifest.categories, has_nsp)
        models.append({"source": str(source.directory), "step": loaded.step} | figures)
    document = {
        "data": f"{manifest.name} {manifest.version}",
        "split": split,
        "num_predictions": len(targets.ids_N),
        "num_pairs": len(targets.patients_M),
        "num_patients": targets.num_patients,
        "unigram_entropy": evaluation.unigram_entropy(targets),
        "models": models,
        "warnings": [warning for source in sources for warning in warnings_of(source, manifest)],
    }
    if len(scored) == 2:
        document["difference"] = evaluation.difference(targets, scored[0], scored[1], with_nsp)
    return document


def warnings_of(source: loading.Source, manifest: Manifest) -> list[str]:
    """What makes it doubtful that the held-out patients were held out from this model too."""
    if source.is_run:
        known = model_card.provenance(
            workdir.read_config(source.directory), workdir.manifest_of(source.directory), step=0
        )
    else:
        known = vocabulary.read_json(source.directory / model_card.PROVENANCE_FILE)
    if not known:
        return [
            f"{source.directory} does not say what it was trained on: a public clinical model may have been trained on "
            "these very patients, and then its figures say nothing"
        ]
    if known["shards"] != model_card.shards_of(manifest):
        return [
            f"{source.directory} was trained on another preparation of data: these held-out patients may have been "
            "among those it was trained on"
        ]
    if known["started_from"]:
        return [
            f"{source.directory} started from {known['started_from']}: if that is a clinical model, it may have been "
            "trained on these very patients"
        ]
    return []


def _output(sources: Sequence[loading.Source]) -> Path | None:
    if OUTPUT.value is not None:
        return Path(OUTPUT.value).expanduser()
    alone = len(sources) == 1 and sources[0].is_run
    return sources[0].directory / f"evaluation_{SPLIT.value}.json" if alone else None


if __name__ == "__main__":
    commands.run(main)
