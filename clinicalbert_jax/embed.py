"""Vectors of texts: `python -m clinicalbert_jax.embed --model=DIR --input=notes.jsonl --output=vectors.parquet`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from clinicalbert_jax import commands, loading, texts
from clinicalbert_jax.errors import UserError

MODEL = flags.DEFINE_string("model", None, "Run's directory, exported directory, or Hugging Face BERT.")
INPUT = flags.DEFINE_string("input", None, "One text a line ('-': standard input), or .jsonl with `id` and `text`.")
OUTPUT = flags.DEFINE_string("output", None, "Where to write: FILE.parquet or FILE.npz.")
POOLING = flags.DEFINE_enum("pooling", "mean", ["mean", "cls"], "Mean over all tokens, or the vector of [CLS].")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace the output where it exists.")


def main(argv: Sequence[str]) -> None:
    """Write ids and vectors, one row a text, in the order of the input."""
    commands.refuse_arguments(argv)
    output = Path(commands.required(OUTPUT)).expanduser()
    if output.suffix not in (".parquet", ".npz") or not output.parent.is_dir():
        raise UserError(f"--output: expected FILE.parquet or FILE.npz in an existing directory, found {output}")
    if output.exists() and not OVERWRITE.value:
        raise UserError(f"--output: {output} exists: give another name, or --overwrite")
    ids, given = texts.read_records(commands.required(INPUT))
    source = loading.find(commands.required(MODEL))
    from clinicalbert_jax.inference import Inference  # brings JAX: only once the flags are known to be right

    model = Inference(loading.load(source), show_progress=True)
    vectors_NxD, cut = model.embed(given, POOLING.value)
    partial = output.with_name(f".{output.name}.partial{output.suffix}")
    _write(partial, ids, vectors_NxD)
    partial.replace(output)
    longest = model.config.max_position_embeddings
    print(f"{len(ids):,} vectors of {vectors_NxD.shape[1]} in {output}; {cut:,} texts were cut to {longest} tokens")


def _write(path: Path, ids: list[str], vectors_NxD: np.ndarray) -> None:
    if path.suffix == ".npz":
        np.savez(path, ids=np.array(ids), vectors=vectors_NxD)
        return
    import pyarrow as pa
    from pyarrow import parquet

    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors_NxD.reshape(-1)), vectors_NxD.shape[1])
    parquet.write_table(pa.table({"id": ids, "vector": column}), path)


if __name__ == "__main__":
    commands.run(main)
