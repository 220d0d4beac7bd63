"""Convert a published corpus to JSON lines: `python -m clinicalbert_jax.finetune.convert --corpus=ade --input=DIR ...`.

For each task and split a file OUTPUT_DIR/TASK/SPLIT.jsonl, as the task reads it, and an account in ledger.json.
"""

from clinicalbert_jax import cli
from clinicalbert_jax.finetune.convert.command import Options, run

if __name__ == "__main__":
    cli.run(run, Options)
