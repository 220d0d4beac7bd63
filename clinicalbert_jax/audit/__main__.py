"""Audit what a model memorised of the notes it was trained on: a report for who decides whether it may be shared.

    python -m clinicalbert_jax.audit --model=MODEL --data_dir=DATA [--reference=BASE] [--canaries=FILE] \
        [--names=FILE] --output=DIR [--estimate]

Run the same command again to continue one that was stopped. Exit codes: 0 done, 2 user error.
"""

from clinicalbert_jax import cli
from clinicalbert_jax.audit.command import Options, run

if __name__ == "__main__":
    cli.run(run, Options)
