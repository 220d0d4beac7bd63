"""Held-out figures of one model, or of two on the same patients."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output
from clinicalbert_jax.options import POSITIONAL, option
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.runs import object_store, provenance, workdir
from clinicalbert_jax.tokenizer_files import bert_tokenizer


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    models: tuple[str, ...] = option("Models: runs, exported directories, Hugging Face BERTs.", (), kind=POSITIONAL)
    workdir: str | None = option("Directory of the run to evaluate.", None)
    model: str | None = option("Exported directory or Hugging Face BERT to evaluate.", None)
    data_dir: str = option("The NAME/VERSION directory that `python -m data_prep` wrote, or its URL.")
    split: str = option("The held-out split.", "test", choices=("test", "validation"))
    step: str | None = option("Checkpoint of the run: its number, or 'best' on validation; default: latest.", None)
    output: str | None = option("JSON file; by default RUN/evaluation_SPLIT.json for a single run.", None)
    overwrite: bool = option("Replace the file of --output.", False)
    batch_size: int | None = option(
        "Rows in a batch, rounded up to a multiple of the devices; default: what suits them.", None, lowest=1
    )
    dtype: str = option("Type of the activations.", "float32", choices=("float32", "bfloat16"))


def run(options: Options) -> None:
    """Check everything that can be checked without JAX; then evaluate, print the table, write the JSON."""
    names = [name for name in (options.workdir, options.model) if name is not None] + list(options.models)
    if not 1 <= len(names) <= 2:
        raise UserError(f"expected one model, or two to compare (--workdir, --model or arguments), found {len(names)}")
    data_dir = object_store.dataset(options.data_dir)
    manifest = Manifest.load(data_dir)
    sources = [loading.find_run(options.workdir)] if options.workdir is not None else []
    sources += [loading.find(name) for name in names[len(sources) :]]
    loading.check_step(options.step)
    inputs = [path for directory in (data_dir, *(s.directory for s in sources)) for path in _inputs(directory)]
    if options.output is not None:
        atomic_output.check_file(options.output, options.overwrite, inputs)
    for source in sources:
        check_fits(source, data_dir, manifest)
    if options.step is not None and not sources[0].is_run:
        raise UserError(f"--step: expected a run to choose a checkpoint from, found {sources[0].directory}")

    from clinicalbert_jax.training import xla

    xla.configure_inference()
    document = evaluate(sources, data_dir, manifest, options.split, options.step, options.batch_size, options.dtype)
    from clinicalbert_jax.evaluate import summary

    print(summary.table(document))
    output, overwrite = options.output, options.overwrite
    if output is None and len(sources) == 1 and sources[0].is_run:  # its own file, of an earlier evaluation
        output, overwrite = str(sources[0].directory / provenance.EVALUATION_FILE.format(split=options.split)), True
    if output is not None:
        with atomic_output.file(output, overwrite, inputs) as partial:
            partial.write_text(json.dumps(document, indent=2) + "\n")
        print(f"\nwritten to {output}")


def check_fits(source: loading.Source, data_dir: Path, manifest: Manifest) -> None:
    """Raise `UserError` where a model cannot read the data: another tokenizer, rows too long, no segments for pairs."""
    config, ours, theirs = loading.config_of(source), bert_tokenizer.read(data_dir), loading.tokenizer_of(source)
    if config.vocab_size != len(ours.tokens) if theirs is None else theirs.tokens != ours.tokens:
        raise UserError(
            f"expected a model with the vocabulary of {data_dir} ({manifest.vocabulary.size} entries), found another "
            f"in {source.directory} ({config.vocab_size} entries): losses over two vocabularies cannot be compared"
        )
    for name, expected, found in ours.differences(theirs or ours):
        raise UserError(
            f"expected a model with {name} {expected}, as in {data_dir}, found {found} in {source.directory}: prepare "
            "the data with the model's tokenizer"
        )
    loading.check_rows(source, manifest.layout.max_seq_length, pairs=True)


def evaluate(
    sources: Sequence[loading.Source],
    data_dir: Path,
    manifest: Manifest,
    split: str = "test",
    step: str | None = None,
    batch_size: int | None = None,
    dtype: str = "float32",
) -> dict[str, Any]:
    """The figures of one model, or of two with their difference, as one JSON document. `step` is the first's."""
    import jax

    from clinicalbert_jax.data.dataset import Dataset
    from clinicalbert_jax.evaluate import per_token, summary
    from clinicalbert_jax.training import xla

    dataset = Dataset(data_dir, split)
    devices = jax.local_device_count()
    at_once = xla.rows_at_once(jax.default_backend(), manifest.layout.max_seq_length)
    rows = devices * (at_once if batch_size is None else -(-batch_size // devices))
    targets = per_token.targets(dataset, list(bert_tokenizer.read(data_dir).tokens), rows)
    models: list[dict[str, Any]] = []
    scored: list[per_token.Scores] = []
    with_nsp = True
    for source in sources:
        loaded = loading.load(source, step if not models else None)
        if "mlm_head" in loaded.fresh_heads:
            raise UserError(f"expected a model with an MLM head, found none in {source.directory}")
        has_nsp = len(targets.patients_M) > 0 and not {"nsp_head", "pooler"} & set(loaded.fresh_heads)
        with_nsp &= has_nsp
        scored.append(per_token.scores(dataset, loaded, rows, dtype))
        figures = summary.figures(targets, scored[-1], manifest.categories, has_nsp)
        models.append({"source": str(source.directory), "step": loaded.step} | figures)
    document = {
        "data": f"{manifest.name} {manifest.version}",
        "split": split,
        "num_predictions": len(targets.ids_N),
        "num_pairs": len(targets.patients_M),
        "num_patients": targets.num_patients,
        "resampling_unit": unit(manifest),
        "unigram_entropy": summary.unigram_entropy(targets),
        "models": models,
        "warnings": [warning for source in sources for warning in warnings_of(source, manifest)],
    }
    if len(scored) == 2:
        document["difference"] = summary.difference(targets, scored[0], scored[1], with_nsp)
    return document


def warnings_of(source: loading.Source, manifest: Manifest) -> list[str]:
    """Reasons to doubt that the held-out patients were held out from this model too."""
    if source.is_run:
        known = provenance.provenance(
            workdir.read_config(source.directory), workdir.manifest_of(source.directory), step=0
        )
    else:
        known = provenance.read(source.directory)
    if not known:
        return [
            f"{source.directory} does not say what it was trained on: a public clinical model may have been trained on "
            "these very patients, and then its figures say nothing"
        ]
    if known["shards_sha256"] != provenance.shards_sha256(manifest):
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


def unit(manifest: Manifest) -> str:
    """What a patient's number stands for in this data."""
    return "patients" if manifest.has_patients else "documents"


def _inputs(directory: Path) -> list[Path]:
    """Files that an output must not replace: all but earlier evaluations."""
    earlier = provenance.EVALUATION_FILE.format(split="*")
    return [path for path in directory.rglob("*") if path.is_file() and not path.match(earlier)]
