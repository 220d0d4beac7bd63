"""A run as a Hugging Face directory: `python -m clinicalbert_jax.export --workdir=RUN --output_dir=DIR`.

Needs no PyTorch; with it, `--verify` compares what was written with the run, tensor by tensor and output by output.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from clinicalbert_jax import commands, huggingface, loading, model_card, output_directory, weights, workdir
from clinicalbert_jax.errors import UserError

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Directory to write; it must not exist yet.")
STEP = flags.DEFINE_string(
    "step", None, "Checkpoint of the run: its number, or 'best' on the validation split; default: latest."
)
DTYPE = flags.DEFINE_enum("dtype", "float32", list(weights.DTYPES), "Type of the weights written.")
ENCODER_ONLY = flags.DEFINE_bool("encoder_only", False, "Leave out the pre-training heads: a BertModel.")
VERIFY = flags.DEFINE_bool("verify", False, "Compare with PyTorch what was written.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an earlier export in --output_dir.")

EXIT_DIFFERENT = 1
_TOLERANCE = 1e-4  # of a fine-tuned model's logits


def main(argv: Sequence[str]) -> int:
    """Export a checkpoint; with --verify, return 1 where a tensor or an output is not what PyTorch makes of it."""
    commands.refuse_arguments(argv)
    output = Path(commands.required(OUTPUT_DIR)).expanduser()
    source = loading.find_run(commands.required(WORKDIR))
    loading.check_step(STEP.value)
    if VERIFY.value and importlib.util.find_spec("torch") is None:
        raise UserError("--verify: expected PyTorch to compare with, found none: install torch, or drop --verify")
    output_directory.check(output, OVERWRITE.value)
    output_directory.clean_up_when_terminated()
    if workdir.kept(source.directory, workdir.TASK_FILE).exists():
        return _fine_tuned(source, output)

    loaded = loading.load(source, STEP.value)
    assert loaded.step is not None  # of a run it is known
    parts = ("encoder", "pooler") if ENCODER_ONLY.value else weights.PARTS
    with output_directory.new(output, OVERWRITE.value) as partial:
        huggingface.write_directory(
            partial, loaded.config, loaded.params, loaded.tokenizer_dir, dtype=DTYPE.value, parts=parts
        )
        model_card.write(partial, source.directory, loaded.step)
    print(f"step {loaded.step:,} of {source.directory} exported to {output}")
    if not VERIFY.value:
        return 0
    from clinicalbert_jax import verify

    comparison = verify.compare(output, loaded, DTYPE.value)
    print(comparison.report())
    return 0 if comparison.equal else EXIT_DIFFERENT


def _fine_tuned(source: loading.Source, output: Path) -> int:
    if ENCODER_ONLY.value:
        raise UserError("--encoder_only: expected a pre-trained model, found one fine-tuned for a task: drop the flag")
    from clinicalbert_jax.finetune import export, trained

    model = trained.load(source, STEP.value or loading.BEST)
    with output_directory.new(output, OVERWRITE.value) as partial:
        export.write(partial, model, source.directory, DTYPE.value)
    print(f"step {model.step:,} of {source.directory} exported to {output}")
    if not VERIFY.value:
        return 0
    difference = export.difference(output, model)
    print(f"largest difference of logits in PyTorch: {difference:.1e}")
    return 0 if DTYPE.value != "float32" or difference < _TOLERANCE else EXIT_DIFFERENT


if __name__ == "__main__":
    commands.run(main)
