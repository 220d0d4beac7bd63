"""Vectors of texts: `python -m clinicalbert_jax.embed --model=DIR --input=notes.jsonl --output=vectors.parquet`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from clinicalbert_jax import commands, loading, texts
from clinicalbert_jax.errors import UserError

FLAGS = flags.FLAGS
flags.DEFINE_string("model", None, "Run's directory, exported directory, or Hugging Face BERT.", required=True)
flags.DEFINE_string(
    "input", None, "One text a line ('-': standard input), or .jsonl with `id` and `text`.", required=True
)
flags.DEFINE_string("output", None, "Where to write: FILE.parquet or FILE.npz.", required=True)
flags.DEFINE_enum("pooling", "mean", ["mean", "cls"], "Mean over all tokens, or the vector of [CLS].")
flags.DEFINE_bool("overwrite", False, "Replace the output where it exists.")


def main(argv: Sequence[str]) -> None:
    """Write ids and vectors, one row a text, in the order of the input."""
    if argv[1:]:
        raise UserError(f"expected no arguments beside the flags, found {len(argv) - 1}")
    output = Path(FLAGS.output).expanduser()
    if output.suffix not in (".parquet", ".npz") or not output.parent.is_dir():
        raise UserError(f"--output: expected FILE.parquet or FILE.npz in an existing directory, found {output}")
    if output.exists() and not FLAGS.overwrite:
        raise UserError(f"--output: {output} exists: give another name, or --overwrite")
    ids, given = texts.read_records(FLAGS.input)
    source = loading.find(FLAGS.model)
    from clinicalbert_jax.inference import Inference  # brings JAX: only once the flags are known to be right

    model = Inference(loading.load(source), show_progress=True)
    vectors_NxD, cut = model.embed(given, FLAGS.pooling)
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
