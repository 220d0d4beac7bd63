"""Write the report of a run as one HTML page: `python -m clinicalbert_jax.report --workdir=RUN`."""

from clinicalbert_jax import cli
from clinicalbert_jax.report.pretraining_page import Options, write

if __name__ == "__main__":
    cli.run(write, Options)
