"""Vectors of texts: `python -m clinicalbert_jax.embed --model=DIR --input=notes.jsonl --output=vectors.parquet`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clinicalbert_jax import cli, text_input
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output
from clinicalbert_jax.options import option
from clinicalbert_jax.pretrained import loading


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    model: str = option("A run, the directory of a Hugging Face BERT, or hf://NAME on its hub.")
    input: str = option("One text a line ('-': standard input), or .jsonl with `id` and `text`.", labelled=True)
    output: str = option("The file to write: FILE.parquet or FILE.npz.")
    pooling: str = option("Mean over all tokens, or the vector of [CLS].", "mean", choices=("mean", "cls"))
    overwrite: bool = option("Replace the output if it exists.", False)


def main(options: Options) -> None:
    """Write ids and vectors, one row for each text, in the order of the input."""
    output = atomic_output.check_file(options.output, options.overwrite, [options.input])
    if output.suffix not in (".parquet", ".npz") or not output.parent.is_dir():
        raise UserError(f"--output: expected FILE.parquet or FILE.npz in an existing directory, found {output}")
    ids, texts = text_input.read_records(options.input)
    source = loading.find(options.model)
    # These import JAX, which takes seconds: after the options are checked.
    from clinicalbert_jax.inference import Inference
    from clinicalbert_jax.training import xla

    xla.configure_inference()
    model = Inference(loading.load(source), show_progress=True)
    vectors_NxD, truncated = model.embed(texts, options.pooling)
    with atomic_output.file(output, options.overwrite, [options.input]) as partial:
        _write(partial, ids, vectors_NxD)
    print(
        f"{len(ids):,} vectors of {vectors_NxD.shape[1]} in {output}; {truncated:,} texts were truncated to "
        f"{model.max_length} tokens"
    )


def _write(path: Path, ids: list[str], vectors_NxD: np.ndarray) -> None:
    if path.suffix == ".npz":
        np.savez(path, ids=np.array(ids), vectors=vectors_NxD)
        return
    import pyarrow as pa
    from pyarrow import parquet

    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors_NxD.reshape(-1)), vectors_NxD.shape[1])
    parquet.write_table(pa.table({"id": ids, "vector": column}), path)


if __name__ == "__main__":
    cli.run(main, Options)
