"""Evaluate a model on held-out patients: `python -m clinicalbert_jax.evaluate --workdir=RUN --data_dir=DATA`.

    python -m clinicalbert_jax.evaluate --data_dir=DATA A B

compares two models (runs, exported directories, Hugging Face BERTs) on the same patients.
"""

from clinicalbert_jax import cli
from clinicalbert_jax.evaluate.heldout import Options, run

if __name__ == "__main__":
    cli.run(run, Options)
