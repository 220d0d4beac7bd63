"""Fine-tune a pre-trained BERT for a downstream task.

    python -m clinicalbert_jax.finetune --config=configs/finetune/entities.py --model=DIR \
        --train=train.tsv --validation=devel.tsv [--test=test.tsv] --workdir=RUN

Run the same command again to continue. Exit codes: 0 done, 2 user error, 75 stopped by a signal, all saved.
"""

from clinicalbert_jax import cli
from clinicalbert_jax.finetune.command import Options, run

if __name__ == "__main__":
    cli.run(run, Options)
