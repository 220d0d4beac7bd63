"""Convert a published corpus to JSON lines: `python -m clinicalbert_jax.finetune.convert --corpus=ade --input=DIR ...`.

For each split a file OUTPUT_DIR/SPLIT.jsonl, as the corpus's task reads it.
"""

from clinicalbert_jax import cli
from clinicalbert_jax.finetune.convert.command import Options, run

if __name__ == "__main__":
    cli.run(run, Options)
