"""Compare models on downstream tasks: scores with intervals, paired differences, leakage, learning curves, cost.

    python -m clinicalbert_jax.finetune.compare --models=BEFORE,AFTER,random --tasks=tasks.toml --workdir=DIR \
        [--seeds=5] [--fractions=0.2,1] [--pretraining_data=AFTER=DATA]

Run the same command again to continue. Exit codes: 0 done, 2 user error, 75 stopped by a signal, all saved.
"""

from clinicalbert_jax import cli
from clinicalbert_jax.finetune.compare.command import Options, run

if __name__ == "__main__":
    cli.run(run, Options)
