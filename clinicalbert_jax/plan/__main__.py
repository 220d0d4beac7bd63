"""Plan a run before paying for it: memory, communication, time and cost, from compiling the real train step.

    python -m clinicalbert_jax.plan --config=configs/bert_base_128.py --topology=v5e:16x16 --price=1.20

compiles for a TPU slice without a TPU (libtpu, the compiler: `pip install -e ".[tpu]"`). Without --topology, for the
devices of this machine. Exit codes: 0 it fits, 2 it does not, or user error.
"""

from clinicalbert_jax import cli
from clinicalbert_jax.plan.run_plan import Options, run

if __name__ == "__main__":
    cli.run(run, Options)
