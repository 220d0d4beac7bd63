"""A run as a Hugging Face directory: weights, configuration, tokenizer and model card."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.export import model_card
from clinicalbert_jax.files import atomic_output
from clinicalbert_jax.options import option
from clinicalbert_jax.pretrained import huggingface, loading, weight_names
from clinicalbert_jax.runs import provenance, workdir
from clinicalbert_jax.tokenizer_files import bert_tokenizer

EXIT_DIFFERENT = 1
_TOLERANCE = 1e-4  # of a fine-tuned model's logits


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    workdir: str = option("Directory of the run, or its URL.")
    output_dir: str = option("Directory to write; it must not exist yet.")
    step: str | None = option("Checkpoint: its number, or 'best' on the validation split; default: latest.", None)
    dtype: str = option("Type of the weights written.", "float32", choices=tuple(weight_names.DTYPES))
    encoder_only: bool = option("Leave out the pre-training heads: a BertModel.", False)
    with_canaries: bool = option("Export a model of notes with planted canaries, which is for audits.", False)
    verify: bool = option("Compare with PyTorch what was written.", False)
    overwrite: bool = option("Replace an earlier export in --output_dir.", False)


def export(options: Options) -> int:
    """Write a checkpoint's model; with `verify`, return `EXIT_DIFFERENT` where PyTorch computes something else."""
    source = loading.find_run(options.workdir)
    loading.check_step(options.step)
    if options.verify and importlib.util.find_spec("torch") is None:
        raise UserError("--verify: expected PyTorch to compare with, found none: install torch, or drop --verify")
    if provenance.has_canaries(source.directory) and not options.with_canaries:
        raise UserError(
            "--with_canaries: expected this flag for a model that was trained on notes with planted canaries, or "
            "started from one that was, which is for audits: give it, or export a model trained on notes without"
        )
    output = atomic_output.check_directory(
        options.output_dir, options.overwrite, huggingface.is_export, [source.directory]
    )
    atomic_output.clean_up_when_terminated()
    fine_tuned = workdir.kept(source.directory, workdir.TASK_FILE).exists()
    equal = (_fine_tuned if fine_tuned else _pretrained)(source, output, options)
    return 0 if equal else EXIT_DIFFERENT


def _pretrained(source: loading.Source, output: Path, options: Options) -> bool:
    loaded = loading.load(source, options.step)
    assert loaded.step is not None  # of a run it is known
    parts = ("encoder", "pooler") if options.encoder_only else weight_names.PARTS
    with atomic_output.directory(output, options.overwrite, huggingface.is_export, [source.directory]) as partial:
        huggingface.write_directory(
            partial, loaded.config, loaded.params, loaded.tokenizer_dir, dtype=options.dtype, parts=parts
        )
        model_card.write(partial, source.directory, loaded.step)
    print(f"step {loaded.step:,} of {source.directory} exported to {output}")
    if not options.verify:
        return True
    from clinicalbert_jax.export import pytorch_parity

    comparison = pytorch_parity.compare(output, loaded, options.dtype)
    print(comparison.report())
    return _is_tokenizer_equal(output, loaded.tokenizer_dir, loaded.config) and comparison.equal


def _fine_tuned(source: loading.Source, output: Path, options: Options) -> bool:
    if options.encoder_only:
        raise UserError("--encoder_only: expected a pre-trained model, found one fine-tuned for a task: drop the flag")
    from clinicalbert_jax.finetune import export, finetuned_model

    model = finetuned_model.load(source, options.step or loading.BEST)
    with atomic_output.directory(output, options.overwrite, huggingface.is_export, [source.directory]) as partial:
        export.write(partial, model, source.directory, options.dtype)
    print(f"step {model.step:,} of {source.directory} exported to {output}")
    if not options.verify:
        return True
    difference = export.difference(output, model, options.dtype)
    print(f"largest difference of logits in PyTorch: {difference:.1e}")
    return _is_tokenizer_equal(output, model.tokenizer_dir, model.config) and difference < _TOLERANCE


def _is_tokenizer_equal(output: Path, tokenizer_dir: Path, config: ModelConfig) -> bool:
    from clinicalbert_jax.export import tokenizer_parity

    comparison = tokenizer_parity.compare(output, bert_tokenizer.read(tokenizer_dir), config.max_position_embeddings)
    print(comparison.report())
    return comparison.equal
