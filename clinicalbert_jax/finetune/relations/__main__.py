"""Score relations: `python -m clinicalbert_jax.finetune.relations --gold=FILE --predicted=FILE --output=PATH`.

Predicted between entities that were predicted too (end to end), or between given ones; strictly and leniently.
"""

from clinicalbert_jax import cli
from clinicalbert_jax.finetune.relations.end_to_end import Options, run

if __name__ == "__main__":
    cli.run(run, Options)
